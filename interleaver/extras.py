"""Optional dependencies, imported on demand."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from interleaver.errors import BadInput


def require_extra(module: str, extra: str) -> ModuleType:
    """Import a module that an extra of this package installs.

    Args:
        module: full name of the module.
        extra: name of the extra, for the error message.

    Raises:
        BadInput: the module is not installed, or importing it fails.
    """
    try:
        return import_module(module)
    except ImportError as error:
        if error.name and not module.startswith(error.name):
            raise BadInput(f"{module} is installed but cannot be imported: {error}") from error
        raise BadInput(f'{module} is not installed; pip install "interleaver[{extra}]"') from None
