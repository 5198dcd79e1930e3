"""How close, how accurate: SQNR of a whole model and layer by layer, accuracy, codes in use."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import fx
from torch.utils._pytree import tree_leaves

from xpuqlib.recipe.layers import layer_kind, layer_name

__all__ = [
    "agreement",
    "class_scores",
    "code_usage",
    "flat_output",
    "layer_sqnr",
    "node_outputs",
    "predict",
    "predict_batches",
    "sqnr",
    "top1",
    "varied",
]


def flat_output(output: Any) -> torch.Tensor:
    """All tensors of a model's output as one float32 tensor ``[batch, values]`` on the CPU."""
    tensors = [tensor.detach().float().cpu() for tensor in _tensors(output)]
    return torch.cat([tensor.reshape(len(tensor), -1) for tensor in tensors], dim=1)


def class_scores(output: Any) -> torch.Tensor:
    """First tensor ``[batch, classes]`` of a model's output, float32, on the CPU.

    A model may give others, too, in a tuple, a dict or a registered dataclass. Where no floating
    tensor has two dimensions, this is `flat_output`.
    """
    scores = [x for x in _tensors(output) if x.dim() == 2 and x.is_floating_point()]
    return flat_output(scores[0] if scores else output)


def _tensors(output: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)]


def sqnr(reference: torch.Tensor, other: torch.Tensor) -> float:
    """Signal to quantization noise ratio in dB: 20·log10(‖reference‖ / ‖reference - other‖).

    Higher is closer; 20 dB is an error of a tenth. Equal tensors give infinity, a zero or
    non-finite reference gives NaN, since there is no signal to compare with.
    """
    reference, other = reference.double(), other.double()
    signal = reference.norm().item()
    noise = (reference - other).norm().item()
    if not (math.isfinite(signal) and math.isfinite(noise) and signal > 0):
        return math.nan
    return math.inf if noise == 0 else 20 * math.log10(signal / noise)


def predict(
    model: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    batch_size: int,
    device: torch.device | str,
) -> torch.Tensor:
    """Logits of all images, in batches of one fixed shape; the last one is padded, then cropped.

    Parameters
    ----------
    model : callable
        Takes float32 ``[batch_size, 3, height, width]`` on the device.
    images : torch.Tensor
        float32 ``[n, 3, height, width]``.

    Returns
    -------
    torch.Tensor
        float32 ``[n, classes]`` on the CPU.
    """
    layout = torch.channels_last
    batches = ((batch.to(memory_format=layout),) for batch in images.split(batch_size))
    return predict_batches(model, batches, batch_size, device)


def predict_batches(
    model: Callable[..., Any],
    batches: Iterable[tuple[torch.Tensor, ...]],
    batch_size: int,
    device: torch.device | str,
    output: Callable[[Any], torch.Tensor] = flat_output,
) -> torch.Tensor:
    """Run batches of any inputs and keep the outputs; fewer rows are padded, then cropped.

    Parameters
    ----------
    model : callable
        Takes as many inputs as a batch holds, ``[batch_size, ...]`` each, on the device.
    batches : iterable of tuple of torch.Tensor
        Such as ``Batches.evaluation``. Their layout in memory is kept.
    batch_size : int
        Rows that the model takes.
    device : torch.device or str
        Where the model is.
    output : callable
        What to keep of what the model gives: `flat_output`, or `class_scores`.

    Returns
    -------
    torch.Tensor
        float32 ``[n, values]`` on the CPU.
    """
    kept = []
    with torch.no_grad():
        for inputs in batches:
            given = model(*(_padded(x, batch_size).to(device) for x in inputs))
            kept.append(output(given)[: len(inputs[0])])
    return torch.cat(kept)


def _padded(x: torch.Tensor, rows: int) -> torch.Tensor:
    missing = rows - len(x)
    return torch.cat([x, *[x[-1:]] * missing]) if missing else x  # keeps the layout in memory


def top1(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Share of images whose highest logit is the label, 0…1."""
    return (logits.argmax(1) == labels).double().mean().item()


def agreement(logits: torch.Tensor, other: torch.Tensor) -> float:
    """Share of images to which two models give the same class, 0…1; needs no labels."""
    return (logits.argmax(1) == other.argmax(1)).double().mean().item()


def node_outputs(
    graph_module: fx.GraphModule, inputs: tuple[torch.Tensor, ...], wanted: Callable[[fx.Node], Any]
) -> dict[fx.Node, torch.Tensor]:
    """Run a graph, and keep the outputs of the wanted nodes, on the CPU."""
    kept = {}

    class Recorder(fx.Interpreter):
        def run_node(self, node: fx.Node) -> Any:
            output = super().run_node(node)
            if wanted(node):
                kept[node] = output.detach().to("cpu", copy=True)  # a ReLU may change it in place
            return output

    with torch.no_grad():
        Recorder(graph_module).run(*inputs)
    return kept


def layer_sqnr(
    prepared: fx.GraphModule, converted: fx.GraphModule, inputs: tuple[torch.Tensor, ...]
) -> dict[str, float]:
    """SQNR in dB at the output of every conv and linear, Q/DQ graph against fp32.

    Each value holds the error of the layers before it, too. torchao's numeric debugger follows
    nodes from before BatchNorm was folded, whose outputs mean something else; so both graphs here
    are from after it.

    Parameters
    ----------
    prepared : torch.fx.GraphModule
        A copy of the prepared model, made before ``convert_pt2e``, which changes it. Its observers
        see `inputs` once more.
    converted : torch.fx.GraphModule
        What became of it.
    inputs : tuple of torch.Tensor
        Of the captured shape.

    Returns
    -------
    dict of str to float
        By the name of the layer, in graph order.
    """
    reference = {n.name: output for n, output in node_outputs(prepared, inputs, layer_kind).items()}
    quantized = node_outputs(converted, inputs, layer_kind).items()
    return {layer_name(n): sqnr(reference[n.name], output) for n, output in quantized}


def code_usage(
    converted: fx.GraphModule, inputs: tuple[torch.Tensor, ...]
) -> dict[str, tuple[int, int]]:
    """Smallest and largest of the 256 codes that each activation really uses.

    Parameters
    ----------
    converted : torch.fx.GraphModule
        From ``convert_pt2e``.
    inputs : tuple of torch.Tensor
        Of the captured shape.

    Returns
    -------
    dict of str to (int, int)
        By the name of what is quantized, in graph order.
    """
    quantize = torch.ops.quantized_decomposed.quantize_per_tensor.default
    kept = node_outputs(converted, inputs, lambda node: node.target is quantize).items()
    return {n.args[0].name: (codes.min().item(), codes.max().item()) for n, codes in kept}


def varied(output: torch.Tensor) -> bool:
    """Whether a model answers different inputs differently at all."""
    # No comparison with NaN holds, and nothing is above infinity: such outputs have not varied.
    rows = output if output.shape[0] > 1 else output.T  # one image: compare its classes instead
    return bool((rows - rows[:1]).abs().max() > 1e-5 * output.abs().max())
