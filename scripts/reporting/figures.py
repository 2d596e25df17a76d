"""Base of all charts: figures, Vega-Lite specifications, colours, and SVG files."""

from __future__ import annotations

import itertools
import resource
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np
import vl_convert
from scipy import stats

from scripts.config.search_space import PlainValues
from scripts.storage.durable_files import write_bytes
from scripts.storage.printable import printable, printable_values

Spec = PlainValues  # of Vega-Lite
ChartedRow = PlainValues  # of the data of a chart
_STAGES = ("random", "bayesian", "fine tune")

MAX_POINTS = 1200
NO_PICTURES = "note: no SVG files were written, because ulimit -v is below 100 GB; the page has all charts"
_ADDRESS_SPACE = 100 * 10**9  # bytes
# Each colour has a contrast of at least 3:1 against both the light and the dark background.
BLUE, ORANGE, GREEN, PURPLE, PINK, GREY = "#3b82d6", "#d9730d", "#2e9e5b", "#9b6bdf", "#d6457f", "#7d8590"
_CONFIG: Spec = {
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelSeparation": 6,
        # A phone; false for the files, which are drawn without a page.
        "labelLimit": {"expr": "containerSize()[0] < 480 ? 120 : 240"},
    },
    # Half of a date's label may overlap to the right.
    "padding": {"left": 5, "top": 5, "right": 24, "bottom": 5},
    "legend": {
        "orient": "bottom",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "columns": 2,  # what fits a phone; were it to depend on the width, a new row would find no room
        "labelLimit": 150,
    },
    "range": {"category": [BLUE, ORANGE, GREEN, PURPLE, PINK, GREY]},
    "point": {"size": 45, "filled": True, "opacity": 0.9},
    "line": {"strokeWidth": 1.8},
}


@dataclass(frozen=True)
class Panel:
    """One chart of a figure: its heading (may be empty) and its Vega-Lite specification."""

    heading: str
    spec: Spec

    def __post_init__(self) -> None:
        object.__setattr__(self, "heading", printable(self.heading))
        object.__setattr__(self, "spec", printable_values(self.spec))


@dataclass(frozen=True)
class Figure:
    """One or more charts with a common name (fit for a file), title and instruction for reading."""

    name: str
    title: str
    reading: str
    panels: tuple[Panel, ...]


def wilson(share: float, n: int) -> list[float]:
    """Return the 95% interval of a share of n independent rows (Wilson 1927)."""
    interval = stats.binomtest(round(share * n), n).proportion_ci(method="wilson")
    return [float(interval.low), float(interval.high)]


def chart(rows: Sequence[ChartedRow], height: int = 240) -> alt.Chart:
    """Begin a chart of `rows` that is as wide as its place and `height` pixels high."""
    return alt.Chart({"values": [dict(row) for row in rows]}, width="container", height=height)


def specification(layers: Sequence[alt.Chart], description: str) -> Spec:
    """Put layers on top of each other; `description` is the text for screen readers."""
    whole = alt.layer(*layers) if len(layers) > 1 else layers[0]
    height = next(layer.height for layer in layers if layer.height is not alt.Undefined)
    spec: Spec = whole.properties(description=description, width="container", height=height).to_dict()
    return spec | {"config": _CONFIG, "background": "transparent", "autosize": {"type": "fit-x", "contains": "padding"}}


def rule(value: float | None, *, vertical: bool = False) -> list[alt.Chart]:
    """Draw a dashed line at a baseline; no layer without one."""
    if value is None:
        return []
    channel = alt.X if vertical else alt.Y
    encoding = {"x" if vertical else "y": channel("value:Q")}
    rows = [{"value": value}]
    rule = alt.Chart(alt.InlineData(values=rows)).mark_rule(color=GREY, strokeDash=[4, 4]).encode(**encoding)
    return [rule]


def percent_tooltip(field: str) -> alt.Tooltip:
    """Show a fraction as a percentage on hovering."""
    return alt.Tooltip(f"{field}:Q", format=".2%")


def words(value: Any) -> str:
    """Write an identifier such as fine_tune as words."""
    return str(value or "unknown").replace("_", " ")


def stage_encoding(rows: Sequence[ChartedRow]) -> tuple[alt.Color, alt.Shape]:
    """Colour and shape by stage of the search, in the order in which the stages run."""
    present = {row["stage"] for row in rows}
    domain = [s for s in _STAGES if s in present] + sorted(present - set(_STAGES))
    scale = alt.Scale(domain=domain)
    return alt.Color("stage:N", title=None, scale=scale), alt.Shape("stage:N", title=None, scale=scale)


def spread(n: int) -> list[int]:
    """Choose at most MAX_POINTS indices of n, evenly spread, first and last among them."""
    return sorted(set(np.linspace(0, n - 1, min(n, MAX_POINTS)).round().astype(int).tolist())) if n else []


def thinned(rows: Sequence[Any], keep: Sequence[bool] = ()) -> list[Any]:
    """Keep at most MAX_POINTS rows evenly spread, besides those marked in `keep`."""
    chosen = set(spread(len(rows))) | {k for k, kept in enumerate(keep) if kept}
    return list(itertools.compress(rows, (k in chosen for k in range(len(rows)))))


def can_draw() -> bool:
    """Return True if charts can be written as pictures here.

    JavaScript's engine reserves a large part of the address space, and ends the process where a limit forbids that.
    """
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return limit in (resource.RLIM_INFINITY, -1) or limit >= _ADDRESS_SPACE


def write_svg(folder: Path, figures: Iterable[Figure]) -> list[Path]:
    """Write each chart as an SVG file on white, `NAME.svg` or `NAME-K.svg` where a figure has several; their paths."""
    written = []
    for figure in figures:
        for k, panel in enumerate(figure.panels, 1):
            suffix = f"-{k}" if len(figure.panels) > 1 else ""
            title = f"{figure.title}: {panel.heading}" if panel.heading else figure.title
            fixed = panel.spec | {"width": 560, "background": "white", "title": title}
            # No address is allowed, so that a chart cannot fetch anything.
            svg = vl_convert.vegalite_to_svg(fixed, allowed_base_urls=[])
            written.append(folder / f"{figure.name}{suffix}.svg")
            write_bytes(written[-1], svg.encode())
    return written
