"""Known, harmless messages of libraries that would hide the lesson. Each filter has its reason."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator

__all__ = ["filter_known_noise", "without_native_messages"]

# (category, start of the message as a regular expression, reason)
WARNINGS = [
    (DeprecationWarning, r"torch\.ao\.quantization is deprecated",
     "the ipex track is torch 2.8 on purpose; the README says where PT2E lives today"),
    (FutureWarning, r"`torch\.jit\.\w+` is deprecated",
     "lesson 07 says it once, in words"),
    (UserWarning, r"torch\.quantize_per_tensor, torch\.quantize_per_channel and other",
     "lesson 06 says it once, in words"),
    (UserWarning, "JIT pass will be deprecated in a future release of Intel",
     "lesson 07 says it once, in words"),
    (UserWarning, r"erase_node\(.*\) on an already erased node",
     "torch 2.8 folds BatchNorm with it; the graph is right"),
    (UserWarning, r"To copy construct from a tensor",
     "Inductor's own lowering of qconv builds a zero point with it"),
    (UserWarning, r"The input of maxpool2d is not quantized",
     "it names no layer and prints whole configurations; evidence names the kernels between int8"),
    (UserWarning, r"TensorFloat32 tensor cores for float32 matrix multiplication available",
     "on cuda the lessons are a reference and claim no speed"),
    (FutureWarning, r"`?(torch\.)?export(_for_training)?.*strict",
     "torch announces a new default of `strict`; the lessons set it"),
    (FutureWarning, r"`isinstance\(treespec, LeafSpec\)` is deprecated",
     "torch uses its own deprecated check"),
]  # fmt: skip

# (logger, start of the message, reason)
LOG_MESSAGES = [
    ("torch.utils._pytree", "<enum ", "torchao 0.18 registers an enum in the old way"),
    ("torch.utils.cpp_extension", "No CUDA runtime is found",
     "a CUDA build of torch on a machine without a GPU"),
    ("papermill", "Kernel died while waiting for", "the runner says so beside the run's name"),
]  # fmt: skip


# (what stands in a line that C++ code writes to stderr, reason)
NATIVE_LINES = [
    *(
        (words, "IPEX replaces operators of torch on purpose, and lists the first one")
        for words in (
            "OperatorEntry.cpp",
            "Overriding a previously registered kernel",
            "operator: aten::",
            "registered at /",
            "dispatch key: ",
        )
    ),
    ("other quantized tensor creation functions", "lesson 07 says it once, in words"),
    ("JIT pass will be deprecated", "lesson 07 says it once, in words"),
    ("SyncActivityProfilerHandler", "torch 2.15 reports that it starts and stops"),
    ("gpuGetDeviceCount failed", "a CUDA build of torch on a machine without a GPU"),
]


class _StartsWith(logging.Filter):
    def __init__(self, start: str) -> None:
        super().__init__()
        self.start = start

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(self.start)


def filter_known_noise() -> None:
    """Hide the messages listed in this module, and nothing else; importing xpuqlib calls it."""
    for category, message, _ in WARNINGS:
        warnings.filterwarnings("ignore", message=message, category=category)
    for logger, start, _ in LOG_MESSAGES:
        logging.getLogger(logger).addFilter(_StartsWith(start))


@contextlib.contextmanager
def without_native_messages() -> Iterator[None]:
    """Hold back what is written to stderr by C++ code, and let all but known lines through.

    Their own switches (KINETO_LOG_LEVEL, TORCH_CPP_LOG_LEVEL) are read when torch is imported,
    before a notebook can set them.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            caught.seek(0)
            for line in caught.read().decode(errors="replace").splitlines():
                if not any(known in line for known, _ in NATIVE_LINES):
                    print(line, file=sys.stderr)
