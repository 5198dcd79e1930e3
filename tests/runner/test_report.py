import shutil
import time

import nbformat
import pandas
import pytest
from chromium import chromium
from conftest import no_torch_in_it, wait_until

from xpuqlib.errors import RunError
from xpuqlib.proof.record import MIME_TYPE, RunRecord
from xpuqlib.runner.kernel import METADATA
from xpuqlib.runner.report import write_report


def fill(folder, number, pad=0, model="net", metrics=None, **kinds):
    """Write executed notebooks as the runner does; `kinds` is how run n ended, else rehearsed."""
    folder.mkdir()
    for n in range(number):
        outcome = kinds.get(f"n{n}", "rehearsed")
        cells = [nbformat.v4.new_code_cell("x" * pad)]
        passed = outcome in ("executed", "rehearsed", "reference")
        if passed:
            record = RunRecord(
                lesson="a",
                parameters={"model": f"{model}{n % 3}", "batch_size": 8},
                device="cpu",
                device_name="c",
                mode=outcome,
                seconds=0,
                metrics={
                    "top1_fp32": 0.99,
                    "top1_quantized": 0.9 + 0.01 * (n % 7),
                    "latency_quantized_s": 0.001 * (1 + n),
                    **(metrics or {}),
                },
                evidence={"counts": {"conv": {"in the model": 20, "generated": 20}}},
            )
            data = {MIME_TYPE: record.to_dict(), "text/plain": "r"}
            cells[0].outputs = [nbformat.v4.new_output("display_data", data)]
        noted = {
            "lesson": "a",
            "parameters": {"model": f"{model}{n % 3}"},
            "seconds": 1.0,
            "result": "passed" if passed else outcome,
            "error": "" if passed else "<b>why</b>",
        }
        node = nbformat.v4.new_notebook(cells=cells, metadata={METADATA: noted})
        nbformat.write(node, folder / f"a-{n:04}.ipynb")
        (folder / f"a-{n:04}.html").write_text("<title>executed</title>")
    return folder


def test_tables_for_programs(tmp_path):
    folder = fill(tmp_path / "runs", 4, n3="failed")
    write_report(folder)
    table = pandas.read_csv(folder / "results.csv", index_col="run").sort_index()
    assert list(table.index) == [f"a-{n:04}" for n in range(4)]
    assert list(table["outcome"]) == ["rehearsed"] * 3 + ["failed"]
    assert table.loc["a-0001", "metrics.latency_quantized_s"] == 0.002
    same = pandas.read_parquet(folder / "results.parquet").sort_index()
    assert list(same.columns) == list(table.columns)
    assert list(same["metrics.top1_quantized"])[:3] == list(table["metrics.top1_quantized"])[:3]


def test_a_column_of_several_types_fits_into_parquet(tmp_path):
    folder = fill(tmp_path / "runs", 2)
    path = folder / "a-0001.ipynb"
    path.write_text(path.read_text().replace('"model": "net1"', '"model": 1'))
    write_report(folder)
    models = pandas.read_parquet(folder / "results.parquet")["parameters.model"]
    assert dict(models) == {"a-0000": "net0", "a-0001": "1"}


def test_the_page_never_says_passed_and_needs_no_network(tmp_path):
    folder = fill(tmp_path / "runs", 4, n0="executed", n1="reference", n3="timed out")
    page = write_report(folder).read_text(encoding="utf-8")
    assert "1 executed, 1 reference, 1 rehearsed, 1 timed out" in page
    assert "passed" not in page
    assert "<b>why" not in page
    assert 'src="http' not in page
    assert "import('http" not in page


def test_the_baseline_is_chosen_by_the_start_of_its_name(tmp_path):
    folder = fill(tmp_path / "runs", 3, n0="failed")
    assert "are to model=net1" in write_report(folder).read_text(encoding="utf-8")
    assert "are to model=net2" in write_report(folder, "a-0002").read_text(encoding="utf-8")
    with pytest.raises(RunError, match=r"a- is 3 of the 3 runs(?s:.*)--baseline model=net"):
        write_report(folder, "a-")
    with pytest.raises(RunError, match="b is 0 of the 3 runs"):
        write_report(folder, "b")


def test_the_baseline_is_chosen_by_parameters(tmp_path):
    folder = fill(tmp_path / "runs", 6)
    path = folder / "a-0004.ipynb"
    path.write_text(path.read_text().replace('"batch_size": 8', '"batch_size": 16'))

    def baseline(asked):
        page = write_report(folder, asked).read_text(encoding="utf-8")
        return page.partition("Differences (Δ) are to ")[2].partition(". ")[0]

    assert baseline("model=net1,batch_size=16") == "model=net1, batch_size=16"
    assert baseline("batch_size=8,model=net1") == "model=net1, batch_size=8"
    with pytest.raises(RunError, match=r"model=net1 is 2 of(?s:.*)model=net1,batch_size=(8|16)"):
        baseline("model=net1")
    with pytest.raises(RunError, match=r"is 0 of(?s:.*)--baseline model=net1,batch_size=16"):
        baseline("model=net1,batch_size=17")
    for unknown in ("modle=net1", "batch_size=many", "model"):
        with pytest.raises(RunError, match="is 0 of the 6 runs"):
            baseline(unknown)
    # Two runs that no parameter tells apart are called by their files.
    with pytest.raises(RunError, match=r"model=net0 is 2 of(?s:.*)--baseline a-000"):
        baseline("model=net0")


