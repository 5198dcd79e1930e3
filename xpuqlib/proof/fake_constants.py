"""A graph's constants without values, for a device that is not there; and their values, by name."""

from __future__ import annotations

import copy
import operator
import re
from typing import Any

import torch
from torch import fx, nn
from torch._inductor import constant_folding
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from xpuqlib.proof.int8_calls import int8_arguments, is_int8_call
from xpuqlib.proof.stand_ins import exact_int8

__all__ = ["FakeConstants", "move_code", "on_cpu", "prepacked"]

FUSED_ATTENTION = torch.ops.aten._scaled_dot_product_fused_attention_overrideable.default
_ATTENTION = torch.ops.aten.scaled_dot_product_attention.default


class FakeConstants:
    """Give a model FakeTensors in place of its constants, and remember the values.

    Parameters
    ----------
    device : str
        Where the FakeTensors seem to be; the values stay on the CPU.

    Attributes
    ----------
    values : dict of str to torch.Tensor
        By the name that a constant has in the graph which `in_graph` and `keep` give.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.mode = FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv())
        self.values: dict[str, torch.Tensor] = {}
        self._pairs: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def fake(self, tensor: torch.Tensor, name: str = "") -> torch.Tensor:
        """Make a FakeTensor of this shape, strides and dtype on the device."""
        # A weight's zero points are int64 in the graph; Inductor turns them into int32 by value.
        narrow = tensor.dtype == torch.int64 and self.device == "xpu" and "zero_point" in name
        dtype = torch.int32 if narrow else tensor.dtype
        with self.mode:
            return torch.empty_strided(
                tensor.shape, tensor.stride(), dtype=dtype, device=self.device
            )

    def in_model(self, converted: fx.GraphModule) -> fx.GraphModule:
        """Copy a model, with FakeTensors as parameters and buffers, and this device in its code."""
        copied = copy.deepcopy(converted)
        for path, module in copied.named_modules():
            # torch.export keeps some constants as plain attributes.
            plain = {k: v for k, v in vars(module).items() if isinstance(v, torch.Tensor)}
            for store in (module._parameters, module._buffers, plain):
                for name, value in store.items():
                    if value is not None:
                        fake = self._paired(f"{path}.{name}".lstrip("."), value)
                        store[name] = nn.Parameter(fake, False) if _is_parameter(value) else fake
            vars(module).update(plain)
            if isinstance(module, fx.GraphModule):
                move_code(module, self.device)
        return copied

    def _paired(self, name: str, value: torch.Tensor) -> torch.Tensor:
        value = value.detach().cpu()
        self._pairs[name] = (_readable(self.fake(value, name), value), value)
        return self._pairs[name][0]

    def in_graph(self, exported: ExportedProgram) -> fx.GraphModule:
        """Take the graph of an exported program, with the constants in it instead of as inputs."""
        signature = exported.graph_signature
        lifted = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        module = exported.graph_module
        for node in module.graph.find_nodes(op="placeholder"):
            if node.name in lifted:
                fake, value = self._pairs[lifted[node.name]]
                name = "constant_" + re.sub(r"\W", "_", lifted[node.name])
                self.values[name] = value
                constant_folding.replace_node_with_constant(module, node, fake, name)
        module.recompile()
        return module

    def keep(self, node: fx.Node, fake: torch.Tensor) -> tuple[str, torch.Tensor]:
        """Remember the value of a node that Inductor folds, and name it."""
        name = f"folded_{len(self.values)}"
        self.values[name] = self._value(node)
        return name, _readable(fake, self.values[name])

    def _value(self, node: fx.Node) -> torch.Tensor:
        if node.op == "get_attr":
            return self.values[node.target]
        args, kwargs = fx.map_arg((node.args, node.kwargs), self._value)
        if "prepack" in str(node.target) and self.device == "xpu":
            return prepacked(node, args[0])
        if is_int8_call(node) and self.device == "xpu":  # of constants alone, as in a Swin v2
            return exact_int8(**int8_arguments(node, args))
        return node.target(*args, **on_cpu(kwargs))


def move_code(graph_module: fx.GraphModule, device: str) -> None:
    """Let a captured graph make its own constants on another device, in place.

    Its checks of shapes and devices are dropped: the first need tensors with values, the second
    would ask for the device of the capture.
    """
    for node in list(graph_module.graph.nodes):
        if str(node.target).endswith("_guards_fn") or "_assert_tensor_metadata" in str(node.target):
            graph_module.graph.erase_node(node)
        elif "device" in node.kwargs:
            node.update_kwarg("device", torch.device(device))
        elif node.target is _ATTENTION and device == "xpu" and not torch.xpu._is_compiled():
            _fuse_attention(graph_module.graph, node)
    graph_module.recompile()


def _fuse_attention(graph: fx.Graph, node: fx.Node) -> None:
    """Choose the fused kernel for an attention: a build without XPU cannot choose one for it."""
    given = dict(zip(("attn_bias", "dropout_p", "is_causal"), node.args[3:], strict=False))
    given |= {("attn_bias" if k == "attn_mask" else k): v for k, v in node.kwargs.items()}
    with graph.inserting_before(node):
        fused = graph.call_function(FUSED_ATTENTION, node.args[:3], given)
        node.replace_all_uses_with(graph.call_function(operator.getitem, (fused, 0)))
    graph.erase_node(node)


def _readable(fake: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Let Inductor read a small constant, which it writes into the code as numbers."""
    fake.item, fake.tolist = value.item, value.tolist
    return fake


def on_cpu(arguments: dict[str, Any]) -> dict[str, Any]:
    """Let a call that names a device, such as a factory, make its tensor on the CPU."""
    return {**arguments, "device": "cpu"} if "device" in arguments else arguments


def _is_parameter(value: torch.Tensor) -> bool:
    return isinstance(value, nn.Parameter)


def prepacked(node: fx.Node, weight: torch.Tensor) -> torch.Tensor:
    """Prepack as on an XPU: a linear's weight is transposed, a convolution's stays.

    As torch's qlinear.cpp does it.
    """
    return weight.t() if "linear" in str(node.target) else weight
