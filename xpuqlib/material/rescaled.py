"""A network that int8 breaks, and fp32 does not notice: some channels on another scale."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from xpuqlib.errors import ModelError

__all__ = ["FACTORS", "rescale_channels"]

# Two bad activations and a bad weight; powers of two, which change no digit of a value.
FACTORS = {"layer1.1": 4096.0, "layer2.1": 1 / 4096, "layer3.1": 4096.0}


def rescale_channels(model: nn.Module, factors: Mapping[str, float] = FACTORS) -> nn.Module:
    """Rescale one channel inside of each of these blocks, in place, and keep the function.

    What BatchNorm ``bn1`` gives in channel 0 is multiplied by the factor, and the weights of
    ``conv2`` that read it are divided by it; the ReLU between them passes a factor through. A large
    factor makes one scale for the whole activation too coarse for its other channels. A small one
    makes the weights of this channel so large that one scale for an output channel of ``conv2`` is
    too coarse for its other weights.

    Parameters
    ----------
    model : torch.nn.Module
        A ResNet with two convolutions in a block (ResNet-18 or 34).
    factors : mapping of str to float
        By the path of the block.

    Returns
    -------
    torch.nn.Module
        The same model.

    Raises
    ------
    ModelError
        If there is no such block.
    """
    for name, factor in factors.items():
        blocks = dict(model.named_modules())
        block = blocks.get(name)
        if block is None or not all(hasattr(block, part) for part in ("bn1", "conv2")):
            known = [path for path, part in blocks.items() if path and hasattr(part, "bn1")]
            fix = f"Use a ResNet-18 and {', '.join(known) or 'its blocks'}."
            raise ModelError(f"The model has no block {name!r} with bn1 and conv2.", fix)
        with torch.no_grad():
            block.bn1.weight[0] *= factor
            block.bn1.bias[0] *= factor
            block.conv2.weight[:, 0] /= factor
    return model
