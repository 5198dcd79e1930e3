import copy

import pytest
import torch
from conftest import export
from torch import fx, nn

from xpuqlib.errors import RecipeError
from xpuqlib.proof.evidence import collect_evidence
from xpuqlib.proof.graph import ON_PURPOSE, quantizable_layers
from xpuqlib.recipe.exceptions import SelectiveQuantizer, activation_nodes, keep_in_float
from xpuqlib.recipe.lowering import lower
from xpuqlib.recipe.pt2e import (
    capture,
    convert_pt2e,
    get_default_xpu_inductor_quantization_config,
    prepare_pt2e,
)


class Stem(nn.Module):
    """The stem's output is read by a conv, an addition behind another conv, and a pool."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Hardswish())
        self.first, self.second = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        x = self.stem(x)
        y = self.second(self.first(x).relu()) + x
        both = torch.cat([self.pool(x), self.pool(y.relu())], 1)
        return self.head(torch.flatten(both, 1))


@pytest.fixture(scope="module")
def stem() -> tuple[nn.Module, fx.GraphModule, torch.Tensor]:
    torch.manual_seed(0)
    model, x = Stem().eval(), torch.randn(4, 3, 8, 8)
    return model, capture(model, (x,)), x


def selective() -> SelectiveQuantizer:
    quantizer = SelectiveQuantizer()
    quantizer.set_global(get_default_xpu_inductor_quantization_config())
    return quantizer


def converted(captured: fx.GraphModule, quantizer, x) -> fx.GraphModule:
    prepared = prepare_pt2e(copy.deepcopy(captured), quantizer)
    with torch.no_grad():
        prepared(x)
    return convert_pt2e(prepared)


def in_int8(graph: fx.GraphModule) -> dict[str, bool]:
    return {layer.name: layer.scale is not None for layer in quantizable_layers(graph)}


def test_without_exceptions_it_is_upstreams_quantizer(stem):
    _, captured, x = stem
    assert all(in_int8(converted(captured, selective(), x)).values())


@pytest.mark.parametrize(
    ("names", "left"), [(["first", "head"], {"first", "head"}), ("stem", {"stem.0"})]
)
def test_layers_stay_in_floating_point_by_name(stem, names, left):
    _, captured, x = stem
    quantizer = selective()
    keep_in_float(quantizer, captured, names)
    graph = converted(captured, quantizer, x)
    assert {name for name, quantized in in_int8(graph).items() if not quantized} == left
    reasons = {layer.name: layer.reason for layer in quantizable_layers(graph)}
    assert {name for name, reason in reasons.items() if reason == ON_PURPOSE} == left


def test_names_that_match_no_layer_are_refused(stem):
    _, captured, _ = stem
    for name in ("secnod", "pool", ""):
        with pytest.raises(RecipeError, match="Use "):
            keep_in_float(selective(), captured, [name])
    with pytest.raises(RecipeError, match="Use second"):
        keep_in_float(selective(), captured, ["secnod"])


def test_expressions_in_a_graph_have_readable_names():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1)), nn.Conv2d(4, 4, 1))
    x = torch.randn(2, 3, 4, 4)
    captured, quantizer = capture(model.eval(), (x,)), selective()
    keep_in_float(quantizer, captured, ["0"])
    assert in_int8(converted(captured, quantizer, x)) == {"0.0": False, "1": True}


def quantized_nodes(graph: fx.GraphModule) -> set[str]:
    quantize = torch.ops.quantized_decomposed.quantize_per_tensor.default
    return {node.args[0].name for node in graph.graph.nodes if node.target is quantize}


def test_an_activation_stays_in_floating_point_with_all_that_reads_it(stem):
    _, captured, x = stem
    (given,) = activation_nodes(captured)["stem"]
    assert given.name in quantized_nodes(converted(captured, selective(), x))
    graph = converted(captured, selective().set_activation_float("stem"), x)
    assert given.name not in quantized_nodes(graph)
    assert in_int8(graph) == {
        "stem.0": True,
        "first": False,
        "second": True,
        "head": True,
    }
    by_node = converted(captured, selective().set_activation_float(given.name), x)
    assert torch.equal(by_node(x), graph(x))


def test_an_unknown_activation_is_refused(stem):
    _, captured, _ = stem
    with pytest.raises(RecipeError, match=r"activation of this model 'stm'(?s:.)*Use stem"):
        prepare_pt2e(copy.deepcopy(captured), selective().set_activation_float("stm"))


def test_a_pools_output_can_stay_in_floating_point():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(8, 4, 1))
    x = torch.randn(2, 3, 4, 4)
    captured = capture(model.eval(), (x,))
    (pooled,) = activation_nodes(captured)["2"]
    assert pooled.name in quantized_nodes(converted(captured, selective(), x))
    graph = converted(captured, selective().set_activation_float("2"), x)
    assert pooled.name not in quantized_nodes(graph)


@pytest.mark.slow
def test_what_is_left_in_floating_point_lowers_with_evidence(stem):
    model, captured, x = stem
    quantizer = selective().set_activation_float("stem")
    keep_in_float(quantizer, captured, ["head"])
    graph = converted(captured, quantizer, x)
    evidence = collect_evidence(model, graph, lower(graph, (x,)), (x,))
    evidence.require_int8()
    assert evidence.left_in_floating_point() == {"first": ON_PURPOSE, "head": ON_PURPOSE}
    assert evidence.count("conv", "generated") == 2


def test_a_layer_that_the_quantizer_missed_is_not_left_on_purpose(tiny):
    model, x = tiny
    with torch.no_grad():
        graph = export(model, x).module()
    assert {layer.reason for layer in quantizable_layers(graph)} == {
        "the quantizer did not annotate it"
    }
