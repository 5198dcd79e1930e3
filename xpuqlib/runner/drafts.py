"""Programs for an Intel GPU as files: drafted on any machine, checked on one that has the GPU."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from difflib import unified_diff
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import fx

from xpuqlib.errors import DeviceError, DraftError, ParameterError, explained
from xpuqlib.machine.environment import versions
from xpuqlib.machine.files import write_whole
from xpuqlib.material.models import load_model
from xpuqlib.names import CONFIGURATIONS
from xpuqlib.proof.closeness import flat_output, sqnr
from xpuqlib.proof.draft import Draft, draft_for_xpu
from xpuqlib.proof.fake_constants import move_code
from xpuqlib.proof.graph import FOLDED, quantizable_layers
from xpuqlib.proof.program import executed_lines
from xpuqlib.proof.simulation import simulate
from xpuqlib.recipe.lowering import lower
from xpuqlib.recipe.pt2e import (
    XPUInductorQuantizer,
    capture,
    convert_pt2e,
    get_default_xpu_inductor_quantization_config,
    prepare_pt2e,
)

__all__ = [
    "DraftedModel",
    "Recipe",
    "check_draft",
    "compare_programs",
    "draft_model",
    "read_recipe",
]

NO_CALL = "quantized, but no call in the program"
_MARK, _VERSIONS = "# recipe: ", "# Versions: "


class Recipe(BaseModel):
    """What a drafted program is made from: a model with random weights, and how it is quantized.

    Attributes
    ----------
    model : str
        A classification model of torchvision.
    configuration : str
        ``default`` or ``symmetric``.
    batch_size, image_size : int
        Images in a batch, pixels of a side.
    bf16 : bool
        Under autocast to bfloat16: int8-mixed-bf16.
    gpu : str or None
        A name of `xpuqlib.proof.ASSUMED_GPUS`; by default the GPU that is here, or the first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    configuration: Literal[CONFIGURATIONS] = "default"
    batch_size: int = Field(1, ge=1)
    image_size: int = Field(224, ge=32)
    bf16: bool = False
    gpu: str | None = None

    def name(self) -> str:
        """Name the file of its program: the model, then what differs from the defaults."""
        chosen = self.model_dump(exclude_defaults=True, exclude={"model"}).items()
        return "-".join([self.model, *(f"{name}={value}" for name, value in chosen)])


def read_recipe(model: str, values: dict[str, str]) -> Recipe:
    """Make a recipe of what a person typed.

    Raises
    ------
    ParameterError
        For a name that a recipe does not have, or a value that is not possible.
    """
    try:
        return Recipe(model=model, **values)
    except ValidationError as error:
        wrong = error.errors()[0]
        cause = f"{'.'.join(map(str, wrong['loc']))} is not possible: {wrong['msg']}."
        raise ParameterError(cause, f"It has: {', '.join(Recipe.model_fields)}.") from error


@dataclass(frozen=True)
class DraftedModel:
    """One model: its draft, and how the simulated program compares.

    Attributes
    ----------
    layers : int
        Convs and linears of the model.
    left : dict of str to str
        Layers that the program has no int8 call for, with the reason.
    missing : int
        Those of them that are quantized, so that a call is missing.
    sqnr_to_reference, sqnr_reference_to_fp32 : float
        The simulated program against the Q/DQ graph, and that against fp32, in dB.
    """

    recipe: Recipe
    draft: Draft
    layers: int
    left: dict[str, str]
    missing: int
    sqnr_to_reference: float
    sqnr_reference_to_fp32: float

    def row(self) -> dict[str, str | int]:
        """Give what a table of models shows."""
        return {
            "model": self.recipe.model,
            "in int8": f"{self.layers - len(self.left)} of {self.layers}",
            "Triton kernels": len(self.draft.kernels),
            "dB, simulated": _decibels(self.sqnr_to_reference),
            "dB, Q/DQ to fp32": _decibels(self.sqnr_reference_to_fp32),
            "seconds": f"{self.draft.compilation.seconds:.1f}",
        }

    def write(self, folder: Path) -> None:
        """Write the program as a file to read, with what it was made from at its head.

        Raises
        ------
        RunError
            If the folder cannot be written.
        """
        head = (
            f"# Drafted for {self.draft.gpu.name}: written by Inductor, run on no GPU.",
            "# Its constants are names without values: it is there to be read and compared.",
            _versions(),
            f"{_MARK}{self.recipe.model_dump_json()}",
        )
        with explained(OSError, f"{folder} cannot be made", "Choose another --out."):
            folder.mkdir(parents=True, exist_ok=True)
        write_whole(
            folder / f"{self.recipe.name()}.py", "\n".join((*head, "", self.draft.compilation.code))
        )


