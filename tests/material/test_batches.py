import itertools

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from xpuqlib.errors import DataError, XpuqWarning
from xpuqlib.material import batches as module
from xpuqlib.material.batches import load_batches
from xpuqlib.material.data import load_data

X, Y = torch.arange(24.0).reshape(8, 3), torch.ones(8, 2)
LABELS, IDS = torch.arange(8), torch.arange(8).int()


@pytest.fixture
def give(monkeypatch):
    """Load what a factory returns, without a file for each."""

    def load(returned, **settings):
        monkeypatch.setattr(module, "call_factory", lambda named, own: returned)
        return load_batches("data.py:batches", **{"calibration_batches": 2} | settings)

    return load


@pytest.mark.parametrize(
    ("batch", "inputs", "labelled"),
    [
        (X, 1, False),
        ((X,), 1, False),
        ((X, LABELS), 1, True),
        ([X, LABELS], 1, True),  # a DataLoader gives lists
        ((X, None), 1, False),
        ((X, Y), 2, False),
        ((X, Y, LABELS), 3, False),
        (((X, Y), LABELS), 2, True),
        (((X, Y), None), 2, False),
        (((X, IDS), LABELS), 2, True),
        (((X, IDS),), 2, False),
    ],
)
def test_every_form_of_a_batch(give, batch, inputs, labelled):
    loaded = give([batch] * 3)
    assert [len(b) for b in (*loaded.calibration, *loaded.evaluation)] == [inputs] * 3
    assert (loaded.labels is not None) == labelled
    assert torch.equal(loaded.example[0], X)
    assert not labelled or torch.equal(loaded.labels, LABELS)


def test_first_batches_calibrate_the_rest_evaluates(give):
    loaded = give((X + n, LABELS + n) for n in range(5))
    assert [b[0][0, 0].item() for b in loaded.calibration] == [0, 1]
    assert [b[0][0, 0].item() for b in loaded.evaluation] == [2, 3, 4]
    assert torch.equal(loaded.labels, torch.cat([LABELS + n for n in (2, 3, 4)]))
    assert (loaded.labels.dtype, loaded.batch_size) == (torch.int64, 8)


def test_labels_only_where_a_model_can_be_right(give):
    loaded = give([(X, LABELS)] * 3)
    assert loaded.labels_for(8) is loaded.labels
    assert loaded.labels_for(7) is None
    assert give([X] * 3).labels_for(8) is None
    assert load_batches("digits").labels_for(1000) is None


def test_a_data_loader_with_a_partial_last_batch(give):
    images, labels = torch.randn(11, 3, 4, 4), torch.zeros(11, dtype=torch.int64)
    loaded = give(DataLoader(TensorDataset(images, labels), 4), calibration_batches=1)
    assert [len(b[0]) for b in loaded.evaluation] == [4, 3]
    assert torch.equal(torch.cat([loaded.example[0], *(b[0] for b in loaded.evaluation)]), images)
    every = (loaded.example[0], *(b[0] for b in loaded.evaluation))
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in every)
    with pytest.raises(DataError, match=r"Batch 3 holds \[3, 3, 4, 4\](?s:.*)drop_last"):
        give([*images.split(4), images[:4]], calibration_batches=3)


def test_of_batches_without_end_some_are_taken_and_it_says_how_many(give):
    with pytest.warns(XpuqWarning, match=r"data\.py:batches gives .* the first 1002 are taken"):
        loaded = give(X + n for n in itertools.count())
    assert len(loaded.calibration) == 2
    assert len(loaded.evaluation) == 1000
    assert loaded.evaluation[-1][0][0, 0] == 1001


def test_batches_that_are_all_taken_are_not_warned_of(give, recwarn):
    assert len(give([X] * 1002).evaluation) == 1000
    assert not [w for w in recwarn if issubclass(w.category, XpuqWarning)]


def fails():
    yield X
    raise OSError("disk")


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([X, X], "gives 2 batches; calibration alone takes 2"),
        ([], "gives 0 batches"),
        (3, "returns int, not an iterable"),
        (X, "returns Tensor, not an iterable of batches"),
        ({"x": X}, "Batch 1 holds str, not tensors"),
        ([X, (X, "cat"), X], "Batch 2 holds Tensor, str, not tensors"),
        ([X, (), X], "Batch 2 holds nothing"),
        ([X, X[:7], X], r"Batch 2 holds \[7, 3\] torch.float32, the first one \[8, 3\]"),
        ([X, X, torch.cat([X, X])], "Batch 3 holds"),
        ([X, X, X[:, :2]], "Batch 3 holds"),
        ([X, X, X.double()], r"torch\.float64"),
        ([X, (X, Y), X], "Batch 2 holds"),
        ([X, (X, Y[:5]), X], "Batch 2: inputs and labels do not have the same number of rows"),
        ([(X, LABELS[:5])] * 3, "Batch 1: inputs and labels"),
        ([X.sum()] * 3, "Batch 1: inputs and labels"),
        ([X[:0]] * 3, "at least one row"),
        ([X, X / 0, X], "Batch 2 holds NaN"),
        ([X, X, (X, LABELS), X], "Only some batches"),
        (fails(), "raised OSError while it gave its batches: disk"),
    ],
)
def test_batches_that_cannot_be_used_are_refused(give, returned, message):
    with pytest.raises(DataError, match=message):
        give(returned)


def test_images_come_as_batches_with_the_same_values():
    images = load_data(calibration_batches=2, batch_size=64)
    loaded = load_batches(calibration_batches=2, batch_size=64)
    assert torch.equal(torch.cat([b[0] for b in loaded.evaluation]), images.images)
    assert [len(b[0]) for b in loaded.evaluation] == [64] * 7 + [2]
    assert all(torch.equal(*pair) for pair in zip(loaded.example, [images.example], strict=True))
    assert loaded.labels_for(10) is loaded.labels
    assert torch.equal(loaded.labels, images.labels)


def test_a_factory_in_a_file(tmp_path):
    (tmp_path / "data.py").write_text(
        "import torch\ndef batches():\n    return (torch.full((2, 3), float(n)) for n in range(3))"
    )
    loaded = load_batches(f"{tmp_path / 'data.py'}:batches", calibration_batches=1)
    assert [b[0][0, 0].item() for b in loaded.evaluation] == [1, 2]
    with pytest.raises(DataError, match="no function 'other'"):
        load_batches(f"{tmp_path / 'data.py'}:other")
    with pytest.raises(DataError, match=r"factory of batches(?s:.*)load_batches"):
        load_data(f"{tmp_path / 'data.py'}:batches")
