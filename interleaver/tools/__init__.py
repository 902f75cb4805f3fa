"""Image generators for the graph, one module per backend."""

from interleaver.tools.protocols import Capabilities, ImageGenerator

__all__ = ["Capabilities", "ImageGenerator"]
