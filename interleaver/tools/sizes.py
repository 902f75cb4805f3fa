"""Selection among the sizes that a model offers."""

from __future__ import annotations

from collections.abc import Sequence

from interleaver.tools.protocols import Size


def nearest_size(size: Size, sizes: Sequence[Size]) -> Size:
    """Return the size whose aspect ratio is nearest to that of `size`, and among equals the one nearest in area."""
    wanted_ratio = size[0] / size[1]

    def distance(candidate: Size) -> tuple[float, int]:
        ratio = candidate[0] / candidate[1] / wanted_ratio
        return max(ratio, 1 / ratio), abs(candidate[0] * candidate[1] - size[0] * size[1])

    return min(sizes, key=distance)
