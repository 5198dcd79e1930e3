"""torchvision's models by name, with weights that a lesson can rest on."""

from __future__ import annotations

import difflib
import hashlib
import os
import ssl
import sys
import tempfile
import urllib.error
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from filelock import FileLock
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import update_bn
from tqdm import tqdm

from xpuqlib.errors import ModelError, XpuqWarning, explained
from xpuqlib.machine.environment import cache_dir
from xpuqlib.material.data import digits_split, enlarge
from xpuqlib.material.factory import is_own_model
from xpuqlib.material.own import load_own_model, load_weights, read_weights
from xpuqlib.material.rescaled import rescale_channels
from xpuqlib.material.transformers import build_transformer, train_transformer
from xpuqlib.names import MODELS, RESCALED, TRANSFORMERS, WEIGHTS

__all__ = ["check_name", "classifiers", "digits_weights", "least_size", "load_model", "sha256"]

RECIPE = 1  # goes into the cache's file names: a new training recipe never meets old weights
# Auxiliary heads exist only for training on ImageNet.
WITHOUT_HEADS = {"aux_logits": False, "init_weights": False}
BUILD_SETTINGS = {"googlenet": WITHOUT_HEADS, "inception_v3": WITHOUT_HEADS}
# All of them are OSErrors, as is a folder that cannot be written.
NO_NETWORK = (urllib.error.URLError, ConnectionError, TimeoutError, ssl.SSLError)
EPOCHS, BATCH, LEARNING_RATE, TRAINING_SIZE = 5, 32, 0.02, 32
IMAGENET_CLASSES = 1000
VIT_SIZE = 224  # torchvision's default of its VisionTransformer
TORCH_MOMENTUM = 0.1  # of a BatchNorm; with less, these few steps leave its statistics far behind


