"""Charts of hyperparameters in phase 1: importance, parallel coordinates, and each range with its bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from scripts.config.search_space import (
    Choices,
    Dimension,
    FloatRange,
    IntRange,
    Scalar,
    SearchSpace,
    Values,
)
from scripts.reporting.figures import (
    BLUE,
    GREY,
    ORANGE,
    ChartedRow,
    Figure,
    Panel,
    Spec,
    chart,
    percent_tooltip,
    rule,
    specification,
    stage_encoding,
    thinned,
    words,
)
from scripts.storage.records import Trial
from scripts.tuning.next_search_space import edge_of

_MAX_SLICES = 16
_MAX_AXES = 5  # of the parallel coordinates, besides the accuracy
_MAX_LINES = 150


def importance_figure(importance: Mapping[str, float]) -> Figure | None:
    """Share of the variation of phase 1's accuracy that each hyperparameter explains."""
    rows = [{"name": name, "share": share} for name, share in importance.items()]
    if not rows:
        return None
    bars = (
        chart(rows, height=24 * len(rows) + 20)
        .mark_bar(color=BLUE)
        .encode(
            alt.X("share:Q", title="share explained", axis=alt.Axis(format=".0%", tickCount=6)),
            alt.Y("name:N", title=None, sort="-x"),
            tooltip=["name:N", percent_tooltip("share")],
        )
    )
    reading = (
        "A bar is the share of the variance of phase 1's accuracy that a hyperparameter explains over the ranges that "
        "were searched. A short bar applies to these ranges only."
    )
    panel = Panel("", specification([bars], "Importance of the hyperparameters"))
    return Figure("importance", "Importance of the hyperparameters", reading, (panel,))


def slice_figure(
    trials: Sequence[Trial],
    importance: Mapping[str, float],
    constant: float,
    space: SearchSpace,
    chosen: Values,
) -> Figure | None:
    """Show validation accuracy against each hyperparameter, the most important first, with the bounds of its range.

    Parameters
    ----------
    importance : mapping
        Share of the explained variation by hyperparameter.
    constant : float
        Accuracy of the best constant.
    chosen : mapping
        Hyperparameters of the chosen configuration, marked in each chart.
    """
    kept = thinned(trials)
    panels = []
    for name in _ordered_names(kept, importance):
        rows = [
            {"x": t.hyperparameters[name], "accuracy": t.accuracy, "stage": words(t.stage)}
            for t in kept
            if name in t.hyperparameters
        ]
        if len({str(row["x"]) for row in rows}) > 1:
            edge = _edge(space.get(name), chosen.get(name))
            heading = f"{name}: the chosen value is on the {edge} edge" if edge else name
            panels.append(Panel(heading, _slice(name, rows, constant, space.get(name), chosen.get(name))))
    if not panels:
        return None
    reading = (
        "One chart per hyperparameter, the most important first; each mark is a trial of phase 1. Vertical lines are "
        "the bounds of the range, the orange one is the chosen value: if it is on a bound, a wider range may contain "
        "better ones. The other hyperparameters vary too, so a trend here is a hint, not proof."
    )
    return Figure("slices", "Hyperparameters against validation accuracy", reading, tuple(panels[:_MAX_SLICES]))


def _ordered_names(trials: Sequence[Trial], importance: Mapping[str, float]) -> list[str]:
    names = {name for t in trials for name in t.hyperparameters}
    return sorted(names, key=lambda name: (-importance.get(name, 0.0), name))


def _bounds(dimension: Dimension | None) -> tuple[float, float] | None:
    """Minimum and maximum of a range or of choices that are numbers."""
    if isinstance(dimension, FloatRange | IntRange):
        return dimension.low, dimension.high
    if not isinstance(dimension, Choices):
        return None
    numbers = [c for c in dimension.choices if isinstance(c, int | float) and not isinstance(c, bool)]
    return (min(numbers), max(numbers)) if len(numbers) == len(dimension.choices) > 1 else None


def _is_log(dimension: Dimension | None) -> bool:
    return isinstance(dimension, FloatRange | IntRange) and dimension.log


def _edge(dimension: Dimension | None, value: Scalar | None) -> str | None:
    """Return the edge of its range that a value is on, if any."""
    bounds = _bounds(dimension)
    if bounds is None or not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return edge_of(value, *bounds, log=_is_log(dimension))


def _slice(
    name: str, rows: list[ChartedRow], constant: float, dimension: Dimension | None, chosen: Scalar | None
) -> Spec:
    values, bounds = [row["x"] for row in rows], _bounds(dimension)
    if any(isinstance(v, str | bool) for v in values):
        rows, bounds, chosen = [row | {"x": str(row["x"])} for row in rows], None, None
        x = alt.X("x:N", title=name, axis=alt.Axis(labelAngle=0, labelLimit=70))
    elif len(set(values)) <= 6:
        x = alt.X("x:O", title=name, axis=alt.Axis(labelAngle=0))
    else:
        log = _is_log(dimension) and min([*values, *(bounds or ())]) > 0
        scale = alt.Scale(type="log", nice=False) if log else alt.Scale(zero=False, nice=False)
        x = alt.X("x:Q", title=name, axis=alt.Axis(format="~g", tickCount=4, grid=not log), scale=scale)
    y = alt.Y("accuracy:Q", title="validation accuracy", axis=alt.Axis(format=".1%"), scale=alt.Scale(zero=False))
    tooltip = [alt.Tooltip("x:N", title=name), percent_tooltip("accuracy"), "stage:N"]
    points = chart(rows, height=160).mark_point(opacity=0.7).encode(x, y, *stage_encoding(rows), tooltip=tooltip)
    lines = [_upright(x, list(bounds), GREY)] if bounds else []
    lines += [_upright(x, [chosen], ORANGE)] if isinstance(chosen, int | float) else []
    return specification([points, *lines, *rule(constant)], f"{name} against validation accuracy")


