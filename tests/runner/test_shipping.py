import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
import torch
from conftest import quantize
from typer.testing import CliRunner

from xpuqlib.cli import app
from xpuqlib.errors import PackageError, RunError
from xpuqlib.material.models import load_model
from xpuqlib.recipe.attention import rewrite_attention
from xpuqlib.recipe.lowering import lower
from xpuqlib.recipe.pt2e import capture
from xpuqlib.recipe.recipe import Recipe
from xpuqlib.recipe.script import write_script
from xpuqlib.runner import shipping
from xpuqlib.runner.shipping import ship_model, ship_run

MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.linear = nn.Linear(16, 4)

    def forward(self, x):
        x = self.conv(x).relu().mean(3).transpose(1, 2)
        return self.linear(self.attention(x, x, x, need_weights=False)[0].mean(1))

def model():
    torch.manual_seed(0)
    return Net().eval()
"""
# A script in a process that has torch, and cannot import this kit.
ALONE = "import runpy, sys; sys.modules['xpuqlib'] = None; sys.argv = sys.argv[1:]; "
ALONE += "runpy.run_path(sys.argv[0], run_name='__main__')"
# Pages that the system maps while a tensor of 64 MB is filled, after some that were given back:
# glibc keeps up to seven of the small pieces that alignment leaves, and they hold blocks apart.
MAPPED = """
import ctypes, resource, runpy, sys, torch
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: no huge pages, which are few
runpy.run_path(sys.argv[1])["keep_memory"]()
for _ in range(12):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(1 << 24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Write what lesson 09 leaves for a model of one's own."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "mine.py").write_text(MODEL)
    named = f"{folder / 'mine.py'}:model"
    recipe = Recipe(model=named, weights="auto", data="digits", rewritten_attention=True)
    model = load_model(recipe.model, "auto")
    torch.manual_seed(0)
    batch = torch.randn(8, 3, 16, 16).to(memory_format=torch.channels_last)
    converted = quantize(capture(rewrite_attention(model), (batch,)), batch)
    script = write_script(recipe, folder / "09", model, converted, ((batch,),))
    recipe.save(script.with_name("recipe.yml"))
    return script.parent


@pytest.fixture(scope="module")
def shipped(run, tmp_path_factory):
    return ship_run(run, tmp_path_factory.mktemp("out") / "shipped")


@pytest.fixture
def copy(shipped, tmp_path):
    return Path(shutil.copytree(shipped.folder, tmp_path / "copy"))


def alone(folder, *arguments):
    command = [sys.executable, "-c", ALONE, str(folder / "run.py"), *map(str, arguments)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True)


def refusal(folder, monkeypatch, *arguments):
    """Run it in this process, and give what it says at its end."""
    monkeypatch.setenv("AOTI_RUNTIME_CHECK_INPUTS", "1")  # the script sets it: undone afterwards
    monkeypatch.setattr(sys, "argv", [str(folder / "run.py"), *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(sys.argv[0], run_name="__main__")
    return str(ended.value.code)


def change_about(folder, **changes):
    """Change what the package is said to need, with a right checksum."""
    about = json.loads((folder / "package.json").read_text()) | changes
    (folder / "package.json").write_text(json.dumps(about))
    sums = folder / "SHA256SUMS"
    lines = [line for line in sums.read_text().splitlines() if not line.endswith("package.json")]
    sums.write_text("\n".join(lines) + "\n")


pytestmark = pytest.mark.slow


def test_a_shipped_folder_is_whole(shipped):
    files = {path.relative_to(shipped.folder).as_posix() for path in shipped.folder.rglob("*.*")}
    assert files == {
        "model.pt2",
        "run.py",
        "cpp/main.cpp",
        "cpp/CMakeLists.txt",
        "recipe.yml",
        "evidence.json",
        "package.json",
        "example.pt",
    }
    assert [path.name for path in shipped.folder.parent.iterdir()] == ["shipped"]
    assert sum(shipped.content.int8_calls.values()) == 4
    checked = subprocess.run(
        ["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=shipped.folder, check=False
    )
    assert checked.returncode == 0


def test_it_runs_where_the_kit_is_not(shipped, tmp_path):
    ended = alone(shipped.folder)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "4 int8 calls; the example's answer is as shipped, bit for bit\n"
    # Eleven rows for a package of eight: the last batch is padded, and cut.
    example = torch.load(shipped.folder / "example.pt")
    [x] = example["inputs"]
    torch.save(torch.cat([x, x[:3]]).contiguous(), tmp_path / "images.pt")
    ended = alone(shipped.folder, tmp_path / "images.pt")
    classes = example["scores"].argmax(1).tolist()
    assert [int(line) for line in ended.stdout.split()] == classes + classes[:3]


def test_it_keeps_the_memory_of_a_call(shipped):
    command = [sys.executable, "-c", MAPPED, shipped.folder / "run.py"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(ended.stdout) < 100  # of 16,384


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"torch": "1.0.0"}, "made by torch 1.0.0"),
        ({"device": "xpu"}, "made for an Intel GPU"),
        ({"cpu_capability": "AVX512_OTHER"}, "AVX512_OTHER"),
        ({"int8_layers": 5}, "4 int8 calls, not 5"),
    ],
)
def test_another_machine_is_refused(copy, monkeypatch, changes, message):
    change_about(copy, **changes)
    if "cpu_capability" in changes:  # a CPU that this one is not
        run = copy / "run.py"
        run.write_text(run.read_text().replace('"AVX512"]', '"AVX512", "AVX512_OTHER"]'))
        lines = (copy / "SHA256SUMS").read_text().splitlines()
        kept = [line for line in lines if not line.endswith("  run.py")]
        (copy / "SHA256SUMS").write_text("\n".join(kept) + "\n")
    said = refusal(copy, monkeypatch)
    assert message in said
    assert "Fix: " in said


def test_a_changed_file_is_refused(copy, monkeypatch):
    with (copy / "model.pt2").open("ab") as file:
        file.write(b"more")
    assert "model.pt2 is damaged or was changed" in refusal(copy, monkeypatch)
    (copy / "model.pt2").unlink()
    assert "model.pt2 is missing" in refusal(copy, monkeypatch)


def test_rows_of_another_shape_are_refused(shipped, tmp_path, monkeypatch):
    torch.save(torch.zeros(8, 3, 20, 20), tmp_path / "images.pt")
    said = refusal(shipped.folder, monkeypatch, tmp_path / "images.pt")
    assert "A row is [3, 20, 20], not [3, 16, 16]" in said


def test_what_holds_no_tensors_is_named(shipped, tmp_path, monkeypatch):
    for name in ("run.py", "none.pt"):
        said = refusal(shipped.folder, monkeypatch, shipped.folder / name)
        assert f"{name} cannot be read as tensors" in said
        assert "Fix: torch.save" in said


def test_the_program_in_cpp_answers_bit_for_bit(shipped, tmp_path):
    cmake = shutil.which("cmake", path=str(Path(sys.executable).parent)) or shutil.which("cmake")
    assert cmake, "pip install cmake"
    build, torch_folder = tmp_path / "build", torch.__path__[0]
    source = shipped.folder / "cpp"
    for command in (
        [cmake, "-S", source, "-B", build, f"-DTORCH={torch_folder}"],
        [cmake, "--build", build],
    ):
        ended = subprocess.run(command, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    example = torch.load(shipped.folder / "example.pt")
    [x] = example["inputs"]
    x.contiguous().numpy().tofile(tmp_path / "images.bin")
    command = [build / "run_package", shipped.folder / "model.pt2", tmp_path / "images.bin"]
    command += [tmp_path / "answers.bin"]
    ended = subprocess.run([*command, "8", "3", "16", "16"], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    answers = torch.from_numpy(numpy.fromfile(tmp_path / "answers.bin", dtype="float32"))
    assert torch.equal(answers.reshape(8, 4), example["scores"])
    assert [int(line) for line in ended.stdout.split()] == example["scores"].argmax(1).tolist()
    ended = subprocess.run([*command, "4", "3", "16", "16"], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "does not hold these images" in ended.stderr
    x[:4].contiguous().numpy().tofile(tmp_path / "images.bin")
    ended = subprocess.run([*command, "4", "3", "16", "16"], capture_output=True, text=True)
    assert ended.returncode == 1, "a batch of another size must not be computed in silence"


def test_mixed_with_bf16_it_is_the_lowered_model_bit_for_bit(run, tmp_path):
    recipe = Recipe.load(run / "recipe.yml").model_copy(update={"bf16": True})
    model = load_model(recipe.model, "auto")
    [x] = torch.load(run / "calibration.pt")[0]
    converted = quantize(capture(rewrite_attention(model), (x,)), x)
    shipped = ship_model(tmp_path / "bf16", recipe, model, converted, (x,))
    lowered = lower(converted, (x,), bf16_autocast=True)
    example = torch.load(shipped.folder / "example.pt")
    assert torch.equal(example["scores"], lowered(x).float())


QEMU = shutil.which("qemu-x86_64")


@pytest.mark.slow
@pytest.mark.skipif(not QEMU, reason="no qemu-x86_64 here (Debian: apt install qemu-user)")
@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() != "AVX512", reason="no AVX-512 here")
def test_a_processor_without_avx512_is_refused_and_would_end_the_process(shipped):
    def on_haswell(*arguments):
        command = [QEMU, "-cpu", "Haswell", sys.executable, *map(str, arguments)]
        return subprocess.run(command, cwd="/", capture_output=True, text=True)

    ended = on_haswell(shipped.folder / "run.py")
    assert ended.returncode == 1
    assert "made for a CPU with AVX512; here is AVX2" in ended.stderr
    load = "import sys, torch; torch._inductor.aoti_load_package(sys.argv[1])"
    assert on_haswell("-c", load, shipped.folder / "model.pt2").returncode == -signal.SIGILL


@pytest.mark.xpu
def test_on_an_intel_gpu_a_package_is_in_int8_and_answers_as_the_lowered_model(run, tmp_path):
    shipped = ship_run(run, tmp_path / "xpu", "xpu")  # it compares the answers itself
    assert shipped.content.device == "xpu"
    ended = alone(shipped.folder)
    assert ended.stdout == "4 int8 calls; the example's answer is as shipped, bit for bit\n"


def test_what_is_no_run_is_named(tmp_path, shipped):
    with pytest.raises(RunError, match=r"lacks recipe\.yml, weights\.pt, calibration\.pt"):
        ship_run(tmp_path, tmp_path / "out")


def test_a_folder_that_is_there_is_left_alone(run, shipped):
    before = (shipped.folder / "SHA256SUMS").read_bytes()
    with pytest.raises(PackageError, match="is there already"):
        ship_run(run, shipped.folder)
    assert (shipped.folder / "SHA256SUMS").read_bytes() == before


def test_the_command(run, shipped, monkeypatch):
    monkeypatch.setattr(shipping, "ship_run", lambda *arguments: shipped)
    ended = CliRunner().invoke(app, ["ship", str(run), "--out", "x"])
    assert ended.exit_code == 0, ended.output
    assert "4 int8 calls in x" in ended.output
    wrong = CliRunner().invoke(app, ["ship", str(run), "--out", "x", "--device", "cuda"])
    assert "No int8 package is made for 'cuda'" in str(wrong.exception)
