"""The map as tables and a page: what the recipe did to each model, versions side by side."""

import html
from collections.abc import Iterable
from pathlib import Path
from string import Template

import itables
import pandas
import torchvision
from itables.javascript import generate_init_offline_itables_html, to_html_datatable
from matplotlib.colors import to_rgb

from xpuqlib.machine.files import write_whole
from xpuqlib.runner import Result, read_runs
from xpuqlib.show.style import DTYPES

PAGE = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8"))
FASTER, SPEED = "times as fast as fp32 at batch {}", "speed_against_fp32_compiled"
STAGES = ("in the model", "quantized", "drafted", "matched", "generated")


def read_maps(folder: Path) -> dict[str, pandas.DataFrame]:
    """Give for each version of torch, newest first, one row a model."""
    paths = sorted(folder.glob("torch-*.jsonl"), key=_number, reverse=True)
    return {path.stem.removeprefix("torch-"): table(read_runs(path)) for path in paths}


def _number(path: Path) -> list[int]:
    return [int(part) for part in path.stem.removeprefix("torch-").split(".")]


def table(results: Iterable[Result]) -> pandas.DataFrame:
    """Give one row a model: counts, reasons, closeness in dB, speed by batch size, sizes.

    All but the speeds and the problems is from the run of the largest batch, and from one that was
    rehearsed where there is one.
    """
    rows: dict[str, dict] = {}
    for result in sorted(results, key=_rank, reverse=True):
        model, batch_size = result.parameters["model"], result.parameters["batch_size"]
        row = rows.setdefault(model, {})
        for name, value in _row(result).items():
            row.setdefault(name, value)
        if result.record and SPEED in result.record.metrics:
            row[FASTER.format(batch_size)] = result.record.metrics[SPEED]
        problems = dict.fromkeys([*row.get("problems", "").split("; "), *_problems(result)])
        row["problems"] = "; ".join(filter(None, problems))
    frame = pandas.DataFrame.from_dict(rows, orient="index").rename_axis("model").reset_index()
    return frame.sort_values(["family", "model"], ignore_index=True)


def _rank(result: Result) -> tuple[bool, bool, int]:
    rehearsed = result.parameters.get("rehearsed", True)
    return result.record is not None, rehearsed, result.parameters["batch_size"]


def _row(result: Result) -> dict:
    model = result.parameters["model"]
    weights = torchvision.models.get_model_weights(model).DEFAULT
    row = {
        "family": torchvision.models.get_model_builder(model).__module__.rpartition(".")[2],
        "outcome": result.outcome,
        "parameters (million)": weights.meta["num_params"] / 1e6,
    } | dict.fromkeys(STAGES)
    record = result.record
    if record is None:
        return row
    counts, metrics = record.evidence["counts"].values(), record.metrics
    for stage in STAGES:
        if all(stage in kind for kind in counts):
            row[stage] = sum(kind[stage] for kind in counts)
    left = (layer for layer in record.evidence["layers"] if layer["reason"])
    row["left in floating point"] = "; ".join(f"{x['name']}: {x['reason']}" for x in left)
    row["not drafted"] = record.evidence["not_drafted"]
    closeness = {
        "SQNR of the Q/DQ graph to fp32": "sqnr_reference_to_fp32_db",
        "SQNR of int8 here to the Q/DQ graph": "sqnr_to_reference_db",
        "SQNR of the simulated GPU program to the Q/DQ graph": "sqnr_simulated_db",
    }
    row |= {f"{heading} (dB)": metrics.get(name) for heading, name in closeness.items()}
    row["size of int8 over fp32"] = metrics["size_converted_bytes"] / metrics["size_fp32_bytes"]
    row["between the int8 kernels"] = ", ".join(record.evidence["other_kernels"])
    return row | {"pixels": metrics["pixels"], "track": record.track} | record.versions


def _problems(result: Result) -> list[str]:
    at = f"batch {result.parameters['batch_size']}: "
    if result.record is None:
        return [f"{at}{result.outcome}: {result.error}"]
    lost = [claim for claim in result.record.claims if not claim.holds]
    return [f"{at}does not hold: {claim.text}: {claim.value}" for claim in lost]


def write_maps(folder: Path, maps: dict[str, pandas.DataFrame]) -> None:
    """Write a CSV and a parquet file for each version, and one page about all."""
    for version, frame in maps.items():
        write_whole(folder / f"torch-{version}.csv", frame.to_csv(index=False, float_format="%.4g"))
        write_whole(folder / f"torch-{version}.parquet", frame.to_parquet(index=False))
    fullest = max(maps, key=lambda version: len(maps[version]))  # of two, the newer one
    body = "\n".join([*(_families(v, f) for v, f in maps.items()), _details(maps[fullest])])
    page = PAGE.substitute(version=fullest, body=body)
    write_whole(folder / "index.html", page)


def _families(version: str, frame: pandas.DataFrame) -> str:
    """Draw one row a family, one cell a model, coloured by its share of layers in int8."""
    rows = []
    for family, group in frame.groupby("family"):
        cells = "".join(_cell(row) for _, row in group.iterrows())
        rows.append(f"<tr><th scope='row'>{html.escape(family)}</th><td>{cells}</td></tr>")
    whole = (frame["drafted"] == frame["in the model"]).sum()
    said = (
        f"{whole} of {len(frame)} models have an int8 call for every layer in the drafted program."
    )
    heading = f"<h2>torch {html.escape(version)}</h2><p>{said}</p>"
    return f"{heading}<table class='families'>{''.join(rows)}</table>"


def _cell(row: pandas.Series) -> str:
    name, left = html.escape(row["model"]), row.get("left in floating point") or row["problems"]
    left = html.escape(str(left))
    if pandas.isna(row["in the model"]):
        problem = html.escape(row["problems"])
        return f"<span class='cell failed' title='{problem}'>{name}<br>{row['outcome']}</span>"
    done, layers = int(row["drafted"]), int(row["in the model"])
    red, green, blue = (round(255 * part) for part in to_rgb(DTYPES["int8"]))
    colour = f"rgba({red}, {green}, {blue}, {0.1 + 0.6 * done / layers:.2f})"
    said = f"{done} of {layers}"
    return f"<span class='cell' style='background: {colour}' title='{left}'>{name}<br>{said}</span>"


def _details(frame: pandas.DataFrame) -> str:
    """Make the table to sort and filter."""
    shown = frame.drop(
        columns=["track", "matched", "not drafted", "between the int8 kernels"], errors="ignore"
    )
    shown = shown.loc[:, :"pixels"].assign(problems=frame["problems"]).round(2).astype(object)
    shown = shown.where(shown.notna(), "").map(lambda value: html.escape(str(value)))
    return generate_init_offline_itables_html(itables.options.dt_bundle) + to_html_datatable(
        shown,
        connected=False,
        showIndex=False,
        column_filters="footer",
        maxBytes=0,
        maxRows=0,
        maxColumns=0,
        paging=False,
        autoWidth=False,
        classes="display compact",
        style="width:100%",
    )
