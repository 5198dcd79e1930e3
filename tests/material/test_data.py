import numpy
import pytest
import torch
from PIL import Image

from xpuqlib.errors import DataError
from xpuqlib.material.data import digits_split, enlarge, load_data


def test_digits_split_is_stratified_and_whole():
    train, train_labels, test, test_labels = digits_split()
    assert enlarge(train, 32).shape == (1347, 3, 32, 32)
    assert test.shape == (450, 1, 8, 8)
    assert 0 <= train.min() < train.max() <= 1
    shares = [
        torch.bincount(labels).double() / len(labels) for labels in (train_labels, test_labels)
    ]
    torch.testing.assert_close(*shares, atol=0.01, rtol=0)  # 450 images: steps of 0.2 %


def test_batches_have_the_shape_and_range_asked_for():
    data = load_data(batch_size=4, image_size=40, calibration_batches=3)
    assert [batch.shape for batch in data.calibration] == [(4, 3, 40, 40)] * 3
    assert data.example.is_contiguous(memory_format=torch.channels_last)
    assert data.images.amin() == -1
    assert data.images.amax() == pytest.approx(1, abs=1e-5)  # interpolation rounds


def test_calibration_and_evaluation_images_differ():
    data = load_data(batch_size=64, calibration_batches=4)
    calibration = {tuple(x.flatten().tolist()) for x in torch.cat(data.calibration)}
    evaluation = {tuple(x.flatten().tolist()) for x in data.images}
    assert not calibration & evaluation


def test_same_seed_same_images():
    first, again, other = (load_data(seed=seed).example for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_more_images_than_there_are_come_round_again():
    data = load_data(batch_size=700, calibration_batches=2)
    assert torch.cat(data.calibration).shape[0] == 1400


def test_labels_only_where_a_model_can_be_right():
    data = load_data()
    assert data.labels_for(10) is data.labels
    assert data.labels_for(1000) is None
    synthetic = load_data("synthetic", batch_size=2, calibration_batches=2)
    assert synthetic.labels_for(10) is None
    assert synthetic.images.shape == (2, 3, 32, 32)


def test_image_folder(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for number in range(4):
            pixels = numpy.full((50, 60, 3), 40 * number, dtype=numpy.uint8)
            Image.fromarray(pixels).save(tmp_path / label / f"{number}.png")
    data = load_data(str(tmp_path), batch_size=2, calibration_batches=2, weights="imagenet")
    assert data.example.shape == (2, 3, 32, 32)
    assert len(data.images) == 4
    assert data.classes == 2
    assert data.images.amin() < -1  # ImageNet's mean and deviation reach below -1, 0.5 does not
    with pytest.raises(DataError, match="holds 8 images; calibration alone takes 8"):
        load_data(str(tmp_path), batch_size=4, calibration_batches=2)


def test_a_missing_or_empty_folder_names_the_fix(tmp_path):
    with pytest.raises(DataError, match="no image folder"):
        load_data(str(tmp_path / "missing"))
    with pytest.raises(DataError, match="No images in"):
        load_data(str(tmp_path))


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "cat").mkdir()
    for name in ("good.png", "cut.png", "text.png"):
        Image.fromarray(numpy.zeros((40, 40, 3), numpy.uint8)).save(tmp_path / "cat" / name)
    for name, content in {"cut.png": b"\x89PNG\r\n\x1a\n", "text.png": b"no image"}.items():
        whole = (tmp_path / "cat" / name).read_bytes()
        (tmp_path / "cat" / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"{name} cannot be read as an image(?s:.*)Fix: "):
            load_data(str(tmp_path), batch_size=1, calibration_batches=1)
        (tmp_path / "cat" / name).write_bytes(whole)
    assert len(load_data(str(tmp_path), batch_size=1, calibration_batches=1).images) == 2
