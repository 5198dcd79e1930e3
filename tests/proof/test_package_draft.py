import re
import zipfile

import pytest
import torch
from conftest import Flow, Inceptions, patient, quantize
from test_replaced import leaked, replaced, without_xpu
from torch._inductor.codecache import AotCodeCompiler, CudaKernelParamCache

from xpuqlib.errors import DraftError
from xpuqlib.material.models import load_model
from xpuqlib.proof import package_draft
from xpuqlib.proof.draft import draft_for_xpu
from xpuqlib.proof.fake_constants import FakeConstants
from xpuqlib.proof.package_draft import PackageDraft, c_functions, draft_package_for_xpu
from xpuqlib.proof.program import executed_lines, executed_lines_of_package, write_program
from xpuqlib.recipe.lowering import lower, rewrite_for
from xpuqlib.recipe.pt2e import capture

HAS_FUNCTIONS = any("xpu__qconv" in name for name in c_functions())
with_functions = pytest.mark.skipif(not HAS_FUNCTIONS, reason="torch has no int8 functions for xpu")
_QUANTIZED = re.compile(r"aoti_torch_[a-z]+__q(?:conv|linear)\w*(?=\()")


@pytest.fixture(scope="module")
def resnet_package(resnet_flow: Flow) -> PackageDraft:
    return draft_package_for_xpu(resnet_flow.converted, resnet_flow.inputs)


def written_for_cpu(flow: Flow) -> str:
    rewritten, _ = rewrite_for("cpu", flow.converted)
    options = {"freezing": True, "bf16_autocast": False, "packaged": True}
    return write_program(rewritten, flow.inputs, FakeConstants("cpu"), **options)[0].code


def really_packaged(converted, inputs, path) -> str:
    """The C++ files in a package that is really made."""
    with torch.no_grad():  # with gradients on, Inductor leaves freezing out, and says nothing
        exported = torch.export.export(converted, inputs, strict=False)
        settings = {"freezing": True}
        torch._inductor.aoti_compile_and_package(
            exported, package_path=str(path), inductor_configs=settings
        )
    with zipfile.ZipFile(path) as package:
        names = [name for name in package.namelist() if name.endswith(".cpp")]
        return "\n".join(package.read(name).decode() for name in names)


@pytest.mark.skipif(HAS_FUNCTIONS, reason="torch has int8 functions for xpu")
def test_a_torch_without_the_functions_is_refused_with_that_reason(tiny_flow):
    with pytest.raises(DraftError, match=r"has no C functions for int8 on an Intel GPU"):
        draft_package_for_xpu(tiny_flow.converted, tiny_flow.inputs)


@with_functions
def test_every_layer_of_resnet18_calls_an_int8_function(resnet_flow, resnet_package):
    assert resnet_package.counts() == {
        "conv": {"in the model": 20, "quantized": 20, "int8 functions called": 20},
        "linear": {"in the model": 1, "quantized": 1, "int8 functions called": 1},
    }
    table = resnet_package.table()
    assert list(table["layer"]) == [layer.name for layer in resnet_package.layers]
    assert set(table["reads"]) == {"int8"}
    assert table["weight"].is_unique
    assert {k: n for k, n in resnet_package.functions.items() if "__q" in k} == {
        "aoti_torch_xpu__qconv_pointwise_tensor": 12,
        "aoti_torch_xpu__qconv2d_pointwise_binary_tensor": 8,
        "aoti_torch_xpu__qlinear_pointwise_tensor": 1,
    }
    assert "not compiled, not executed" in resnet_package._repr_html_()


@with_functions
def test_a_package_does_what_the_python_program_does(resnet_flow, resnet_package):
    draft = draft_for_xpu(resnet_flow.converted, resnet_flow.inputs)
    for call, other in zip(resnet_package.calls, draft.calls, strict=True):
        assert call.operator.startswith(other.operator)
        assert (call.layer, call.weight, call.reads, call.writes) == (
            other.layer,
            other.weight,
            other.reads,
            other.writes,
        )
    bodies = [
        {name: text.partition("@triton.jit")[2] for name, text in kernels.items()}
        for kernels in (resnet_package.kernels, draft.kernels)
    ]
    assert bodies[0] == bodies[1]
    assert all(bodies[0].values())
    assert resnet_package.launches == dict.fromkeys(draft.kernels, 1)
    assert resnet_package.by_name == {}


@with_functions
def test_without_freezing_a_package_calls_no_int8_function(tiny_flow):
    package = draft_package_for_xpu(tiny_flow.converted, tiny_flow.inputs, freezing=False)
    assert package.calls == ()
    assert not _QUANTIZED.search(package.code)
    assert package.counts()["conv"]["quantized"] == 1
    assert package.counts()["conv"]["int8 functions called"] == 0
    assert list(package.table()["operator"]) == ["", ""]


