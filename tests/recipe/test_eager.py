import copy
import subprocess
import sys

import pytest
import torch
from conftest import DEVICES
from torch import nn

from xpuqlib.errors import ModelError, TrackError
from xpuqlib.machine.environment import IPEX, installed_version
from xpuqlib.material.models import load_model
from xpuqlib.names import MODELS
from xpuqlib.proof.closeness import sqnr
from xpuqlib.recipe import eager
from xpuqlib.recipe.eager import count_nodes, count_quantized, eager_place, quantizable_model


def test_a_cpu_is_where_it_was_asked_for():
    place = eager_place(torch.device("cpu"))
    assert (place.device.type, place.mode) == ("cpu", "rehearsed")
    assert place.ipex == (installed_version(IPEX) is not None)
    assert place.description.startswith("on cpu with")


@pytest.mark.parametrize("kind", ["xpu", "cuda"])
def test_without_kernels_the_cpu_is_used_and_that_is_said(monkeypatch, kind):
    monkeypatch.setattr(eager, "installed_version", lambda package: None)
    place = eager_place(torch.device(kind))
    assert place.device.type == "cpu"
    assert "has no quantized kernels" in place.description
    assert kind in place.description


def test_a_mismatched_ipex_is_not_imported(monkeypatch):
    monkeypatch.setattr(eager, "ipex_mismatch", lambda: "IPEX 1 needs torch 1")
    with pytest.raises(TrackError, match="IPEX 1 needs torch 1"):
        eager_place(torch.device("cpu"))


@pytest.mark.slow
def test_a_process_survives_a_mismatched_ipex(tmp_path):
    info = tmp_path / "intel_extension_for_pytorch-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {IPEX}\nVersion: 1.0\n")
    (tmp_path / "intel_extension_for_pytorch.py").write_text("import os\nos._exit(127)\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import torch\n"
        "from xpuqlib.recipe.eager import eager_place; from xpuqlib.errors import TrackError\n"
        "try: eager_place(torch.device('cpu'))\n"
        "except TrackError as error: print('survived:', error)"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert "survived: IPEX 1.0 needs torch 1.0" in child.stdout


@pytest.mark.skipif(installed_version(IPEX) is None, reason="needs IPEX, the ipex track")
def test_importing_ipex_makes_no_noise():
    code = (
        "import torch; from xpuqlib.recipe import eager_place; eager_place(torch.device('cpu'));"
        "import sys; assert 'intel_extension_for_pytorch' in sys.modules"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (child.returncode, child.stderr) == (0, "")


@pytest.mark.parametrize("name", MODELS)
def test_the_eager_variant_is_the_same_model(name):
    model = load_model(name, "random")
    rewritten = quantizable_model(name, model)
    torch.manual_seed(0)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        closeness = sqnr(model(x), rewritten(x))
    # MobileNetV2 has ReLU where the plain one has ReLU6.
    assert closeness > (10 if name == "mobilenet_v2" else 80)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in rewritten.modules())


def test_weights_of_another_model_are_an_error():
    with pytest.raises(ModelError, match="not those of resnet50"):
        quantizable_model("resnet50", load_model("resnet18", "random"))
    with pytest.raises(ModelError, match="no model 'vgg'"):
        quantizable_model("vgg", load_model("resnet18", "random"))


def quantized(model, x):
    model.qconfig = torch.quantization.QConfig(
        activation=torch.quantization.observer.MinMaxObserver.with_args(
            qscheme=torch.per_tensor_affine
        ),
        weight=torch.quantization.default_per_channel_weight_observer,
    )
    torch.quantization.prepare(model, inplace=True)
    with torch.no_grad():
        model(x)
    return torch.quantization.convert(model, inplace=True)


def test_quantized_layers_are_counted_once():
    float_model = quantizable_model("resnet18", load_model("resnet18", "random"))
    none = {
        "conv": {"in the model": 20, "quantized": 0},
        "linear": {"in the model": 1, "quantized": 0},
    }
    assert count_quantized(float_model) == none
    model = quantized(copy.deepcopy(float_model), torch.randn(2, 3, 64, 64))
    assert count_quantized(model) == {
        "conv": {"in the model": 20, "quantized": 20},
        "linear": {"in the model": 1, "quantized": 1},
    }


def test_a_layer_without_qconfig_stays_float_and_is_counted_as_such():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)).eval()
    wrapped = torch.quantization.QuantWrapper(model[:1])
    counts = count_quantized(nn.Sequential(quantized(wrapped, torch.randn(1, 3, 8, 8)), model[1]))
    assert counts["conv"] == {"in the model": 2, "quantized": 1}


@pytest.mark.parametrize("device", DEVICES)
def test_nodes_are_counted_inside_of_blocks(device):
    @torch.jit.script
    def branch(x: torch.Tensor) -> torch.Tensor:
        if bool(x.sum() > 0):
            x = x.relu().relu()
        return x.relu()

    assert branch(torch.ones(2, device=device)).device.type == device
    assert count_nodes(branch.graph)["aten::relu"] == 3
    assert count_nodes(branch.graph)["prim::If"] == 1
