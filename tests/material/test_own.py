import pytest
import torch
from conftest import TinyNet, patient, prepare
from torch import nn

from xpuqlib.errors import ModelError
from xpuqlib.material import models
from xpuqlib.material.batches import Batches
from xpuqlib.material.models import load_model
from xpuqlib.material.own import check_model, load_weights
from xpuqlib.recipe.attention import rewrite_attention
from xpuqlib.recipe.calibration import observers
from xpuqlib.recipe.pt2e import capture

CODE = """
import torch
from torch import nn
def classifier():
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten()).eval()
def trains():
    return nn.Linear(2, 2)
def number():
    return 3
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my_models.py"
    path.write_text(CODE)
    return path


def save(model, path, x, strict=True):
    with patient(), torch.no_grad():
        torch.export.save(torch.export.export(model, (x,), strict=strict), path)
    return str(path)


def test_a_factory_gives_the_model(file):
    model, again = (load_model(f"{file}:classifier", "auto") for _ in range(2))
    assert isinstance(model[0], nn.Conv2d)
    assert not model.training
    assert torch.equal(model[0].weight, again[0].weight)


@pytest.mark.parametrize(
    ("function", "weights", "message"),
    [
        ("trains", "auto", r"in training mode(?s:.*)return model\.eval\(\)"),
        ("number", "auto", "returns int, not an nn.Module"),
        ("missing", "auto", r"no function 'missing'"),
        ("classifier", "digits", r"weights=digits is for torchvision(?s:.*)weights=auto"),
    ],
)
def test_what_is_no_model_is_refused(file, function, weights, message):
    with pytest.raises(ModelError, match=message):
        load_model(f"{file}:{function}", weights)


def test_an_exported_program_is_captured_and_annotated_as_its_model_is(tiny, tmp_path):
    model, x = tiny
    program = load_model(save(model, tmp_path / "model.pt2", x), "auto")
    with torch.no_grad():
        assert torch.equal(program(x), model(x))
    annotated = [observers(prepare(capture(m, (x,)))) for m in (model, program)]
    assert len(annotated[0]) == len(annotated[1]) > 0


def test_a_program_of_another_export_names_the_right_one(tiny, tmp_path):
    model, x = tiny
    right = r"export\(model\.eval\(\), inputs, strict=True\)"
    loose = save(model, tmp_path / "loose.pt2", x, strict=False)
    with pytest.raises(ModelError, match=f"without strict=True(?s:.*){right}"):
        load_model(loose, "auto")
    for layer in (nn.Dropout(), nn.BatchNorm2d(3)):
        training = save(nn.Sequential(layer, model).train(), tmp_path / "training.pt2", x)
        with pytest.raises(ModelError, match=f"in training mode(?s:.*){right}"):
            load_model(training, "auto")
    (tmp_path / "text.pt2").write_text("no program")
    with pytest.raises(ModelError, match=f"cannot load (?s:.*){right}"):
        load_model(str(tmp_path / "text.pt2"), "auto")


def test_a_state_dict_goes_into_each_kind_of_model(tiny, file, tmp_path):
    model, x = tiny
    program = save(model, tmp_path / "model.pt2", x)
    changed = TinyNet().eval()
    torch.save(changed.state_dict(), tmp_path / "changed.pt")
    loaded = load_model(program, str(tmp_path / "changed.pt"))
    with torch.no_grad():
        assert torch.equal(loaded(x), changed(x))
        assert not torch.equal(model(x), changed(x))
    own = load_model(f"{file}:classifier", "auto")
    nn.init.zeros_(own[0].weight)
    torch.save(own.state_dict(), tmp_path / "zeros.pt")
    assert not load_model(f"{file}:classifier", str(tmp_path / "zeros.pt"))[0].weight.any()


def test_a_state_dict_of_torchvision_says_how_many_classes(tmp_path):
    trained = models._build("squeezenet1_1", classes=7)
    torch.save(trained.state_dict(), tmp_path / "seven.pt")
    loaded = load_model("squeezenet1_1", str(tmp_path / "seven.pt"))
    assert all(torch.equal(v, trained.state_dict()[k]) for k, v in loaded.state_dict().items())
    assert not loaded.training
    with pytest.raises(ModelError, match=r"does not fit the model; (?s:.*)missing: "):
        load_model("mobilenet_v2", str(tmp_path / "seven.pt"))


def test_keys_and_shapes_that_differ_are_named(tiny, tmp_path):
    model, _ = tiny
    state = model.state_dict()
    state["linear.weight"] = torch.zeros(5, 16)
    state["head.bias"] = state.pop("linear.bias")
    state |= {f"extra.{n}": torch.zeros(1) for n in range(4)}
    torch.save(state, tmp_path / "other.pt")
    before = model.linear.weight.clone()
    with pytest.raises(ModelError) as error:
        load_weights(model, tmp_path / "other.pt")
    assert (
        "1 missing: linear.bias; 5 unexpected: head.bias, extra.0, extra.1, …;" in error.value.cause
    )
    assert "1 of another shape: linear.weight [5, 16] instead of [4, 16]." in error.value.cause
    assert torch.equal(model.linear.weight, before)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {}, "epoch": 3}, "holds no tensor at: state_dict, epoch"),
        ([1, 2], "holds list"),
        (nn.Linear(2, 2), r"cannot be read as a state dict \(UnpicklingError\)"),
        (None, r"holds NoneType"),
    ],
)
def test_what_is_no_state_dict_names_the_fix(tiny, tmp_path, content, message):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(ModelError, match=message) as error:
        load_weights(tiny[0], tmp_path / "weights.pt")
    assert "torch.save(model.state_dict(), path)" in str(error.value)


def test_a_model_that_fits_its_data_passes(tiny):
    model, x = tiny
    check_model(model, Batches(((x,),), ((x,),), None))


class Gives(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Unregistered:
    pass


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda x: x @ x.new_ones(3, 3),
            r"does not take its data, \[8, 3, 16, 16\] torch\.float32",
        ),
        (lambda x: (x, x[:, 0] / 0), "gives NaN or infinite values"),
        (lambda x: (x, x.mean()), r"Not every output(?s:.*)no loss"),
        (lambda x: Unregistered(), r"Unregistered(?s:.*)register_dataclass"),
    ],
)
def test_what_a_model_must_not_give(tiny, function, message):
    _, x = tiny
    with pytest.raises(ModelError, match=message):
        check_model(Gives(function).eval(), Batches(((x,),), ((x,),), None))


def test_a_model_that_trains_is_refused(tiny):
    model, x = tiny
    model.conv.train()
    with pytest.raises(ModelError, match=r"training mode(?s:.*)eval\(\)"):
        check_model(model, Batches(((x,),), ((x,),), None))


def test_training_on_digits_takes_a_size_that_the_model_takes(monkeypatch):
    seen = set()

    def enlarged(images, size):
        seen.add(size)
        raise InterruptedError

    monkeypatch.setattr(models, "enlarge", enlarged)
    for name in ("resnet18", "alexnet", "vit_b_16"):
        with pytest.raises(InterruptedError):
            models._train_on_digits(name)
    assert seen == {32, models.least_size("alexnet"), models.least_size("vit_b_16")}
    assert min(seen) < max(seen)


@pytest.mark.parametrize(("momentum", "estimated"), [(0.1, False), (1e-6, True)])
def test_slow_batch_statistics_are_estimated_after_training(monkeypatch, momentum, estimated):
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, 4),
        nn.BatchNorm2d(4, momentum=momentum),
        nn.Flatten(),
        nn.Linear(256, 10),
    )
    monkeypatch.setattr(models, "_build", lambda name, classes: net)
    calls = []
    monkeypatch.setattr(
        models, "update_bn", lambda *a: calls.append(torch.optim.swa_utils.update_bn(*a))
    )
    models._train_on_digits("resnet18")
    assert len(calls) == estimated
    assert (net[1].running_var - 1).abs().max() > 0.05  # as it began, it would be 1


def test_attention_that_was_rewritten_names_its_own_fix():
    class Cross(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            return self.seen(x[:, :1], x, x)[0][:, 0]

    x = torch.randn(2, 4, 8)
    batches = Batches(((x,),), ((x,),), None)
    check_model(Cross().eval(), batches)
    with pytest.raises(ModelError, match="-p rewritten_attention=false"):
        check_model(rewrite_attention(Cross().eval()), batches)
