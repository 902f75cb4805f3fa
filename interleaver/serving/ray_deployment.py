"""Configuration of an image generator on a Ray cluster."""

from __future__ import annotations

from dataclasses import dataclass

from interleaver.types import Json


@dataclass(frozen=True)
class RayDeployment:
    """Configuration of an image generator on a Ray cluster.

    Attributes:
        backend: name of the registered generator backend.
        settings: settings of the backend.
        model: name under which the model is served, and name of the Ray application.
        min_replicas: minimum number of replicas.
        max_replicas: maximum number of replicas; if it is greater than `min_replicas`, Ray scales with the load.
        gpus: GPUs per replica; 0 for a generator that needs none.
        queue: maximum number of waiting draw requests.
        batch: maximum batch size of a replica, for draw requests of one size without sources, mask or further
            parameters, if the generator supports batches; 1 draws one picture at a time, so that a seed always gives
            exactly the same picture.
    """

    backend: str
    settings: Json
    model: str
    min_replicas: int = 1
    max_replicas: int = 1
    gpus: float = 0
    queue: int = 64
    batch: int = 1
