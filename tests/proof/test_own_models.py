"""Models whose inputs are not images, have several inputs, or give other things than one tensor."""

import torch
from conftest import quantize
from torch import nn

from xpuqlib.proof.closeness import class_scores, flat_output, layer_sqnr, predict_batches, sqnr
from xpuqlib.proof.cost import compare_latency, peak_memory
from xpuqlib.proof.draft import draft_for_xpu
from xpuqlib.proof.evidence import collect_evidence
from xpuqlib.proof.simulation import simulate
from xpuqlib.recipe.lowering import lower
from xpuqlib.recipe.pt2e import capture


class PictureAndWords(nn.Module):
    """A picture and numbers of words; two outputs in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 16)
        self.conv, self.first = nn.Conv2d(3, 16, 3), nn.Linear(32, 16)
        self.scores, self.boxes = nn.Linear(16, 3), nn.Linear(16, 4)

    def forward(self, picture, words):
        seen = self.conv(picture).relu().mean((2, 3))
        both = torch.cat([seen, self.words(words).mean(1)], dim=1)
        both = self.first(both).relu()
        return {"scores": self.scores(both), "boxes": self.boxes(both)}


def test_two_inputs_and_several_outputs_go_all_the_way():
    torch.manual_seed(0)
    model = PictureAndWords().eval()
    inputs = (torch.randn(8, 3, 16, 16), torch.randint(0, 50, (8, 5)))
    converted = quantize(capture(model, inputs), *inputs)
    assert list(converted(*inputs)) == ["scores", "boxes"]
    lowered = lower(converted, inputs)
    evidence = collect_evidence(model, converted, lowered, inputs)
    evidence.require_int8()
    stages = ("in the model", "quantized", "matched", "generated", "drafted")
    assert evidence.counts() == {
        "conv": dict.fromkeys(stages, 1),
        "linear": dict.fromkeys(stages, 3),
    }
    simulated = simulate(draft_for_xpu(converted, inputs), inputs).output
    assert sqnr(flat_output(converted(*inputs)), simulated) > 30
    half = [tuple(x[:3] for x in inputs)]
    found = predict_batches(lowered, half, 8, "cpu", output=class_scores)
    expected = class_scores(lowered(*inputs))[:3]
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)  # other rows beside them
    assert set(layer_sqnr(converted, converted, inputs).values()) == {float("inf")}
    latencies = compare_latency({"fp32": model, "int8": lowered}, inputs, seconds=0.05)
    assert all(latency.median > 0 for latency in latencies.values())
    assert peak_memory(lowered, inputs) > 0
