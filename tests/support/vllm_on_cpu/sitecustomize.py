"""Lets vLLM's Qwen3-VL code import torchvision on a CPU build of torch.

The wheel of torchvision is built against CUDA, and its import fails for want of the operators' schemas; nothing here
calls them. For test machines without a GPU only.
"""

import importlib.util

if importlib.util.find_spec("torch") and importlib.util.find_spec("torchvision"):
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d"):
        library.define(f"{name}(Tensor x) -> Tensor")
    for name in ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool", "deform_conv2d"):
        library.define(f"_{name}_backward(Tensor x) -> Tensor")
