import re
import shutil
from pathlib import Path

import pytest
from conftest import write_notebook

import xpuqlib
from xpuqlib.runner import naming
from xpuqlib.runner.execution import Job
from xpuqlib.runner.naming import all_versions, identity, run_names

PARAMETERS = "n: int = 1\nmodel: str = ''\nsizes = [1]"


@pytest.fixture
def path(tmp_path):
    return write_notebook(tmp_path / "08_a.ipynb", PARAMETERS, "print(n)")


def named(path, folder, *runs):
    jobs = {identity(Job(path, values)): Job(path, values) for values in runs}
    assert len(jobs) == len(runs)
    return list(run_names(jobs, folder).values())


def test_a_run_is_its_cells_parameters_and_versions(path, monkeypatch):
    first, again, other = (identity(Job(path, {"n": n})) for n in (1, 1, 2))
    assert first == again != other
    copy = shutil.copy(path, path.with_name("09_a.ipynb"))
    assert identity(Job(Path(copy), {"n": 1})) != first
    write_notebook(path, PARAMETERS, "print(n, 2)")
    assert identity(Job(path, {"n": 1})) != first
    write_notebook(path, PARAMETERS, "print(n)")
    assert identity(Job(path, {"n": 1})) == first
    monkeypatch.setattr(naming, "versions", lambda: {"torch": "0"})
    assert identity(Job(path, {"n": 1})) != first


def test_a_default_is_the_same_given_or_not(tmp_path):
    path = write_notebook(tmp_path / "a.ipynb", "n: int = 1\nm = 2 * 3\nflag = True")
    none = identity(Job(path, {}))
    assert identity(Job(path, {"n": 1, "flag": True})) == none
    for other in ({"n": 2}, {"flag": False}, {"m": 6}):  # m's default is known to a kernel only
        assert identity(Job(path, other)) != none


@pytest.mark.parametrize(
    "kind", ["cli.py", "runner/report.yml", "runner/report.html", "recipe/quantize.py.j2"]
)
def test_every_file_of_the_package_counts(tmp_path, monkeypatch, kind):
    copy = tmp_path / "xpuqlib"
    shutil.copytree(Path(xpuqlib.__file__).parent, copy)
    monkeypatch.setattr(naming, "__file__", str(copy / "runner" / "naming.py"))
    before = all_versions()
    with (copy / kind).open("a") as file:
        file.write("\n")
    changed = {name for name, version in all_versions().items() if version != before[name]}
    assert changed == {"xpuqlib"}


def test_a_name_shows_what_varies_and_ends_in_the_hash(path, tmp_path):
    runs = [{"model": model, "n": n, "sizes": [1]} for model in ("a", "b") for n in (1, 2)]
    names = named(path, tmp_path / "out", *runs)
    assert [re.sub("[0-9a-f]{12}$", "HASH", name) for name in names] == [
        f"08_a-model={model},n={n}-HASH" for model in ("a", "b") for n in (1, 2)
    ]
    [alone] = named(path, tmp_path / "out", {"n": 1})
    assert re.fullmatch("08_a-[0-9a-f]{12}", alone)


def test_names_are_safe_and_bounded(tmp_path):
    long = write_notebook(tmp_path / f"{'long ' * 30}é:.ipynb", PARAMETERS)
    folder = "C:\\data\\" + "deep/" * 60 + "cats*?"
    runs = [
        {"model": folder, "sizes": [1, 2], "n": 1},
        {"model": "<b>|\n", "sizes": list(range(999)), "n": 2},
    ]
    for name in named(long, tmp_path / "out", *runs):
        assert re.fullmatch(r"[A-Za-z0-9_.+=,-]+", name)
        assert len(name) <= 126
    assert "cats" in named(long, tmp_path / "out", *runs)[0]


def test_a_run_that_is_there_keeps_its_name_when_another_parameter_varies(path, tmp_path):
    small = [{"n": n, "model": "a"} for n in (1, 2)]
    before = named(path, tmp_path, *small)
    for name in before:
        (tmp_path / f"{name}.ipynb").touch()
    extended = small + [{"n": n, "model": "b"} for n in (1, 2)]
    after = named(path, tmp_path, *extended)
    assert after[:2] == before
    assert ["n=1,model=b" in after[2], "n=2,model=b" in after[3]] == [True, True]


def test_the_content_of_a_persons_own_files_counts(path, tmp_path):
    own = tmp_path / "my_models.py"
    own.write_text("a")
    values = {"model": f"{own}:classifier"}
    first = identity(Job(path, values))
    own.write_text("b")
    assert identity(Job(path, values)) != first
    own.write_text("a")
    assert identity(Job(path, values)) == first


def test_the_code_of_a_module_counts_without_being_executed(path, tmp_path, monkeypatch):
    package = tmp_path / "my_counted_package"
    package.mkdir()
    (package / "__init__.py").write_text("raise OSError('executed')")
    (package / "models.py").write_text("a")
    monkeypatch.chdir(tmp_path)
    values = {"model": "my_counted_package.models:classifier"}
    first = identity(Job(path, values))
    (package / "models.py").write_text("b")
    assert identity(Job(path, values)) != first
    (package / "models.py").write_text("a")
    assert identity(Job(path, values)) == first
    assert identity(Job(path, {"model": "no_such_package.models:classifier"})) != first


def test_a_factory_shows_its_file_and_function(path, tmp_path):
    runs = [{"model": f"{tmp_path}/{name}.py:classifier"} for name in ("my_models", "mine")]
    names = named(path, tmp_path / "out", *runs)
    assert ["my_models.py_classifier-" in names[0], "mine.py_classifier-" in names[1]] == [True] * 2
    assert all(re.fullmatch(r"[A-Za-z0-9_.+=,-]+", name) for name in names)
