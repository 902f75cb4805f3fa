"""The checkpoints that come with this package, and how checkpoints are named.

`runs/miniature.sh` makes them: a planner and a critic of a few million parameters for the sandbox's miniature level.
"""

from __future__ import annotations

from pathlib import Path

from interleaver.errors import BadInput

PREFIX = "interleaver:"


def find_checkpoint(name: str) -> str:
    """What a checkpoint's name stands for, as `transformers` and vLLM take it.

    Args:
        name: `interleaver:NAME` for one that comes with this package, a folder, or a model on the hub.

    Raises:
        BadInput: this package has no checkpoint of that name.
    """
    if not name.startswith(PREFIX):
        path = Path(name).expanduser()
        return str(path) if path.exists() else name
    folder = Path(__file__).parent
    shipped = sorted(path.parent.name for path in folder.glob("*/config.json"))
    if (wanted := name.removeprefix(PREFIX)) not in shipped:
        raise BadInput(
            f"there is no checkpoint {name!r}; those that come with this package are: "
            f"{', '.join(PREFIX + one for one in shipped)}"
        )
    return str(folder / wanted)
