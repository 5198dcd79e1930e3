import pytest
import torch
import yaml
from pydantic import ValidationError

from xpuqlib.errors import RecipeError, XpuqWarning
from xpuqlib.recipe.calibration import observers
from xpuqlib.recipe.layers import layer_kind, layer_name
from xpuqlib.recipe.pt2e import MinMaxObserver, capture, prepare_pt2e
from xpuqlib.recipe.recipe import Recipe

NEEDED = {"model": "resnet18", "weights": "digits", "data": "digits"}


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(
        **NEEDED,
        configuration="symmetric",
        observer="minmax",
        float_layers=["conv"],
        float_activations=["relu"],
        calibration_batches=2,
        seed=3,
        bf16=True,
    )


def test_a_saved_recipe_is_the_same_and_readable(recipe, tmp_path, recwarn):
    path = recipe.save(tmp_path / "recipe.yaml")
    assert Recipe.load(path) == recipe
    assert not [w for w in recwarn if issubclass(w.category, XpuqWarning)]
    assert list(yaml.safe_load(path.read_text())) == list(Recipe.model_fields)
    assert path.read_text().startswith("model: resnet18\n")
    assert "float_layers:\n- conv\n" in path.read_text()
    assert list(tmp_path.iterdir()) == [path]


def test_a_recipe_is_frozen_and_strict(recipe):
    with pytest.raises(ValidationError):
        recipe.seed = 1
    with pytest.raises(ValidationError):
        Recipe(**NEEDED, seed="1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: resnet18\nweights: digits\ndata: digits\nsead: 1\n", r"a\.yaml: sead: Extra"),
        ("model: resnet18\nweights: digits\ndata: digits\nseed: one\n", r"seed: .*integer"),
        ("model: resnet18\nweights: digits\ndata: digits\nbatch_size: 0\n", r"batch_size: "),
        ("model: a\nweights: b\ndata: c\nconfiguration: sym\n", r"configuration: .*symmetric"),
        ("model: resnet18\nweights: digits\n", r"data: Field required"),
        ("- model\n", r"the file: "),
        ("", r"the file: "),
        ("model: [\n", "cannot be read"),
    ],
)
def test_a_wrong_file_is_an_error_with_its_name_and_a_fix(tmp_path, text, message):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message) as caught:
        Recipe.load(path)
    assert "a.yaml" in str(caught.value)
    assert "calibration_batches" in caught.value.fix or "recipe.save" in caught.value.fix


def test_files_that_are_not_there_are_refused(recipe, tmp_path):
    with pytest.raises(RecipeError, match=r"none\.yaml cannot be read"):
        Recipe.load(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="cannot be written"):
        recipe.save(tmp_path / "no" / "recipe.yaml")


def test_a_recipe_that_cannot_be_saved_leaves_the_old_one_and_nothing_else(
    recipe, tmp_path, monkeypatch
):
    path = recipe.save(tmp_path / "recipe.yaml")

    def full(*paths):
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(RecipeError, match="cannot be written: No space left"):
        recipe.model_copy(update={"seed": 4}).save(path)
    assert list(tmp_path.iterdir()) == [path]
    assert Recipe.load(path) == recipe


def test_other_versions_are_allowed_and_said(recipe, tmp_path):
    older = recipe.versions | {"torch": "2.1.0", "torchao": "0.1"}
    path = recipe.model_copy(update={"versions": older}).save(tmp_path / "recipe.yaml")
    with pytest.warns(XpuqWarning, match=r"torch 2\.1\.0 \(here .*torchao 0\.1 \(here"):
        assert Recipe.load(path).versions == older


def test_a_version_that_is_none_counts_as_text(recipe, tmp_path):
    nightly = recipe.versions | {"torch": "nightly"}
    path = recipe.model_copy(update={"versions": nightly}).save(tmp_path / "recipe.yaml")
    with pytest.warns(XpuqWarning, match=r"made with torch nightly \(here "):
        assert Recipe.load(path).versions == nightly


def test_another_build_of_the_same_release_is_no_other_version(recipe, tmp_path, recwarn):
    same = {**recipe.versions, "torch": recipe.versions["torch"].partition("+")[0] + "+xpu"}
    Recipe.load(recipe.model_copy(update={"versions": same}).save(tmp_path / "recipe.yaml"))
    assert not [w for w in recwarn if issubclass(w.category, XpuqWarning)]


def test_the_quantizer_has_all_of_it(recipe, tiny):
    model, x = tiny
    captured = capture(model, (x,))
    only_linear = recipe.model_copy(update={"float_activations": []}).quantizer(captured)
    prepared = prepare_pt2e(captured, only_linear)
    found = observers(prepared).values()
    assert {type(o).__name__ for o in found} == {"MinMaxObserver", "PerChannelMinMaxObserver"}
    schemes = {o.qscheme for o in found if isinstance(o, MinMaxObserver)}
    assert schemes == {torch.per_tensor_symmetric}
    layers = {layer_name(node): node for node in prepared.graph.nodes if layer_kind(node)}
    observed = {
        name: any(given.op == "call_module" for given in node.all_input_nodes)
        for name, node in layers.items()
    }
    assert observed == {"conv": False, "linear": True}
    with pytest.raises(RecipeError, match="Use conv"):
        recipe.model_copy(update={"float_layers": ["convv"]}).quantizer(captured)
