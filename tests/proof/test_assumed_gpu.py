import pytest
import torch

from xpuqlib.errors import DraftError
from xpuqlib.proof.assumed_gpu import ASSUMED_GPUS, assumed_gpu


def test_the_first_gpu_of_the_table_is_the_default():
    chosen = next(iter(ASSUMED_GPUS))
    assert assumed_gpu(chosen) is ASSUMED_GPUS[chosen]
    if not torch.xpu.is_available():
        assert assumed_gpu(None) is ASSUMED_GPUS[chosen]


def test_an_unknown_gpu_is_refused_with_those_that_are_known():
    with pytest.raises(DraftError, match=r"'arc-a380'(?s:.*)max-1100, arc-b580, arc-a770"):
        assumed_gpu("arc-a380")
