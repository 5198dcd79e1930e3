import os
import runpy
import subprocess
import sys

import pytest
import torch
from conftest import export, large_on, patient
from torch import nn
from torch.utils._pytree import tree_leaves

from xpuqlib.errors import RunError
from xpuqlib.material.batches import load_batches
from xpuqlib.material.models import load_model
from xpuqlib.material.text import reviews
from xpuqlib.proof.closeness import sqnr
from xpuqlib.proof.graph import quantizable_layers
from xpuqlib.recipe.attention import rewrite_attention
from xpuqlib.recipe.calibration import calibrate
from xpuqlib.recipe.lowering import lower
from xpuqlib.recipe.pt2e import capture, convert_pt2e, prepare_pt2e
from xpuqlib.recipe.recipe import Recipe
from xpuqlib.recipe.script import write_script

IPEX_MODULE = "intel_extension_for_pytorch"

# Runs a script in a process in which xpuqlib cannot be imported, and keeps its output.
RUN = """
import runpy, sys
sys.modules["xpuqlib"] = None
script, kept, *sys.argv[1:] = sys.argv[1:]
values = runpy.run_path(script, run_name="__main__")
values["torch"].save(values["output"], kept)
"""

MINE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(9, 8)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True))
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU())
        self.head = nn.Linear(16, 4)

    def forward(self, x, ids):
        seen = self.body(self.stem(x)).mean((2, 3))
        return {"scores": self.head(torch.cat([seen, self.table(ids)], 1)), "seen": seen}

class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        inner = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        self.features = nn.Sequential(inner, nn.Conv2d(8, 4, 3))

    def forward(self, x):
        return self.features(x)

def model():
    torch.manual_seed(0)
    return Net().eval()

def nested():
    torch.manual_seed(0)
    return Nested().eval()

def sequential():
    return nn.Sequential(nested().features, nn.Conv2d(4, 4, 3)).eval()

