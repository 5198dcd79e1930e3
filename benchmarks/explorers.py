"""Print how long each explorer takes from a moved control to its new figure; the limit is 150 ms.

What the front end adds, a message each way over loopback, is a few milliseconds.
"""

import statistics
import time

import pandas
import torch
from smoke import wants_smoke

from xpuqlib.material.data import load_data
from xpuqlib.material.models import load_model
from xpuqlib.recipe.calibration import calibrate
from xpuqlib.recipe.pt2e import (
    XPUInductorQuantizer,
    capture,
    get_default_xpu_inductor_quantization_config,
    prepare_pt2e,
)
from xpuqlib.show.explorers import browse_layers, compare_recipes, explore_quantization

LIMIT_MS = 150


def main() -> None:
    """Move the first control of each explorer twenty times; with --smoke once."""
    smoke = wants_smoke(__doc__)
    images = load_data(calibration_batches=1, batch_size=1 if smoke else 32)
    model = load_model("resnet18", "random" if smoke else "digits")
    quantizer = XPUInductorQuantizer()
    quantizer.set_global(get_default_xpu_inductor_quantization_config())
    prepared = prepare_pt2e(
        capture(model, (images.example,)),
        quantizer,
    )
    calibrate(prepared, images.calibration)
    names = ["fp32", "bf16", "int8", "int8-mixed-bf16"]
    columns = ["accuracy (%)", "SQNR (dB)", "time (ms)", "memory (MB)"]
    recipes = pandas.DataFrame(torch.rand(4, 4).tolist(), names, columns)
    explorers = {
        "quantization": (explore_quantization(torch.randn(500_000).relu()), "bits", (4, 8)),
        "layers": (browse_layers(prepared), "layer", ("conv1", "layer4.1.conv2")),
        "recipes": (compare_recipes(recipes, "recipes"), "recipe_0", (False, True)),
    }
    for name, (explorer, control, values) in explorers.items():
        times = []
        for turn in range(3 if smoke else 22):
            start = time.perf_counter()
            explorer.controls[control].value = values[turn % 2]
            times.append(1000 * (time.perf_counter() - start))
        median = statistics.median(times[2:])  # the first two lay the figure out
        verdict = "ok" if median < LIMIT_MS else "TOO SLOW"
        verdict = "not judged" if smoke else verdict
        print(f"{name}: median {median:.0f} ms, slowest {max(times[2:]):.0f} ms: {verdict}")


if __name__ == "__main__":
    main()
