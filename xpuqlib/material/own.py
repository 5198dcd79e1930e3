"""A person's own model: from a factory or an exported program, with a state dict of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.export.passes import move_to_device_pass
from torch.utils._pytree import tree_leaves

from xpuqlib.errors import ModelError, XpuqError
from xpuqlib.material.batches import Batches
from xpuqlib.material.factory import call_factory, check_weights, find_own_model

__all__ = ["check_model", "load_own_model", "load_weights", "read_weights"]

SHOWN = 3  # of many keys
LAYERS = ("conv1d", "conv2d", "linear")  # the quantizer finds them by where they come from
STRICT = "torch.export.export(model.eval(), inputs, strict=True), then torch.export.save"


def load_own_model(
    named: str, weights: str = "auto", device: torch.device | str = "cpu"
) -> nn.Module:
    """Build a person's own model, in eval mode.

    Parameters
    ----------
    named : str
        A factory, ``path/to/file.py:function`` or ``package.module:function``: a function without
        arguments that returns an ``nn.Module`` in eval mode. **Its code is executed.** Or an
        exported program, ``model.pt2``, from ``torch.export.save``. It must have been exported
        with ``strict=True`` and in eval mode, since the XPU quantizer finds no layer in other
        ones. Its ``train()`` and ``eval()`` raise, as for every exported module, and it takes only
        the shapes that it was exported for: batch_size and image_size must be those, unless its
        batch dimension is dynamic. Its attention is a graph already, which nothing rewrites:
        export ``rewrite_attention(model)``.
    weights : str
        ``auto``: as they come; or the path of a state dict.
    device : torch.device or str
        Where the model is put.

    Raises
    ------
    ModelError
        If code, file or weights cannot be had, or the model trains.
    """
    check_weights(named, weights)
    named = find_own_model(named)
    if named.endswith(".pt2"):
        model = _exported(Path(named), device)
    else:
        model = call_factory(named, ModelError)
        if not isinstance(model, nn.Module):
            cause = f"{named} returns {type(model).__name__}, not an nn.Module."
            raise ModelError(cause, "End the function with: return model.eval()")
        model = model.to(device)
    if training := [name or "all of it" for name, m in model.named_modules() if m.training]:
        cause = f"The model of {named} is in training mode ({training[0]})."
        raise ModelError(cause, "Call .eval() in the factory: return model.eval()")
    if weights != "auto":
        load_weights(model, weights)
    return model


def _exported(path: Path, device: torch.device | str) -> nn.Module:
    try:
        program = torch.export.load(path)
    except Exception as error:  # torch raises many kinds for a file that it cannot read
        said = (str(error).strip() or "no message").splitlines()[0]
        cause = f"torch {torch.__version__} cannot load {path}: {type(error).__name__}: {said}"
        raise ModelError(cause, f"Export it with this version: {STRICT}.") from error
    if torch.device(device).type != "cpu":
        program = move_to_device_pass(program, str(device))
    module = program.module()
    layers = [node for node in module.graph.nodes if _opname(node) in LAYERS]
    if any("source_fn_stack" not in node.meta for node in layers):
        cause = f"{path.name} was exported without strict=True: the quantizer finds no layer in it."
        raise ModelError(cause, f"Export it again: {STRICT}.")
    if any(map(_trains, module.graph.nodes)):
        cause = f"{path.name} was exported in training mode."
        raise ModelError(cause, f"Export it again: {STRICT}.")
    for part in module.modules():  # eval() raises on an exported module
        part.training = False
    return module


def _opname(node: fx.Node) -> str:
    return getattr(node.target, "_opname", "")


def _trains(node: fx.Node) -> bool:
    place = {"dropout": 2, "batch_norm": 5}.get(_opname(node))
    return place is not None and node.args[place] is True


def read_weights(path: str | Path) -> dict[str, torch.Tensor]:
    """Read a state dict onto the CPU, without executing anything (``weights_only=True``).

    Raises
    ------
    ModelError
        If the file is missing, or holds something else.
    """
    fix = "Save one with torch.save(model.state_dict(), path)."
    if not Path(path).is_file():
        raise ModelError(f"There is no file {str(path)!r} with weights.", fix)
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # torch raises many kinds for a file that it cannot read
        kind = type(error).__name__
        raise ModelError(f"{path} cannot be read as a state dict ({kind}).", fix) from error
    found = f"holds {type(state).__name__}"
    if isinstance(state, Mapping):
        others = [str(k) for k, v in state.items() if not isinstance(v, torch.Tensor)]
        if state and not others:
            return dict(state)
        found = f"holds no tensor at: {_some(others)}"
    raise ModelError(f"{path} is no state dict: it {found}.", fix)


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a state dict into a model, in place.

    Raises
    ------
    ModelError
        If the file is no state dict, or its keys or shapes are not those of the model.
    """
    state, own = read_weights(path), model.state_dict()
    differ = [
        f"{key} {list(state[key].shape)} instead of {list(value.shape)}"
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    problems = {
        "missing": [key for key in own if key not in state],
        "unexpected": [key for key in state if key not in own],
        "of another shape": differ,
    }
    said = [f"{len(keys)} {what}: {_some(keys)}" for what, keys in problems.items() if keys]
    if said:
        fix = "Save model.state_dict() of this very model."
        raise ModelError(f"{path} does not fit the model; {'; '.join(said)}.", fix)
    model.load_state_dict(state)


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN] + ["…"] * (len(names) > SHOWN)) or "none"


def check_model(model: nn.Module, batches: Batches) -> None:
    """Run the first batch, and refuse a model whose quantization could prove nothing.

    Parameters
    ----------
    model : torch.nn.Module
        On the device of the calibration batches.
    batches : Batches

    Raises
    ------
    ModelError
        If the model trains, does not take this data, or gives no tensors, NaN, infinity, or
        tensors that do not begin with the batch; whatever error of this kit the model raises.
    """
    if any(module.training for module in model.modules()):
        raise ModelError("The model is in training mode.", "Call model.eval() first.")
    inputs = batches.example
    given = ", ".join(f"{list(x.shape)} {x.dtype}" for x in inputs)
    try:
        with torch.no_grad():
            output = model(*inputs)
    except XpuqError:  # a rewritten attention names its own fix
        raise
    except Exception as error:  # whatever a model raises; it is named and kept as the cause
        said = (str(error).strip() or "no message").splitlines()[0]
        cause = f"The model does not take its data, {given}: {type(error).__name__}: {said}"
        fix = "Give data of the shape and dtype that the model takes (image_size, batch_size)."
        raise ModelError(cause, fix) from error
    _check_output(output, len(inputs[0]))


def _check_output(output: Any, rows: int) -> None:
    tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)]
    if not tensors:
        fix = "Return tensors, alone or in a tuple or dict, or call torch.export.register_dataclass"
        cause = f"The model returns {type(output).__name__}, in which torch finds no tensor."
        raise ModelError(cause, f"{fix} for the class.")
    if any(tensor.dim() == 0 or len(tensor) != rows for tensor in tensors):
        shapes = ", ".join(str(list(tensor.shape)) for tensor in tensors)
        cause = f"Not every output has a row for each of {rows} inputs: {shapes}."
        raise ModelError(cause, "Return such tensors only: no loss, no table.")
    if not all(torch.isfinite(tensor).all() for tensor in tensors):
        cause = "The model gives NaN or infinite values for the first batch, in floating point."
        raise ModelError(cause, "Check its weights, and the preprocessing of the data.")
