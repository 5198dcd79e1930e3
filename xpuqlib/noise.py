"""Known, harmless messages of libraries that would hide the lesson. Each filter has its reason."""

from __future__ import annotations

import logging
import warnings

__all__ = ["filter_known_noise"]

# (category, start of the message as a regular expression, reason)
WARNINGS = [
    (DeprecationWarning, r"torch\.ao\.quantization is deprecated",
     "the ipex track is torch 2.8 on purpose; the README says where PT2E lives today"),
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
]  # fmt: skip


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
