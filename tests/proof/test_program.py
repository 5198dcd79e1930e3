import re

import pytest
import torch
from conftest import Flow
from torch._inductor.async_compile import AsyncCompile

from xpuqlib.errors import DraftError
from xpuqlib.proof.draft import draft_for_xpu
from xpuqlib.proof.fake_constants import FakeConstants
from xpuqlib.proof.program import executed_lines, write_program
from xpuqlib.recipe.lowering import lower, rewrite_for


def written_for_cpu(flow: Flow, bf16_autocast: bool = False) -> str:
    rewritten, _ = rewrite_for("cpu", flow.converted)
    constants = FakeConstants("cpu")
    return write_program(
        rewritten, flow.inputs, constants, freezing=True, bf16_autocast=bf16_autocast
    )[0].code


def test_asked_for_the_cpu_it_writes_what_lower_runs_there(resnet_flow):
    real = resnet_flow.lowered.compilation.code
    assert sum("torch.ops.onednn.q" in line for line in executed_lines(real)) == 21
    assert executed_lines(written_for_cpu(resnet_flow)) == executed_lines(real)


def test_so_it_does_under_autocast(tiny_flow):
    lowered = lower(tiny_flow.converted, tiny_flow.inputs, bf16_autocast=True)
    written = executed_lines(written_for_cpu(tiny_flow, bf16_autocast=True))
    assert written == executed_lines(lowered.compilation.code)
    assert written != executed_lines(written_for_cpu(tiny_flow))


def test_no_process_starts_for_what_is_only_written(tiny_flow, monkeypatch):
    def pool():
        raise AssertionError("a process more, which imports torch")

    monkeypatch.setattr(AsyncCompile, "process_pool", pool)
    with torch._inductor.config.patch(compile_threads=2):
        assert draft_for_xpu(tiny_flow.converted, tiny_flow.inputs).kernels


def test_what_cannot_be_written_is_named_with_its_cause(tiny_flow):
    rewritten, _ = rewrite_for("cpu", tiny_flow.converted)
    other = (torch.randn(8, 4, 16, 16),)
    with pytest.raises(DraftError, match=f"torch {re.escape(torch.__version__)} cannot write"):
        write_program(rewritten, other, FakeConstants("xpu"), freezing=True, bf16_autocast=False)