@with_functions
def test_autocast_and_the_assumed_gpu_are_in_the_package(tiny_flow):
    package = draft_package_for_xpu(
        tiny_flow.converted, tiny_flow.inputs, bf16_autocast=True, gpu="arc-a770"
    )
    assert {call.writes for call in package.calls} == {"bf16"}
    assert "'has_fp64': False" in package.code
    assert "Intel Arc A770" in package._repr_html_()


@with_functions
@pytest.mark.slow
def test_an_int8_max_pool_has_no_function_and_is_called_by_name():
    torch.manual_seed(0)
    model, x = Inceptions(ceil_mode=False).eval(), torch.randn(2, 3, 16, 16)
    package = draft_package_for_xpu(quantize(capture(model, (x,)), x), (x,))
    assert package.by_name == {"quantized::max_pool2d": 1}
    assert package.functions["aoti_torch_proxy_executor_call_function"] == 1
    # One block is used twice, and a weight of two convolutions is not matched.
    assert list(package.table()["operator"] != "").count(True) == len(package.calls) < 19


@with_functions
def test_a_dynamic_batch_is_read_from_the_input_and_calls_as_much(tiny):
    model, x = tiny
    shapes = ({0: torch.export.Dim("batch", min=1, max=32)},)
    with patient():
        graph = torch.export.export(model, (x,), strict=True, dynamic_shapes=shapes).module()
    converted = quantize(graph, x)
    fixed = draft_package_for_xpu(converted, (x,))
    dynamic = draft_package_for_xpu(converted, (x,), dynamic_shapes=shapes)
    assert dynamic.counts() == fixed.counts()
    assert len(dynamic.calls) == 2
    size = re.compile(r"int64_t \w+ = x_size\[0\];")
    assert len(size.findall(dynamic.code)) == 1
    assert size.findall(fixed.code) == []


@with_functions
def test_a_function_that_torch_lacks_is_named(tiny_flow, monkeypatch):
    lacks = "aoti_torch_xpu__qlinear_pointwise_tensor"
    monkeypatch.setattr(package_draft, "c_functions", lambda: c_functions() - {lacks})
    with pytest.raises(DraftError, match=f"calls {lacks}, which torch"):
        draft_package_for_xpu(tiny_flow.converted, tiny_flow.inputs)


def plain_settings() -> dict[str, object]:
    """Inductor's settings but its passes, which importing a quantizer replaces."""
    settings = torch._inductor.config.get_config_copy()
    return {name: value for name, value in settings.items() if not callable(value)}


@with_functions
@without_xpu
def test_nothing_of_it_stays(tiny_flow):
    stood, settings = replaced(), plain_settings()
    compiler, before = AotCodeCompiler.compile, lower(tiny_flow.converted, tiny_flow.inputs)
    draft_package_for_xpu(tiny_flow.converted, tiny_flow.inputs)
    with pytest.raises(DraftError):
        draft_package_for_xpu(tiny_flow.converted, (torch.randn(8, 4, 16, 16),))
    assert leaked() == []
    assert replaced() == stood
    assert AotCodeCompiler.compile == compiler
    assert plain_settings() == settings
    assert not any("triton" in name for name in CudaKernelParamCache.cache)
    assert not torch._inductor.virtualized.V.aot_compilation
    after = lower(tiny_flow.converted, tiny_flow.inputs)
    assert executed_lines(after.compilation.code) == executed_lines(before.compilation.code)


@pytest.mark.slow
def test_asked_for_the_cpu_it_writes_what_a_real_package_contains(tiny_flow, tmp_path):
    rewritten, _ = rewrite_for("cpu", tiny_flow.converted)
    real = really_packaged(rewritten, tiny_flow.inputs, tmp_path / "tiny.pt2")
    assert len(_QUANTIZED.findall(real)) == 2
    assert executed_lines_of_package(written_for_cpu(tiny_flow)) == executed_lines_of_package(real)


def test_other_text_is_no_package(tiny_flow):
    with pytest.raises(DraftError, match=r"not the C\+\+ of a package"):
        executed_lines_of_package(tiny_flow.lowered.compilation.code)


@pytest.mark.xpu if HAS_FUNCTIONS else with_functions  # --require xpu takes a skip for a failure
@pytest.mark.slow
def test_a_real_package_for_an_intel_gpu_does_what_the_draft_says(tmp_path):
    model = load_model("resnet18", "random").to("xpu")
    x = torch.randn(2, 3, 64, 64, device="xpu")
    converted = quantize(capture(model, (x,)), x)
    drafted = executed_lines_of_package(draft_package_for_xpu(converted, (x,)).code)
    rewritten, _ = rewrite_for("xpu", converted)
    real = really_packaged(rewritten, (x,), tmp_path / "resnet18.pt2")
    assert drafted == executed_lines_of_package(real)
