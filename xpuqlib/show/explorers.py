"""Explorers: controls and a figure that follows them; a plain figure where no front end listens."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
import pandas
import torch
from IPython import get_ipython
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import fx

from xpuqlib.proof.closeness import sqnr
from xpuqlib.proof.evidence import Evidence
from xpuqlib.recipe.calibration import observers
from xpuqlib.recipe.layers import layer_kind, layer_name
from xpuqlib.show import figures
from xpuqlib.show.bars import draw_bars
from xpuqlib.show.states import STATES_MIME_TYPE, possible_values, smaller_figure
from xpuqlib.show.style import BLACK, SKY, VERMILLION, new_figure, plain_log_ticks

__all__ = ["Explorer", "browse_layers", "compare_recipes", "explore_quantization"]

MOST_VALUES = 2**19  # of an explorer's tensor: with more, a moved slider would wait

# Sliders and checkboxes only: JupyterLab takes the arrow keys away from a dropdown or radio button.
WIDE = {"style": {"description_width": "initial"}, "layout": {"width": "26em"}}


class Explorer:
    """A figure with controls, each reachable by keyboard; as the value of a cell it shows itself.

    Where no front end listens it is a plain figure, and with one slider of at most 30 values the
    output also holds what each of them shows, from which the book makes a slider.

    Parameters
    ----------
    draw : callable
        Takes the controls' values by name; gives a figure and the sentence that belongs below it.
    controls : ipywidgets widget
        By the name of the argument.
    """

    def __init__(self, draw: Callable[..., tuple[Figure, str]], **controls: widgets.Widget) -> None:
        self.draw, self.controls = draw, controls
        self.view = widgets.HTML()
        self.places: dict[tuple[float, ...], list] = {}
        for control in controls.values():
            control.observe(self._update, "value")

    def _render(self, **values: Any) -> tuple[str, str]:
        chosen = {name: control.value for name, control in self.controls.items()} | values
        figure, text = self.draw(**chosen)
        # Labels take most of the time: few, and not measured for the title.
        for axes in figure.axes:
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.set_title(axes.get_title(), y=1)
        size = tuple(figure.get_size_inches())
        if size in self.places:  # the layout takes longer than all the rest: once is enough
            figure.set_layout_engine("none")
            for axes, place in zip(figure.axes, self.places[size], strict=True):
                axes.set_position(place)
        else:
            figure.get_layout_engine().set(w_pad=0.15)  # room for longer labels of later figures
        buffer = io.BytesIO()
        figure.set_dpi(80)
        # Half the time of savefig, which draws twice.
        FigureCanvasAgg(figure).print_png(buffer, pil_kwargs={"compress_level": 1})
        self.places[size] = [axes.get_position() for axes in figure.axes]
        return base64.b64encode(buffer.getvalue()).decode(), text

    def _update(self, _: Any = None) -> None:
        image, text = self._render()
        said = html.escape(text)
        source = f"data:image/png;base64,{image}"
        picture = f'<img alt="{said}" style="max-width: 100%; height: auto" src="{source}">'
        self.view.value = f'{picture}<p aria-live="polite" style="line-height: 1.4">{said}</p>'

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        image, text = self._render()
        bundle = {"image/png": image, "text/plain": text}
        if front_end_listens():
            self._update()
            row = widgets.HBox(list(self.controls.values()), layout={"flex_flow": "row wrap"})
            bundle = widgets.VBox([row, self.view])._repr_mimebundle_() | bundle
        elif values := possible_values(self.controls):
            bundle[STATES_MIME_TYPE] = self._states(values)
        return bundle, {"image/png": {"alt": text}}

    def _states(self, values: list[Any]) -> dict[str, Any]:
        """Figure and sentence for each value of the one slider, for a page without a kernel."""
        [(name, slider)] = self.controls.items()
        states = []
        for value in values:
            image, text = self._render(**{name: value})
            states.append(
                {"value": str(value), "text": text, "image": smaller_figure(image, 12, "webp")}
            )
        return {"label": slider.description, "start": values.index(slider.value), "states": states}


def front_end_listens() -> bool:
    """Whether a person may answer: papermill, nbconvert and nbval forbid input in each request."""
    kernel = getattr(get_ipython(), "kernel", None)
    return bool(kernel and kernel.get_parent("shell").get("content", {}).get("allow_stdin"))


def explore_quantization(values: torch.Tensor, name: str = "activation") -> Explorer:
    """Choose scheme, bits and clipping of real values; see their histogram, codes and SQNR.

    Parameters
    ----------
    values : torch.Tensor
        Floating point, any shape. Of more than 524,288 values the smallest, the largest and
        equally many between them in order of size are taken; the sentence then says so.
    name : str
        What they are, for the axis.
    """
    values = values.detach().float().cpu().flatten().sort().values
    given = len(values)
    if given > MOST_VALUES:
        places = torch.linspace(0, given - 1, MOST_VALUES, dtype=torch.float64)
        values = values[places.round().long()]
    sampled = f" Seen are {len(values):,} of {given:,} values." if given > len(values) else ""
    edges = torch.linspace(values[0].item(), values[-1].item(), 101)
    counts = torch.histc(values, 100) / len(values) * 100

    def draw(symmetric: bool, bits: int, percentile: float) -> tuple[Figure, str]:
        keep, half = round((len(values) - 1) * percentile / 100), 2**bits // 2
        low, high = min(values[-1 - keep].item(), 0), max(values[keep].item(), 0)
        if symmetric:
            low, high = -max(-low, high), max(-low, high)
        scale = max(high - low, 1e-12) / (2 * half - 1)
        zero_point = 0 if symmetric else round(-half - low / scale)
        codes = (values / scale).round().add(zero_point).clamp(-half, half - 1)
        back = (codes - zero_point) * scale
        noise, usage = (values - back).square(), torch.histc(codes, 2 * half, -half, half)
        clipped = noise[(values < low - scale / 2) | (values > high + scale / 2)].sum()
        share = (clipped / noise.sum().clamp(min=1e-30)).item()
        figure, (left, right) = new_figure(1, 2, figsize=(10, 3.2))
        left.stairs(counts, edges, fill=True, color=SKY)
        left.axvspan(low, high, color=VERMILLION, alpha=0.2, label=f"range of the {2 * half} codes")
        left.set(title="Histogram", xlabel=name)
        edges_of_codes = torch.arange(-half, half + 1) - 0.5
        right.stairs(100 / len(values) * usage, edges_of_codes, fill=True, color=SKY)
        right.axvline(zero_point, color=BLACK, linestyle="--", label="zero point")
        right.set(title="Codes that occur", xlabel="code")
        for axes in (left, right):
            axes.set(ylabel="share of values (%)", yscale="log")
            axes.legend(frameon=False, loc="upper right")
        plain_log_ticks(left, right)
        return figure, (
            f"SQNR {sqnr(values, back):.1f} dB with scale {scale:.4g} and zero point {zero_point}; "
            f"{int((usage > 0).sum())} distinct codes of {2 * half} occur. "
            f"{share:.0%} of the noise is clipping, {1 - share:.0%} rounding.{sampled}"
        )

    keep = {"description": "percentile kept", "step": 0.5} | WIDE
    return Explorer(
        draw,
        symmetric=widgets.Checkbox(description="symmetric scheme", indent=False),
        bits=widgets.IntSlider(8, min=2, max=8, description="bits", **WIDE),
        percentile=widgets.FloatSlider(100, min=90, max=100, **keep),
    )


def browse_layers(
    prepared: fx.GraphModule,
    sqnr_by_layer: dict[str, float] | None = None,
    evidence: Evidence | None = None,
) -> Explorer:
    """Pick a layer: what its observer saw, its scale and zero point, and what became of it.

    Parameters
    ----------
    prepared : torch.fx.GraphModule
        Calibrated; of a converted model a copy that was made before ``convert_pt2e``.
    sqnr_by_layer : dict of str to float, optional
        From `xpuqlib.proof.layer_sqnr`, in dB.
    evidence : Evidence, optional
        Says whether the layer became an int8 kernel.
    """
    found = observers(prepared)
    watching = {
        layer_name(node): found[node.args[0].target]
        for node in prepared.graph.nodes
        if layer_kind(node) and node.args[0].target in found
    }
    qparams = {  # once: a histogram observer searches for them each time
        layer: tuple(value.item() for value in observer.calculate_qparams())
        for layer, observer in watching.items()
    }
    became = {layer.name: layer for layer in evidence.layers} if evidence else {}

    def draw(layer: str) -> tuple[Figure, str]:
        scale, zero_point = qparams[layer]
        low, high = watching[layer].min_val.item(), watching[layer].max_val.item()
        text = f"Input of {layer}: {low:.3g} to {high:.3g}, scale {scale:.4g}, zero point "
        text += f"{zero_point}."
        if sqnr_by_layer and layer in sqnr_by_layer:
            text += f" SQNR of its output against fp32: {sqnr_by_layer[layer]:.1f} dB."
        if layer in became:
            text += f" {'An' if became[layer].generated else 'No'} int8 kernel runs it."
        return figures.draw_observer(watching, layer, scale, zero_point), text

    layers = list(watching)
    start = {"value": layers[len(layers) // 2], "description": "layer"} | WIDE
    return Explorer(draw, layer=widgets.SelectionSlider(options=layers, **start))


def compare_recipes(
    table: pandas.DataFrame,
    title: str,
    errors: pandas.DataFrame | None = None,
    ran: dict[str, str] | None = None,
    baseline: str | None = None,
) -> Explorer:
    """Choose recipes, and see their numbers side by side.

    Parameters
    ----------
    table : pandas.DataFrame
        One row a recipe, one column a quantity, with its unit in its name.
    title : str
    errors : pandas.DataFrame, optional
        Half widths of error bars, for some of the columns.
    ran : dict of str to str, optional
        What ran in each row, which gives its colour: ``int8``, ``bf16``, ``fp32``.
    baseline : str, optional
        The row that times are compared with, as long as it is chosen.
    """
    labels = {f"recipe_{number}": label for number, label in enumerate(table.index)}

    def draw(**chosen: bool) -> tuple[Figure, str]:
        rows = [label for name, label in labels.items() if chosen[name]]
        said = "" if rows else "None is chosen: all are shown. "
        rows = rows or list(table.index)
        said += f"{len(rows)} of {len(table)} recipes: {', '.join(rows)}."
        shown = baseline if baseline in rows else None
        return draw_bars(table.loc[rows], title, errors=errors, ran=ran, baseline=shown), said

    box = {"value": True, "indent": False}
    boxes = {n: widgets.Checkbox(description=label, **box) for n, label in labels.items()}
    return Explorer(draw, **boxes)
