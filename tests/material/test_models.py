import ssl
import subprocess
import sys
import urllib.error

import pytest
import torch
import torchvision
from torch import nn

from xpuqlib.errors import ModelError, XpuqWarning
from xpuqlib.material import models
from xpuqlib.material.data import load_data
from xpuqlib.material.models import digits_weights, load_model
from xpuqlib.proof.closeness import predict, top1


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_digits_weights_are_trained(name):
    data = load_data()
    accuracy = top1(predict(load_model(name), data.images, 32, "cpu"), data.labels)
    assert accuracy > 0.94  # 450 images: seeds and thread counts move it by about 2 points


def test_unknown_names_list_the_choices():
    with pytest.raises(ModelError, match=r"Use resnet18, .*file\.py:function"):
        load_model("resnet19")
    with pytest.raises(
        ModelError, match="auto, digits, imagenet, random, or the path of a state dict"
    ):
        load_model("resnet18", "coco")


def test_random_weights_answer_different_images_differently():
    model = load_model("mobilenet_v2", "random", seed=3)
    assert not model.training
    with torch.no_grad():
        output = model(torch.randn(4, 3, 64, 64))
    assert output.std(dim=0).max() > 0.1 * output.abs().mean()
    again = load_model("mobilenet_v2", "random", seed=3).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())


def test_loading_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    load_model("resnet18", "random")
    assert torch.equal(torch.rand(3), expected)


def test_imagenet_weights_offline_name_the_fix(monkeypatch):
    def offline(*args, **kwargs):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torchvision.models, "get_model", offline)
    home = torch.hub.get_dir()
    fix = r"cannot be downloaded(?s:.*)xpuq prefetch --weights imagenet(?s:.*)weights='digits'"
    with pytest.raises(ModelError, match=fix):
        load_model("resnet18", "imagenet")
    assert torch.hub.get_dir() == home


def test_imagenet_weights_that_cannot_be_kept_name_the_folder(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XPUQLIB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ModelError, match=r"cannot be kept(?s:.*)file(?s:.*)XPUQLIB_CACHE") as error:
        load_model("resnet18", "imagenet")
    assert "download" not in str(error.value)


@pytest.mark.parametrize("error", [TimeoutError, ConnectionResetError, ssl.SSLError])
def test_a_download_that_breaks_off_is_no_fault_of_the_folder(monkeypatch, error):
    def broken(*args, **kwargs):
        raise error

    monkeypatch.setattr(torchvision.models, "get_model", broken)
    with pytest.raises(ModelError, match="cannot be downloaded"):
        load_model("resnet18", "imagenet")


def test_damaged_weights_are_seen_and_trained_again(monkeypatch, tmp_path):
    monkeypatch.setenv("XPUQLIB_CACHE", str(tmp_path))
    monkeypatch.setattr(models, "_train_on_digits", lambda name: nn.Linear(2, 2))
    path = digits_weights("resnet18")
    good = path.read_bytes()
    assert digits_weights("resnet18").read_bytes() == good
    path.write_bytes(good[:-10])
    with pytest.warns(XpuqWarning, match="does not match its checksum"):
        digits_weights("resnet18")
    assert torch.load(path, weights_only=True).keys() == {"weight", "bias"}
    assert not list(path.parent.glob("*.tmp"))


TRAIN_SLOWLY = """
import sys, time
from pathlib import Path
from torch import nn
from xpuqlib.material import models
def train(name):
    Path(sys.argv[1], f"trained-{time.time_ns()}").touch()
    time.sleep(2)
    return nn.Linear(2, 2)
models._train_on_digits = train
models.digits_weights("resnet18")
"""


@pytest.mark.slow
def test_two_kernels_at_once_train_once(monkeypatch, tmp_path):
    monkeypatch.setenv("XPUQLIB_CACHE", str(tmp_path))
    children = [
        subprocess.Popen([sys.executable, "-c", TRAIN_SLOWLY, str(tmp_path)]) for _ in range(2)
    ]
    assert [child.wait(120) for child in children] == [0, 0]
    assert len(list(tmp_path.glob("trained-*"))) == 1


def test_a_cache_that_cannot_be_written_is_an_error_before_training(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XPUQLIB_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(models, "_train_on_digits", lambda name: pytest.fail("trained"))
    with pytest.raises(ModelError, match=r"cannot be written(?s:.*)Fix: Set XPUQLIB_CACHE"):
        digits_weights("resnet18")


def test_a_cache_that_can_only_be_read_is_enough(monkeypatch, tmp_path):
    monkeypatch.setenv("XPUQLIB_CACHE", str(tmp_path))
    monkeypatch.setattr(models, "_train_on_digits", lambda name: nn.Linear(2, 2))
    path = digits_weights("resnet18")

    def refused(*args, **kwargs):
        raise PermissionError

    monkeypatch.setattr(models, "FileLock", refused)
    monkeypatch.setattr(models.tempfile, "TemporaryFile", refused)
    assert digits_weights("resnet18") == path


def test_a_random_vision_transformer_answers_images_differently():
    x = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        first, second = load_model("vit_b_32", "random")(x)
    assert (first - second).abs().max() > 1e-3
