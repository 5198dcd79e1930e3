"""Package a converted model with AOTInductor: compiled machine code that needs no compiler."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch._inductor
from torch import fx
from torch._inductor.codecache import AotCodeCompiler

from xpuqlib.errors import LoweringError, PackageError, explained
from xpuqlib.machine.environment import pt2e_home
from xpuqlib.recipe.lowering import rewrite_for

__all__ = ["write_package"]

# AOTInductor copies weights to where malloc puts them: with glibc 16 bytes past a page, so that
# oneDNN reads each row of a packed weight from two cache lines. Its own alignment is 64 bytes.
ALIGNED_WEIGHTS = """
#ifdef __linux__
#include <malloc.h>
#include <cstdlib>
#define malloc(size) aligned_alloc(64, ((size) + 63) / 64 * 64)
#include <torch/csrc/inductor/aoti_runtime/model.h>
#undef malloc
#endif
"""


def write_package(
    converted: fx.GraphModule,
    example_inputs: tuple[torch.Tensor, ...],
    path: Path | str,
    *,
    bf16_autocast: bool = False,
    dynamic_shapes: Any = None,
) -> Path:
    """Compile a converted model into one file, with freezing and the rewrites of `lower`.

    ``torch._inductor.aoti_load_package(path)`` loads it, in Python or C++. It belongs to the
    torch, the kind of device and the instruction set that it was made with.

    Parameters
    ----------
    converted : torch.fx.GraphModule
        From ``convert_pt2e``. Not changed.
    example_inputs : tuple of torch.Tensor
        Inputs of the one shape, dtype and memory layout that the package accepts.
    path : path
        Ends in ``.pt2``, in a folder that exists; a file that is there is replaced.
    bf16_autocast : bool
        As for `lower`.
    dynamic_shapes : optional
        As for ``torch.export.export``, for a model that was captured with the same ones.

    Raises
    ------
    PackageError
        If the device has no int8 kernels, or the file cannot be written.
    LoweringError
        If the model cannot be exported or compiled for the device.
    """
    path, device = Path(path), example_inputs[0].device.type
    if path.suffix != ".pt2":
        raise PackageError(f"{path} does not end in .pt2.", "AOTInductor wants that: model.pt2")
    if device == "cuda":
        cause = "oneDNN has no int8 kernels for cuda: a package would run in floating point."
        raise PackageError(cause, "Package for cpu or xpu: move the model and the inputs there.")
    if pt2e_home() == "torchao":  # Inductor's int8 passes come with it
        import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer  # noqa: F401
    rewritten, _ = rewrite_for(device, converted)
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    fix = "Name a folder that exists, that you may write, and that has space left."
    with explained(OSError, f"{path} cannot be written", fix, PackageError):
        temporary.touch()  # before minutes of compiling are lost
        try:
            _compile(rewritten, example_inputs, temporary, bf16_autocast, dynamic_shapes)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return path


def _compile(
    rewritten: fx.GraphModule,
    example_inputs: tuple[torch.Tensor, ...],
    path: Path,
    bf16_autocast: bool,
    dynamic_shapes: Any,
) -> None:
    device = example_inputs[0].device
    configs = {"freezing": True}
    if device.type == "cpu":  # a precompiled header would come before the line that aligns
        configs["aot_inductor.precompile_headers"] = False
    with (
        torch.no_grad(),
        torch.autocast(device.type, torch.bfloat16, enabled=bf16_autocast),
        _aligned_weights(device),
    ):
        try:
            program = torch.export.export(
                rewritten, example_inputs, strict=False, dynamic_shapes=dynamic_shapes
            )
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(path), inductor_configs=configs
            )
        except OSError:
            raise
        except Exception as error:  # Inductor raises many kinds; each is named and kept
            first_line = (str(error).strip() or "no message").splitlines()[0]
            cause = f"AOTInductor cannot package this model for {device}: "
            fix = "Run `xpuq doctor` (C++ compiler, Triton), then look at the cause above."
            raise LoweringError(f"{cause}{type(error).__name__}: {first_line}", fix) from error


@contextmanager
def _aligned_weights(device: torch.device) -> Iterator[None]:
    """Have the C++ of a package for a CPU begin with lines that align its weights."""
    compile_code = AotCodeCompiler.compile

    def compile_aligned(graph: Any, wrapper_code: str, *args: Any, **kwargs: Any) -> Any:
        return compile_code(graph, ALIGNED_WEIGHTS + wrapper_code, *args, **kwargs)

    if device.type == "cpu":
        with patch.object(AotCodeCompiler, "compile", compile_aligned):
            yield
    else:
        yield