def _upright(x: alt.X, places: Sequence[float], colour: str) -> alt.Chart:
    rows = [{"x": place} for place in places]
    return alt.Chart(alt.InlineData(values=rows)).mark_rule(color=colour, strokeWidth=1.5).encode(x)


def parallel_figure(
    trials: Sequence[Trial], importance: Mapping[str, float], space: SearchSpace, chosen: int
) -> Figure | None:
    """Show the best trials as lines over one axis per hyperparameter, the most important first, and accuracy last.

    Parameters
    ----------
    chosen : int
        Number of the trial whose line is drawn on top; others as for `slice_figure`.
    """
    usable = sorted(trials, key=lambda t: -t.accuracy)[:_MAX_LINES]
    names = [n for n in _ordered_names(usable, importance) if len({str(v) for v in _values(usable, n)}) > 1]
    names = names[:_MAX_AXES]
    if len(usable) < 3 or not names:
        return None
    axes = [_Axis.of(name, _values(usable, name), space.get(name)) for name in names]
    axes.append(_Axis.of("accuracy", [t.accuracy for t in usable], None, ".1%"))
    reading = (
        "Each line is a trial of phase 1, from one vertical axis per hyperparameter, the most important first, to its "
        "accuracy; redder is more accurate, and the thick line is the chosen trial. Where good lines meet, they agree "
        "on a value; where they spread over the axis, it is unimportant. A gap is a hyperparameter that does not apply."
    )
    if len(trials) > len(usable):
        reading += f" The best {len(usable)} trials are shown."
    panel = Panel("", _parallel(usable, axes, chosen))
    return Figure("parallel", "Trials over all hyperparameters at once", reading, (panel,))


def _values(trials: Sequence[Trial], name: str) -> list[Scalar]:
    return [t.hyperparameters[name] for t in trials if name in t.hyperparameters]


class _Axis:
    """Vertical axis: position of each value between 0 and 1, and its labels."""

    def __init__(self, name: str, places: Mapping[Any, float], labels: Mapping[float, str], numeric: Any) -> None:
        self.name, self._places, self.labels, self._numeric = name, places, labels, numeric

    @classmethod
    def of(cls, name: str, values: Sequence[Any], dimension: Any, form: str = ".2g") -> _Axis:
        """Return the axis of `values`; ranges keep their bounds and scale, other values are spread evenly."""
        if any(isinstance(v, str | bool) for v in values) or len(set(values)) <= 4:
            distinct = sorted(set(values), key=lambda v: (str(type(v)), v))
            places = {v: (k + 0.5) / len(distinct) for k, v in enumerate(distinct)}
            return cls(name, places, {place: str(v) for v, place in places.items()}, None)
        low, high = _bounds(dimension) or (min(values), max(values))
        low, high = min(low, *values), max(high, *values)
        log = _is_log(dimension) and low > 0
        return cls(name, {}, {0.0: format(low, form), 1.0: format(high, form)}, (low, high, log))

    def place(self, value: Any) -> float | None:
        """Height of a value; None for none."""
        if value is None:
            return None
        if self._numeric is None:
            return self._places.get(value)
        low, high, log = self._numeric
        to = math.log if log else float
        return (to(value) - to(low)) / (to(high) - to(low))


def _parallel(trials: Sequence[Trial], axes: Sequence[_Axis], chosen: int) -> Spec:
    rows = []
    for t in reversed(trials):  # the best on top
        values = {**t.hyperparameters, "accuracy": t.accuracy}
        for axis in axes:
            place = axis.place(values.get(axis.name))
            rows.append({"trial": t.number, "axis": axis.name, "place": place and round(place, 4)}
                        | {"accuracy": round(t.accuracy, 5)})  # fmt: skip
    x = alt.X("axis:N", title=None, sort=[a.name for a in axes], axis=alt.Axis(labelAngle=-30, grid=False))
    y = alt.Y("place:Q", title=None, axis=None, scale=alt.Scale(domain=[-0.08, 1.08], nice=False))
    colour = alt.Color("accuracy:Q", title="validation accuracy", scale=alt.Scale(range=[BLUE, GREY, "#e5484d"]),
                       legend=alt.Legend(format=".1%", tickCount=4, gradientLength=160))  # fmt: skip
    tooltip = ["trial:Q", percent_tooltip("accuracy")]
    lines = chart(rows, height=300).mark_line(opacity=0.55, strokeWidth=1.2)
    layers = [lines.encode(x, y, colour, detail="trial:N", tooltip=tooltip)]
    if selected := [row for row in rows if row["trial"] == chosen]:
        layers.append(chart(selected, height=300).mark_line(strokeWidth=4).encode(x, y, colour, tooltip=tooltip))
    marks = [{"axis": a.name, "place": place, "text": text} for a in axes for place, text in a.labels.items()]
    stems = [{"axis": a.name, "place": 0.0, "end": 1.0} for a in axes]
    layers.append(chart(stems, height=300).mark_rule(color=GREY).encode(x, y, alt.Y2("end:Q")))
    text = chart(marks, height=300).mark_text(fontSize=11, dx=4, align="left", limit=48, baseline="bottom")
    layers.append(text.encode(x, y, text="text:N"))
    return specification(layers, "Trials of phase 1 in parallel coordinates")
