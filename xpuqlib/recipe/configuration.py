"""A quantizer from a few words: configuration, observer, and what stays in floating point."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import fx

from xpuqlib.names import CONFIGURATIONS
from xpuqlib.recipe.exceptions import SelectiveQuantizer, activation_nodes, keep_in_float
from xpuqlib.recipe.layers import refuse_unknown
from xpuqlib.recipe.pt2e import (
    MinMaxObserver,
    QuantizationConfig,
    get_default_xpu_inductor_quantization_config,
)

__all__ = ["OBSERVERS", "make_configuration", "make_quantizer"]

OBSERVERS = ("histogram", "minmax")
EPS = 2**-12  # the smallest scale, as in upstream's default


def make_configuration(name: str = "default", observer: str = "histogram") -> QuantizationConfig:
    """Configure as lessons 03 and 04 do.

    Parameters
    ----------
    name : str
        ``default``: activations with a zero point. ``symmetric``: without.
    observer : str
        Of the activations. ``histogram``: cuts off rare large values where that lowers the
        squared error. ``minmax``: cuts off nothing.

    Raises
    ------
    RecipeError
        For another name or observer.
    """
    refuse_unknown([name], CONFIGURATIONS, what="configuration")
    refuse_unknown([observer], OBSERVERS, what="observer")
    configuration = get_default_xpu_inductor_quantization_config()
    activation = configuration.input_activation
    if name == "symmetric":
        activation = replace(activation, qscheme=torch.per_tensor_symmetric)
    if observer == "minmax":
        minmax = MinMaxObserver.with_args(eps=EPS)
        activation = replace(activation, observer_or_fake_quant_ctr=minmax)
    return replace(configuration, input_activation=activation, output_activation=activation)


def make_quantizer(
    captured: fx.GraphModule,
    configuration: QuantizationConfig | None = None,
    float_layers: Iterable[str] = (),
    float_activations: Iterable[str] = (),
) -> SelectiveQuantizer:
    """Set up a quantizer, with layers and activations that stay in floating point.

    Parameters
    ----------
    captured : torch.fx.GraphModule
        From `xpuqlib.recipe.capture`; the names are looked up in it.
    configuration : QuantizationConfig, optional
        By default upstream's.
    float_layers, float_activations : iterable of str
        As for `keep_in_float`, and for `SelectiveQuantizer.set_activation_float`.

    Raises
    ------
    RecipeError
        For a name that is not in the graph, with the nearest.
    """
    quantizer = SelectiveQuantizer()
    quantizer.set_global(configuration or make_configuration())
    keep_in_float(quantizer, captured, float_layers)
    known = list(activation_nodes(captured))
    for name in float_activations:
        refuse_unknown([name], known, what="activation of this model")
        quantizer.set_activation_float(name)
    return quantizer
