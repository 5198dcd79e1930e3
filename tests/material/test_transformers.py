"""The kit's own transformers: trained once, kept, and loaded by name."""

import pytest
import torch
from torch import nn

from xpuqlib.errors import DataError, ModelError
from xpuqlib.material import models
from xpuqlib.material.batches import load_batches
from xpuqlib.material.data import load_data
from xpuqlib.material.models import load_model
from xpuqlib.material.text import LENGTH, PADDING, WORDS, reviews, spell
from xpuqlib.names import TRANSFORMERS
from xpuqlib.proof.closeness import class_scores, predict_batches, top1


@pytest.mark.slow
@pytest.mark.parametrize(("name", "data"), [("vit", "digits"), ("text", "text")])
def test_they_are_trained(name, data):
    batches = load_batches(data)
    model = load_model(name, "auto")
    assert not model.training
    outputs = predict_batches(model, batches.evaluation, 32, "cpu", class_scores)
    accuracy = top1(outputs, batches.labels_for(outputs.shape[1]))
    assert accuracy > 0.92  # 450 or 500 rows: seeds and thread counts move it by about 2 points


def test_what_is_trained_is_kept_by_its_own_name(tmp_path, monkeypatch):
    monkeypatch.setenv("XPUQLIB_CACHE", str(tmp_path))
    monkeypatch.setattr(models, "train_transformer", models.build_transformer)
    for name in TRANSFORMERS:
        first, again = load_model(name, "auto"), load_model(name, "auto")
        assert all(map(torch.equal, first.state_dict().values(), again.state_dict().values()))
    kept = sorted(path.name for path in tmp_path.rglob("*.pt"))
    assert kept == ["text-reviews-1.pt", "vit-digits-1.pt"]


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_random_weights_answer_differently_and_can_be_saved(name, tmp_path):
    [example] = load_batches("text" if name == "text" else "digits", batch_size=4).example
    model = load_model(name, "random", seed=3)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    loaded = load_model(name, str(tmp_path / "weights.pt"))
    with torch.no_grad():
        output = model(example)
        assert torch.equal(loaded(example), output)
    assert output.std(dim=0).max() > 0.1 * output.abs().mean()


def test_a_state_dict_says_how_many_classes(tmp_path):
    model = load_model("text", "random")
    model.head = nn.Linear(64, 5)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    assert load_model("text", str(tmp_path / "weights.pt")).head.out_features == 5


@pytest.mark.parametrize(
    ("name", "weights"), [("vit", "imagenet"), ("text", "imagenet"), ("text", "digits")]
)
def test_weights_that_are_not_there_are_refused(name, weights):
    with pytest.raises(ModelError, match=f"no weights {weights} of {name}(?s:.*)auto"):
        load_model(name, weights)


def praises(text):
    """What a person would say: not turns a clause round, and the joining word chooses one."""
    first, join, second = text, "", ""
    for word in ("and", "but", "although"):
        if f" {word} " in text:
            first, join, second = text.partition(f" {word} ")
    chosen = second if join.strip() == "but" else first
    good = chosen.split()[-1] in ("good", "great", "lovely", "clever", "warm", "bright")
    return good != (" not " in chosen)


def test_reviews_mean_what_their_labels_say():
    train, train_labels, test, test_labels = reviews()
    assert train.shape == (3000, LENGTH)
    assert test.shape == (500, LENGTH)
    assert len({tuple(row.tolist()) for row in torch.cat([train, test])}) == 3500
    assert 0.4 < test_labels.float().mean() < 0.6
    labels = torch.cat([train_labels, test_labels])
    for row, label in zip(torch.cat([train, test]), labels, strict=True):
        assert praises(spell(row)) == bool(label), spell(row)
    longest = (train != WORDS.index(PADDING)).sum(1)
    assert longest.max() < LENGTH
    assert longest.min() < LENGTH / 2


def test_batches_of_text():
    batches = load_batches("text", batch_size=8, calibration_batches=3, seed=1)
    assert [x.shape for [x] in batches.calibration] == [(8, LENGTH)] * 3
    assert batches.example[0].dtype == torch.int64
    assert sum(len(x) for [x] in batches.evaluation) == len(batches.labels) == 500
    other = load_batches("text", batch_size=8, calibration_batches=3, seed=2)
    assert not torch.equal(other.example[0], batches.example[0])
    assert load_batches("text", batch_size=512, calibration_batches=8).batch_size == 512


def test_text_is_refused_where_images_are_due():
    with pytest.raises(DataError, match="words, not images"):
        load_data("text")
