"""Real data that ships with the package, and where the larger development data is found."""

import os
from pathlib import Path

from cislens.files import require_file

_HERE = Path(__file__).parent
# A checkout with its data folder beside it needs no setting.
_BESIDE_CHECKOUT = _HERE.parents[3] / "shared" / "data" / "core"


def example_path(name: str) -> Path:
    """Path of a packaged file, e.g. `example_path("yeast_mini/genes.bed.gz")`.

    Raises:
        MissingFileError: if the package holds no such file.
    """
    return require_file(_HERE / name, "packaged example file")


def core_data() -> Path | None:
    """The development data folder: `$CISLENS_DATA`, else one beside the checkout, else None."""
    folder = Path(os.environ.get("CISLENS_DATA", _BESIDE_CHECKOUT))
    return folder if folder.is_dir() else None
