import pytest
import torch
from torch import nn

from xpuqlib.errors import DeviceError, DraftError, ModelError, ParameterError, RunError
from xpuqlib.proof.program import executed_lines
from xpuqlib.runner import drafts
from xpuqlib.runner.drafts import Recipe, check_draft, compare_programs, draft_model, read_recipe

SMALL = {"image_size": 64}
without_xpu = pytest.mark.skipif(torch.xpu.is_available(), reason="here is a real Intel GPU")


def test_a_drafted_program_is_a_file_that_says_what_it_is(tmp_path):
    made = draft_model(Recipe(model="squeezenet1_1", gpu="arc-b580", **SMALL))
    assert made.row()["in int8"] == "26 of 26"
    assert made.left == {}
    # Only rounding lies between the simulated program and the Q/DQ graph.
    assert made.sqnr_to_reference > made.sqnr_reference_to_fp32
    made.write(tmp_path / "programs")
    [path] = (tmp_path / "programs").iterdir()
    assert path.name == "squeezenet1_1-image_size=64-gpu=arc-b580.py"
    text = path.read_text(encoding="utf-8")
    assert "Drafted for Intel Arc B580" in text.splitlines()[0]
    assert f"torch {torch.__version__.partition('+')[0]}" in text
    assert sum("torch.ops.onednn.q" in line for line in executed_lines(text)) == 26
    compile(text, path, "exec")  # it is Python to the end


def test_a_layer_that_is_not_quantized_is_named_with_its_reason(monkeypatch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.ConvTranspose2d(16, 4, 3)).eval()
    monkeypatch.setattr(drafts, "load_model", lambda name, weights: model)
    made = draft_model(Recipe(model="mine", **SMALL))
    assert made.left == {"2": "XPUInductorQuantizer does not quantize conv_transpose2d"}
    assert (made.layers, made.missing) == (2, 0)
    assert made.row()["in int8"] == "1 of 2"


def test_what_was_typed_is_checked():
    assert read_recipe("resnet18", {"batch_size": "2"}).batch_size == 2
    with pytest.raises(ParameterError, match="batch_size is not possible"):
        read_recipe("resnet18", {"batch_size": "0"})
    with pytest.raises(ParameterError, match=r"pixels is not possible(?s:.*)image_size"):
        read_recipe("resnet18", {"pixels": "64"})
    with pytest.raises(ModelError, match="resnet18"):
        draft_model(Recipe(model="resnt18"))


def test_programs_are_compared_by_what_they_execute_and_not_by_their_scales():
    head = "# Versions: torch 2\n'''\ndef triton_a(x):\n    y = x * 0.5\n'''\n"
    program = head + "def call(args):\n    q(folded_1, 0.25, -128)\nrunner = 1\n"
    assert compare_programs(program, program.replace("0.25", "1.5e-03")) == []
    assert compare_programs(program, program.replace("folded_1", "_frozen_param7")) == []
    [_, old, new] = compare_programs(program, program.replace("-128", "0"))
    assert (old, new) == ("-    q(constant, number, -128)", "+    q(constant, number, 0)")
    other = program.replace("torch 2", "torch 3").replace("y = x *", "y = x +")
    differences = compare_programs(program, other)
    assert differences[:2] == ["- # Versions: torch 2", "+ # Versions: torch 3"]
    assert any("y = input + number" in line for line in differences)
    with pytest.raises(DraftError, match="not a whole program"):
        compare_programs(program, "# Versions: torch 2\n")


@without_xpu
def test_a_draft_is_checked_on_an_intel_gpu_only(tmp_path):
    with pytest.raises(DeviceError, match="no Intel GPU"):
        check_draft(tmp_path / "x.py")


@pytest.mark.xpu
def test_the_draft_is_the_program_of_the_gpu_that_is_here(tmp_path):
    # Written as on a machine without a GPU: what stands in for it is checked, too.
    for settings in ({}, {"configuration": "symmetric"}, {"bf16": True}):
        recipe = Recipe(model="resnet18", gpu="max-1100", **SMALL, **settings)
        draft_model(recipe).write(tmp_path)
        path = tmp_path / f"{recipe.name()}.py"
        assert check_draft(path) == []


@pytest.mark.xpu
def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "x.py"
    path.write_text("print()")
    with pytest.raises(DraftError, match="was not written by this command"):
        check_draft(path)
    path.write_text('# recipe: {"model": 1}')
    with pytest.raises(RunError, match="The head of"):
        check_draft(path)
