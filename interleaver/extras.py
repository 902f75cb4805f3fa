"""Optional packages, imported when something needs them."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from interleaver.errors import BadInput


def need(module: str, extra: str) -> ModuleType:
    """Import a module that an extra of this package brings.

    Raises:
        BadInput: it is not installed; the message says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        if error.name and not module.startswith(error.name):
            raise BadInput(f"{module} is installed but cannot be imported: {error}") from error
        raise BadInput(f'{module} is not installed; pip install "interleaver[{extra}]"') from None
