import sys
from pathlib import Path

import pytest

# The tests of this folder share `planted`.
sys.path.append(str(Path(__file__).parent))

from planted import build


@pytest.fixture(scope="session")
def cell_store(tmp_path_factory):
    """Regions are the peaks of eight training cell types and three that are held out."""
    return build(tmp_path_factory.mktemp("cells"), size=100_000)
