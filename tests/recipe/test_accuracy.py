import copy
import math

import pytest
import torch
from conftest import Product, prepare
from torch import nn

from xpuqlib.errors import RecipeError, SensitivityError, XpuqWarning
from xpuqlib.machine.environment import pt2e_home
from xpuqlib.proof.graph import quantizable_layers
from xpuqlib.recipe.accuracy import accuracy_curve, keep_accuracy
from xpuqlib.recipe.configuration import make_configuration
from xpuqlib.recipe.pt2e import capture
from xpuqlib.recipe.sensitivity import Sensitivity
from xpuqlib.recipe.switches import Switch, Switchable


class Chain(nn.Module):
    """Five convs; one input channel of the second and of the fourth spoils the others."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.c, self.d = (nn.Conv2d(n, 16, 1) for n in (3, 16, 16, 16))
        self.e = nn.Conv2d(16, 8, 1)
        with torch.no_grad():
            for conv, reader in ((self.a, self.b), (self.c, self.d)):
                conv.bias[0] = 1e4
                reader.weight[:, 0] = 0

    def forward(self, x):
        x = self.b(self.a(x).relu()).relu()
        return self.e(self.d(self.c(x).relu()).relu()).mean((2, 3))


def switches(model: nn.Module) -> list[Switch]:
    return [module for module in model.modules() if isinstance(module, Switch)]


@pytest.fixture(scope="module")
def chain():
    model = Chain().eval()
    x = torch.randn(400, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.e.bias -= model(x).mean(0)  # else all have one class
        labels = model(x).argmax(1)
    captured = capture(model, (x,))

    def metric(candidate: nn.Module) -> float:
        with torch.no_grad():
            return (candidate(x).argmax(1) == labels).double().mean().item()

    def calibrate(prepared: nn.Module) -> None:
        with torch.no_grad():
            prepared(x)

    return captured, calibrate, metric


def test_the_two_layers_that_hurt_are_kept_and_no_other(chain, tmp_path):
    _, _, metric = chain
    path = tmp_path / "scores.json"
    kept = keep_accuracy(*chain, max_drop=0.1, images=400, scores_path=path)
    assert kept.kept == ("b", "d")
    assert kept.layers == ("a", "b", "c", "d", "e")
    assert kept.metric_fp32 == 1.0
    assert kept.metric_int8 < 0.7
    assert kept.metric >= 0.9
    assert kept.metric == metric(kept.converted)
    in_int8 = {layer.name: layer.scale is not None for layer in quantizable_layers(kept.converted)}
    assert in_int8 == {"a": True, "b": False, "c": True, "d": False, "e": True}
    said = f"2 of 5 layers kept in floating point: accuracy 100.0 → {kept.metric * 100:.1f} %"
    assert kept.sentence == said
    assert said in kept._repr_html_()
    assert "40.0 of 400 images" in kept._repr_html_()
    assert path.exists()


def test_the_history_tells_every_measurement(chain):
    history = keep_accuracy(*chain, max_drop=0.1).history
    assert history["step"].iloc[0] == "floating point"
    assert history["step"].iloc[-1] == "converted"
    added = history[history["step"] == "left out"]
    assert [*added["layers kept"]] == [1, 2]
    assert {*added["layer"]} == {"b", "d"}
    assert added["metric"].iloc[-1] == history["metric"].iloc[-1]


def test_a_layer_that_was_left_out_in_vain_is_given_back(chain, monkeypatch):
    monkeypatch.setattr(Sensitivity, "order", lambda self, score: ["a", "b", "c", "d", "e"])
    kept = keep_accuracy(*chain, max_drop=0.1)
    assert kept.kept == ("b", "d")
    given_back = kept.history[kept.history["step"] == "given back"]
    assert [*given_back["layer"]] == ["c", "b", "a"]


def test_where_the_converted_graph_misses_the_next_layer_is_left_out(chain):
    captured, calibrate, metric = chain

    def strict(candidate):
        converted = any("quantize" in str(node.target) for node in candidate.graph.nodes)
        layers = quantizable_layers(candidate)
        few = converted and sum(layer.scale is None for layer in layers) < 3
        return metric(candidate) - 0.2 * few

    kept = keep_accuracy(captured, calibrate, strict, max_drop=0.1)
    assert len(kept.kept) == 3
    assert {"b", "d"} < {*kept.kept}
    assert [*kept.history["step"]][-2:] == ["converted", "converted"]


def test_nothing_is_kept_where_int8_is_good_enough(chain):
    kept = keep_accuracy(*chain, max_drop=0.98)
    assert kept.kept == ()
    assert kept.metric == kept.metric_int8
    assert "0 of 5 layers" in kept.sentence
    assert all(layer.scale is not None for layer in quantizable_layers(kept.converted))


def test_what_cannot_be_reached_is_refused(chain):
    captured, calibrate, metric = chain
    calls = []

    def falling(candidate):
        calls.append(1)
        return metric(candidate) - 0.15 * (len(calls) > 2)

    with pytest.raises(SensitivityError, match=r"with all layers in floating point it is 0\.85"):
        keep_accuracy(captured, calibrate, falling, max_drop=0.1)


def test_a_model_that_would_stay_in_floating_point_as_a_whole_is_refused(chain):
    captured, calibrate, metric = chain
    calibrated = []

    def picky(candidate):
        on = [switch for switch in switches(candidate) if switch.on]
        return metric(candidate) if not on else 0.5

    def counting(prepared):
        calibrated.append(prepared)
        calibrate(prepared)

    with pytest.raises(SensitivityError, match="all layers would stay in floating point"):
        keep_accuracy(captured, counting, picky, max_drop=0.1)
    assert len(calibrated) == 1  # nothing was calibrated that has no observers


def test_what_stays_in_int8_without_a_layer_is_named(tiny):
    x = tiny[1]
    captured = capture(Product().eval(), (x,))

    def exact(candidate):
        return 0.9 if any(switch.on for switch in switches(candidate)) else 1.0

    with pytest.raises(SensitivityError) as caught:
        keep_accuracy(captured, lambda prepared: prepared(x), exact, max_drop=0.05)
    loose = "with all layers in floating point, but mul in int8, it is 0.9000"
    whole = "all layers would stay in floating point"
    assert (loose if pt2e_home() == "torchao" else whole) in caught.value.cause


@pytest.mark.parametrize("wrong", [math.nan, 98.0, -1.0])
def test_a_metric_that_is_no_share_is_refused(chain, wrong):
    captured, calibrate, _ = chain
    with pytest.raises(SensitivityError, match="not a number in 0…1"):
        keep_accuracy(captured, calibrate, lambda model: wrong)


def test_a_metric_may_be_a_tensor_but_must_be_a_number(chain):
    captured, calibrate, metric = chain
    kept = keep_accuracy(captured, calibrate, lambda m: torch.tensor(metric(m)), max_drop=0.98)
    assert {type(value) for value in kept.history["metric"]} == {float}
    with pytest.raises(SensitivityError, match="The metric gave no number"):
        keep_accuracy(captured, calibrate, lambda m: torch.ones(2))


def test_the_search_takes_another_configuration(chain):
    kept = keep_accuracy(*chain, max_drop=0.1, configuration=make_configuration("symmetric"))
    quantize = torch.ops.quantized_decomposed.quantize_per_tensor.default
    codes = [node for node in kept.converted.graph.nodes if node.target is quantize]
    assert {node.args[2] for node in codes} == {0}  # zero points; by default not behind a ReLU
    assert {"b", "d"} <= {*kept.kept}


def test_few_images_are_warned_of(chain, recwarn):
    with pytest.warns(XpuqWarning, match=r"4\.0 of 40 images(.*)Take 50"):
        keep_accuracy(*chain, max_drop=0.1, images=40)
    recwarn.clear()
    keep_accuracy(*chain, max_drop=0.1, images=50)
    assert not [w for w in recwarn if issubclass(w.category, XpuqWarning)]


def test_the_curve_goes_from_all_in_int8_to_the_last_layer(chain):
    captured, calibrate, metric = chain
    prepared = prepare(copy.deepcopy(captured))
    calibrate(prepared)
    switchable = Switchable(prepared)
    order = ["d", "b", "a", "c", "e"]
    curve = accuracy_curve(switchable, order, lambda model: {"accuracy": metric(model)})
    assert [*curve.index] == [0, 1, 2, 3, 4, 5]
    assert [*curve["layer"]] == ["", *order]
    assert curve["accuracy"].iloc[0] == metric(switchable.model)
    assert curve["accuracy"].iloc[-1] == 1.0
    assert curve["accuracy"].iloc[2] > 0.9
    with pytest.raises(SensitivityError, match="NaN for the model with 0 layers in floating"):
        accuracy_curve(switchable, order, lambda model: {"one": math.nan})


def test_an_order_that_is_given_is_followed_and_nothing_is_ranked(chain):
    kept = keep_accuracy(*chain, max_drop=0.1, order=["d", "a", "b"])
    steps = kept.history[kept.history["step"] == "left out"]
    assert list(steps["layer"]) == ["d", "a", "b"]
    assert kept.kept == ("b", "d")  # a was given back
    with pytest.raises(RecipeError, match="no layer of this model 'q'"):
        keep_accuracy(*chain, max_drop=0.1, order=["q"])