def load_model(
    name: str = "resnet18",
    weights: str = "digits",
    *,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> nn.Module:
    """Build a model in eval mode: a torchvision classifier, or a person's own.

    Parameters
    ----------
    name : str
        Any classification model of torchvision, or a factory or exported program, as
        `load_own_model` takes them. **The code of a factory is executed.** ``resnet18_rescaled``
        is ``resnet18`` after `rescale_channels`; ``vit`` and ``text`` are the kit's own small
        transformers, of 32 pixels and of `xpuqlib.material.reviews`.
    weights : str
        ``auto``: ``digits`` for a name of torchvision and ``vit``, the generated reviews for
        ``text``, as they come for a person's own model.
        ``digits``: trained here once on scikit-learn's digits (10 classes), then cached; at 32
        pixels, or at the least that the model takes (224 for a ViT: slow on a CPU).
        What accuracy the recipe of the kit's own models gives to another one is for you to see.
        ``imagenet``: torchvision's own, downloaded (1000 classes).
        The path of a state dict; for a name of torchvision it also says how many classes.
        ``random``: seeded, with BatchNorm statistics estimated on noise, since an untrained
        network with default statistics gives all-equal outputs that prove nothing.
        A person's own model takes ``auto`` or a path.
    device : torch.device or str
        Where the model is put.
    seed : int
        Seed of random weights.

    Raises
    ------
    ModelError
        If a name is unknown, a person's own model or weights cannot be had, or ImageNet weights
        cannot be downloaded or kept.
    """
    if weights not in WEIGHTS and not Path(weights).is_file():
        fix = f"Use {', '.join(WEIGHTS)}, or the path of a state dict."
        raise ModelError(f"There are no weights {weights!r}.", fix)
    if is_own_model(name):
        return load_own_model(name, weights, device)
    if name in RESCALED:
        model = load_model(RESCALED[name], weights, device=device, seed=seed)
        return rescale_channels(model)
    check_name(name)
    if name in TRANSFORMERS:
        model = _transformer(name, weights, seed)
    elif weights not in WEIGHTS:
        model = _with_weights(name, weights)
    elif weights in ("auto", "digits"):
        model = _build(name, classes=10)
        model.load_state_dict(torch.load(digits_weights(name), weights_only=True))
    elif weights == "imagenet":
        model = _imagenet(name)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = _with_a_head(_build(name, IMAGENET_CLASSES))
            # Averaged over all batches, in training mode; without that all outputs are equal.
            size = max(64, least_size(name))
            update_bn((torch.randn(8, 3, size, size) for _ in range(4)), model.train())
    return model.eval().to(device)


def classifiers() -> list[str]:
    """Names of torchvision's classification models, by its own registry."""
    return torchvision.models.list_models(module=torchvision.models)


def check_name(name: str) -> None:
    """Refuse a name that torchvision does not have; a ModelError gives the nearest ones."""
    known = [*classifiers(), *RESCALED, *TRANSFORMERS]
    if name not in known:
        near = difflib.get_close_matches(name, known) or [*MODELS, "any classifier of torchvision"]
        own = "or your own: file.py:function, package.module:function, model.pt2"
        raise ModelError(f"There is no model {name!r}.", f"Use {', '.join(near)}; {own}.")


def _transformer(name: str, weights: str, seed: int) -> nn.Module:
    if weights == "imagenet" or (name, weights) == ("text", "digits"):
        cause = f"There are no weights {weights} of {name}, which is trained here."
        raise ModelError(cause, "Use weights='auto' (trained here, once), or 'random'.")
    if weights not in WEIGHTS:
        state = read_weights(weights)
        last = next((value for key, value in state.items() if "head.weight" in key), None)
        model = build_transformer(name, None if last is None else len(last))
        load_weights(model, weights)
    elif weights == "random":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = _with_a_head(build_transformer(name))
    else:
        model = build_transformer(name)
        kept = digits_weights(name) if name != "text" else _trained("text-reviews", name)
        model.load_state_dict(torch.load(kept, weights_only=True))
    return model


def _with_a_head(model: nn.Module) -> nn.Module:
    """Give a transformer's head weights: torchvision's are zeros, and all outputs equal."""
    head = getattr(model, "head", getattr(getattr(model, "heads", None), "head", None))
    if isinstance(head, nn.Linear) and not head.weight.any():
        nn.init.xavier_normal_(head.weight)
    return model


def _with_weights(name: str, path: str) -> nn.Module:
    state = read_weights(path)
    with torch.device("meta"):  # only the shapes: the last layer tells how many classes there are
        own = _build(name, IMAGENET_CLASSES).state_dict()
    differ = [key for key in own if key in state and state[key].shape != own[key].shape]
    rows = {state[key].shape[:1] for key in differ}
    classes = rows.pop()[0] if len(rows) == 1 else IMAGENET_CLASSES
    model = _build(name, classes)
    load_weights(model, path)
    return model


def digits_weights(name: str) -> Path:
    """Path of weights trained on digits; trains them first where they are missing or damaged.

    Safe when two kernels start at once: one trains, the other waits for it.

    Raises
    ------
    ModelError
        If the cache lacks them and cannot be written.
    """
    return _trained(f"{name}-digits", name)


def _trained(label: str, name: str) -> Path:
    folder = cache_dir() / "weights"
    path = folder / f"{label}-{RECIPE}.pt"
    checksum = path.with_suffix(".sha256")
    if _is_whole(path, checksum):  # a classroom's cache may be readable only
        return path
    fix = "Set XPUQLIB_CACHE to a folder that you may write, and run: xpuq doctor"
    with explained(OSError, f"The cache {cache_dir()} cannot be written", fix, ModelError):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # before minutes of training are lost
    with FileLock(path.with_suffix(".lock")):
        if _is_whole(path, checksum):  # another kernel has trained it in the meantime
            return path
        if path.exists() and checksum.exists():
            said = f"{path.name} does not match its checksum and is trained again."
            warnings.warn(said, XpuqWarning, stacklevel=2)
        temporary = path.with_suffix(".tmp")
        train = train_transformer if name in TRANSFORMERS else _train_on_digits
        torch.save(train(name).state_dict(), temporary)
        checksum.write_text(sha256(temporary), encoding="utf-8")
        temporary.replace(path)
    return path


def _is_whole(path: Path, checksum: Path) -> bool:
    there = os.path.exists(path) and os.path.exists(checksum)  # False where it may not look
    return there and sha256(path) == checksum.read_text(encoding="utf-8")


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _build(name: str, classes: int) -> nn.Module:
    settings = BUILD_SETTINGS.get(name, {})
    return torchvision.models.get_model(name, weights=None, num_classes=classes, **settings)


def least_size(name: str) -> int:
    """Pixels of the smallest side that a model takes, by torchvision's registry."""
    if name.startswith("vit_"):  # built for this size alone, also where its weights are for 518
        return VIT_SIZE
    return max(torchvision.models.get_model_weights(name).DEFAULT.meta["min_size"])


def _imagenet(name: str) -> nn.Module:
    home = torch.hub.get_dir()
    torch.hub.set_dir(str(cache_dir() / "hub"))  # one folder holds all that a classroom copies
    try:
        return torchvision.models.get_model(name, weights="DEFAULT")
    except NO_NETWORK as error:
        cause = f"ImageNet weights of {name} are not cached and cannot be downloaded ({error})."
        fix = f"Where there is a network: xpuq prefetch --weights imagenet --model {name}. "
        raise ModelError(cause, f"{fix}Or use weights='digits', which needs none.") from error
    except OSError as error:
        cause = f"ImageNet weights of {name} cannot be kept in the cache {cache_dir()} ({error})."
        fix = "Set XPUQLIB_CACHE to a folder that you may write, on a disk with space left."
        raise ModelError(cause, fix) from error
    finally:
        torch.hub.set_dir(home)


def _train_on_digits(name: str) -> nn.Module:
    images, labels, _, _ = digits_split()
    images = (enlarge(images, max(TRAINING_SIZE, least_size(name))) - 0.5) / 0.5
    steps = len(images) // BATCH  # the last, partial batch is dropped: it costs 5-9 % accuracy
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _build(name, classes=10).train()
        settings = {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
        optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE, **settings)
        schedule = OneCycleLR(optimizer, max_lr=LEARNING_RATE, total_steps=EPOCHS * steps)
        said = f"training {name} on digits, once"
        with tqdm(total=EPOCHS * steps, desc=said, unit="step", file=sys.stdout) as progress:
            for _ in range(EPOCHS):
                for batch in torch.randperm(len(images))[: steps * BATCH].split(BATCH):
                    loss = F.cross_entropy(model(images[batch]), labels[batch])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    schedule.step()
                    progress.update()
            progress.set_postfix(loss=f"{loss.item():.3f}")
        norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
        if any(norm.momentum < TORCH_MOMENTUM for norm in norms):  # MNASNet, MobileNetV3
            update_bn(images.split(BATCH), model)
    return model
