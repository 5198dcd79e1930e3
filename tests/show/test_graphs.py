import itertools

import pytest
from matplotlib.colors import to_hex

from xpuqlib.proof.graph import count_operators
from xpuqlib.recipe.compilation import Operator
from xpuqlib.recipe.pt2e import capture
from xpuqlib.show.graphs import draw_dtypes, draw_graph, draw_stages
from xpuqlib.show.style import DTYPES, GREY


@pytest.mark.parametrize("stage", ["captured", "converted"])
def test_graph_has_one_box_for_each_operator_on_activations(resnet_flow, stage):
    captured = capture(resnet_flow.model, resnet_flow.inputs)
    graph = captured if stage == "captured" else resnet_flow.converted
    counts = count_operators(graph)
    boxes = sum(n for operator, n in counts.items() if "per_channel" not in operator)
    figure = draw_graph(graph, "title")
    assert figure.axes[0].get_title() == "title"
    assert figure.axes[0].get_xlabel()
    figure.canvas.draw()
    assert len(figure.axes[0].patches) == boxes
    assert any(text.get_text() == "layer3" for text in figure.axes[0].texts)


def test_dtypes_are_a_strip_of_halves():
    quantize = Operator("quantize_per_tensor", "fp32", "int8")
    other = Operator("topk", "int8", "int64")
    figure = draw_dtypes({"a": [quantize], "b": [quantize, other]}, "title")
    halves = [[to_hex(p.get_facecolor()).upper() for p in axes.patches] for axes in figure.axes]
    known = [DTYPES["fp32"], DTYPES["int8"]]
    assert halves == [known, [*known, DTYPES["int8"], GREY]]
    labels = [label.get_text() for label in figure.axes[1].get_xticklabels()]
    assert labels == ["quantize", "topk"]
    assert figure.get_suptitle() == "title"
    figure.canvas.draw()


def test_names_in_strips_are_large_and_not_over_each_other():
    figure = draw_dtypes({"a": [Operator("qconv_binary", "int8", "int8")] * 60}, "title")
    figure.draw_without_rendering()
    labels = figure.axes[0].get_xticklabels()
    assert {label.get_fontsize() for label in labels} == {10}
    places = [label.get_window_extent() for label in labels]
    assert not any(a.overlaps(b) for a, b in itertools.pairwise(places))
    [legend] = figure.legends
    xlabel = figure.axes[-1].xaxis.label.get_window_extent()
    assert not legend.get_window_extent().overlaps(xlabel)


def test_a_long_strip_has_no_names_over_each_other():
    figure = draw_dtypes({"a": [Operator("mul", "fp32", "fp32")] * 61}, "title")
    assert not any("mul" in label.get_text() for label in figure.axes[0].get_xticklabels())


STAGES = {
    "traced": {"aten::batch_norm": 2, "aten::_convolution": 2, "prim::Constant": 9},
    "run 1": {
        "quantized::conv2d_relu": 1,
        "quantized::conv2d": 3,
        "quantized::add_relu": 4,
        "prim::Constant": 2,
    },
}


def test_stages_are_bars_of_what_occurs():
    figure = draw_stages(STAGES, {"run 1": 0.004}, "title")
    left, right = figure.axes
    assert [bar.get_width() for bar in right.patches] == [4.0]
    assert [text.get_text() for text in right.texts] == ["4 ms"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "batch norm",
        "fp32 conv, linear",
        "int8 conv",
        "int8 conv with ReLU",
        "int8 add with ReLU",
    ]
    widths = [[bar.get_width() for bar in bars] for bars in left.containers]
    assert widths == [[2, 0], [2, 0], [0, 3], [0, 1], [0, 4]]
    figure.canvas.draw()


def test_each_stage_says_how_many_of_its_nodes_it_shows():
    left = draw_stages(STAGES, {"run 1": 0.004}, "title").axes[0]
    said = [text.get_text() for text in left.texts if "of" in text.get_text()]
    assert said == ["4 of 13 nodes", "8 of 10 nodes"]


def test_a_run_has_the_colour_of_what_ran():
    stages = {"run 1": {"aten::_convolution": 1}, "run 2": {"ipex::LlgaFusionGroup": 1}}
    right = draw_stages(stages, {"run 1": 0.1, "run 2": 0.1}, "title").axes[1]
    colors = [to_hex(bar.get_facecolor()).upper() for bar in right.patches]
    assert colors == [DTYPES["fp32"], DTYPES["int8"]]


@pytest.mark.parametrize(
    ("operator", "label"),
    [
        ("aten::linear", "fp32 conv, linear"),
        ("quantized::conv2d", "int8 conv"),
        ("quantized::conv2d_relu", "int8 conv with ReLU"),
        ("quantized::add", "int8 add"),
        ("quantized::linear", "int8 linear"),
        ("torch_ipex::q_conv2d_sum_relu", "int8, fused by IPEX"),
        ("ipex::LlgaFusionGroup", "int8, fused by IPEX"),
    ],
)
def test_an_operator_belongs_to_one_group_of_a_stage(operator, label):
    figure = draw_stages({"run 1": {operator: 1}}, {"run 1": 0.004}, "title")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [label]
