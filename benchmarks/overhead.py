"""Print what a call of what `lower` returns costs beside the compiled model alone; limit: 2 %.

ResNet-18 at batch 1 and 224×224, in pairs that take turns, both without gradients.
"""

import statistics
import sys

import torch
from smoke import wants_smoke
from torch.utils.benchmark import Timer

from xpuqlib.machine.device import choose_device, describe_device
from xpuqlib.material.data import load_data
from xpuqlib.material.models import load_model
from xpuqlib.recipe.calibration import calibrate
from xpuqlib.recipe.lowering import Lowered, lower
from xpuqlib.recipe.pt2e import (
    XPUInductorQuantizer,
    capture,
    convert_pt2e,
    get_default_xpu_inductor_quantization_config,
    prepare_pt2e,
)

LIMIT = 0.02


def lowered_resnet(image_size: int, device: torch.device) -> tuple[Lowered, torch.Tensor]:
    """ResNet-18 in int8 for one image, and that image."""
    sizes = {"batch_size": 1, "image_size": image_size, "calibration_batches": 1}
    images = load_data("synthetic", weights="random", device=device, **sizes)
    model = load_model("resnet18", "random", device=device)
    quantizer = XPUInductorQuantizer()
    quantizer.set_global(get_default_xpu_inductor_quantization_config())
    prepared = prepare_pt2e(capture(model, (images.example,)), quantizer)
    calibrate(prepared, images.calibration)
    return lower(convert_pt2e(prepared), (images.example,)), images.example


def pairs(lowered: Lowered, x: torch.Tensor, count: int, calls: int) -> list[tuple[float, float]]:
    """Seconds of a call, the compiled model alone and through `lower`; each first in turn."""
    threads, taken = torch.get_num_threads(), []
    timers = [
        Timer("call(x)", globals={"call": call, "x": x}, num_threads=threads)
        for call in (lowered.compiled, lowered)
    ]
    with torch.no_grad():
        for timer in timers:
            timer.timeit(calls)  # warm-up
        for turn in range(count):
            order = (0, 1) if turn % 2 else (1, 0)
            times = {which: timers[which].timeit(calls).mean for which in order}
            taken.append((times[0], times[1]))
    return taken


def main() -> None:
    """Compare the medians, and pair by pair, so that a slow moment meets both."""
    smoke = wants_smoke(__doc__)
    device, image_size = choose_device(), 32 if smoke else 224
    lowered, x = lowered_resnet(image_size, device)
    taken = pairs(lowered, x, *((4, 5) if smoke else (400, 5)))
    alone, ours = (1000 * statistics.median(times) for times in zip(*taken, strict=True))
    added = statistics.median(ours / alone for alone, ours in taken) - 1
    where = describe_device(device)
    print(f"{lowered.mode} on {where.type} ({where.name}), ResNet-18, {list(x.shape)}")
    print(f"compiled alone {alone:.3f} ms, through lower {ours:.3f} ms, {len(taken)} pairs")
    print(f"median of the pairs: {added:+.1%}, limit {LIMIT:.0%}")
    if added > LIMIT and not smoke:
        sys.exit(f"Too slow: a call of what lower returns adds {added:.1%}.")


if __name__ == "__main__":
    main()
