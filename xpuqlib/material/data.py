"""Images for calibration and evaluation: scikit-learn's digits, an image folder, or synthetic."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import default_collate
from torchvision.datasets import ImageFolder
from torchvision.transforms import CenterCrop, Compose, Normalize, Resize, ToTensor

from xpuqlib.errors import DataError
from xpuqlib.material.factory import is_factory

__all__ = [
    "DEFAULT_NORMALIZATION",
    "NORMALIZATION",
    "ImageData",
    "digits_split",
    "enlarge",
    "load_data",
]

NORMALIZATION = {"imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}
DEFAULT_NORMALIZATION = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
MAX_FOLDER_IMAGES = 500


@dataclass(frozen=True)
class ImageData:
    """Batches to calibrate on and images to evaluate on; no image is in both.

    Attributes
    ----------
    calibration : tuple of torch.Tensor
        float32, ``[batch_size, 3, size, size]`` each, channels last, on the device.
    images : torch.Tensor
        float32, ``[n, 3, size, size]``, on the CPU.
    labels : torch.Tensor or None
        int64, ``[n]``; None where there is no truth to compare with.
    classes : int
        Number of classes of `labels`; 0 without labels.
    """

    calibration: tuple[torch.Tensor, ...]
    images: torch.Tensor
    labels: torch.Tensor | None
    classes: int

    @property
    def example(self) -> torch.Tensor:
        """The first calibration batch: the example input for export."""
        return self.calibration[0]

    def labels_for(self, outputs: int) -> torch.Tensor | None:
        """Labels, if a model with this many outputs can be right about them at all."""
        return self.labels if self.classes == outputs else None


def load_data(
    source: str = "digits",
    *,
    batch_size: int = 32,
    image_size: int = 32,
    calibration_batches: int = 8,
    weights: str = "digits",
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> ImageData:
    """Load images, normalized as the weights expect.

    Parameters
    ----------
    source : str
        ``digits``, ``synthetic``, or a folder with one sub-folder of images for each class.
    batch_size, image_size, calibration_batches : int
        Images in a batch, pixels of a side, batches to calibrate on.
    weights : str
        Decides the normalization: ImageNet's mean and deviation for ``imagenet``, else 0.5.
    device : torch.device or str
        Where the calibration batches are put.
    seed : int
        Seed of the choice of calibration images and of synthetic images.

    Returns
    -------
    ImageData

    Raises
    ------
    DataError
        If the folder is missing, holds no images, too few for the batches asked for, or one
        that cannot be read; for text or a factory, which `load_batches` takes.
    """
    if source == "text":
        fix = "Take images here, such as digits; load_batches and lesson 09 take text."
        raise DataError("The data text are words, not images.", fix)
    if is_factory(source) and not Path(source).is_dir():
        fix = "Take a folder of images here; load_batches and lesson 09 take factories."
        raise DataError(f"{source} is a factory of batches, not a source of images.", fix)
    generator = torch.Generator().manual_seed(seed)
    needed = batch_size * calibration_batches
    if source == "synthetic":
        pixels = torch.rand(needed + batch_size, 3, image_size, image_size, generator=generator)
        pool, images, labels, classes = pixels[:needed], pixels[needed:], None, 0
    elif source == "digits":
        pool, _, images, labels = digits_split()
        images, classes = enlarge(images, image_size), 10
    else:
        pool, images, labels, classes = _folder(Path(source), image_size, needed, generator)
    normalize = Normalize(*NORMALIZATION.get(weights, DEFAULT_NORMALIZATION))
    # More images than the pool has are taken a second time: min, max and histogram stay honest.
    order = torch.cat([torch.randperm(len(pool), generator=generator)] * -(-needed // len(pool)))
    pool = pool[order[:needed]]
    pool = enlarge(pool, image_size) if source == "digits" else pool
    calibration = normalize(pool).to(device, memory_format=torch.channels_last)
    return ImageData(calibration.split(batch_size), normalize(images), labels, classes)


def digits_split() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Split scikit-learn's digits, 75 % to train and calibrate, 25 % to test, stratified.

    Returns
    -------
    train_images, train_labels, test_images, test_labels : torch.Tensor
        Images float32 ``[1347 or 450, 1, 8, 8]`` in 0…1, labels int64.
    """
    digits = load_digits()
    pixels = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(digits.target, dtype=torch.int64)
    train, test = train_test_split(
        range(len(labels)), test_size=0.25, stratify=digits.target, random_state=0
    )
    return pixels[train], labels[train], pixels[test], labels[test]


def enlarge(digits: torch.Tensor, size: int) -> torch.Tensor:
    """Digits ``[n, 1, 8, 8]`` as RGB images ``[n, 3, size, size]``, bilinear."""
    pixels = F.interpolate(digits, size=(size, size), mode="bilinear", align_corners=False)
    return pixels.expand(-1, 3, -1, -1).contiguous()


def _folder(path: Path, size: int, needed: int, generator: torch.Generator):
    if not path.is_dir():
        fix = "Use 'digits', 'synthetic' or the path of a folder with one sub-folder per class."
        raise DataError(f"There is no image folder {str(path)!r}.", fix)
    try:
        dataset = ImageFolder(path, Compose([Resize(size), CenterCrop(size), ToTensor()]))
    except FileNotFoundError as error:
        fix = "Put one sub-folder for each class in it."
        raise DataError(f"No images in {str(path)!r}: {error}", fix) from error
    order = torch.randperm(len(dataset), generator=generator).tolist()
    if len(order) <= needed:
        cause = f"{str(path)!r} holds {len(order)} images; calibration alone takes {needed}."
        raise DataError(cause, "Lower batch_size or calibration_batches, or add images.")
    chosen = [_read(dataset, i) for i in order[: needed + MAX_FOLDER_IMAGES]]
    images, labels = default_collate(chosen)
    return images[:needed], images[needed:], labels[needed:], len(dataset.classes)


def _read(dataset: ImageFolder, number: int) -> tuple[torch.Tensor, int]:
    try:
        return dataset[number]
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's kinds for damaged files
        cause = f"{dataset.samples[number][0]} cannot be read as an image: {error}"
        raise DataError(cause, "Take it out of the folder, or save it anew.") from error
