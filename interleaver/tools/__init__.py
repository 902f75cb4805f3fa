"""What the graph calls: image generators, one file a backend."""

from interleaver.tools.generators import Capabilities, ImageGenerator

__all__ = ["Capabilities", "ImageGenerator"]
