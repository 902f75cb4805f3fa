"""Configurations of `accelerate launch`."""

from __future__ import annotations

from pathlib import Path

from interleaver.errors import BadInput, did_you_mean


def find_launcher(name: str) -> Path:
    """The file of a launcher.

    Args:
        name: of one that comes with this package, or a file.

    Raises:
        BadInput: there is none.
    """
    ready = {file.stem: file for file in sorted(Path(__file__).parent.glob("*.yaml"))}
    path = Path(name) if Path(name).exists() else ready.get(name)
    if path is None:
        raise BadInput(
            f"there is no launcher {name!r}{did_you_mean(name, ready)}; give a file or one of: {', '.join(ready)}"
        )
    return path
