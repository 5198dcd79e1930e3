"""Print the speed of int8: against compiled fp32, and beside OpenVINO and ONNX Runtime.

First lesson 03 on ResNet-18 at batch 32 and 224×224, on the best device there is. Then three
models, with the same weights and calibration batches in int8 by each library, on the CPU, at batch
1, 8 and 50: ours compiled, and as a package, with the share of its time that oneDNN's kernels take.
The others keep their defaults, apart from the number of threads, asymmetric activations (NNCF's
mixed preset, uint8 for ONNX Runtime) and weights per channel, as this kit's default configuration
has. With AMX, OpenVINO computes in bfloat16 what is not int8; the table says so.

Then our package and OpenVINO's model are timed again, each alone in a process, which keeps a CPU's
caches warm. The package is loaded as the `run.py` of a shipped folder does it; then without weights
aligned to cache lines; then also without keeping memory, as AOTInductor alone makes and loads it;
and where tcmalloc or jemalloc is installed, with that in the place of glibc's malloc, and huge
pages for large tensors (OpenVINO's process crashes with either). The peers come with
`pip install -e ".[peers]"`.
"""

import contextlib
import importlib.util
import itertools
import logging
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pandas
import torch
import torch._inductor
from alone import alone, other_allocator
from smoke import stand_in, wants_smoke
from torch import nn

import xpuqlib.recipe.package
from xpuqlib.machine.device import describe_device
from xpuqlib.material.data import ImageData, load_data
from xpuqlib.material.models import load_model
from xpuqlib.proof.closeness import flat_output, sqnr
from xpuqlib.proof.cost import compare_latency
from xpuqlib.proof.packages import read_package
from xpuqlib.recipe.calibration import calibrate
from xpuqlib.recipe.lowering import lower
from xpuqlib.recipe.package import write_package
from xpuqlib.recipe.pt2e import (
    XPUInductorQuantizer,
    capture,
    convert_pt2e,
    get_default_xpu_inductor_quantization_config,
    prepare_pt2e,
)
from xpuqlib.runner.execution import execute, find_notebooks, plan

PARAMETERS = {"model": "resnet18", "weights": "random", "batch_size": 32, "image_size": 224}
PEERS = {"OpenVINO": ("openvino", "nncf"), "ONNX Runtime": ("onnxruntime", "onnx")}
OURS, PACKAGED = "xpuqlib, compiled", "xpuqlib, package"
MODELS = ("resnet18", "resnet50", "mobilenet_v2")
CPU = torch.device("cpu")
Call = Callable[[torch.Tensor], torch.Tensor]
Made = tuple[Call, int, str]  # also how many convolutions run in int8, and what is not int8


def against_fp32(notebook: Path, parameters: dict[str, object], out: Path) -> None:
    """Execute the lesson, and print its metrics."""
    [job] = plan([notebook], parameters)
    result = execute(job, out)
    if result.result != "passed":
        sys.exit(f"{result.path} {result.result}: {result.error}")
    record = result.record
    print(f"{record.mode} on {record.device} ({record.device_name}), {parameters}")
    for name, value in record.metrics.items():
        if value is not None:
            print(f"  {name}: {value:.4g}")
    ratio = record.metrics["speed_against_fp32_compiled"]
    print(f"quantized against compiled fp32: {ratio:.2f} times as fast")


def with_xpuqlib(model: nn.Module, data: ImageData, path: Path) -> dict[str, Made]:
    """Quantize as the lessons do, then compile in this process, and as a package at `path`."""
    quantizer = XPUInductorQuantizer()
    quantizer.set_global(get_default_xpu_inductor_quantization_config())
    prepared = prepare_pt2e(capture(model, (data.example,)), quantizer)
    calibrate(prepared, data.calibration)
    converted = convert_pt2e(prepared)
    lowered = lower(converted, (data.example,))
    convolutions = sum("conv" in call.operator for call in lowered.compilation.generated)
    write_package(converted, (data.example,), path)
    with patch.object(xpuqlib.recipe.package, "ALIGNED_WEIGHTS", ""):
        write_package(converted, (data.example,), path.with_name("plain.pt2"))
    in_package = read_package(path).int8_calls
    package = torch._inductor.aoti_load_package(str(path))
    packaged = sum(n for operator, n in in_package.items() if "conv" in operator)
    return {OURS: (lowered, convolutions, "fp32"), PACKAGED: (package, packaged, "fp32")}


