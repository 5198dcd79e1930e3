"""Dynamo's limit on models of one class, which a course or a sweep would reach."""

from __future__ import annotations

import contextlib

import torch._dynamo

__all__ = ["patient_dynamo"]


def patient_dynamo() -> contextlib.AbstractContextManager[None]:
    """Let Dynamo take any number of models of one class: by default it gives up after eight.

    The ninth would then run as it stands. On torch 2.8 exports count, too.
    """
    many = 100_000
    return torch._dynamo.config.patch(recompile_limit=many, accumulated_recompile_limit=many)
