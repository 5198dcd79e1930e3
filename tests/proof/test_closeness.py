import copy
import math

import pytest
import torch
from conftest import prepare
from torch import nn

from xpuqlib.proof.closeness import (
    agreement,
    class_scores,
    code_usage,
    flat_output,
    layer_sqnr,
    predict,
    predict_batches,
    sqnr,
    top1,
)
from xpuqlib.recipe.pt2e import capture, convert_pt2e


def test_sqnr_of_a_known_error():
    reference = torch.tensor([3.0, 4.0])
    assert sqnr(reference, reference * 0.9) == pytest.approx(20, abs=1e-5)  # float32 rounds 0.9
    assert sqnr(reference, reference * 0.99) > sqnr(reference, reference * 0.9)


def test_sqnr_without_a_signal_is_not_a_number():
    ones, zeros = torch.ones(3), torch.zeros(3)
    assert sqnr(ones, ones) == math.inf
    assert math.isnan(sqnr(zeros, ones))
    assert math.isnan(sqnr(torch.tensor([math.inf, 1.0]), torch.ones(2)))
    assert math.isnan(sqnr(ones, torch.full((3,), math.nan)))


def test_output_of_any_shape_is_flattened():
    output = {"logits": torch.ones(2, 3), "extra": (torch.zeros(2, 2, 2, dtype=torch.bfloat16),)}
    assert flat_output(output).shape == (2, 7)


def test_predict_pads_the_last_batch_and_crops_it():
    seen = []

    def model(batch):
        seen.append(batch.shape[0])
        return batch.flatten(1)[:, :2]

    images = torch.arange(5 * 12.0).view(5, 3, 2, 2)
    assert torch.equal(predict(model, images, 2, "cpu"), images.flatten(1)[:, :2])
    assert seen == [2, 2, 2]


def test_accuracy_and_agreement():
    logits, other = torch.eye(4), torch.eye(4)[[0, 1, 3, 2]]
    assert top1(logits, torch.tensor([0, 1, 2, 0])) == 0.75
    assert agreement(logits, other) == 0.5


@pytest.fixture
def before_and_after(tiny):
    model, x = tiny
    prepared = prepare(capture(model, (x,)))
    with torch.no_grad():
        prepared(x)
    reference = copy.deepcopy(prepared)
    return reference, convert_pt2e(prepared), x


def test_layer_sqnr_follows_the_error_through_the_layers(before_and_after, tiny):
    reference, converted, x = before_and_after
    by_layer = layer_sqnr(reference, converted, (x,))
    assert list(by_layer) == ["conv", "linear"]
    with torch.no_grad():
        whole = sqnr(tiny[0](x), converted(x))
    assert by_layer["linear"] == pytest.approx(whole, abs=1e-3)  # the last layer is the output
    assert by_layer["conv"] > 30


def test_layer_sqnr_is_before_a_relu_that_works_in_place():
    torch.manual_seed(0)
    conv, x = nn.Conv2d(3, 8, 3).eval(), torch.randn(4, 3, 8, 8)
    found = []
    for inplace in (True, False):
        prepared = prepare(capture(nn.Sequential(conv, nn.ReLU(inplace)).eval(), (x,)))
        prepared(x)
        kept = copy.deepcopy(prepared)
        found.append(layer_sqnr(kept, convert_pt2e(prepared), (x,)))
    assert found[0] == found[1]


def test_layer_sqnr_finds_the_layer_that_was_spoiled(before_and_after):
    reference, converted, x = before_and_after
    good = layer_sqnr(reference, converted, (x,))
    weights = [b for b in converted.buffers() if b.dtype == torch.int8 and b.shape == (4, 16)]
    weights[0].zero_()
    spoiled = layer_sqnr(reference, converted, (x,))
    assert spoiled["conv"] == good["conv"]
    assert spoiled["linear"] < good["linear"] - 20


def test_code_usage_of_a_relu_starts_at_the_lowest_code(before_and_after):
    _, converted, x = before_and_after
    usage = code_usage(converted, (x,))
    assert next(iter(usage)) == "x"
    (low, high), (pooled_low, pooled_high) = usage.values()
    assert (low, high) == pytest.approx((-128, 127), abs=3)  # a histogram may cut off the tails
    assert -128 <= pooled_low < pooled_high <= 127


def test_outputs_of_any_structure_are_flattened_row_by_row():
    a, b = torch.arange(6.0).reshape(2, 3), torch.tensor([7, 8])
    expected = torch.tensor([[0, 1, 2, 7], [3, 4, 5, 8.0]])
    for output in ({"a": a, "b": b}, (a, b), [a, {"b": (b,)}]):
        assert torch.equal(flat_output(output), expected)
    assert torch.equal(class_scores({"ids": b, "features": a[..., None], "scores": a}), a)
    assert torch.equal(class_scores(b), torch.tensor([[7], [8.0]]))


def test_batches_of_several_inputs_are_padded_to_one_shape():
    shapes = set()

    def model(x, y):
        shapes.add((tuple(x.shape), tuple(y.shape), x.is_contiguous(memory_format=layout)))
        return {"sum": x.flatten(1).sum(1) + y, "y": y}

    layout = torch.channels_last
    x, y = torch.randn(5, 3, 4, 4).to(memory_format=layout), torch.arange(5.0)
    batches = list(zip(x.split(2), y.split(2), strict=True))
    found = predict_batches(model, batches, 2, "cpu")
    assert torch.allclose(found[:, 0], x.flatten(1).sum(1) + y, atol=1e-5)
    assert torch.equal(found[:, 1], y)
    assert shapes == {((2, 3, 4, 4), (2,), True)}
    scores = predict_batches(model, batches, 2, "cpu", output=lambda given: given["y"])
    assert torch.equal(scores, y)
