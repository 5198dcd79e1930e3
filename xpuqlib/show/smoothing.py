"""Ranges by channel, and what moving them from an activation into a weight does (SmoothQuant)."""

from __future__ import annotations

from collections.abc import Mapping

import ipywidgets as widgets
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xpuqlib.proof.closeness import sqnr
from xpuqlib.show.explorers import WIDE, Explorer
from xpuqlib.show.style import BLACK, SERIES, SKY, VERMILLION, new_figure, plain_log_ticks

__all__ = ["draw_channel_ranges", "explore_smoothing"]

ALPHAS = torch.linspace(0, 1, 21)
SMALLEST = 1e-5  # a channel that is always 0 has no range to move


def draw_channel_ranges(ranges: Mapping[str, torch.Tensor], title: str) -> Figure:
    """Draw the largest magnitude of each channel, one line for each tensor.

    Parameters
    ----------
    ranges : mapping of str to torch.Tensor
        By the label of the line, ``[channels]`` each; three at most.
    title : str
    """
    figure, axes = new_figure(figsize=(10, 3.4))
    for (label, values), colour in zip(ranges.items(), SERIES, strict=False):
        _ranges(axes, values, label, colour)
    axes.set_title(title)
    axes.legend(frameon=False)
    return figure


def explore_smoothing(activation: torch.Tensor, weight: torch.Tensor) -> Explorer:
    """Choose how much of an activation's range moves into the weight, and see what int8 costs.

    Parameters
    ----------
    activation : torch.Tensor
        Input of a linear layer, ``[..., channels]``, float32.
    weight : torch.Tensor
        Its weight, ``[outputs, channels]``.
    """
    x, w = activation.detach().flatten(0, -2).cpu(), weight.detach().cpu()
    by_channel = [t.abs().amax(0).clamp(min=SMALLEST) for t in (x, w)]
    steps = [by_channel[0] ** a / by_channel[1] ** (1 - a) for a in ALPHAS]
    shown = torch.stack([by_channel[0] / step for step in steps])
    shown = torch.cat([shown, torch.stack([by_channel[1] * step for step in steps])])
    ends = shown.min().item() / 2, shown.max().item() * 4
    unsmoothed = _closeness(x, w, torch.ones_like(steps[0]))
    curve = [_closeness(x, w, step) for step in steps]

    def draw(alpha: float) -> tuple[Figure, str]:
        place = int((ALPHAS - alpha).abs().argmin())
        figure, (left, right) = new_figure(1, 2, figsize=(10, 3.4))
        _ranges(left, by_channel[0] / steps[place], "activation", SKY)
        _ranges(left, by_channel[1] * steps[place], "weight", BLACK, "--")
        left.set(title="Range of each channel, smoothed", ylim=ends)
        plain_log_ticks(left)
        right.plot(ALPHAS, curve, color=BLACK)
        right.plot(ALPHAS[place], curve[place], "o", color=VERMILLION, label="chosen")
        right.axhline(unsmoothed, color=SKY, linestyle="--", label="not smoothed")
        right.set(title="Output of the layer in int8", xlabel="alpha", ylabel="SQNR (dB)")
        for axes in (left, right):
            axes.legend(frameon=False)
        said = f"alpha {alpha:.2f}: SQNR {curve[place]:.1f} dB, {unsmoothed:.1f} dB without."
        return figure, said

    slider = widgets.FloatSlider(0.5, min=0, max=1, step=0.05, description="alpha", **WIDE)
    return Explorer(draw, alpha=slider)


def _ranges(axes: Axes, values: torch.Tensor, label: str, colour: str, line: str = "-") -> None:
    axes.plot(values.cpu(), line, color=colour, label=label, drawstyle="steps-mid")
    axes.set(xlabel="channel", ylabel="largest magnitude", yscale="log")


def _closeness(x: torch.Tensor, w: torch.Tensor, steps: torch.Tensor) -> float:
    """SQNR of the layer's output: per-tensor affine activations, per-channel symmetric weights."""
    a, b = x / steps, w * steps
    low, high = min(a.min().item(), 0), max(a.max().item(), 0)
    scale = max((high - low) / 255, SMALLEST * SMALLEST)
    a = torch.fake_quantize_per_tensor_affine(a, scale, round(-128 - low / scale), -128, 127)
    scales = b.abs().amax(1).clamp(min=SMALLEST) / 127.5
    zeros = torch.zeros(len(b), dtype=torch.int32)
    b = torch.fake_quantize_per_channel_affine(b, scales, zeros, 0, -128, 127)
    return sqnr(x @ w.T, a @ b.T)
