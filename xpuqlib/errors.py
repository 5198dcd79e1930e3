"""One exception hierarchy. Each message names the cause, and the command or line that fixes it."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "CalibrationError",
    "CaptureError",
    "ClassroomError",
    "DataError",
    "DeviceError",
    "DraftError",
    "EvidenceError",
    "LoweringError",
    "ModelError",
    "PackageError",
    "ParameterError",
    "RecipeError",
    "RunError",
    "SensitivityError",
    "TrackError",
    "XpuqError",
    "XpuqWarning",
    "explained",
]


class XpuqError(Exception):
    """Base of every error that xpuqlib raises on purpose.

    Parameters
    ----------
    cause : str
        What is wrong, in one sentence.
    fix : str
        What the person can type or change to fix it.
    """

    def __init__(self, cause: str, fix: str) -> None:
        super().__init__(f"{cause}\n  Fix: {fix}")
        self.cause, self.fix = cause, fix

    def __reduce__(self):
        return type(self), (self.cause, self.fix)  # an error survives the way between processes


class TrackError(XpuqError):
    """The installed packages do not belong together, or a lesson needs others."""


class DeviceError(XpuqError):
    """A device was asked for that is not there."""


class DataError(XpuqError):
    """Images cannot be found, read or shaped as asked."""


class ModelError(XpuqError):
    """A model or its weights cannot be had."""


class CaptureError(XpuqError):
    """``torch.export`` cannot or must not capture this model."""


class CalibrationError(XpuqError):
    """The observers would see nothing, or something that is not calibration data."""


class SensitivityError(XpuqError):
    """What quantizing costs cannot be measured, or the accuracy asked for cannot be kept."""


class RecipeError(XpuqError):
    """A recipe's file cannot be used, or it names what the model does not have."""


class DraftError(XpuqError):
    """The program for an Intel GPU cannot be written here."""


class LoweringError(XpuqError):
    """Inductor cannot lower this model, or a lowered model was called in another shape."""


class PackageError(XpuqError):
    """A packaged model cannot be written, or is not what it is said to be."""


class EvidenceError(XpuqError):
    """int8 did not happen where it was claimed."""


class ParameterError(XpuqError):
    """A notebook parameter has an unknown name, a wrong type or a value outside its choices."""


class RunError(XpuqError):
    """A notebook cannot be found, read or executed at all."""


class ClassroomError(XpuqError):
    """A course cannot be made, or nbgrader does not grade it."""


class XpuqWarning(UserWarning):
    """Something still works, but not as a person would assume."""


@contextmanager
def explained(
    kinds: type | tuple[type, ...], cause: str, fix: str, own: type[XpuqError] = RunError
) -> Iterator[None]:
    """Raise our `own` error where a library raises one of `kinds`; its text follows the cause."""
    try:
        yield
    except kinds as error:
        raise own(f"{cause}: {error}", fix) from error