def with_openvino(model: nn.Module, data: ImageData, path: Path) -> Made:
    """Quantize with NNCF, keep it at `path`, and compile for the CPU."""
    import nncf
    import openvino

    shape = list(data.example.shape)
    converted = openvino.convert_model(model, example_input=data.example, input=shape)
    batches = nncf.Dataset(data.calibration, lambda batch: batch.contiguous().numpy())
    preset = nncf.QuantizationPreset.MIXED
    quantized = nncf.quantize(converted, batches, preset=preset, subset_size=len(data.calibration))
    openvino.save_model(quantized, path, compress_to_fp16=False)
    threads = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    compiled = openvino.compile_model(quantized, "CPU", threads)
    infos = [operator.get_rt_info() for operator in compiled.get_runtime_model().get_ops()]
    layers = [(i["layerType"].astype(str), i["runtimePrecision"].astype(str)) for i in infos]
    convolutions = sum(kind == "Convolution" and "8" in precision for kind, precision in layers)
    rest = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()

    def call(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(compiled(x.numpy(), share_inputs=True)[0])

    return call, convolutions, rest


def with_onnx_runtime(model: nn.Module, data: ImageData, path: Path) -> Made:
    """Export, quantize statically (Q/DQ, uint8 and int8 weights) and load for the CPU."""
    import onnx
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter(data.calibration)

        def get_next(self) -> dict[str, object] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"x": batch.contiguous().numpy()}

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # it warns that what it is asked to keep fits this CPU only
    with tempfile.TemporaryDirectory() as name:
        exported, prepared, quantized, kept = (str(Path(name) / f"{n}.onnx") for n in range(4))
        example = (data.example.contiguous(),)
        # torch's newer exporter wants another package, onnxscript.
        torch.onnx.export(model, example, exported, input_names=["x"], dynamo=False)
        quant_pre_process(exported, prepared)
        kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
        quantize_static(prepared, quantized, Reader(), per_channel=True, **kinds)
        options.optimized_model_filepath = kept
        session = onnxruntime.InferenceSession(quantized, options, ["CPUExecutionProvider"])
        convolutions = sum(n.op_type == "QLinearConv" for n in onnx.load(kept).graph.node)

    def call(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run(None, {"x": x.numpy()})[0])

    return call, convolutions, "fp32"


def kernel_seconds(call: Callable[..., torch.Tensor], inputs: tuple[torch.Tensor, ...]) -> float:
    """Seconds of oneDNN's kernels in one call, by oneDNN's own log: the least of ten."""
    totals = []
    with tempfile.TemporaryDirectory() as name:
        log = Path(name) / "log"
        for _ in range(10):
            with native_stdout(log), torch.backends.mkldnn.verbose(1):
                call(*inputs)
            lines = [line for line in log.read_text().splitlines() if ",exec," in line]
            totals.append(sum(float(line.rpartition(",")[2]) for line in lines) / 1000)
    return min(totals)


@contextlib.contextmanager
def native_stdout(path: Path) -> Iterator[None]:
    """Send what C++ prints to a file."""
    sys.stdout.flush()
    kept = os.dup(1)
    with path.open("w") as file:
        os.dup2(file.fileno(), 1)
        try:
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)


def each_alone(folder: Path, x: torch.Tensor, seconds: float) -> None:
    """Print the median of each model alone in a process; they take turns, twice."""
    ways = {
        PACKAGED: ("model.pt2", "--keep"),
        "weights not aligned": ("plain.pt2", "--keep"),
        "nor memory kept": ("plain.pt2", ""),
    }
    if library := other_allocator():
        ways[f"{PACKAGED}, {library}"] = ("model.pt2", library)
    if (folder / "model.xml").exists():
        ways["OpenVINO"] = ("model.xml", "")
    times: dict[str, list[float]] = {name: [] for name in ways}
    for name, (model, memory) in [*ways.items()] * 2:
        times[name] += alone(folder / model, x, seconds / 2, memory)
    medians = {name: statistics.median(found) for name, found in times.items()}
    fastest = min(medians.values())
    said = (f"{name} {1000 * t:.2f} ms ({t / fastest:.2f})" for name, t in medians.items())
    print(f"Alone in a process: {', '.join(said)}.")


