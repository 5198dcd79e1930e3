"""The program that Inductor writes for an Intel GPU, written where there is none."""

from __future__ import annotations

import html
import re
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import pandas
import torch
from torch import fx

from xpuqlib.errors import DraftError
from xpuqlib.proof.assumed_gpu import AssumedGPU, assumed_gpu
from xpuqlib.proof.fake_constants import FakeConstants
from xpuqlib.proof.int8_calls import DraftedCall, describe_calls, with_values
from xpuqlib.proof.program import write_program
from xpuqlib.proof.replaced import gpu_that_is_not_there
from xpuqlib.recipe.compilation import Compilation
from xpuqlib.recipe.lowering import rewrite_for

__all__ = ["Draft", "DraftError", "Written", "draft_for_xpu", "write_for"]

_TRITON_KERNEL = re.compile(
    r"^(triton_\w+) = async_compile\.triton\('\w+', '''\n(.*?)^'''", re.M | re.S
)


@dataclass(frozen=True)
class Draft:
    """The program for an Intel GPU. It was written, and nothing of it was executed.

    Attributes
    ----------
    gpu : AssumedGPU
        The GPU that it was written for.
    compilation : xpuqlib.recipe.Compilation
        The program as text (``code``), its int8 calls and its operators, as for a lowered model.
    calls : tuple of DraftedCall
        The int8 calls in the order of the program.
    kernels : dict of str to str
        The source of each Triton kernel, by name.
    graph : torch.fx.Graph
        What the program was written from, with Inductor's int8 operators in it.
    constants : dict of str to torch.Tensor
        The graph's constants, by name, on the CPU.
    bf16_autocast : bool
        Whether it was written under autocast to bfloat16.
    notes : tuple of str
        Which exact rewrites were done before.
    """

    gpu: AssumedGPU
    compilation: Compilation
    calls: tuple[DraftedCall, ...]
    kernels: dict[str, str]
    graph: fx.Graph
    constants: dict[str, torch.Tensor]
    bf16_autocast: bool
    notes: tuple[str, ...]

    def table(self) -> pandas.DataFrame:
        """Give the int8 calls, a row each."""
        rows = [
            asdict(call) | {"post_operators": ", ".join(call.post_operators)} for call in self.calls
        ]
        return pandas.DataFrame(rows)

    def in_floating_point(self) -> dict[str, int]:
        """Count the operators that neither read nor write int8, by name."""
        operators = self.compilation.operators
        return dict(Counter(op.name for op in operators if "int8" not in (op.reads, op.writes)))

    def _repr_html_(self) -> str:
        operators = (f"{name} {n} times" for name, n in self.in_floating_point().items())
        floating = html.escape(", ".join(operators) or "nothing")
        lines, kernels = len(self.compilation.code.splitlines()), ", ".join(self.kernels)
        return (
            f"<p><b>drafted for {html.escape(self.gpu.name)}</b>, not executed: {lines} lines, "
            f"{len(self.calls)} int8 calls, {len(self.kernels)} Triton kernels "
            f"({html.escape(kernels)}). In floating point alone: {floating}. "
            f"{html.escape('; '.join(self.notes))}</p>"
            f"{self.table().to_html(index=False)}"
        )


def draft_for_xpu(
    converted: fx.GraphModule,
    example_inputs: tuple[torch.Tensor, ...],
    *,
    freezing: bool = True,
    int8_max_pool: bool | None = None,
    bf16_autocast: bool = False,
    gpu: str | None = None,
) -> Draft:
    """Write the program for an Intel GPU, on any machine.

    Inductor's own passes and code generation run on FakeTensors of device xpu, up to the program
    as text. Asked for the CPU in the same way, they write what `lower` runs there, line for line,
    its kernels included.

    Parameters
    ----------
    converted : torch.fx.GraphModule
        From ``convert_pt2e``, on any device. Not changed.
    example_inputs : tuple of torch.Tensor
        Their shapes, strides and dtypes count, the batch size included.
    freezing, int8_max_pool, bf16_autocast
        As for `xpuqlib.recipe.lower`.
    gpu : str, optional
        A name of `ASSUMED_GPUS`, which then stands in for a GPU that is here, too. By default the
        GPU that is here, or the first of the table.

    Raises
    ------
    DraftError
        If this version of torch cannot write it, or the name is not in the table.
    """
    assumed = assumed_gpu(gpu)
    written = write_for(
        assumed,
        converted,
        example_inputs,
        freezing=freezing,
        int8_max_pool=int8_max_pool,
        bf16_autocast=bf16_autocast,
    )
    compilation, constants = written.compilation, written.constants
    return Draft(
        gpu=assumed,
        compilation=replace(
            compilation,
            matched=with_values(compilation.matched, constants),
            generated=with_values(compilation.generated, constants),
        ),
        calls=describe_calls(converted, compilation, written.graph, constants),
        kernels=dict(_TRITON_KERNEL.findall(compilation.code)),
        graph=written.graph,
        constants=constants,
        bf16_autocast=bf16_autocast,
        notes=written.notes,
    )


class Written(NamedTuple):
    """What Inductor wrote for an Intel GPU: the program, its graph, its constants, the rewrites."""

    compilation: Compilation
    graph: fx.Graph
    constants: dict[str, torch.Tensor]
    notes: tuple[str, ...]


def write_for(
    gpu: AssumedGPU,
    converted: fx.GraphModule,
    example_inputs: tuple[torch.Tensor, ...],
    *,
    freezing: bool,
    int8_max_pool: bool | None,
    bf16_autocast: bool,
    packaged: bool = False,
    dynamic_shapes: Any = None,
) -> Written:
    """Rewrite a converted model as `lower` does, and let Inductor write its program for a GPU.

    ``packaged`` and ``dynamic_shapes`` are as for `write_program`, the rest as for `draft_for_xpu`.

    Raises
    ------
    DraftError
        If this version of torch cannot write it.
    """
    # torch-xpu-ops has the kernel; an XPU build without it says so itself.
    has_pool = not torch.xpu._is_compiled() or torch._C._dispatch_has_kernel_for_dispatch_key(
        "quantized::max_pool2d", "XPU"
    )
    copied, notes = rewrite_for("xpu", converted, int8_max_pool, has_pool)
    constants = FakeConstants("xpu")
    with gpu_that_is_not_there(gpu):
        compilation, graph = write_program(
            copied,
            example_inputs,
            constants,
            freezing=freezing,
            bf16_autocast=bf16_autocast,
            packaged=packaged,
            dynamic_shapes=dynamic_shapes,
        )
    return Written(compilation, graph, constants.values, tuple(notes))
