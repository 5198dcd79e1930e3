"""Print what drafting and simulating a program for an Intel GPU takes; limit for ResNet-18: 15 s.

For each model the seconds to draft it and to simulate it, at batch 1 and 224×224; no C++ is
compiled. Nothing of it is the speed of a GPU.
"""

import sys
import time

import torch
from smoke import wants_smoke

from xpuqlib.proof.record import compiled_files
from xpuqlib.proof.simulation import simulate
from xpuqlib.runner.drafts import Recipe, draft_model

LIMIT = 15.0  # seconds
MODELS = ("resnet18", "resnet50", "mobilenet_v2", "googlenet", "densenet121", "swin_t")


def main() -> None:
    """Draft and simulate each model once."""
    smoke = wants_smoke(__doc__)
    models, size = (MODELS[:1], 64) if smoke else (MODELS, 224)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {size}×{size}")
    print(f"{'model':14} {'int8 calls':>10} {'drafted in s':>13} {'simulated in s':>15}")
    seconds, missing = {}, 0
    for name in models:
        made = draft_model(Recipe(model=name, image_size=size))
        seconds[name] = made.draft.compilation.seconds
        start = time.perf_counter()
        simulate(made.draft, (torch.randn(1, 3, size, size),))
        simulated = time.perf_counter() - start
        print(f"{name:14} {len(made.draft.calls):10} {seconds[name]:13.1f} {simulated:15.1f}")
        missing += made.missing
    print(f"C++ files compiled: {compiled_files()}; quantized layers without a call: {missing}")
    sys.exit(bool(compiled_files() or missing or (not smoke and seconds["resnet18"] > LIMIT)))


if __name__ == "__main__":
    main()
