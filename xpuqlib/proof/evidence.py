"""Proof that int8 runs: quantized, matched, generated here, in the GPU's program, how close."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import pandas
import torch
from pydantic import TypeAdapter
from torch import fx, nn

from xpuqlib.errors import DraftError, EvidenceError
from xpuqlib.machine.device import cpu_has_vnni
from xpuqlib.proof.closeness import flat_output, sqnr, varied
from xpuqlib.proof.draft import Draft, draft_for_xpu
from xpuqlib.proof.graph import EXPECTED, FOLDED, how_to_quantize, match_calls, quantizable_layers
from xpuqlib.recipe.lowering import Lowered

__all__ = ["Evidence", "EvidenceError", "LayerEvidence", "collect_evidence"]

MIN_SQNR_TO_REFERENCE = 30.0  # dB, also with bf16 between; Inductor's wrong max-pools left 20.9
MIN_SQNR_SATURATING = 10.0  # dB; everywhere, also where sums of products saturate at 16 bits
ROUNDING = 6.0  # dB; where a net makes noise stronger, rounding may do twice what quantizing does
MIN_SQNR_TO_FP32 = 3.0  # dB; under it the error is nearly as strong as the signal


@dataclass(frozen=True)
class LayerEvidence:
    """One conv or linear: how far it came on its way to an int8 kernel.

    `quantized`: int8 input and weight in the converted graph. `matched`: replaced by Inductor's
    int8 passes. `generated`: a call of oneDNN's int8 kernel in the code generated here. `drafted`:
    such a call in the program that was written for an Intel GPU, and not executed.
    """

    name: str
    kind: str
    quantized: bool
    matched: bool
    generated: bool
    drafted: bool
    reason: str = ""


@dataclass(frozen=True)
class Evidence:
    """What happened to each layer, and how close the result is.

    Attributes
    ----------
    layers : tuple of LayerEvidence
        In graph order.
    device, mode : str
        ``executed`` on xpu, ``rehearsed`` on cpu, or ``reference``: no int8 kernel ran.
    sqnr_to_reference, sqnr_to_fp32 : float
        Lowered model against the converted (Q/DQ) one, and against the fp32 model, in dB.
    sqnr_reference_to_fp32 : float
        What quantizing alone did: the converted model against the fp32 model, in dB.
    varied_output : bool
        Whether the fp32 model answers different inputs differently at all.
    freezing, passes_loaded : bool
        As in `xpuqlib.recipe.Compilation`.
    matcher_counts : dict of str to int
        Inductor's own counters of matched convs and linears.
    other_kernels : tuple of str
        What runs between the int8 kernels, by the names that Inductor gave.
    notes : tuple of str
        What lowering did differently than on an XPU.
    drafted_for : str
        The Intel GPU that the drafted program assumes; empty if it could not be written.
    not_drafted : str
        Why it could not be written.
    """

    layers: tuple[LayerEvidence, ...]
    device: str
    mode: str
    sqnr_to_reference: float
    sqnr_to_fp32: float
    sqnr_reference_to_fp32: float
    varied_output: bool
    freezing: bool
    passes_loaded: bool
    matcher_counts: dict[str, int]
    other_kernels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    drafted_for: str = ""
    not_drafted: str = ""

    def count(self, kind: str, stage: str | None = None) -> int:
        """Layers of a kind (``conv``, ``linear``), all or those that reached a stage."""
        layers = [layer for layer in self.layers if layer.kind == kind]
        return sum(stage is None or getattr(layer, stage) for layer in layers)

    def counts(self) -> dict[str, dict[str, int]]:
        """Layers of each kind: in the model, quantized, matched, generated here, drafted.

        Where no program for an Intel GPU could be written, ``drafted`` is missing.
        """
        stages = ("quantized", "matched", "generated") + ("drafted",) * bool(self.drafted_for)
        return {
            kind: {"in the model": self.count(kind)}
            | {stage: self.count(kind, stage) for stage in stages}
            for kind in ("conv", "linear")
        }

    def left_in_floating_point(self) -> dict[str, str]:
        """Layers that have no int8 kernel, with the reason where it is known."""
        return {layer.name: layer.reason for layer in self.layers if not layer.generated}

    def require_quantized(self, but: Collection[str] = ()) -> None:
        """Raise unless the converted graph is quantized and its result means something.

        Parameters
        ----------
        but : collection of str
            Names of layers that may stay in floating point, whatever the reason.

        Raises
        ------
        EvidenceError
            With the cause and the fix.
        """
        missed = [x for x in self.layers if not x.quantized and x.name not in but]
        missed = [layer for layer in missed if not layer.reason.startswith(EXPECTED)]
        quantized = sum(layer.quantized for layer in self.layers)
        if missed or not quantized:
            raise EvidenceError(
                f"{'Not everything' if quantized else 'Nothing'} was quantized: {quantized} of "
                f"{len(self.layers)} convs and linears have int8 inputs and weights."
                + "".join(f" {layer.name}: {layer.reason}." for layer in missed[:1]),
                how_to_quantize(layer.reason for layer in missed),
            )
        closeness = f"{self.sqnr_to_fp32:.1f} dB"
        if not self.varied_output or not math.isfinite(self.sqnr_to_fp32):
            cause = f"The fp32 model gives all-equal, zero or non-finite outputs (SQNR {closeness})"
            fix = "Use trained weights, or estimate BatchNorm statistics (weights='random' does)."
            raise EvidenceError(f"{cause}: closeness to them proves nothing.", fix)
        if self.sqnr_to_fp32 < MIN_SQNR_TO_FP32:
            fix = "Calibrate on more images, with the preprocessing of the evaluation."
            raise EvidenceError(f"SQNR against fp32 is {closeness}: mostly noise.", fix)

    def require_int8(self, but: Collection[str] = ()) -> None:
        """Raise unless every quantized layer runs in an int8 kernel, with the right numbers.

        Parameters
        ----------
        but : collection of str
            As for `require_quantized`.

        Raises
        ------
        EvidenceError
            With the cause and the fix.
        """
        self.require_quantized(but)
        missing = self._without("generated")
        if missing:
            names = ", ".join(missing[:3] + ["…"] * (len(missing) > 3))
            why, fix = self._why_not_lowered()
            cause = f"{len(missing)} quantized layers have no int8 kernel ({names}): {why}"
            raise EvidenceError(cause, fix)
        self._require_drafted()
        saturating = self.device == "cpu" and not cpu_has_vnni()
        usual = MIN_SQNR_SATURATING if saturating else MIN_SQNR_TO_REFERENCE
        least = max(MIN_SQNR_SATURATING, min(usual, self.sqnr_reference_to_fp32 - ROUNDING))
        if not self.sqnr_to_reference >= least:
            cause = f"The lowered model is {self.sqnr_to_reference:.1f} dB from the Q/DQ reference"
            cause += f", not at least {least:.1f}: lowering changed the numbers. "
            cause += "; ".join(self.notes)
            fix = "Compare on another device or with ONEDNN_MAX_CPU_ISA unset, and report it."
            raise EvidenceError(cause, fix)

    def _without(self, stage: str) -> list[str]:
        """Name the quantized layers that did not reach a stage, but those that are folded."""
        quantized = [layer for layer in self.layers if layer.quantized]
        return [x.name for x in quantized if not getattr(x, stage) and x.reason != FOLDED]

    def _require_drafted(self) -> None:
        missing = self._without("drafted")
        if missing and self.drafted_for:
            names = ", ".join(missing[:3] + ["…"] * (len(missing) > 3))
            raise EvidenceError(
                f"{len(missing)} quantized layers have no int8 call in the program drafted for "
                f"{self.drafted_for} ({names}).",
                "Read the program: draft_for_xpu(...).compilation.code, around these layers.",
            )

    def _why_not_lowered(self) -> tuple[str, str]:
        if self.device == "cuda":
            why = "CUDA has no oneDNN kernels, this is a floating-point reference."
            return why, "Run with --device cpu to rehearse int8, or on an Intel GPU."
        if not self.freezing:
            fix = "Use xpuqlib.recipe.lower, set torch._inductor.config.freezing = True before "
            fix += "the first call, or set TORCHINDUCTOR_FREEZING=1 before Python starts."
            return "freezing was off while Inductor compiled.", fix
        if not self.passes_loaded:
            why = "Inductor's int8 passes were not loaded; torch 2.14 moved them to torchao."
            fix = "import xpuqlib.recipe.pt2e or torchao's xpu_inductor_quantizer before compiling"
            return why, fix
        fix = "Look at evidence.left_in_floating_point() and at the graph around these layers."
        return "Inductor's patterns did not match them.", fix

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a run record; infinite and undefined decibels become None."""
        return json.loads(TypeAdapter(Evidence).dump_json(self)) | {"counts": self.counts()}

    def _repr_html_(self) -> str:
        title = "left in floating point"
        drafted = f"Drafted for {self.drafted_for}, not executed there."
        if not self.drafted_for:
            drafted = f"Not drafted for an Intel GPU: {self.not_drafted}"
        none = f"<p>No conv or linear was {title}.</p>"
        left = "".join(
            f"<li>{html.escape(name)}: {html.escape(reason or 'reason unknown')}</li>"
            for name, reason in self.left_in_floating_point().items()
        )
        return (
            f"<p><b>{self.mode} on {self.device}</b>; SQNR {self.sqnr_to_reference:.1f} dB against "
            f"the Q/DQ reference, {self.sqnr_to_fp32:.1f} dB against fp32. {'; '.join(self.notes)}"
            f"</p>{pandas.DataFrame(self.counts()).T.to_html()}"
            + (f"<details><summary>{title}</summary><ul>{left}</ul></details>" if left else none)
            + f"<p>{html.escape(drafted)}</p>"
            f"<p>Between the int8 kernels: {html.escape(', '.join(self.other_kernels))}</p>"
        )


