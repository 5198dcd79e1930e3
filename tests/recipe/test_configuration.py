import dataclasses

import pytest
import torch
from conftest import prepare
from torch import nn

from xpuqlib.errors import RecipeError
from xpuqlib.recipe.calibration import observers
from xpuqlib.recipe.configuration import make_configuration, make_quantizer
from xpuqlib.recipe.pt2e import (
    HistogramObserver,
    MinMaxObserver,
    PerChannelMinMaxObserver,
    capture,
    get_default_xpu_inductor_quantization_config,
    prepare_pt2e,
)


def test_the_default_is_upstreams():
    default = get_default_xpu_inductor_quantization_config()
    assert make_configuration() == default


def test_symmetric_differs_in_the_scheme_of_the_activations_only():
    default, symmetric = make_configuration(), make_configuration("symmetric")
    assert symmetric.input_activation == dataclasses.replace(
        default.input_activation, qscheme=torch.per_tensor_symmetric
    )
    assert symmetric.output_activation == symmetric.input_activation
    assert symmetric.weight == default.weight


@pytest.mark.parametrize(
    ("observer", "kind"), [("histogram", HistogramObserver), ("minmax", MinMaxObserver)]
)
def test_the_observer_is_that_of_the_activations(tiny, observer, kind):
    model, x = tiny
    captured = capture(model, (x,))
    configuration = make_configuration("symmetric", observer)
    prepared = prepare_pt2e(captured, make_quantizer(captured, configuration))
    found = observers(prepared).values()
    activations = [o for o in found if not isinstance(o, PerChannelMinMaxObserver)]
    assert {type(o) for o in activations} == {kind}
    prepared(x)
    assert {int(o.calculate_qparams()[1]) for o in activations} == {0}


def test_unknown_words_are_refused():
    with pytest.raises(RecipeError, match=r"no configuration 'symetric'(?s:.)*Use symmetric"):
        make_configuration("symetric")
    with pytest.raises(RecipeError, match=r"no observer 'min-max'(?s:.)*Use minmax"):
        make_configuration("default", "min-max")


def test_names_are_looked_up_in_the_graph(tiny):
    model, x = tiny
    captured = capture(nn.Sequential(model).eval(), (x,))
    given = next(node.name for node in captured.graph.nodes if node.op == "placeholder")
    for kind in ("layer", "activation"):
        with pytest.raises(RecipeError, match=rf"no {kind} of this model '0\.cnv'"):
            make_quantizer(captured, **{f"float_{kind}s": ["0.cnv"]})
    quantizer = make_quantizer(captured, float_layers=["0.linear"], float_activations=[given])
    assert not observers(prepare_pt2e(captured, quantizer))
    assert observers(prepare(capture(model, (x,))))
