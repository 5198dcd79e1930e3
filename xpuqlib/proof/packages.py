"""Is a packaged model what it is said to be: int8 calls in its code, and its answers."""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch._inductor

from xpuqlib.errors import PackageError, explained
from xpuqlib.proof.closeness import flat_output
from xpuqlib.proof.evidence import Evidence

__all__ = ["PackageContent", "read_package", "verify_package"]

_SHIM = re.compile(r"\baoti_torch_\w+?__?(q(?:conv|linear)\w*)\(")
_FLOAT_SHIM = re.compile(
    r"\baoti_torch_(?:cpu|xpu)_+((?:mkldnn_)?(?:addmm|mm|bmm|conv|linear)\w*)\("
)
CHECK_INPUTS = "AOTI_RUNTIME_CHECK_INPUTS"  # read by the package's own code, at its first run


@dataclass(frozen=True)
class PackageContent:
    """What stands in an AOTInductor package. It was read, and nothing of it was executed.

    Attributes
    ----------
    device, isa : str
        What it was compiled for: the kind of device, and a CPU's vector instructions.
    int8_calls, float_calls : dict of str to int
        How often its C++ calls each int8 operator, and each floating-point convolution or product.
    size, code_size : int
        Bytes of the file, and of the machine code in it, which holds the weights.
    """

    device: str
    isa: str
    int8_calls: dict[str, int]
    float_calls: dict[str, int]
    size: int
    code_size: int

    def require_int8(self, expected: int) -> None:
        """Raise unless at least as many int8 calls stand in its code as expected.

        Raises
        ------
        PackageError
            With the number found, and the fix.
        """
        found = sum(self.int8_calls.values())
        if found < expected or not found:
            named = ", ".join(f"{n} {name}" for name, n in self.float_calls.items()) or "none"
            cause = (
                f"The package has {found} int8 calls, and {expected} layers of its model ran in "
                f"int8; its calls in floating point: {named}."
            )
            fix = (
                "Package with freezing: xpuqlib.recipe.write_package, or "
                "aoti_compile_and_package(..., inductor_configs={'freezing': True})."
            )
            raise PackageError(cause, fix)


def read_package(path: Path | str) -> PackageContent:
    """Read the C++ in a package, and what it was compiled for, without loading it.

    Raises
    ------
    PackageError
        If it is no package of AOTInductor, or holds no C++.
    """
    path = Path(path)
    fix = "Name a .pt2 file of aoti_compile_and_package; torch.export.save writes another kind."
    kinds = (OSError, zipfile.BadZipFile, UnicodeDecodeError, ValueError)
    with explained(kinds, f"{path} cannot be read", fix, PackageError), zipfile.ZipFile(path) as z:
        parts = {name: z.getinfo(name).file_size for name in z.namelist()}
        code = "".join(z.read(name).decode() for name in parts if name.endswith(".wrapper.cpp"))
        described = [name for name in parts if name.endswith(".wrapper_metadata.json")]
        about = json.loads(z.read(described[0])) if described else {}
    if not code:
        raise PackageError(f"{path} holds no C++ of AOTInductor.", fix)
    return PackageContent(
        device=about.get("AOTI_DEVICE_KEY", "unknown"),
        isa=about.get("AOTI_CPU_ISA", ""),
        int8_calls=dict(Counter(_SHIM.findall(code))),
        float_calls=dict(Counter(_FLOAT_SHIM.findall(code))),
        size=path.stat().st_size,
        code_size=sum(size for name, size in parts.items() if name.endswith(".so")),
    )


def verify_package(
    path: Path | str,
    evidence: Evidence | Mapping[str, Any],
    inputs: tuple[torch.Tensor, ...],
    expected: torch.Tensor | None = None,
) -> PackageContent:
    """Count a package's int8 calls against the evidence of its model, load it, and run it.

    **Loading executes the machine code in the file**: verify only what you made, or trust. While
    it is verified, the package itself checks shape, dtype and strides of every input.

    Parameters
    ----------
    path : path
        From `xpuqlib.recipe.write_package`.
    evidence : Evidence or dict
        Of the model that was packaged, or the ``evidence`` of its run record.
    inputs : tuple of torch.Tensor
        To run it on.
    expected : torch.Tensor, optional
        What it must answer, bit for bit.

    Raises
    ------
    PackageError
        If int8 calls are missing, the inputs do not fit, or the answer is another, or not finite.
    """
    counts = evidence.counts() if isinstance(evidence, Evidence) else evidence.get("counts", {})
    content = read_package(path)
    content.require_int8(sum(stages["generated"] for stages in counts.values()))
    fix = "Give inputs as they were packaged, on the machine and torch that it was made for."
    with (
        torch.no_grad(),
        mock.patch.dict(os.environ, {CHECK_INPUTS: "1"}),
        explained((RuntimeError, AssertionError), f"{path} does not run", fix, PackageError),
    ):
        output = flat_output(torch._inductor.aoti_load_package(str(path))(*inputs))
    if not torch.isfinite(output).all():
        raise PackageError(f"{path} answers NaN or infinity.", "Package the model again.")
    if expected is not None and not torch.equal(output, flat_output(expected)):
        difference = (output - flat_output(expected)).abs().max().item()
        cause = f"{path} does not answer as expected: the largest difference is {difference:.3g}."
        fix = "On another kind of CPU kernels round otherwise: package it there again."
        raise PackageError(cause, fix)
    return content