def data():
    torch.manual_seed(1)
    return [((torch.randn(4, 3, 11, 11), torch.arange(4) + n),) for n in range(3)]
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Factories in a file with the name of a module of the standard library."""
    monkeypatch.setattr(sys, "path", [*sys.path])  # the folder of the file goes into it
    path = tmp_path / "calendar.py"
    path.write_text(MINE)
    return f"{path}:model", f"{path}:data"


def make_recipe(model, **changes):
    return Recipe(model=model, weights="auto", data="digits", **changes)


def quantized(recipe, model, calibration):
    """Quantize as the lessons do."""
    captured = capture(model, calibration[0])
    prepared = prepare_pt2e(captured, recipe.quantizer(captured))
    calibrate(prepared, calibration)
    return convert_pt2e(prepared)


def run(script, *arguments, check=True):
    kept = script.with_name("output.pt")
    # With IPEX imported, PyTorch's fp32 convolutions round otherwise: in both processes or in none.
    code = f"import {IPEX_MODULE}\n{RUN}" if IPEX_MODULE in sys.modules else RUN
    command = [sys.executable, "-c", code, str(script), str(kept), *arguments]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    ended = subprocess.run(
        command, env=environment, cwd="/", check=check, capture_output=True, text=True
    )
    return torch.load(kept) if kept.exists() else None, ended


def check_equal(output, ours):
    pairs = list(zip(tree_leaves(output), tree_leaves(ours), strict=True))
    assert pairs
    assert all(torch.equal(*pair) for pair in pairs)


def test_a_script_gives_the_same_bits_without_this_kit(own, tmp_path):
    named, data = own
    recipe = make_recipe(named, configuration="symmetric", observer="minmax", float_layers=["head"])
    model = load_model(named, "auto")
    calibration = load_batches(data, calibration_batches=2).calibration
    torch.nn.init.normal_(model.head.weight)  # the weights are those of the lesson
    converted = quantized(recipe, model, calibration)
    script = write_script(recipe, tmp_path / "out", model, converted, calibration)
    assert {path.name for path in script.parent.iterdir()} == {
        "quantize_my_model.py",
        "weights.pt",
        "calibration.pt",
    }
    (tmp_path / "calendar.py").replace(script.with_name("calendar.py"))  # it is found there, too
    output, ended = run(script, "--device", "cpu")
    check_equal(output, lower(converted, calibration[0])(*calibration[0]))
    assert "2 of 3 convolutions and linear layers run in int8 kernels on cpu" in ended.stdout
    assert "import xpuqlib" not in script.read_text()


def load_nested(own, function):
    torch.manual_seed(0)
    calibration = tuple((torch.randn(4, 3, 8, 8),) for _ in range(2))
    named = own[0].replace(":model", f":{function}")
    return named, load_model(named, "auto"), calibration


# With torch 2.8 the graph of the second one has "getattr(getattr(L['fn'], '0'), '1')" for 0.1.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "exceptions", "count"),
    [
        ("nested", {"float_layers": ["features.0.0"]}, "1 of 2"),
        ("sequential", {"float_layers": ["0.0.0"], "float_activations": ["0.1"]}, "1 of 3"),
    ],
)
def test_what_stays_in_floating_point_does_so_in_nested_modules(
    own, tmp_path, function, exceptions, count
):
    named, model, calibration = load_nested(own, function)
    recipe = make_recipe(named, **exceptions)
    converted = quantized(recipe, model, calibration)
    script = write_script(recipe, tmp_path / "out", model, converted, calibration)
    output, ended = run(script, "--device", "cpu")
    check_equal(output, lower(converted, calibration[0])(*calibration[0]))
    assert f"{count} convolutions and linear layers run in int8 kernels" in ended.stdout


@pytest.mark.parametrize("kind", ["float_layers", "float_activations"])
def test_a_name_that_matches_nothing_ends_the_script(own, tmp_path, monkeypatch, kind):
    named, model, calibration = load_nested(own, "sequential")
    recipe = make_recipe(named, **{kind: ["0.0", "0.1", "0.7", "one"]})
    # Only max-pools are looked for in what was converted: the captured model has none either.
    captured = capture(model, calibration[0])
    script = write_script(recipe, tmp_path / "out", model, captured, calibration)
    monkeypatch.setattr(sys, "argv", [str(script), "--device", "cpu"])
    # The script exports in this process, in which other tests have exported the same class.
    with patient(), pytest.raises(SystemExit, match=r"is called 0\.7, one\.$"):
        runpy.run_path(str(script), run_name="__main__")
    assert sys.path[-1] == str(tmp_path)  # behind the standard library


@pytest.mark.slow
@pytest.mark.parametrize(
    "bf16",
    [pytest.param(False, marks=large_on("ipex")), pytest.param(True, marks=large_on("current"))],
)
def test_a_model_of_torchvision_gives_the_same_bits(tmp_path, bf16):
    model = load_model("resnet18")
    calibration = load_batches(calibration_batches=2, batch_size=8).calibration
    recipe = make_recipe("resnet18", bf16=bf16)
    converted = quantized(recipe, model, calibration)
    script = write_script(recipe, tmp_path, model, converted, calibration)
    output, _ = run(script, "--device", "cpu")
    check_equal(output, lower(converted, calibration[0], bf16_autocast=bf16)(*calibration[0]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("vit", marks=large_on("current")),
        pytest.param("text", marks=large_on("ipex")),
    ],
)
def test_transformers_of_this_kit_are_built_and_rewritten_without_it(tmp_path, name):
    model = load_model(name, "random")
    calibration = ((torch.randn(4, 3, 32, 32) if name == "vit" else reviews()[0][:4],),)
    recipe = make_recipe(name, rewritten_attention=True)
    converted = quantized(recipe, rewrite_attention(model), calibration)
    script = write_script(recipe, tmp_path, model, converted, calibration)
    output, ended = run(script, "--device", "cpu")
    check_equal(output, lower(converted, calibration[0])(*calibration[0]))
    count = len(quantizable_layers(converted))
    assert f"{count} of {count} convolutions and linear layers run in int8" in ended.stdout
    assert "xpuqlib" not in script.with_name("rewritten_attention.py").read_text()


def test_attention_that_is_kept_is_exported_without_the_fast_path(tmp_path):
    model, calibration = load_model("text", "random"), ((reviews()[0][:4],),)
    captured = capture(model, calibration[0])
    script = write_script(make_recipe("text"), tmp_path, model, captured, calibration)
    assert "set_fastpath_enabled(False)" in script.read_text()
    assert not script.with_name("rewritten_attention.py").exists()
    recipe = make_recipe("text", rewritten_attention=True)
    script = write_script(recipe, tmp_path, model, captured, calibration)
    assert "set_fastpath_enabled" not in script.read_text()
    assert script.with_name("rewritten_attention.py").exists()


class Odd(nn.Module):
    """What upstream gets wrong: a batch norm on a shortcut, a changed bias; and concatenations."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16)
        self.last, self.linear = nn.Conv2d(16, 16, 1), nn.Linear(48, 4)
        nn.init.uniform_(self.norm.running_mean, 1, 2)

    def forward(self, x):
        y = self.conv(x)
        y = torch.cat([y, self.last(self.norm(y).relu()), self.last(y)], 1).amax((2, 3))
        bias = self.linear.bias.clone()
        bias[1:3].zero_()
        return nn.functional.linear(y, self.linear.weight, bias)


