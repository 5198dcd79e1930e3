import os
import subprocess
import sys
from pathlib import Path
from types import FunctionType

import pytest
import torch

from xpuqlib.errors import DraftError
from xpuqlib.proof.assumed_gpu import assumed_gpu
from xpuqlib.proof.draft import draft_for_xpu
from xpuqlib.proof.program import executed_lines
from xpuqlib.proof.replaced import gpu_that_is_not_there, replacements
from xpuqlib.recipe.lowering import lower

without_xpu = pytest.mark.skipif(torch.xpu.is_available(), reason="here is a real Intel GPU")


def replaced() -> list[object]:
    """What stands now where something would stand in."""
    return [getattr(place, name, None) for place, name, _ in replacements(assumed_gpu("max-1100"))]


def leaked() -> list[str]:
    """Names in torch's modules and classes that belong to what stands in for a GPU."""
    ours = ("xpuqlib.proof.replaced", "xpuqlib.proof.program")
    found = []
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in ("torch", "torchao", "triton"):
            continue
        classes = [value for value in list(vars(module).values()) if type(value) is type]
        for place in [module, *classes]:
            for attribute, value in list(vars(place).items()):
                if isinstance(value, staticmethod):
                    value = value.__func__
                if isinstance(value, FunctionType) and value.__module__ in ours:
                    found.append(f"{place.__name__}.{attribute}")
    return found


@without_xpu
def test_the_gpu_is_there_only_meanwhile():
    assert not torch.xpu.is_available()
    before, same = replaced(), torch._inductor.graph.is_same_tensor
    with gpu_that_is_not_there(assumed_gpu(None)):
        assert torch.xpu.is_available()
        assert "torch.xpu.is_available" in leaked()
        assert replaced() != before
    assert not torch.xpu.is_available()
    assert leaked() == []
    assert replaced() == before
    assert torch._inductor.graph.is_same_tensor is same


@without_xpu
def test_nothing_stays_in_a_process_that_drafts_first():
    script = """
import torch
from conftest import TinyNet, capture, quantize
from test_replaced import leaked
from xpuqlib.proof.draft import draft_for_xpu
model, x = TinyNet().eval(), torch.randn(8, 3, 16, 16)
draft = draft_for_xpu(quantize(capture(model, (x,)), x), (x,))
print(len(draft.calls), leaked(), torch.xpu.is_available())
"""
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parent), *sys.path])
    child = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert child.stdout.splitlines()[-1:] == ["2 [] False"], child.stderr


@without_xpu
def test_nothing_stays_when_something_fails(tiny_flow):
    with pytest.raises(DraftError):
        draft_for_xpu(tiny_flow.converted, (torch.randn(8, 4, 16, 16),))
    assert not torch.xpu.is_available()
    assert leaked() == []


@without_xpu
def test_a_draft_leaves_compilation_for_the_cpu_as_it_was(tiny_flow):
    stood = replaced()
    before = lower(tiny_flow.converted, tiny_flow.inputs).compilation
    draft_for_xpu(tiny_flow.converted, tiny_flow.inputs)
    after = lower(tiny_flow.converted, tiny_flow.inputs).compilation
    assert executed_lines(after.code) == executed_lines(before.code)
    assert replaced() == stood
    assert leaked() == []
