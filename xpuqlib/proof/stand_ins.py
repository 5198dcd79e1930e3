"""oneDNN's int8 convolutions and linears in exact whole numbers, on any device of PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from xpuqlib.errors import DraftError

__all__ = ["exact_int8"]

_POST_OPERATORS: dict[str, Callable[..., torch.Tensor]] = {
    "none": lambda x: x,
    "relu": F.relu,
    "hardtanh": F.hardtanh,
    "hardswish": F.hardswish,
    "swish": F.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
}


def exact_int8(
    *,
    qx: torch.Tensor,
    x_scale: float,
    x_zero_point: int,
    qw: torch.Tensor,
    w_scale: torch.Tensor,
    bias: torch.Tensor | None,
    output_scale: float,
    output_zero_point: int,
    output_dtype: torch.dtype,
    stride: list[int] | None = None,
    padding: list[int] | None = None,
    dilation: list[int] | None = None,
    groups: int = 1,
    attr: str = "none",
    scalars: tuple = (),
    qaccum: torch.Tensor | None = None,
    accum_scale: float = 1.0,
    accum_zero_point: int = 0,
    binary_attr: str = "none",
    alpha: float | None = 1.0,
    unary_attr: str | None = "none",
    unary_scalars: tuple = (),
    algorithm: str | None = None,
    unary_algorithm: str | None = None,
    **not_needed: Any,
) -> torch.Tensor:
    """Compute one int8 call; arguments as in ``torch.ops.onednn.qconv2d_pointwise``."""
    whole, weight = qx.double() - x_zero_point, qw.double()  # sums stay below 2**53: exact
    if stride is None:
        products = whole @ weight
        channels = (-1,)
    else:
        convolution = (F.conv1d, F.conv2d, F.conv3d)[qw.dim() - 3]
        products = convolution(whole, weight, None, stride, padding, dilation, groups)
        channels = (-1,) + (1,) * (qw.dim() - 2)
    value = products * (x_scale * w_scale.double()).reshape(channels)
    if bias is not None:
        value = value + bias.double().reshape(channels)
    value = _post_operator(value, attr, scalars, algorithm)
    if qaccum is not None:
        if binary_attr not in ("sum", "add"):
            raise DraftError(f"The simulation does not know {binary_attr}.", "Report the model.")
        added = accum_scale * (qaccum.double() - accum_zero_point)
        value = _post_operator(value + added, unary_attr, unary_scalars, unary_algorithm)
    if output_dtype not in (torch.int8, torch.uint8):
        return value.to(output_dtype or torch.float32)
    limits = torch.iinfo(output_dtype)
    codes = (value / output_scale).round() + output_zero_point
    return codes.clamp(limits.min, limits.max).to(output_dtype)


def _post_operator(
    value: torch.Tensor, name: str | None, scalars: Sequence, algorithm: str | None
) -> torch.Tensor:
    if name == "gelu":
        return F.gelu(value, approximate=algorithm or "none")
    if (name or "none") not in _POST_OPERATORS:
        raise DraftError(f"The simulation does not know the post-operator {name}.", "Report it.")
    given = [scalar for scalar in scalars or () if scalar is not None]
    return _POST_OPERATORS[name or "none"](value, *given)
