"""A recipe as a file: all that it takes to quantize a model in the same way again."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

import yaml
from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError
from torch import fx

from xpuqlib import __version__
from xpuqlib.errors import RecipeError, XpuqWarning, explained
from xpuqlib.machine.environment import installed_version
from xpuqlib.machine.files import write_whole
from xpuqlib.recipe.configuration import make_configuration, make_quantizer
from xpuqlib.recipe.exceptions import SelectiveQuantizer

__all__ = ["Recipe"]


def _versions() -> dict[str, str]:
    found = {name: installed_version(name) for name in ("torch", "torchao")}
    return {name: version for name, version in found.items() if version} | {"xpuqlib": __version__}


class Recipe(BaseModel):
    """How one model was quantized. Frozen; change it with ``recipe.model_copy(update={...})``.

    Attributes
    ----------
    model, weights, data : str
        As the lessons' parameters.
    rewritten_attention : bool
        Whether the model went through `rewrite_attention` first; it changes only a model with an
        ``nn.MultiheadAttention``.
    configuration, observer : str
        As for `make_configuration`.
    float_layers, float_activations : list of str
        What stays in floating point, as for `make_quantizer`.
    calibration_batches, batch_size, image_size, seed : int
        Calibration data.
    bf16 : bool
        Whether it is lowered as int8-mixed-bf16.
    versions : dict of str to str
        What it was made with.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    model: str
    weights: str
    data: str
    rewritten_attention: bool = False  # a file that does not say it is from before this field
    configuration: Literal["default", "symmetric"] = "default"
    observer: Literal["histogram", "minmax"] = "histogram"
    float_layers: list[str] = []
    float_activations: list[str] = []
    calibration_batches: PositiveInt = 8
    batch_size: PositiveInt = 32
    image_size: PositiveInt = 32
    seed: NonNegativeInt = 0
    bf16: bool = False
    versions: dict[str, str] = Field(default_factory=_versions)

    def quantizer(self, captured: fx.GraphModule) -> SelectiveQuantizer:
        """Set up the quantizer for a captured model.

        Raises
        ------
        RecipeError
            For a name that the model does not have, with the nearest.
        """
        configuration = make_configuration(self.configuration, self.observer)
        return make_quantizer(captured, configuration, self.float_layers, self.float_activations)

    def save(self, path: Path | str) -> Path:
        """Write the recipe as YAML, in the order of its fields.

        Raises
        ------
        RecipeError
            If the file cannot be written.
        """
        path = Path(path)
        text = yaml.safe_dump(self.model_dump(), sort_keys=False, allow_unicode=True)
        fix = "Name a file in a folder that exists and that you may write."
        write_whole(path, text, RecipeError, fix)
        return path

    @classmethod
    def load(cls, path: Path | str) -> Recipe:
        """Read a recipe; warn where it was made with other versions.

        Raises
        ------
        RecipeError
            If the file cannot be read, or a field is missing, unknown or wrong.
        """
        path = Path(path)
        unreadable = (OSError, UnicodeError, yaml.YAMLError)
        fix = "Name a YAML file that was written by recipe.save(path)."
        with explained(unreadable, f"{path} cannot be read", fix, RecipeError):
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        try:
            recipe = cls.model_validate(content)
        except ValidationError as error:
            detail = error.errors()[0]
            where = ".".join(map(str, detail["loc"])) or "the file"
            form = f"A recipe has the fields {', '.join(cls.model_fields)}."
            raise RecipeError(f"{path}: {where}: {detail['msg']}.", form) from error
        recipe._warn_of_other_versions(path)
        return recipe

    def _warn_of_other_versions(self, path: Path) -> None:
        here = _versions()
        other = [
            f"{name} {self.versions.get(name, 'none')} (here {here.get(name, 'none')})"
            for name in sorted(self.versions.keys() | here.keys())
            if _release(self.versions.get(name)) != _release(here.get(name))
        ]
        if other:
            said = f"{path} was made with {', '.join(other)}: scales and layers may differ."
            warnings.warn(said, XpuqWarning, stacklevel=3)


def _release(version: str | None) -> str | None:
    try:
        return version and Version(version).public  # 2.15.0+xpu is the release 2.15.0
    except InvalidVersion:
        return version  # a person wrote it, such as nightly: it counts as text
