import os
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat
import pytest
from surroundings import ask_the_compiler, set_surroundings

set_surroundings()  # before torch is imported

import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from torch import fx, nn
from torchvision.models.googlenet import Inception

from xpuqlib.machine.environment import current_track
from xpuqlib.material.data import load_data
from xpuqlib.material.models import load_model
from xpuqlib.proof.evidence import Evidence, collect_evidence
from xpuqlib.recipe.dynamo import patient_dynamo as patient
from xpuqlib.recipe.lowering import Lowered, lower
from xpuqlib.recipe.pt2e import (
    XPUInductorQuantizer,
    capture,
    convert_pt2e,
    get_default_xpu_inductor_quantization_config,
    prepare_pt2e,
)

DEVICES = [
    "cpu",
    pytest.param("xpu", marks=pytest.mark.xpu),
    pytest.param("cuda", marks=pytest.mark.cuda),
]


def no_torch_in_it(track: str) -> pytest.MarkDecorator:
    """Mark what starts processes and asks nothing of torch: one track proves it for both."""
    reason = f"torch plays no part in it: on the {track} track only"
    return pytest.mark.skipif(current_track().name != track, reason=reason)


def large_on(track: str) -> pytest.MarkDecorator:
    """Mark one of several large cases: each is proved on one track, half of them on either."""
    reason = f"a large case: on the {track} track only"
    return pytest.mark.skipif(current_track().name != track, reason=reason)


def pytest_addoption(parser):
    parser.addoption(
        "--require", choices=["xpu", "cuda"], help="fail, not skip, when this device is missing"
    )
    parser.addoption("--screenshots", action="store_true", help="write the README's pictures anew")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist starts its processes
def pytest_sessionstart():
    ask_the_compiler()


def pytest_runtest_setup(item):
    for kind in ("xpu", "cuda"):
        if item.get_closest_marker(kind) and not getattr(torch, kind).is_available():
            pytest.skip(f"no {kind} device is available to torch {torch.__version__} here")


def pytest_collection_modifyitems(items):
    for item in items:
        if "trials" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


