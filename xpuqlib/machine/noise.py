"""Filters for known, harmless messages of libraries; noise.yml lists them, with their reasons."""

import builtins
import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

__all__ = ["filter_known_noise", "without_native_messages"]

# Its sections are warnings, log_messages and native_lines.
KNOWN = yaml.safe_load(Path(__file__).with_name("noise.yml").read_text(encoding="utf-8"))


def _other_than(start: str) -> Callable[[logging.LogRecord], bool]:
    return lambda record: not record.getMessage().startswith(start)


def filter_known_noise() -> None:
    """Hide the messages listed in noise.yml, and nothing else; importing xpuqlib calls it."""
    for known in KNOWN["warnings"]:
        category = getattr(builtins, known["category"])
        warnings.filterwarnings("ignore", message=known["message"], category=category)
    for known in KNOWN["log_messages"]:
        logging.getLogger(known["logger"]).addFilter(_other_than(known["message"]))


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
                if not any(known["message"] in line for known in KNOWN["native_lines"]):
                    print(line, file=sys.stderr)