@pytest.mark.slow
def test_an_exported_program_gives_the_same_bits(tmp_path):
    torch.manual_seed(0)
    model, x = Odd().eval(), torch.randn(8, 3, 16, 16)
    torch.export.save(export(model, x), tmp_path / "model.pt2")
    named = str(tmp_path / "model.pt2")
    program = load_model(named, "auto")
    recipe = make_recipe(named)
    converted = quantized(recipe, program, ((x,),))
    script = write_script(recipe, tmp_path / "out", program, converted, ((x,),))
    text = script.read_text()
    for rewrite in ("keep_batch_norms", "fold_changed_biases", "keep_cats_floating"):
        assert text.count(f"{rewrite}(") == 2, rewrite  # defined and called
    assert sqnr(model(x), converted(x)) > 20
    output, _ = run(script, "--device", "cpu")
    check_equal(output, lower(converted, (x,))(x))
    # Without freezing there is no int8 kernel, and that is an error.
    script.write_text(script.read_text().replace("freezing = True", "freezing = False"))
    _, ended = run(script, "--device", "cpu", check=False)
    assert ended.returncode != 0
    assert "None of 4 layers has an int8 kernel" in ended.stderr


def test_a_short_recipe_is_a_short_script(tiny_flow, tmp_path):
    flow = tiny_flow
    plain = make_recipe("resnet18")
    script = write_script(plain, tmp_path, flow.model, flow.converted, (flow.inputs,))
    text = script.read_text()
    assert "max_pool" not in text
    assert "FLOAT_LAYERS" not in text
    assert "num_classes=4)" in text


def test_a_vision_transformer_is_built_for_its_size_of_images(tmp_path):
    class Sized(nn.Module):
        image_size = 518

        def forward(self, x):
            return x.mean((2, 3))

    calibration = ((torch.zeros(1, 3, 518, 518),),)
    graph = capture(Sized().eval(), calibration[0])
    script = write_script(make_recipe("vit_h_14"), tmp_path, Sized(), graph, calibration)
    assert '"vit_h_14", weights=None, num_classes=3, image_size=518)' in script.read_text()


def test_a_folder_that_cannot_be_written_is_named(tiny_flow, tmp_path):
    (tmp_path / "file").touch()
    flow = tiny_flow
    with pytest.raises(RunError, match="cannot be written"):
        write_script(
            make_recipe("resnet18"),
            tmp_path / "file" / "out",
            flow.model,
            flow.converted,
            (flow.inputs,),
        )
