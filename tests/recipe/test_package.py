import zipfile
from types import SimpleNamespace

import pytest
import torch
from conftest import TinyNet, patient, prepare
from torch.export import Dim

from xpuqlib.errors import LoweringError, PackageError
from xpuqlib.proof.closeness import sqnr
from xpuqlib.proof.packages import read_package
from xpuqlib.recipe.calibration import calibrate
from xpuqlib.recipe.package import write_package
from xpuqlib.recipe.pt2e import convert_pt2e


def test_a_package_needs_its_ending(tiny_flow, tmp_path):
    with pytest.raises(PackageError, match=r"does not end in \.pt2"):
        write_package(tiny_flow.converted, tiny_flow.inputs, tmp_path / "model.zip")


def test_a_folder_that_is_not_there_is_named_before_anything_is_compiled(tiny_flow, tmp_path):
    with pytest.raises(PackageError, match=r"none.model\.pt2 cannot be written"):
        write_package(tiny_flow.converted, tiny_flow.inputs, tmp_path / "none" / "model.pt2")


def test_no_package_is_made_for_cuda(tiny_flow, tmp_path):
    x = SimpleNamespace(device=torch.device("cuda"))  # it is refused for its device alone
    with pytest.raises(PackageError, match="no int8 kernels for cuda"):
        write_package(tiny_flow.converted, (x,), tmp_path / "model.pt2")


def test_a_failure_leaves_no_file(tiny_flow, tmp_path):
    with pytest.raises(LoweringError, match="cannot package this model for cpu"):
        write_package(tiny_flow.converted, (torch.zeros(8, 5, 16, 16),), tmp_path / "model.pt2")
    assert list(tmp_path.iterdir()) == []


def aligned(path):
    """Whether its library calls aligned_alloc, which nothing but its weights needs."""
    with zipfile.ZipFile(path) as package:
        [library] = [name for name in package.namelist() if name.endswith(".wrapper.so")]
        return b"aligned_alloc" in package.read(library)


@pytest.mark.slow
def test_a_package_takes_batches_of_any_size_that_was_declared(tmp_path):
    torch.manual_seed(0)
    model, x = TinyNet().eval(), torch.randn(8, 3, 16, 16)
    x = x.to(memory_format=torch.channels_last)
    shapes = ({0: Dim("batch", min=1, max=64)},)
    with torch.no_grad(), patient():
        captured = torch.export.export(model, (x,), strict=True, dynamic_shapes=shapes).module()
        prepared = prepare(captured)
        calibrate(prepared, [x])
        converted = convert_pt2e(prepared)
        path = write_package(converted, (x,), tmp_path / "model.pt2", dynamic_shapes=shapes)
        read_package(path).require_int8(2)
        assert aligned(path)
        package = torch._inductor.aoti_load_package(str(path))
        for rows in (1, 2, 7, 64):
            other = torch.randn(rows, 3, 16, 16).to(memory_format=torch.channels_last)
            answer = package(other)
            assert len(answer) == rows
            # The kernels add in another order than the Q/DQ graph, so codes may differ by one.
            assert sqnr(converted(other), answer) > 30