def collect_evidence(
    model: nn.Module,
    converted: fx.GraphModule,
    lowered: Lowered,
    example_inputs: tuple[torch.Tensor, ...],
    draft: Draft | None = None,
) -> Evidence:
    """Follow every conv and linear from the converted graph to the generated code, by name.

    A layer is recognized by its per-channel weight scale, a constant of its call at each stage.

    Parameters
    ----------
    model : torch.nn.Module
        The fp32 model.
    converted : torch.fx.GraphModule
        From ``convert_pt2e``.
    lowered : Lowered
        From `xpuqlib.recipe.lower`.
    example_inputs : tuple of torch.Tensor
        Inputs to compare the outputs on, of the lowered shape.
    draft : Draft, optional
        Of this converted model; by default it is drafted here, as it was lowered.
    """
    with torch.no_grad():
        outputs = [flat_output(run(*example_inputs)) for run in (model, converted, lowered)]
    fp32, reference, result = outputs
    compilation, found = lowered.compilation, quantizable_layers(converted)
    not_drafted = ""
    try:
        draft = draft or draft_for_xpu(
            converted,
            example_inputs,
            freezing=lowered.freezing,
            int8_max_pool=lowered.int8_max_pool,
            bf16_autocast=lowered.bf16_autocast,
        )
    except DraftError as error:
        not_drafted = error.cause
    stages = [compilation.matched, compilation.generated]
    stages += [draft.compilation.generated if draft else ()]
    layers = []
    for layer, *calls in zip(found, *(match_calls(found, s) for s in stages), strict=True):
        reached = [call is not None for call in calls]  # matched, generated, drafted
        quantized, reason = layer.scale is not None, layer.reason
        if quantized and not reached[1]:
            reason = FOLDED if layer.constant else "quantized, but no int8 kernel was generated"
        layers.append(LayerEvidence(layer.name, layer.kind, quantized, *reached, reason))
    counters = {kind: f"q{kind}_weight_prepack_matcher_count" for kind in ("conv", "linear")}
    return Evidence(
        layers=tuple(layers),
        device=lowered.device.type,
        mode=lowered.mode,
        sqnr_to_reference=sqnr(reference, result),
        sqnr_to_fp32=sqnr(fp32, result),
        sqnr_reference_to_fp32=sqnr(fp32, reference),
        varied_output=varied(fp32),
        freezing=compilation.freezing,
        passes_loaded=compilation.passes_loaded,
        notes=lowered.notes,
        matcher_counts={kind: compilation.counters.get(c, 0) for kind, c in counters.items()},
        other_kernels=compilation.other_kernels,
        drafted_for=draft.gpu.name if draft else "",
        not_drafted=not_drafted,
    )