def _decibels(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.1f}"  # the model gives zeros


def draft_model(recipe: Recipe) -> DraftedModel:
    """Quantize a model with random weights, draft its program, and simulate it.

    Raises
    ------
    CaptureError, DraftError, ModelError
        If the model cannot be captured, drafted or had.
    """
    model, inputs, converted = _quantized(recipe, torch.device("cpu"))
    draft = draft_for_xpu(converted, inputs, bf16_autocast=recipe.bf16, gpu=recipe.gpu)
    with torch.no_grad():
        fp32, reference = (flat_output(run(*inputs)) for run in (model, converted))
    found, drafted = quantizable_layers(converted), {call.layer for call in draft.calls}
    left = {
        layer.name: layer.reason or (FOLDED if layer.constant else NO_CALL)
        for layer in found
        if layer.name not in drafted
    }
    return DraftedModel(
        recipe=recipe,
        draft=draft,
        layers=len(found),
        left=left,
        missing=sum(reason == NO_CALL for reason in left.values()),
        sqnr_to_reference=sqnr(reference, simulate(draft, inputs).output),
        sqnr_reference_to_fp32=sqnr(fp32, reference),
    )


def check_draft(path: Path) -> list[str]:
    """Compile what a file was drafted from on the Intel GPU that is here, and compare.

    Numbers with a decimal point are not compared: scales depend on the machine that calibrates.

    Returns
    -------
    list of str
        The lines that differ, as in ``diff``: those of the draft with ``-``, those of the program
        that Inductor really writes here with ``+``; above them the versions, if they differ.
        Empty if both execute the same.

    Raises
    ------
    DeviceError
        If no Intel GPU is here.
    DraftError
        If the file cannot be read, or was not drafted by this kit.
    """
    if not torch.xpu.is_available():
        fix = "Hand the file to someone who has one, with this command."
        raise DeviceError("There is no Intel GPU to check a draft on.", fix)
    with explained((OSError, UnicodeDecodeError), f"{path} cannot be read", "Name a draft."):
        text = path.read_text(encoding="utf-8")
    recipe = _recipe_of(path, text)
    _, inputs, converted = _quantized(recipe, torch.device("xpu"))
    real = lower(converted, inputs, bf16_autocast=recipe.bf16).compilation.code
    return compare_programs(text, f"{_versions()}\n{real}")


def compare_programs(draft: str, other: str) -> list[str]:
    """Give the lines in which two programs differ, and above them their versions if they do."""
    numbers = re.compile(r"-?\d+\.\d+(e[+-]?\d+)?")
    lines = [
        [numbers.sub("number", line) for line in executed_lines(text)] for text in (draft, other)
    ]
    differences = list(unified_diff(*lines, lineterm="", n=0))[2:]
    made_with = [
        next(line for line in text.splitlines() if line.startswith(_VERSIONS))
        for text in (draft, other)
    ]
    if differences and made_with[0] != made_with[1]:
        differences[:0] = [f"- {made_with[0]}", f"+ {made_with[1]}"]
    return differences


def _recipe_of(path: Path, text: str) -> Recipe:
    marked = [line for line in text.splitlines() if line.startswith(_MARK)]
    if not marked:
        raise DraftError(f"{path} was not written by this command.", "xpuq draft resnet18 --out .")
    with explained(ValidationError, f"The head of {path} cannot be read", "Draft it again."):
        return Recipe.model_validate_json(marked[0].removeprefix(_MARK))


def _versions() -> str:
    found = (f"{name} {version}" for name, version in versions().items() if version)
    return _VERSIONS + ", ".join(found)


def _quantized(
    recipe: Recipe, device: torch.device
) -> tuple[torch.nn.Module, tuple[torch.Tensor], fx.GraphModule]:
    """Quantize on the CPU, then move it: scales then differ by rounding at most."""
    model = load_model(recipe.model, "random").to(memory_format=torch.channels_last)
    shape = (recipe.batch_size, 3, recipe.image_size, recipe.image_size)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    inputs = (x.to(memory_format=torch.channels_last),)
    settings = get_default_xpu_inductor_quantization_config()
    if recipe.configuration == "symmetric":
        activation = replace(settings.input_activation, qscheme=torch.per_tensor_symmetric)
        settings = replace(settings, input_activation=activation, output_activation=activation)
    quantizer = XPUInductorQuantizer()
    quantizer.set_global(settings)
    prepared = prepare_pt2e(capture(model, inputs), quantizer)
    with torch.no_grad():
        prepared(*inputs)
    converted = convert_pt2e(prepared)
    if device.type != "cpu":
        move_code(converted, device.type)
        inputs, converted = tuple(value.to(device) for value in inputs), converted.to(device)
    return model, inputs, converted
