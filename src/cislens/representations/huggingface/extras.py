"""Libraries of the `hf` extra are imported when a model needs them, not before."""

import importlib
from types import ModuleType

from cislens.errors import CislensError


def extra(module: str) -> ModuleType:
    """A module of the `hf` extra.

    Raises:
        CislensError: if it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise CislensError(
            f"this model needs the package {module!r} ({error}); "
            "install it with: pip install 'cislens[hf]'"
        ) from None
