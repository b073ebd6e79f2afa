"""Real data that ships with the package, and where the larger development data is found."""

import os
from pathlib import Path

from cislens.errors import CislensError
from cislens.files import require_file

_HERE = Path(__file__).parent
_PACKAGED, _CORE = "example:", "core:"
# A checkout with its data folder beside it needs no setting.
_BESIDE_CHECKOUT = _HERE.parents[3] / "shared" / "data" / "core"


def example_path(name: str) -> Path:
    """Path of a packaged file, e.g. `example_path("yeast_mini/genes.bed.gz")`.

    Raises:
        MissingFileError: if the package holds no such file.
    """
    return require_file(_HERE / name, "packaged example file")


def located(path: str, folder: Path) -> Path:
    """A path as recipes and track tables give it.

    `example:` names packaged data, `core:` a file in the folder that CISLENS_DATA names; other
    paths are relative to `folder`.

    Raises:
        CislensError: if there is no such packaged file, or no data folder.
    """
    if path.startswith(_PACKAGED):
        return example_path(path.removeprefix(_PACKAGED))
    if path.startswith(_CORE):
        core = core_data()
        if core is None:
            raise CislensError(
                f"{path} lies in the data folder; let the variable CISLENS_DATA name it"
            )
        return core / path.removeprefix(_CORE)
    return folder / path


def core_data() -> Path | None:
    """The development data folder: `$CISLENS_DATA`, else one beside the checkout, else None."""
    folder = Path(os.environ.get("CISLENS_DATA", _BESIDE_CHECKOUT))
    return folder if folder.is_dir() else None
