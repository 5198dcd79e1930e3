"""Time the calls of one model that is alone in its process: `python alone.py MODEL INPUT SECONDS`.

MODEL is a package (.pt2), or OpenVINO's (.xml); INPUT a tensor that `torch.save` wrote. It prints
the seconds of each call as JSON, without those that warm up.
"""

import json
import sys
import time
from collections.abc import Callable

import torch
import torch._inductor


def load(path: str, x: torch.Tensor) -> Callable[[], object]:
    """Give a call of the model with this input, in the memory layout that it takes."""
    if path.endswith(".pt2"):
        package = torch._inductor.aoti_load_package(path)
        return lambda: package(x)
    import openvino

    threads = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled, array = openvino.compile_model(path, "CPU", threads), x.contiguous().numpy()
    return lambda: compiled(array, share_inputs=True)[0]


def main() -> None:
    """Call it for a quarter more than the seconds that are asked for."""
    path, kept, seconds = sys.argv[1:]
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
