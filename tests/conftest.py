from pathlib import Path

import pytest

from cislens.example import core_data as find_core_data


@pytest.fixture(scope="session")
def core_data() -> Path:
    """Whole genomes and tracks for development; tests that need them are skipped elsewhere."""
    folder = find_core_data()
    if folder is None:
        pytest.skip("the development data is not here: set CISLENS_DATA to its folder")
    return folder
