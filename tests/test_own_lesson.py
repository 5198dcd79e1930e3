"""The lessons with what a person brings: a recipe as a file, a model and batches of their own."""

import pytest
from trial import LESSONS, SMALL, check_noise, record_of, xpuq_run

from xpuqlib.recipe.recipe import Recipe

OWN_MODEL = """
import torch
from torch import nn


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3), nn.Linear(8, 16)
        self.head = nn.Linear(32, 4)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, image, numbers):
        seen = self.a(image).relu().mean(3).transpose(1, 2)
        seen = self.attention(seen, seen, seen)[0].mean(1)
        return {"scores": self.head(torch.cat([seen, self.b(numbers).relu()], 1))}


def classifier():
    torch.manual_seed(0)
    return TwoInputs().eval()


def batches():
    generator = torch.Generator().manual_seed(0)
    for _ in range(6):
        image = torch.randn(8, 3, 16, 16, generator=generator)
        yield ((image, torch.randn(8, 8, generator=generator)),)
"""


@pytest.mark.slow
def test_a_recipe_in_place_of_the_configuration(tmp_path):
    floating = ["layer1.0.conv1", "fc"]
    recipe = Recipe(model="resnet18", weights="random", data="synthetic", float_layers=floating)
    recipe.save(tmp_path / "recipe.yml")
    [lesson] = [path for path in LESSONS if path.name.startswith("08")]
    chosen = SMALL | {"recipe": tmp_path / "recipe.yml"}
    xpuq_run(tmp_path, lesson, *(f"-p{name}={value}" for name, value in chosen.items()))
    counts = record_of(tmp_path / lesson.name).evidence["counts"]
    left = {kind: stages["in the model"] - stages["quantized"] for kind, stages in counts.items()}
    assert left == {"conv": 1, "linear": 1}


@pytest.mark.slow
def test_a_model_of_ones_own_with_two_inputs(tmp_path):
    [lesson] = [path for path in LESSONS if path.name.startswith("09")]
    own = tmp_path / "my_models.py"
    own.write_text(OWN_MODEL, encoding="utf-8")
    chosen = {"model": f"{own}:classifier", "data": f"{own}:batches", "calibration_batches": 2}
    # With so few rows the search would keep layers by chance.
    chosen |= {"timed_points": 2, "max_drop": 0.5}
    xpuq_run(tmp_path, lesson, *(f"-p{name}={value}" for name, value in chosen.items()))
    check_noise(tmp_path / lesson.name)
    counts = record_of(tmp_path / lesson.name).evidence["counts"]
    assert [counts[kind]["generated"] for kind in ("conv", "linear")] == [1, 4]
    assert [counts[kind]["drafted"] for kind in ("conv", "linear")] == [1, 4]
    left = {path.name for path in (tmp_path / lesson.stem).iterdir()}
    scripts = {"quantize_my_model.py", "rewritten_attention.py"}
    assert {"recipe.yml", "weights.pt", "calibration.pt", *scripts} <= left
    recipe = Recipe.load(tmp_path / lesson.stem / "recipe.yml")
    assert recipe.model == chosen["model"]
    assert recipe.rewritten_attention
