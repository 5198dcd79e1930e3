"""How fast, how large: latency side by side, memory of activations, bytes of weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import fx, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.benchmark import Measurement, Timer

from xpuqlib.machine.device import synchronize
from xpuqlib.machine.noise import without_native_messages

__all__ = ["Latency", "compare_latency", "peak_memory", "size_in_bytes"]

ROUNDS = 4  # candidates take turns, so that a slow moment of the machine meets all of them


def size_in_bytes(module: nn.Module) -> int:
    """Bytes of the parameters and buffers, each storage once; of a graph only those it reads."""
    if isinstance(module, fx.GraphModule):  # convert_pt2e leaves the fp32 weights behind, unread
        names = {node.target for node in module.graph.nodes if node.op == "get_attr"}
        tensors = [attrgetter(name)(module) for name in names]
    else:
        tensors = [*module.parameters(), *module.buffers()]
    return sum({t.data_ptr(): t.numel() * t.element_size() for t in tensors}.values())


@dataclass(frozen=True)
class Latency:
    """Seconds for one call: median, interquartile range, and how many calls were timed."""

    median: float
    iqr: float
    runs: int

    @property
    def low(self) -> float:
        """The median less the interquartile range: what is faster is under it by all of it."""
        return self.median - self.iqr

    @property
    def high(self) -> float:
        """The median and the interquartile range: what is slower is above it by all of it."""
        return self.median + self.iqr

    def to_dict(self) -> dict[str, float]:
        """Plain values, for a run record."""
        return asdict(self)


def compare_latency(
    candidates: dict[str, Callable[..., Any]],
    inputs: tuple[torch.Tensor, ...],
    seconds: float = 0.5,
) -> dict[str, Latency]:
    """Time candidates side by side on the same inputs, after warm-up, without gradients.

    ``torch.utils.benchmark`` waits for the device; compilation belongs before this call.

    Parameters
    ----------
    candidates : dict of str to callable
        What to call, by the label of the result.
    inputs : tuple of torch.Tensor
    seconds : float
        Time for each candidate.

    Returns
    -------
    dict of str to Latency
        In the order given.
    """
    threads = torch.get_num_threads()
    timers = {
        label: Timer("call(*inputs)", globals={"call": call, "inputs": inputs}, num_threads=threads)
        for label, call in candidates.items()
    }
    taken: dict[str, list[Measurement]] = {label: [] for label in candidates}
    with torch.no_grad():
        for timer in timers.values():
            timer.timeit(3)  # warm-up
        synchronize(inputs[0].device)
        for _ in range(ROUNDS):
            for label, timer in timers.items():
                taken[label].append(timer.blocked_autorange(min_run_time=seconds / ROUNDS))
    latencies = {}
    for label, parts in taken.items():
        merged = Measurement.merge(parts)[0]
        runs = sum(part.number_per_run * len(part.raw_times) for part in parts)
        latencies[label] = Latency(merged.median, merged.iqr, runs)
    return latencies


def peak_memory(call: Callable[..., Any], inputs: tuple[torch.Tensor, ...]) -> int:
    """Most bytes that one call holds at a time in tensors it allocates itself: its activations.

    Weights and inputs exist before the call and are not counted. Accelerators keep count by
    themselves, of oneDNN's scratch memory, too; on a CPU the profiler sees each tensor come and
    go, and oneDNN takes its scratch memory unseen.

    Parameters
    ----------
    call : callable
        Called twice; compilation belongs before it.
    inputs : tuple of torch.Tensor
    """
    device = inputs[0].device
    with torch.no_grad():
        call(*inputs)
        synchronize(device)
        if device.type != "cpu":
            module = getattr(torch, device.type)
            module.reset_peak_memory_stats(device)
            before = module.memory_allocated(device)
            call(*inputs)
            synchronize(device)
            return module.max_memory_allocated(device) - before
        profiled = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
        with without_native_messages(), profiled:
            call(*inputs)
    events, held, peak = list(profiled.profiler.kineto_results.experimental_event_tree()), {}, 0
    for event in events:
        events += event.children
    for event in sorted(events, key=lambda event: event.start_time_ns):
        fields = event.extra_fields
        if size := getattr(fields, "alloc_size", 0):  # freeing is an allocation of negative size
            held[fields.ptr] = max(size, 0)
            peak = max(peak, sum(held.values()))
    return peak