def side_by_side(
    name: str, batch_size: int, image_size: int, images: int, seconds: float, folder: Path
) -> None:
    """Print one table: medians of calls that take turns, and SQNR to fp32 on the same images."""
    batches = max(1, images // batch_size)
    sizes = {"batch_size": batch_size, "image_size": image_size, "calibration_batches": batches}
    data, model = load_data("digits", weights="random", **sizes), load_model(name, "random")
    total = sum(isinstance(module, nn.Conv2d) for module in model.modules())
    ways = {"OpenVINO": with_openvino, "ONNX Runtime": with_onnx_runtime}
    made = with_xpuqlib(model, data, folder / "model.pt2")
    other = folder / "model.xml"
    made |= {name: way(model, data, other) for name, way in ways.items() if not missing(name)}
    x = data.images[:batch_size]
    # Each gets the same images in the memory layout that it takes without a copy.
    inputs = (x.contiguous(), x.contiguous(memory_format=torch.channels_last))
    ours = (OURS, PACKAGED)
    calls = {name: on_its_layout(call, name in ours) for name, (call, *_) in made.items()}
    with torch.no_grad():
        reference = flat_output(model(x))
        closeness = {name: sqnr(reference, call(*inputs)) for name, call in calls.items()}
    times = {n: latency.median for n, latency in compare_latency(calls, inputs, seconds).items()}
    fastest = min(times, key=times.get)
    with torch.no_grad():
        kernels = {name: kernel_seconds(calls[name], inputs) / times[name] for name in ours}
    rows = {
        name: {
            "median (ms)": f"{1000 * times[name]:.2f}",
            "against the fastest": f"{times[name] / times[fastest]:.2f}",
            "SQNR to fp32 (dB)": f"{closeness[name]:.1f}",
            "kernels' share": f"{kernels[name]:.0%}" if name in kernels else "",
            "int8 convolutions": f"{convolutions} of {total}",
            "what is not int8": rest,
        }
        for name, (_, convolutions, rest) in made.items()
    }
    print(f"\n{name}, batch {batch_size}, {image_size}×{image_size}:")
    print(pandas.DataFrame.from_dict(rows, orient="index").to_string())
    for other in made.keys() - set(ours):
        ratios = " and ".join(f"{times[way] / times[other]:.2f} ({way})" for way in ours)
        print(f"{ratios} times the time of {other}.")
    each_alone(folder, inputs[1], seconds / 2)


def on_its_layout(call: Call, channels_last: bool) -> Callable[..., torch.Tensor]:
    """Make a candidate for `compare_latency`, which gives both layouts to all."""
    return lambda plain, last: call(last if channels_last else plain)


def missing(name: str) -> list[str]:
    """List the packages that a library needs here and does not find."""
    return [package for package in PEERS.get(name, ()) if not importlib.util.find_spec(package)]


def main() -> None:
    """Run both parts."""
    smoke = wants_smoke(__doc__)
    out = Path("runs") / time.strftime("benchmark-%Y%m%d-%H%M%S")
    with tempfile.TemporaryDirectory() as name:
        lesson = stand_in(Path(name)) if smoke else find_notebooks(["03"])[0]
        against_fp32(lesson, {"batch_size": 1} if smoke else PARAMETERS, out)
    where = describe_device(CPU)
    print(f"\n{where.mode} on cpu ({where.name}), {torch.get_num_threads()} threads")
    for peer in PEERS:
        if absent := missing(peer):
            print(f"{peer} was not measured: no {', '.join(absent)} (pip install -e '.[peers]')")
    if other_allocator() is None:
        print("No other allocator was found (Debian: apt install libtcmalloc-minimal4).")
    logging.getLogger("nncf").setLevel(logging.ERROR)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's exporters, of each other
        warnings.simplefilter("ignore", FutureWarning)
        for name, batch_size in itertools.product(MODELS, (1, 8, 50)):
            sizes = (32, 1, 0.02) if smoke else (224, 64, 6.0)
            side_by_side(name, batch_size, *sizes, Path(folder))
            if smoke:
                break


if __name__ == "__main__":
    main()