def group_of(nodeid: str) -> str:
    """One process takes all that read one execution of the lessons, and other tests by file."""
    path = nodeid.partition("::")[0]
    reads = path.endswith(("test_lessons.py", "test_notebooks.py"))
    return "lessons" if reads and "other_parameters" not in nodeid else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Divide tests by `group_of`: pytest 9.2 does not see the groups of pytest-xdist 3.8."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return group_of(nodeid)

    return ByGroup(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    report = yield
    kind = item.config.getoption("--require")
    if kind and report.skipped and item.get_closest_marker(kind):
        report.outcome = "failed"  # whatever its reason: here it has to run
    return report


def pytest_report_header():
    return f"track: {current_track().name}, torch {torch.__version__}"


def write_notebook(path: Path, parameters: str | None, *sources: str) -> Path:
    """Write a notebook for Python; `parameters` is its tagged cell, or None for none."""
    cells = [new_code_cell(source) for source in sources]
    if parameters is not None:
        cells.insert(0, new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


def write_lesson(path: Path, expected: int = 255) -> Path:
    """Write a notebook with one exercise, for which `expected` is right; its solution says 255."""
    answer = {"grade_id": "steps", "solution": True, "grade": False, "locked": False}
    graded = {"grade_id": "steps-check", "solution": False, "grade": True, "locked": True}
    common = {"schema_version": 3, "task": False}
    cells = [
        new_markdown_cell("### Exercise 1.1: steps"),
        new_code_cell(
            "steps = ...\n### BEGIN SOLUTION\nsteps = 255\n### END SOLUTION",
            metadata={"nbgrader": common | answer},
        ),
        new_code_cell(
            "from xpuqlib.classroom.exercises import check\n"
            f"check(steps, {expected}, usual={{'There are 255 steps.': {511 - expected}}}, "
            "hint='Count.', points=2)",
            metadata={"nbgrader": common | graded | {"points": 2}},
        ),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.parent.mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


# The last cell of a notebook that behaves like a lesson.
RECORD = """
from xpuqlib.proof.record import RunRecord
RunRecord(
    lesson="a", parameters={"n": n, "batch_size": 10}, device="cpu", device_name="c",
    mode="rehearsed", seconds=0,
    metrics={"top1_quantized": 0.5 + n / 20, "latency_quantized_s": 0.01 * n},
    evidence={
        "counts": {
            "conv": {"in the model": 20, "generated": 19},
            "linear": {"in the model": 0, "generated": 0},
        }
    },
)
"""


def wait_until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.1)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def prepare(captured: fx.GraphModule) -> fx.GraphModule:
    quantizer = XPUInductorQuantizer()
    quantizer.set_global(get_default_xpu_inductor_quantization_config())
    return prepare_pt2e(captured, quantizer)


def quantize(captured: fx.GraphModule, *inputs: torch.Tensor) -> fx.GraphModule:
    prepared = prepare(captured)
    with torch.no_grad():
        prepared(*inputs)
    return convert_pt2e(prepared)


def export(model: nn.Module, x: torch.Tensor, strict: bool = True) -> torch.export.ExportedProgram:
    """Export as a user would, under whatever gradient mode is set; as patient as ``capture``."""
    with patient():
        return torch.export.export(model, (x,), strict=strict)


class TinyNet(nn.Module):
    """A conv and a linear: 16 channels, so that the scale is a named constant, and 4, inlined."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3)
        self.linear = nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.conv(x).relu().mean((2, 3)))


class Product(nn.Module):
    """torchao quantizes the inputs of a product whatever gives them, torch 2.8 never does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

    def forward(self, x):
        return self.a(x).relu() * self.b(x).relu()


class Inceptions(nn.Module):
    """Two blocks of GoogLeNet: max-pools between int8 values of different scales."""

    def __init__(self, ceil_mode: bool) -> None:
        super().__init__()
        self.first = Inception(3, 8, 8, 8, 8, 8, 8)
        self.second = Inception(32, 8, 8, 8, 8, 8, 8)
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=ceil_mode)
        self.last = nn.Conv2d(32, 8, 1)

    def forward(self, x):
        x = self.second(self.pool(self.second(self.first(x))))
        return self.last(x)


@dataclass
class Flow:
    """One model all the way: fp32, converted, lowered, and the inputs it was made with."""

    model: nn.Module
    converted: fx.GraphModule
    lowered: Lowered
    inputs: tuple[torch.Tensor, ...]

    @cached_property
    def evidence(self) -> Evidence:
        return collect_evidence(self.model, self.converted, self.lowered, self.inputs)


@pytest.fixture(autouse=True)
def fixed_seed():
    """Each test begins with the same seed; fixtures of a wider scope seed themselves."""
    torch.manual_seed(0)


@pytest.fixture
def tiny() -> tuple[nn.Module, torch.Tensor]:
    return TinyNet().eval(), torch.randn(8, 3, 16, 16)


@pytest.fixture(scope="session")
def tiny_flow() -> Flow:
    torch.manual_seed(0)
    model, x = TinyNet().eval(), torch.randn(8, 3, 16, 16)
    converted = quantize(capture(model, (x,)), x)
    return Flow(model, converted, lower(converted, (x,)), (x,))


@pytest.fixture(scope="session")
def resnet_flow() -> Flow:
    data = load_data(calibration_batches=2)
    model = load_model("resnet18", "digits")
    prepared = prepare(capture(model, (data.example,)))
    with torch.no_grad():
        for batch in data.calibration:
            prepared(batch)
    converted = convert_pt2e(prepared)
    return Flow(model, converted, lower(converted, (data.example,)), (data.example,))


@pytest.fixture(scope="session")
def trials(tmp_path_factory):
    """Each lesson, executed once with its defaults: a call gives the executed notebook."""
    from trial import Trials  # needs nbgrader, which the other tests do without

    return Trials(tmp_path_factory.mktemp("lessons"))


def check_readable(figure):
    for axes in figure.axes:
        assert axes.get_title() or figure.get_suptitle()
        assert axes.get_xlabel()
        assert " ".join(axes.get_xlabel().split()) in figure.describe()
    figure.canvas.draw()
