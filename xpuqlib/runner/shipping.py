"""A model that leaves: package, recipe, evidence, checksums, and a script that needs only torch."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import fx, nn

from xpuqlib.errors import PackageError, RunError, explained
from xpuqlib.machine.environment import versions
from xpuqlib.material.models import load_model, sha256
from xpuqlib.names import RESCALED
from xpuqlib.proof.closeness import class_scores
from xpuqlib.proof.evidence import Evidence, collect_evidence
from xpuqlib.proof.packages import PackageContent, verify_package
from xpuqlib.recipe.attention import rewrite_attention
from xpuqlib.recipe.calibration import calibrate
from xpuqlib.recipe.lowering import lower
from xpuqlib.recipe.package import write_package
from xpuqlib.recipe.pt2e import capture, convert_pt2e, prepare_pt2e
from xpuqlib.recipe.recipe import Recipe
from xpuqlib.recipe.script import BATCHES, WEIGHTS

__all__ = ["SHIPPED", "Shipment", "ship_model", "ship_run"]

RECIPE, SHIPPED = "recipe.yml", Path(__file__).with_name("shipped")


@dataclass(frozen=True)
class Shipment:
    """A folder that leaves.

    Attributes
    ----------
    folder : pathlib.Path
        ``model.pt2``, ``run.py``, ``cpp/``, ``recipe.yml``, ``evidence.json``, ``package.json``
        (what it was made for and with), ``example.pt``, ``SHA256SUMS``.
    evidence : Evidence
        Of the model that was packaged.
    content : PackageContent
    """

    folder: Path
    evidence: Evidence
    content: PackageContent


def ship_run(run: Path | str, out: Path | str, device: str = "cpu") -> Shipment:
    """Quantize again what a run of lesson 09 has left, and ship it.

    Parameters
    ----------
    run : path
        Folder with ``recipe.yml``, ``weights.pt`` and ``calibration.pt``. The code of a model's
        own function, which the recipe names, is executed.
    out : path
        A folder that is not there yet.
    device : str
        ``cpu`` or ``xpu``: what the package is for.

    Raises
    ------
    RunError
        If `run` is no such folder.
    EvidenceError
        Also if attention was not rewritten, and the quantizer did not find it.
    PackageError, LoweringError, EvidenceError
        As for `ship_model`.
    """
    run = Path(run)
    missing = [name for name in (RECIPE, WEIGHTS, BATCHES) if not (run / name).is_file()]
    if missing:
        cause = f"{run} lacks {', '.join(missing)}."
        fix = "Name the folder 09_your_own_model below the --out of: xpuq run 09"
        raise RunError(cause, fix)
    recipe = Recipe.load(run / RECIPE)
    name = RESCALED.get(recipe.model, recipe.model)  # the rescaled weights are in the file
    model = load_model(name, str(run / WEIGHTS), device=device)
    model = rewrite_attention(model) if recipe.rewritten_attention else model
    batches = torch.load(run / BATCHES, weights_only=True)
    calibration = [tuple(x.to(device) for x in batch) for batch in batches]
    captured = capture(model, calibration[0])
    prepared = prepare_pt2e(captured, recipe.quantizer(captured))
    calibrate(prepared, calibration)
    return ship_model(out, recipe, model, convert_pt2e(prepared), calibration[0])


def ship_model(
    out: Path | str,
    recipe: Recipe,
    model: nn.Module,
    converted: fx.GraphModule,
    example_inputs: tuple[torch.Tensor, ...],
) -> Shipment:
    """Package a converted model, prove the package, and write all that it needs into a folder.

    The folder appears whole, or not at all.

    Parameters
    ----------
    out : path
        A folder that is not there yet.
    recipe : Recipe
        What `converted` was made with.
    model : torch.nn.Module
        In floating point.
    converted : torch.fx.GraphModule
        From ``convert_pt2e``.
    example_inputs : tuple of torch.Tensor
        Of the one shape that the package takes; they go into the folder, with the answer.

    Raises
    ------
    PackageError
        If the folder is there, or cannot be written, or the package is not in int8 or answers
        otherwise than the lowered model.
    LoweringError, EvidenceError
        If the model cannot be packaged, or does not run in int8 before.
    """
    lowered = lower(converted, example_inputs, bf16_autocast=recipe.bf16)
    evidence = collect_evidence(model, converted, lowered, example_inputs)
    evidence.require_int8()
    output = lowered(*example_inputs)
    with _new_folder(Path(out)) as folder:
        package = write_package(
            converted, example_inputs, folder / "model.pt2", bf16_autocast=recipe.bf16
        )
        content = verify_package(package, evidence, example_inputs, output)
        recipe.save(folder / RECIPE)
        _write_json(folder / "evidence.json", evidence.to_dict())
        _write_json(folder / "package.json", _about(content, evidence, example_inputs))
        example = {"inputs": tuple(x.cpu() for x in example_inputs), "scores": class_scores(output)}
        torch.save(example, folder / "example.pt")
        shutil.copytree(SHIPPED, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__*"))
        _write_checksums(folder)
    return Shipment(Path(out), evidence, content)


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    if out.exists():
        raise PackageError(f"{out} is there already.", "Name a new folder with --out.")
    fix = "Name a new folder where you may write, on a disk with space left."
    with explained(OSError, f"{out} cannot be written", fix, PackageError):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as temporary:
            folder = Path(temporary) / out.name
            folder.mkdir()
            yield folder
            folder.rename(out)


def _about(
    content: PackageContent, evidence: Evidence, example_inputs: tuple[torch.Tensor, ...]
) -> dict:
    """Give what `shipped/run.py` compares with the machine that it runs on."""
    inputs = [
        {"shape": list(x.shape), "dtype": str(x.dtype)[6:], "stride": list(x.stride())}
        for x in example_inputs
    ]
    return {
        "torch": torch.__version__.split("+")[0],
        "device": example_inputs[0].device.type,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cpu_isa": content.isa,
        "int8_layers": sum(stages["generated"] for stages in evidence.counts().values()),
        "inputs": inputs,
        "made_with": {name: version for name, version in versions().items() if version},
    }


def _write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _write_checksums(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{sha256(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    (folder / "SHA256SUMS").write_text("".join(lines), encoding="utf-8")
