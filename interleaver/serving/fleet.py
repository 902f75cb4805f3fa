"""What to run on a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Fleet:
    """What to run on the cluster.

    Attributes:
        backend: the registered generator that draws.
        settings: its settings.
        model: the name under which it is served; the Ray application has it too.
        min_replicas: how many replicas there are at least.
        max_replicas: how many there may be when there is much to do.
        gpus: GPUs for each replica, 0 for a generator that needs none.
        queue: how many orders may wait.
        batch: how many orders that draw anew, alike but for prompt and seed, a replica draws in one pass, if its
            pipeline can; 1 draws them one by one, which keeps every seed exact.
    """

    backend: str
    settings: Json
    model: str
    min_replicas: int = 1
    max_replicas: int = 1
    gpus: float = 0
    queue: int = 64
    batch: int = 1
