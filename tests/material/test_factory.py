import subprocess
import sys

import pytest

from xpuqlib.errors import DataError, ModelError
from xpuqlib.material.factory import (
    call_factory,
    check_weights,
    factory_file,
    find_factory,
    find_own_model,
    is_factory,
    is_own_model,
)

CODE = """
from pathlib import Path
Path(__file__).with_name("executed").touch()
from beside import NUMBER
import math as arithmetic
def classifier():
    return NUMBER
def broken():
    raise KeyError("rate")
def needs(size, *, depth=1):
    return size
def keyword(*, size):
    return size
def optional(size=3, *, depth=1):
    return size
"""


@pytest.fixture
def code(tmp_path, monkeypatch):
    (tmp_path / "my_models.py").write_text(CODE)
    (tmp_path / "beside.py").write_text("NUMBER = 7")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("beside", None)


@pytest.mark.parametrize(
    ("text", "factory", "own"),
    [
        ("my_models.py:classifier", True, True),
        ("package.module:classifier", True, True),
        ("C:\\code\\my_models.py:classifier", True, True),
        ("C:\\photos", False, False),
        ("photos/", False, False),
        ("resnet18", False, False),
        ("folder/model.pt2", False, True),
        ("my_models.py", False, False),
    ],
)
def test_forms(text, factory, own):
    assert (is_factory(text), is_own_model(text)) == (factory, own)


def test_a_file_is_checked_without_being_executed(code):
    found = find_factory("my_models.py:classifier", ModelError)
    assert found == f"{code / 'my_models.py'}:classifier"
    assert not (code / "executed").exists()


def test_a_factory_may_import_what_lies_beside_it_from_anywhere(code, monkeypatch):
    found = find_factory("my_models.py:classifier", ModelError)
    (code / "elsewhere").mkdir()
    monkeypatch.chdir(code / "elsewhere")
    assert call_factory(found, ModelError) == 7
    assert (code / "executed").exists()
    assert call_factory(found.replace("classifier", "optional"), ModelError) == 3


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("missing.py:classifier", r"no file 'missing\.py'"),
        ("my_models.py:classifer", r"no function 'classifer'(?s:.*)It has: classifier\."),
        ("my_models.py:x", "It has: classifier, broken, needs, keyword, optional"),
        ("my_models.py:needs", "needs of my_models.py takes arguments"),
        ("my_models.py:keyword", "keyword of my_models.py takes arguments"),
        ("no_such_module_here:f", "no module 'no_such_module_here'"),
        ("xpuqlib.no_such_module:f", r"no module 'xpuqlib\.no_such_module'"),
        ("xpuqlib.names.deeper:f", "no module"),
        ("xpuqlib.names:f", r"names\.py has no function"),
        ("two words:f", "neither a Python file nor a module"),
    ],
)
def test_what_is_not_there_is_refused_unexecuted(code, named, message):
    for own in (ModelError, DataError):
        with pytest.raises(own, match=message):
            find_factory(named, own)
    assert not (code / "executed").exists()


def test_code_that_does_not_parse_is_refused(code):
    (code / "my_models.py").write_text("def classifier(:")
    with pytest.raises(ModelError, match=r"cannot be read as Python(?s:.*)Mend"):
        find_factory("my_models.py:classifier", ModelError)


def test_a_module_of_a_package_is_found_without_importing_the_package(code):
    package = code / "own_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "models.py").write_text("def classifier():\n    return 8")
    named = "own_package.models:classifier"
    assert find_factory(named, ModelError) == named
    assert factory_file(named) == package / "models.py"
    with pytest.raises(ModelError, match=r"raised RuntimeError: imported"):
        call_factory(named, ModelError)
    (package / "__init__.py").write_text("")
    assert call_factory(named, ModelError) == 8


def test_a_factory_that_is_not_there_has_no_file(code):
    assert factory_file("my_models.py:classifier").name == "my_models.py"
    for named in ("none.py:f", "no_such_package.models:f", "my models:f", "itertools:count"):
        assert factory_file(named) is None


def test_what_the_code_raises_is_named(code):
    with pytest.raises(ModelError, match=r"broken raised KeyError: 'rate'") as error:
        call_factory("my_models.py:broken", ModelError)
    assert isinstance(error.value.__cause__, KeyError)
    (code / "leaves.py").write_text("raise SystemExit(3)\ndef f(): pass")
    with pytest.raises(ModelError, match="raised SystemExit: 3"):
        call_factory("leaves.py:f", ModelError)


def test_an_exported_program_must_be_there(code):
    with pytest.raises(ModelError, match=r"no file 'model\.pt2'(?s:.*)torch\.export\.save"):
        find_own_model("model.pt2")
    (code / "model.pt2").touch()
    assert find_own_model("model.pt2") == str(code / "model.pt2")


def test_weights_of_torchvision_are_not_for_own_models():
    for weights in ("digits", "imagenet", "random"):
        with pytest.raises(ModelError, match=rf"weights={weights} (?s:.*)weights=auto"):
            check_weights("my_models.py:classifier", weights)
        check_weights("resnet18", weights)
    check_weights("my_models.py:classifier", "auto")
    check_weights("model.pt2", "weights.pt")


def test_names_are_checked_without_torch():
    seen = "import sys, xpuqlib.runner.parameters, xpuqlib.cli; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", seen], check=True)
