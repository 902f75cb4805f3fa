"""The model weights that come with this package, and how weights are named.

They are a planner and a critic of a few million parameters for the sandbox's miniature level, trained by
`experiments/miniature.sh`.
"""

from __future__ import annotations

from pathlib import Path

from interleaver.errors import BadInput

PREFIX = "interleaver:"


def find_weights(name: str) -> str:
    """Return the folder or model id that a name stands for, as `transformers` and vLLM accept it.

    Args:
        name: `interleaver:NAME` for weights that come with this package, a folder, or a model id on the Hugging Face
            Hub.

    Raises:
        BadInput: this package has no weights of that name.
    """
    if not name.startswith(PREFIX):
        path = Path(name).expanduser()
        return str(path) if path.exists() else name
    folder = Path(__file__).parent
    shipped_names = sorted(path.parent.name for path in folder.glob("*/config.json"))
    if (weights_name := name.removeprefix(PREFIX)) not in shipped_names:
        raise BadInput(
            f"there are no weights {name!r}; this package comes with: "
            f"{', '.join(PREFIX + shipped_name for shipped_name in shipped_names)}"
        )
    return str(folder / weights_name)
