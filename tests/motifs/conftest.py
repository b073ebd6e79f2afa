"""The synthetic region store, for all tests of this folder."""

import importlib.util
from pathlib import Path

import pytest


def _stand_in():
    path = Path(__file__).with_name("stand_in.py")
    spec = importlib.util.spec_from_file_location("stand_in", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def make_store():
    """The class `StandInStore`: `make_store(width=.., seed=..)` builds another store."""
    return _stand_in().StandInStore


@pytest.fixture(scope="session")
def store(make_store):
    """A store of 900 regions of 256 bp; three cell types to train on."""
    return make_store()
