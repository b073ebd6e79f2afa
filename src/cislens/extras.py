"""Libraries of the package's extras are imported when something needs them, not before."""

import importlib
from types import ModuleType

from cislens.errors import CislensError


def extra(module: str, name: str) -> ModuleType:
    """A module of an extra, `name`.

    Raises:
        CislensError: if it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise CislensError(
            f"this needs the package {module.split('.')[0]!r} ({error}); "
            f"install it with: pip install 'cislens[{name}]'"
        ) from None
