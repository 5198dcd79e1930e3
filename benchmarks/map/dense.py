"""Run the tutorial's recipe over torchvision's models for segmentation and detection.

What is kept lies in docs/map/dense.csv. Segmentation models are captured whole. For a detection
model the table has the reason why it is not, and its backbone, which is.
"""

import argparse
import textwrap
from pathlib import Path

import pandas
import torch
from torch import nn
from torch.optim.swa_utils import update_bn
from torchvision import models
from tqdm import tqdm

from xpuqlib.errors import CaptureError, DraftError
from xpuqlib.machine.files import write_whole
from xpuqlib.proof import (
    draft_for_xpu,
    flat_output,
    match_calls,
    quantizable_layers,
    simulate,
    sqnr,
)
from xpuqlib.recipe import (
    XPUInductorQuantizer,
    capture,
    convert_pt2e,
    get_default_xpu_inductor_quantization_config,
    prepare_pt2e,
)

KEPT = Path(__file__).parent.parent.parent / "docs" / "map" / "dense.csv"
TASKS = {"segmentation": models.segmentation, "detection": models.detection}
PIXELS, LEAST = 96, {"ssd300_vgg16": 300}


def build(name: str) -> nn.Module:
    """Build a model with random weights."""
    torch.manual_seed(0)
    return models.get_model(name, weights=None, weights_backbone=None).eval()


def layers_in(model: nn.Module) -> int:
    """Count the modules that are convolutions or linear layers."""
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    return sum(isinstance(module, kinds) for module in model.modules())


def quantized(model: nn.Module, pixels: int) -> dict:
    """Quantize, draft and simulate a model that takes images; BatchNorm is estimated first."""
    update_bn((torch.randn(4, 3, pixels, pixels) for _ in range(4)), model.train())
    inputs = (torch.randn(2, 3, pixels, pixels),)
    quantizer = XPUInductorQuantizer()
    quantizer.set_global(get_default_xpu_inductor_quantization_config())
    prepared = prepare_pt2e(capture(model.eval(), inputs), quantizer)
    with torch.no_grad():
        fp32 = flat_output(model(*inputs))
        prepared(*inputs)
        converted = convert_pt2e(prepared)
        reference = flat_output(converted(*inputs))
    layers = quantizable_layers(converted)
    row = {
        "in the program": len(layers),
        "quantized": sum(layer.scale is not None for layer in layers),
        "SQNR of the Q/DQ graph to fp32 (dB)": sqnr(fp32, reference),
    }
    try:
        draft = draft_for_xpu(converted, inputs)
    except DraftError as error:
        return row | {"not drafted": str(error).splitlines()[0]}
    calls = match_calls(layers, draft.compilation.generated)
    simulated = simulate(draft, inputs).output
    return row | {
        "drafted": sum(call is not None for call in calls),
        "SQNR of the simulated GPU program to the Q/DQ graph (dB)": sqnr(reference, simulated),
    }


def rows(name: str, task: str) -> list[dict]:
    """Give the rows of one model: itself, and its backbone where it cannot be captured whole."""
    model, pixels = build(name), LEAST.get(name, PIXELS)
    row = {"model": name, "task": task, "part": "whole", "layers": layers_in(model)}
    if task == "segmentation":
        return [row | quantized(model, pixels)]
    reason = ""
    try:
        capture(model, ([torch.rand(3, 224, 224)],))
    except CaptureError as error:
        reason = textwrap.shorten(str(error).splitlines()[0], 200, placeholder=" …")
    backbone = build(name).backbone
    part = {"model": name, "task": task, "part": "backbone", "layers": layers_in(backbone)}
    return [row | {"not captured": reason}, part | quantized(backbone, pixels)]


def main() -> None:
    """Go through the models, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", help="names, with commas between them; all by default")
    parser.add_argument("--kept", type=Path, default=KEPT, help="the table that is written")
    asked = parser.parse_args()
    tasks = {name: task for task, place in TASKS.items() for name in models.list_models(place)}
    chosen = asked.models.split(",") if asked.models else list(tasks)
    found = [row for name in tqdm(chosen, unit="model") for row in rows(name, tasks[name])]
    table = pandas.DataFrame(found).assign(torch=torch.__version__.split("+")[0])
    counts = ["in the program", "quantized", "drafted"]
    table[counts] = table[counts].astype("Int64")
    asked.kept.parent.mkdir(parents=True, exist_ok=True)
    write_whole(asked.kept, table.to_csv(index=False, float_format="%.4g"))
    print(asked.kept)


if __name__ == "__main__":
    main()
