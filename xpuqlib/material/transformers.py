"""The kit's own transformers, small enough to be trained on a CPU: of images, and of words."""

from __future__ import annotations

import sys

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torchvision.models import VisionTransformer
from tqdm import tqdm

from xpuqlib.material.data import digits_split, enlarge
from xpuqlib.material.text import TextClassifier, reviews

__all__ = ["VIT", "build_transformer", "train_transformer"]

# What builds ``vit``.
VIT = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_dim": 96,
    "mlp_dim": 192,
    "num_layers": 4,
    "num_heads": 4,
}
EPOCHS, BATCH, WEIGHT_DECAY = 12, 32, 0.01
LEARNING_RATES = {"vit": 2e-3, "text": 1e-3}


def build_transformer(name: str, classes: int | None = None) -> nn.Module:
    """Build ``vit``, a `torchvision.models.VisionTransformer`, or ``text``, untrained.

    Parameters
    ----------
    name : str
        One of `xpuqlib.names.TRANSFORMERS`.
    classes : int, optional
        10 or 2 by default, those of the digits or of the reviews.
    """
    if name == "text":
        return TextClassifier(classes or 2)
    return VisionTransformer(num_classes=classes or 10, **VIT)


def train_transformer(name: str) -> nn.Module:
    """Train ``vit`` on digits, or ``text`` on generated reviews, from a fixed seed."""
    inputs, labels, _, _ = reviews() if name == "text" else digits_split()
    if name != "text":
        inputs = (enlarge(inputs, 32) - 0.5) / 0.5
    steps, rate = len(inputs) // BATCH, LEARNING_RATES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_transformer(name).train()
        optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=WEIGHT_DECAY)
        schedule = OneCycleLR(optimizer, max_lr=rate, total_steps=EPOCHS * steps)
        said = f"training {name}, once"
        with tqdm(total=EPOCHS * steps, desc=said, unit="step", file=sys.stdout) as progress:
            for _ in range(EPOCHS):
                for batch in torch.randperm(len(inputs))[: steps * BATCH].split(BATCH):
                    loss = F.cross_entropy(model(inputs[batch]), labels[batch])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
                    schedule.step()
                    progress.update()
    return model
