import json

import pytest
import torch

from xpuqlib.errors import DeviceError
from xpuqlib.machine.device import (
    choose_device,
    cpu_has_bf16,
    cpu_has_vnni,
    describe_device,
    synchronize,
)


def test_auto_takes_the_best_device(monkeypatch):
    for kind in ("xpu", "cuda"):
        monkeypatch.setattr(getattr(torch, kind), "is_available", lambda: True)
    assert choose_device("auto").type == "xpu"
    monkeypatch.setattr(torch.xpu, "is_available", lambda: False)
    assert choose_device("auto").type == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == "cpu"


def test_a_missing_device_is_an_error_not_a_fallback(monkeypatch):
    monkeypatch.setattr(torch.xpu, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=r"No xpu device .*\n.*--device"):
        choose_device("xpu")
    with pytest.raises(DeviceError, match="no device 'gpu'"):
        choose_device("gpu")


def test_cpu_is_described_in_plain_values():
    info = describe_device(torch.device("cpu"))
    assert info.mode == "rehearsed"
    assert info.features["threads"] == torch.get_num_threads()
    assert json.loads(json.dumps(info.to_dict())) == info.to_dict()
    assert "rehearsed" in info._repr_html_()


def test_onednn_limit_takes_vnni_away(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: True)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    assert cpu_has_vnni()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "avx2")
    assert not cpu_has_vnni()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2_VNNI")
    assert cpu_has_vnni()


def test_onednn_limit_takes_bf16_away_before_vnni(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    assert cpu_has_bf16()
    for limit in ("AVX2", "AVX512_CORE", "avx512_core_vnni"):
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
        assert not cpu_has_bf16()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
    assert cpu_has_bf16()


def test_synchronize_refuses_a_device_it_does_not_know():
    synchronize(torch.device("cpu"))
    with pytest.raises(DeviceError, match="meta"):
        synchronize(torch.device("meta"))


@pytest.mark.xpu
def test_xpu_is_described_with_what_int8_needs():
    info = describe_device(choose_device("xpu"))
    assert info.mode == "executed"
    assert info.memory_bytes > 0
    assert {"driver", "xmx", "fp64"} <= set(info.features)


@pytest.mark.cuda
def test_cuda_is_a_reference():
    info = describe_device(choose_device("cuda"))
    assert info.mode == "reference"
    assert info.memory_bytes > 0
    synchronize(torch.device("cuda"))
