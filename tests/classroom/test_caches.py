import hashlib
import json

import pytest
import torch
import torchvision
from torch import nn

from xpuqlib.classroom.caches import missing, prefetch
from xpuqlib.errors import ModelError
from xpuqlib.material import models


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XPUQLIB_CACHE", str(tmp_path))
    monkeypatch.setattr(
        models, "_train_on_digits", lambda name: torchvision.models.get_model(name, num_classes=10)
    )
    return tmp_path


def test_manifest_has_the_checksum_of_every_file(cache):
    path = prefetch(("resnet18",))
    files = json.loads(path.read_text())["files"]
    assert path == cache / "manifest.json"
    [(name, known)] = files.items()
    content = (cache / name).read_bytes()
    assert known == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    assert missing() == []


def test_what_is_gone_or_damaged_is_named(cache):
    files = json.loads(prefetch(("resnet18", "mobilenet_v2")).read_text())["files"]
    gone, damaged = files
    (cache / gone).unlink()
    (cache / damaged).write_bytes(b"x")
    assert missing() == [gone, damaged]


def test_without_a_manifest_the_fix_is_named(cache):
    with pytest.raises(ModelError, match="xpuq prefetch"):
        missing()
    (cache / "manifest.json").write_text("{")
    with pytest.raises(ModelError, match="xpuq prefetch"):
        missing()


def test_imagenet_weights_in_the_cache_need_no_network(cache, monkeypatch):
    name = torchvision.models.ResNet18_Weights.DEFAULT.url.rsplit("/", 1)[1]
    path = cache / "hub" / "checkpoints" / name
    path.parent.mkdir(parents=True)
    model = torchvision.models.resnet18()
    torch.save(model.state_dict(), path)

    def offline(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    files = json.loads(prefetch(("resnet18",), ("imagenet",)).read_text())["files"]
    assert list(files) == [f"hub/checkpoints/{name}"]
    assert isinstance(models.load_model("resnet18", "imagenet"), nn.Module)
    path.unlink()
    with pytest.raises(AssertionError, match="the network was asked"):
        models.load_model("resnet18", "imagenet")
