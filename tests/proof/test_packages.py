import os
import subprocess
import sys
import zipfile

import pytest
import torch

from xpuqlib.errors import PackageError
from xpuqlib.proof.packages import CHECK_INPUTS, read_package, verify_package
from xpuqlib.recipe.lowering import rewrite_for
from xpuqlib.recipe.package import write_package

pytestmark = pytest.mark.slow  # each package is compiled


@pytest.fixture(scope="module")
def package(tiny_flow, tmp_path_factory):
    return write_package(
        tiny_flow.converted, tiny_flow.inputs, tmp_path_factory.mktemp("package") / "model.pt2"
    )


@pytest.fixture(scope="module")
def without_freezing(tiny_flow, tmp_path_factory):
    """A package as upstream makes it, when nobody asks for freezing."""
    path = tmp_path_factory.mktemp("floating") / "model.pt2"
    rewritten, _ = rewrite_for("cpu", tiny_flow.converted)
    with torch.no_grad():
        program = torch.export.export(rewritten, tiny_flow.inputs, strict=False)
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    return path


def test_a_package_answers_as_the_lowered_model_bit_for_bit(tiny_flow, package):
    content = verify_package(
        package, tiny_flow.evidence, tiny_flow.inputs, tiny_flow.lowered(*tiny_flow.inputs)
    )
    assert content.int8_calls == {"qconv_pointwise_tensor": 1, "qlinear_pointwise_tensor": 1}
    assert content.float_calls == {}
    assert content.device == "cpu"
    assert content.size == package.stat().st_size > content.code_size > 0
    assert list(package.parent.iterdir()) == [package]
    assert CHECK_INPUTS not in os.environ  # set only meanwhile


def test_the_evidence_of_a_record_is_enough(tiny_flow, package):
    verify_package(package, tiny_flow.evidence.to_dict(), tiny_flow.inputs)


def test_without_freezing_there_is_no_int8_call(tiny_flow, without_freezing):
    content = read_package(without_freezing)
    assert content.int8_calls == {}
    assert sum(content.float_calls.values()) == 2
    with pytest.raises(PackageError, match=r"0 int8 calls, and 2 layers.*convolution"):
        verify_package(without_freezing, tiny_flow.evidence, tiny_flow.inputs)


def test_one_call_less_raises(package):
    read_package(package).require_int8(2)
    with pytest.raises(PackageError, match="2 int8 calls, and 3 layers"):
        read_package(package).require_int8(3)


def test_another_answer_raises(tiny_flow, package):
    wrong = tiny_flow.lowered(*tiny_flow.inputs) + 1e-6
    with pytest.raises(PackageError, match="largest difference"):
        verify_package(package, tiny_flow.evidence, tiny_flow.inputs, wrong)


def test_not_a_number_raises(tiny_flow, package, monkeypatch):
    def load(path):
        return lambda *inputs: torch.full((8, 4), torch.nan)

    monkeypatch.setattr(torch._inductor, "aoti_load_package", load)
    with pytest.raises(PackageError, match="answers NaN"):
        verify_package(package, tiny_flow.evidence, tiny_flow.inputs)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x[:4],
        lambda x: torch.cat([x, x]),
        lambda x: x.double(),
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x[:, :, :8].contiguous(),
    ],
)
def test_other_inputs_are_refused(tiny_flow, package, change):
    with pytest.raises(PackageError, match="does not run"):
        verify_package(package, tiny_flow.evidence, (change(tiny_flow.inputs[0]),))


def test_upstream_alone_answers_a_batch_of_another_size(tiny_flow, package):
    """Why the check is switched on: eight rows of answers for sixteen, and no word."""
    code = (
        "import sys, torch\n"
        "model = torch._inductor.aoti_load_package(sys.argv[1])\n"
        "print(len(model(torch.zeros(16, 3, 16, 16))))"
    )
    environment = {name: value for name, value in os.environ.items() if name != CHECK_INPUTS}
    command = [sys.executable, "-c", code, str(package)]
    ended = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert ended.stdout.strip() == "8"


def test_what_is_no_package_is_named(tiny_flow, tmp_path):
    text = tmp_path / "model.pt2"
    text.write_text("no zip")
    with pytest.raises(PackageError, match=r"model\.pt2 cannot be read"):
        read_package(text)
    with pytest.raises(PackageError, match="cannot be read"):
        read_package(tmp_path / "none.pt2")
    with zipfile.ZipFile(text, "w") as archive:
        archive.writestr("model/data", b"")
    with pytest.raises(PackageError, match=r"holds no C\+\+"):
        read_package(text)
