"""The C++ of an AOTInductor package for an Intel GPU, written where there is none."""

from __future__ import annotations

import html
import json
import re
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas
import torch
from torch import fx

from xpuqlib.errors import DraftError
from xpuqlib.proof.assumed_gpu import AssumedGPU, assumed_gpu
from xpuqlib.proof.draft import write_for
from xpuqlib.proof.graph import Layer, quantizable_layers
from xpuqlib.proof.int8_calls import DraftedCall, describe_calls
from xpuqlib.proof.program import executed_lines_of_package

__all__ = ["PackageDraft", "c_functions", "draft_package_for_xpu"]

_TRITON_KERNEL = re.compile(r"^/\* (triton_\w+): not compiled.*?'''\n(.*?)^'''", re.M | re.S)
_NODES = re.compile(r"^/\* extern_kernel_nodes\.json\n(.*)\n\*/", re.M)


@dataclass(frozen=True)
class PackageDraft:
    """The C++ of a package for an Intel GPU. It was written, and nothing compiled or executed.

    Attributes
    ----------
    gpu : AssumedGPU
        The GPU that it was written for.
    code : str
        The C++, below the sources of the Triton kernels as comments. What tuning them on the GPU
        would give (block sizes, the compiled files' names) is missing: the macros for it are
        undefined.
    layers : tuple of Layer
        The convs and linears of the model.
    calls : tuple of DraftedCall
        The int8 calls in the order of the program; ``operator`` is the C function's name without
        ``aoti_torch_xpu__``.
    functions : dict of str to int
        torch's C functions that a run of the package calls, and how often.
    launches : dict of str to int
        The Triton kernels that a run launches, and how often.
    by_name : dict of str to int
        Operators without a C function: a run calls them by name, and how often.
    kernels : dict of str to str
        The source of each Triton kernel, by name.
    notes : tuple of str
        Which exact rewrites were done before.
    """

    gpu: AssumedGPU
    code: str
    layers: tuple[Layer, ...]
    calls: tuple[DraftedCall, ...]
    functions: dict[str, int]
    launches: dict[str, int]
    by_name: dict[str, int]
    kernels: dict[str, str]
    notes: tuple[str, ...]

    def counts(self) -> dict[str, dict[str, int]]:
        """Convs and linears: in the model, quantized, and calls of int8 C functions."""
        found = {}
        for kind in ("conv", "linear"):
            layers = [layer for layer in self.layers if layer.kind == kind]
            found[kind] = {
                "in the model": len(layers),
                "quantized": sum(layer.scale is not None for layer in layers),
                "int8 functions called": sum(
                    n for name, n in self.functions.items() if f"__q{kind}" in name
                ),
            }
        return found

    def table(self) -> pandas.DataFrame:
        """Give the convs and linears of the model, a row each, with the int8 call of each."""
        columns = ["layer", "kind", *list(DraftedCall.__dataclass_fields__)[1:]]
        free, rows = list(self.calls), []
        for layer in self.layers:
            row = dict.fromkeys(columns, "") | {"layer": layer.name, "kind": layer.kind}
            call = next((call for call in free if call.layer == layer.name), None)
            if call is not None:  # no call is taken twice: a model may use a layer twice
                free.remove(call)
                row |= asdict(call) | {"post_operators": ", ".join(call.post_operators)}
            rows.append(row)
        return pandas.DataFrame(rows, columns=columns)

    def _repr_html_(self) -> str:
        def named(counted: dict[str, int]) -> str:
            return html.escape(", ".join(f"{k} {n} times" for k, n in counted.items()) or "nothing")

        return (
            f"<p><b>package drafted for {html.escape(self.gpu.name)}</b>, not compiled, not "
            f"executed: {len(self.code.splitlines())} lines of C++. A run calls "
            f"{named(self.functions)}; Triton kernels: {named(self.launches)}; by name: "
            f"{named(self.by_name)}. {html.escape('; '.join(self.notes))}</p>"
            f"{self.table().to_html(index=False)}"
        )


def draft_package_for_xpu(
    converted: fx.GraphModule,
    example_inputs: tuple[torch.Tensor, ...],
    *,
    freezing: bool = True,
    int8_max_pool: bool | None = None,
    bf16_autocast: bool = False,
    gpu: str | None = None,
    dynamic_shapes: Any = None,
) -> PackageDraft:
    """Write the C++ of a package for an Intel GPU, on any machine.

    As `draft_for_xpu`, for ``torch._inductor.aoti_compile_and_package`` instead of
    ``torch.compile``. Inductor writes the C++ before Triton's kernels are tuned here, as it does
    with ``triton.autotune_at_compile_time=False``; by default it tunes them before, and writes
    what it found into the C++. What a run calls is the same.

    Parameters
    ----------
    converted, example_inputs, freezing, int8_max_pool, bf16_autocast, gpu
        As for `draft_for_xpu`.
    dynamic_shapes : optional
        As for ``torch.export.export``, for a model that was captured with the same ones.

    Raises
    ------
    DraftError
        If this version of torch has no C functions for int8 on an Intel GPU, lacks one that the
        program calls, or cannot write it; or if the GPU's name is not known.
    """
    declared = c_functions()
    if not any(re.match("aoti_torch_xpu__q(conv|linear)", name) for name in declared):
        raise DraftError(
            f"torch {torch.__version__} has no C functions for int8 on an Intel GPU: its headers "
            "declare no aoti_torch_xpu__qconv… and no aoti_torch_xpu__qlinear….",
            "Update torch: 2.14 and later have them. draft_for_xpu writes the Python program.",
        )
    assumed = assumed_gpu(gpu)
    written = write_for(
        assumed,
        converted,
        example_inputs,
        freezing=freezing,
        int8_max_pool=int8_max_pool,
        bf16_autocast=bf16_autocast,
        packaged=True,
        dynamic_shapes=dynamic_shapes,
    )
    code = written.compilation.code
    run = "\n".join(executed_lines_of_package(code))
    functions = Counter(re.findall(r"\baoti_torch_\w+(?=\()", run))
    missing = sorted(functions.keys() - declared)
    if missing:
        raise DraftError(
            f"The C++ calls {', '.join(missing)}, which torch {torch.__version__} does not have.",
            "It would not compile on an Intel GPU, either. Update torch, or report the model.",
        )
    nodes = [node for found in _NODES.findall(code) for node in json.loads(found)["nodes"]]
    return PackageDraft(
        gpu=assumed,
        code=code,
        layers=tuple(quantizable_layers(converted)),
        calls=describe_calls(converted, written.compilation, written.graph, written.constants),
        functions=dict(functions),
        launches=dict(Counter(re.findall(r"^ +call_(triton_\w+)\(", run, re.M))),
        by_name=dict(Counter(node["node"]["target"] for node in nodes)),
        kernels=dict(_TRITON_KERNEL.findall(code)),
        notes=written.notes,
    )


def c_functions() -> set[str]:
    """Give the names of the C functions for packages that torch's headers declare."""
    headers = Path(torch.__file__).parent / "include/torch/csrc/inductor/aoti_torch"
    texts = (path.read_text(encoding="utf-8") for path in headers.rglob("*.h"))
    return {name for text in texts for name in re.findall(r"\baoti_torch_\w+(?=\()", text)}
