"""The model weights that come with this package, and how weights are named.

They are a planner and a critic of a few million parameters for the sandbox's miniature level, trained by
`experiments/miniature.sh`.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from interleaver.errors import BadInput

PREFIX = "interleaver:"
HUB_SECONDS = 5.0
"""Time within which the Hugging Face Hub must answer; its client would retry for minutes."""


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


def check_hub(name: str) -> None:
    """Check that weights on the hub can be loaded, before its client retries for minutes.

    Without a connection, cached weights are used for the rest of the process.

    Args:
        name: folder, or model id on the hub.

    Raises:
        BadInput: the hub cannot be reached, and the weights are not in its cache.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    is_hub_name = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) and not Path(name).exists()
    if not is_hub_name or constants.HF_HUB_OFFLINE or hub_is_reachable():
        return
    if not isinstance(try_to_load_from_cache(name, "config.json"), str):
        raise BadInput(
            f"the weights {name!r} are no folder, and the Hugging Face Hub ({constants.ENDPOINT}) cannot be reached; "
            "check the connection, or give a folder"
        )
    constants.HF_HUB_OFFLINE = True


@cache
def hub_is_reachable() -> bool:
    """Return whether the Hugging Face Hub answers, with whatever status."""
    import httpx
    from huggingface_hub import constants

    try:
        httpx.head(constants.ENDPOINT, timeout=HUB_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
    return True
