"""Time calls of one model alone in its process: `python alone.py MODEL INPUT SECONDS [--keep]`.

MODEL is a package (.pt2), or OpenVINO's (.xml); INPUT a tensor that `torch.save` wrote. With
`--keep`, glibc keeps the memory of a call, as in the `run.py` of a shipped folder. It prints the
seconds of each call as JSON, without those that warm up.
"""

import ctypes
import ctypes.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch._inductor

ALLOCATORS = ("tcmalloc_minimal", "jemalloc")  # Debian: libtcmalloc-minimal4, libjemalloc2


def other_allocator() -> str | None:
    """Find a library that can take the place of glibc's malloc."""
    return next(filter(None, map(ctypes.util.find_library, ALLOCATORS)), None)


def alone(model: Path, x: torch.Tensor, seconds: float, memory: str) -> list[float]:
    """Time calls of a model in a process of its own, in seconds.

    `memory` is `--keep`, the library of another allocator, or empty: glibc as it is.
    """
    kept, keeps = model.with_name("x.pt"), memory == "--keep"
    torch.save(x.clone(), kept)  # without the other images of its storage
    other = {"LD_PRELOAD": memory, "THP_MEM_ALLOC_ENABLE": "1"}
    command = [sys.executable, __file__, model, kept, str(seconds), *[memory] * keeps]
    settings = os.environ | (other if memory and not keeps else {})
    child = subprocess.run(command, env=settings, capture_output=True, text=True, check=True)
    return json.loads(child.stdout)


def load(path: str, x: torch.Tensor) -> Callable[[], object]:
    """Give a call of the model with this input, in the memory layout that it takes."""
    if path.endswith(".pt2"):
        package = torch._inductor.aoti_load_package(path)
        return lambda: package(x)
    import openvino

    threads = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled, array = openvino.compile_model(path, "CPU", threads), x.contiguous().numpy()
    return lambda: compiled(array, share_inputs=True)[0]


def keep_memory() -> None:
    """Have glibc keep what operators give back."""
    if sys.platform == "linux":
        c_library = ctypes.CDLL(None)
        c_library.mallopt(-4, 0)  # M_MMAP_MAX
        c_library.mallopt(-1, -1)  # M_TRIM_THRESHOLD: never


def main() -> None:
    """Call it for a quarter more than the seconds that are asked for."""
    path, kept, seconds, *keep = sys.argv[1:]
    if keep == ["--keep"]:
        keep_memory()
    call, times = load(path, torch.load(kept)), []
    with torch.no_grad():
        end = time.perf_counter() + 1.25 * float(seconds)
        while len(times) < 5 or time.perf_counter() < end:
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    print(json.dumps(times[len(times) // 5 :]))


if __name__ == "__main__":
    main()
