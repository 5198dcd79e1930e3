import shutil
import time

import nbformat
import pandas
import pytest
from conftest import chromium

from xpuqlib.errors import RunError
from xpuqlib.proof.record import MIME_TYPE, RunRecord
from xpuqlib.runner.kernel import METADATA
from xpuqlib.runner.report import pareto_front, write_report


def fill(folder, number, pad=0, **kinds):
    """Write executed notebooks as the runner does; `kinds` is how run n ended, else rehearsed."""
    folder.mkdir()
    for n in range(number):
        outcome = kinds.get(f"n{n}", "rehearsed")
        cells = [nbformat.v4.new_code_cell("x" * pad)]
        passed = outcome in ("executed", "rehearsed", "reference")
        if passed:
            record = RunRecord(
                lesson="a",
                parameters={"model": f"net{n % 3}", "batch_size": 8},
                device="cpu",
                device_name="c",
                mode=outcome,
                seconds=0,
                metrics={
                    "top1_fp32": 0.99,
                    "top1_quantized": 0.9 + 0.01 * (n % 7),
                    "latency_quantized_s": 0.001 * (1 + n),
                },
                evidence={"counts": {"conv": {"in the model": 20, "generated": 20}}},
            )
            data = {MIME_TYPE: record.to_dict(), "text/plain": "r"}
            cells[0].outputs = [nbformat.v4.new_output("display_data", data)]
        noted = {
            "lesson": "a",
            "parameters": {"model": f"net{n % 3}"},
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
    assert "are to a-0001" in write_report(folder).read_text(encoding="utf-8")
    assert "are to a-0002" in write_report(folder, "a-0002").read_text(encoding="utf-8")
    with pytest.raises(RunError, match="the start of 3 runs"):
        write_report(folder, "a-")
    with pytest.raises(RunError, match="the start of 0 runs"):
        write_report(folder, "b")


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
    (tmp_path / "none").mkdir()
    with pytest.raises(RunError, match="holds no executed notebook"):
        write_report(tmp_path / "none")


def test_pareto_front():
    latency = pandas.Series({"slow": 3.0, "fast": 1.0, "even": 1.0, "worse": 2.0, "unknown": None})
    accuracy = pandas.Series({"slow": 0.9, "fast": 0.8, "even": 0.7, "worse": 0.8, "unknown": 1.0})
    assert pareto_front(latency, accuracy) == ["fast", "slow"]


def test_a_thousand_runs_are_read_in_ten_seconds(tmp_path):
    """Each notebook has 200 kB, as a lesson with its figures."""
    folder = fill(tmp_path / "runs", 1000, pad=200_000)
    began = time.process_time()
    write_report(folder)
    assert time.process_time() - began < 10


def test_the_page_in_a_browser(tmp_path):
    folder = fill(tmp_path / "runs", 30, n4="failed", n5="timed out")
    page = write_report(folder)
    with chromium() as browser:
        tab = browser.new_page(viewport={"width": 1400, "height": 1000})
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