def test_lists_as_parameters_fit_into_the_tables(tmp_path):
    folder = fill(tmp_path / "runs", 2)
    for number, sizes in enumerate(([1, 2], {})):
        path = folder / f"a-000{number}.ipynb"
        path.write_text(path.read_text().replace('"batch_size": 8', f'"sizes": {sizes}'))
    write_report(folder)
    assert list(pandas.read_csv(folder / "results.csv")["parameters.sizes"]) == ["[1, 2]", "{}"]


def test_one_run_is_a_report_and_no_run_is_an_error(tmp_path):
    page = write_report(fill(tmp_path / "one", 1)).read_text(encoding="utf-8")
    assert "Differences" not in page
    with pytest.raises(RunError, match="nothing to compare with model=net0"):
        write_report(tmp_path / "one", "model=net0")
    (tmp_path / "none").mkdir()
    with pytest.raises(RunError, match="holds no executed notebook"):
        write_report(tmp_path / "none")


@no_torch_in_it("current")
@pytest.mark.slow
def test_a_thousand_runs_are_read_in_ten_seconds(tmp_path):
    """Each notebook has 200 kB, as a lesson with its figures."""
    folder = fill(tmp_path / "runs", 1000, pad=200_000)
    began = time.process_time()
    write_report(folder)
    assert time.process_time() - began < 10


@no_torch_in_it("current")
@pytest.mark.slow
def test_the_page_in_a_browser(tmp_path):
    folder = fill(tmp_path / "runs", 30, n4="failed", n5="timed out")
    page = write_report(folder)
    with chromium() as browser:
        tab = browser.new_page(viewport={"width": 1280, "height": 800})
        errors = []
        tab.on("pageerror", lambda error: errors.append(error))
        tab.goto(page.as_uri())
        rows = tab.locator("table.dataTable tbody tr")
        tab.wait_for_function("document.querySelectorAll('table.dataTable tbody tr').length > 20")

        def column(heading):
            headings = tab.locator("table.dataTable thead tr").first.locator("th").all_inner_texts()
            place = [text.strip() for text in headings].index(heading)
            return [row.locator("td").nth(place).inner_text() for row in rows.all()]

        def sort(heading):
            tab.locator("thead th", has_text=heading).first.locator(".dt-column-order").click()

        sort("int8 (ms)")
        ascending = [float(text) for text in column("int8 (ms)") if text]  # failed runs have none
        assert len(ascending) == 25 - 2  # a page holds 25 rows
        assert ascending == sorted(ascending)
        sort("int8 (ms)")
        # The page may draw its rows anew while they are read, one by one.
        wait_until(lambda: column("int8 (ms)")[0].startswith("30"), 10)
        descending = [float(text) for text in column("int8 (ms)") if text]
        assert descending == sorted(descending, reverse=True)
        assert descending[0] == 30
        assert descending != ascending
        tab.locator("input[type=search]").first.fill("timed")
        assert column("outcome") == ["timed out"]
        tab.locator("input[type=search]").first.fill("")
        tab.locator("tfoot input").nth(1).press_sequentially("net1")
        assert set(column("model")) == {"net1"}
        tab.screenshot(path=tmp_path / "report.png")
        with tab.expect_navigation():
            rows.first.locator("a").click()
        assert tab.title() == "executed"
        assert errors == []
    shutil.copy(tmp_path / "report.png", folder)


def test_a_folder_is_about_lessons_or_about_runs(tmp_path):
    folder = fill(tmp_path / "runs", 1)
    other = (folder / "a-0000.ipynb").read_text().replace('"lesson": "a"', '"lesson": "b"')
    (folder / "b.ipynb").write_text(other)
    page = write_report(folder).read_text(encoding="utf-8")
    assert "<h1>2 lessons</h1>" in page
    assert "left in floating point" in page
    assert "No figure" not in page
    (folder / "c.ipynb").write_text(other)
    page = write_report(folder).read_text(encoding="utf-8")
    assert "<h1>2 lessons: 3 runs</h1>" in page
    assert "left in floating point" not in page


@no_torch_in_it("current")
@pytest.mark.slow
def test_a_page_fits_a_laptop(tmp_path):
    """Also with long names, errors, differences and every metric that the table shows."""
    more = {
        "sqnr_to_fp32_db": 41.8,
        "latency_fp32_compiled_s": 0.0123,
        "speed_against_fp32_compiled": 2.71,
        "size_converted_bytes": 11e6,
    }
    name = "a_network_of_which_the_name_is_longer_than_any_column_could_be_v2_large"
    folder = fill(tmp_path / "runs", 12, model=name, metrics=more, n4="failed")
    for number, path in enumerate(sorted(folder.glob("*.ipynb"))):  # nothing is the same in all
        text = path.read_text(encoding="utf-8").replace("41.8", f"4{number}.8")
        text = text.replace("2.71", f"2.{number}").replace("0.99", f"0.9{number}")
        text = text.replace(
            '"batch_size": 8', f'"batch_size": 8, "data": "/{"deep/" * 20}{number}"'
        )
        path.write_text(text.replace("<b>why</b>", "why " * 30), encoding="utf-8")
    page = write_report(folder)
    with chromium() as browser:
        tab = browser.new_page(viewport={"width": 1280, "height": 800})
        tab.goto(page.as_uri())
        tab.wait_for_function("document.querySelectorAll('table.dataTable tbody tr').length > 5")
        tab.screenshot(path=tmp_path / "laptop.png", full_page=True)
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        wide = "[...document.querySelectorAll('table')].map(table => table.scrollWidth)"
        assert max(tab.evaluate(wide)) <= 1280
