import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import quantize

from xpuqlib.material.models import load_model
from xpuqlib.proof.closeness import sqnr
from xpuqlib.proof.draft import draft_for_xpu
from xpuqlib.proof.int8_calls import int8_arguments, is_int8_call
from xpuqlib.proof.simulation import simulate
from xpuqlib.recipe.pt2e import capture

SCRIPT = Path(__file__).with_name("execute_program.py")


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("bf16", [False, True])
def test_the_drafted_program_gives_what_its_simulation_gives(tmp_path, device, bf16):
    if device == "cpu":
        pytest.importorskip("triton", reason="Triton's interpreter comes with Triton")
    model = load_model("resnet18", "random").to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    converted = quantize(capture(model, (x,)), x)
    draft = draft_for_xpu(converted, (x,), bf16_autocast=bf16)
    arguments = [int8_arguments(node) for node in draft.graph.nodes if is_int8_call(node)]
    path = tmp_path / "draft.pt"
    given = {
        "program": draft.compilation.code,
        "constants": draft.constants,
        "inputs_of": {a["qw"].target: (a["x_scale"], a["x_zero_point"]) for a in arguments},
        "inputs": [x],
    }
    torch.save(given, path)
    subprocess.run(
        [sys.executable, SCRIPT, path, device],
        check=True,
        env=os.environ | ({"TRITON_INTERPRET": "1"} if device == "cpu" else {}),
    )
    output, launched = torch.load(path.with_suffix(".out"))
    assert launched == len(draft.kernels) > 2
    simulated = simulate(draft, (x,)).output
    # Quantize and max-pool are exact; the mean may round to the other of two codes, or in bf16.
    assert sqnr(simulated, output.float()) > (30 if bf16 else 40)
