"""Configuration files for `accelerate launch`."""

from __future__ import annotations

from pathlib import Path

from interleaver.errors import BadInput, did_you_mean


def find_launcher(name: str) -> Path:
    """Return the path of a launcher configuration.

    Args:
        name: path of a file, or the name of a launcher that comes with this package.

    Raises:
        BadInput: there is no such file or launcher.
    """
    ready = {file.stem: file for file in sorted(Path(__file__).parent.glob("*.yaml"))}
    path = Path(name) if Path(name).exists() else ready.get(name)
    if path is None:
        raise BadInput(
            f"there is no launcher {name!r}{did_you_mean(name, ready)}; give a file or one of: {', '.join(ready)}"
        )
    return path
