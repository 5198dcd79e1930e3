import time

import pytest
import torch
from conftest import DEVICES
from torch import nn

from xpuqlib.proof.cost import compare_latency, peak_memory, size_in_bytes


def test_size_counts_what_a_graph_reads(resnet_flow):
    assert size_in_bytes(nn.Linear(10, 5)) == 4 * 55
    ratio = size_in_bytes(resnet_flow.converted) / size_in_bytes(resnet_flow.model)
    assert 0.25 <= ratio < 0.27  # one byte for four, and scales and biases


@pytest.mark.parametrize("device", DEVICES)
def test_peak_memory_is_what_lives_at_the_same_time(device):
    x = torch.ones(1 << 18, device=device)
    before = [torch.ones(1 << 20) for _ in range(2)] if device == "cpu" else []

    def chain(x):
        if before:
            before.pop()  # was there before the call: its end makes no room for the call's own
        first = x.relu()
        second = first.relu()
        del first
        return second.relu()

    assert peak_memory(chain, (x,)) == 2 * x.nbytes
    assert peak_memory(lambda x: x, (x,)) == 0


def test_latency_finds_the_slower_one_and_runs_often_enough():
    latencies = compare_latency(
        {"slow": lambda x: time.sleep(0.01), "fast": lambda x: time.sleep(0.001)},
        (torch.ones(1),),
        seconds=0.4,
    )
    assert list(latencies) == ["slow", "fast"]
    assert latencies["slow"].median > 3 * latencies["fast"].median
    assert latencies["slow"].runs >= 20
    assert latencies["slow"].iqr >= 0
