"""Charts of the sealed test: comparison with naive rules, calibration, accuracy by part, decay and drift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import altair as alt

from scripts.reporting.figures import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    ChartedRow,
    Figure,
    Panel,
    Spec,
    chart,
    percent_tooltip,
    rule,
    specification,
    wilson,
)
from scripts.statistics.metrics import ReliabilityBin
from scripts.storage.score_records import Drift
from scripts.storage.trading_records import AgeBin, CoveragePoint

_KINDS = {"model": BLUE, "naive rule": ORANGE, "reference model": PURPLE, "ceiling": GREEN}
_BOUNDS = ("accuracy", "low", "high")
_DRIFTED = 0.25  # population stability index
_FEW = 5  # rows smaller calibration bins are uninformative and stretch the axes


@dataclass(frozen=True)
class ComparedAccuracy:
    """Accuracy of the model or of an opponent, with its 95% interval if known."""

    name: str
    kind: str
    accuracy: float
    bounds: Sequence[float] | None = None


@dataclass(frozen=True)
class PartAccuracy:
    """Accuracy on a part of the rows, with its 95% interval."""

    name: str
    accuracy: float
    bounds: Sequence[float]
    n_rows: int


def comparison_figure(compared: Sequence[ComparedAccuracy]) -> Figure | None:
    """Accuracy of the model compared with naive rules and reference models."""
    rows = [
        {"name": c.name, "kind": c.kind, "accuracy": c.accuracy}
        | dict(zip(("low", "high"), c.bounds or (None, None), strict=True))
        for c in compared
    ]
    height = 26 * len(rows) + 20
    kinds = [kind for kind in _KINDS if any(row["kind"] == kind for row in rows)]
    two_columns = alt.Legend(title=None, columns=2)
    colour = alt.Color(
        "kind:N", legend=two_columns, scale=alt.Scale(domain=kinds, range=[_KINDS[kind] for kind in kinds])
    )
    shape = alt.Shape("kind:N", legend=two_columns, scale=alt.Scale(domain=kinds))
    order = alt.Y("name:N", title=None, sort=[row.name for row in compared])
    axis, scale = alt.Axis(format=".1%", tickCount=6), alt.Scale(zero=False)
    x = alt.X("accuracy:Q", title="accuracy on the test rows", axis=axis, scale=scale)
    points = chart(rows, height=height).mark_point(size=90)
    points = points.encode(x, order, colour, shape, tooltip=["name:N", *map(percent_tooltip, _BOUNDS)])
    known = [row for row in rows if row["low"] is not None]
    bars = chart(known, height=height).mark_rule(strokeWidth=2)
    bars = bars.encode(alt.X("low:Q"), order, alt.X2("high:Q"), colour)
    reading = (
        "Further right is better; the bars are 95% intervals. A useful model is clearly to the "
        "right of every naive rule, which the paired interval above decides. The ceiling, if shown, is "
        "the best possible accuracy."
    )
    panel = Panel("", specification([bars, points] if known else [points], "Accuracies"))
    return Figure("comparison", "Model, naive rules and reference models", reading, (panel,))


def reliability_figure(bins: Sequence[ReliabilityBin]) -> Figure | None:
    """Accuracy against confidence."""
    shown = [b for b in bins if b.count >= _FEW] or bins
    if not shown:
        return None
    intervals = [asdict(b) | _low_and_high(wilson(b.accuracy, b.count)) for b in shown]
    values = [value for b in shown for value in (b.confidence, b.accuracy)]
    ends = [{"confidence": v, "accuracy": v} for v in (min(values), max(values))]
    axis, scale = alt.Axis(format=".0%", tickCount=6), alt.Scale(zero=False)
    x = alt.X("confidence:Q", title="probability of the predicted class", axis=axis, scale=scale)
    y = alt.Y("accuracy:Q", title="accuracy", axis=axis, scale=scale)
    diagonal = chart(ends).mark_line(color=GREY, strokeDash=[4, 4]).encode(x, y)
    bars = chart(intervals).mark_rule(color=BLUE).encode(x, alt.Y("low:Q"), alt.Y2("high:Q"))
    count = alt.Tooltip("count:Q", title="rows", format=",")
    dots = chart(intervals).mark_point(color=BLUE, size=70)
    dots = dots.encode(x, y, tooltip=[percent_tooltip("confidence"), percent_tooltip("accuracy"), count])
    reading = (
        "Marks on the dashed line are calibrated: of the predictions with 60%, 60% are correct. Marks "
        "below it mean overconfidence. Bars are 95% intervals for independent rows, so they are too short; "
        f"bins of fewer than {_FEW} rows are omitted."
    )
    panel = Panel("", specification([diagonal, bars, dots], "Reliability of the predicted probabilities"))
    return Figure("reliability", "Calibration", reading, (panel,))


def group_figure(name: str, title: str, parts: Sequence[PartAccuracy], naive: float) -> Figure | None:
    """Accuracy of parts of the test set (tickers, years) with 95% intervals.

    Parameters
    ----------
    name, title : str
        File name and heading.
    naive : float
        Accuracy of the best naive rule on the whole test set.
    """
    if len(parts) < 2:
        return None
    rows = [
        {"name": part.name, "accuracy": part.accuracy, "n_rows": part.n_rows} | _low_and_high(part.bounds)
        for part in parts
    ]
    y = alt.Y("name:N", title=None, sort=None)
    height = 20 * len(rows) + 20
    x = alt.X("accuracy:Q", title="accuracy", axis=alt.Axis(format=".1%", tickCount=6), scale=alt.Scale(zero=False))
    points = (
        chart(rows, height=height)
        .mark_point(color=BLUE)
        .encode(
            x,
            y,
            tooltip=[
                "name:N",
                percent_tooltip("accuracy"),
                percent_tooltip("low"),
                percent_tooltip("high"),
                "n_rows:Q",
            ],
        )
    )
    bars = chart(rows, height=height).mark_rule(color=BLUE).encode(alt.X("low:Q"), y, alt.X2("high:Q"))
    layers = [bars, points, *rule(naive, vertical=True)]
    reading = (
        "Bars are 95% intervals; one of twenty parts is outside its interval by chance alone, so only a pattern "
        "over many of them is meaningful. The dashed line is the best naive rule on the whole test set."
    )
    return Figure(name, title, reading, (Panel("", specification(layers, title)),))


def coverage_figure(curve: Sequence[CoveragePoint]) -> Figure | None:
    """Accuracy, and net return if available, against coverage."""
    measures = (
        ("accuracy of the answered rows", ".1%", [(p.coverage, p.accuracy, p.accuracy_ci95) for p in curve]),
        ("net return per date", ".2%", [(p.coverage, p.mean_net, p.mean_net_ci95) for p in curve]),
    )
    panels = []
    for title, form, points in measures:
        rows = [
            {"coverage": coverage, "value": value} | _low_and_high(bounds)
            for coverage, value, bounds in points
            if coverage and value is not None and bounds
        ]
        if len(rows) > 1:
            panels.append(Panel(title, _band_chart(rows, "coverage:Q", "coverage", title, form)))
    if not panels:
        return None
    reading = (
        "From right to left fewer rows are answered, those with the largest lead. If the curve rises to the left, "
        "confidence is informative. The band is a 95% interval at each point, not for the whole curve."
    )
    return Figure("coverage", "Coverage against accuracy and return", reading, tuple(panels))


def decay_figure(bins: Sequence[AgeBin]) -> Figure | None:
    """Skill against dates since training."""
    rows = [{"age": (p.first_age + p.last_age) / 2, "value": p.skill} | _low_and_high(p.skill_ci95) for p in bins]
    if len(rows) < 2:
        return None
    reading = (
        "Skill is accuracy minus that of the best naive rule; bars are 95% intervals by blocks of dates. A fall from "
        "left to right is skill decay; a single bar is not evidence."
    )
    x = alt.X("age:Q", title="dates since training", scale=alt.Scale(zero=True))
    y = alt.Y("value:Q", title="skill", axis=alt.Axis(format="+.1%"))
    points = chart(rows).mark_point(color=BLUE, size=80).encode(x, y, tooltip=["age:Q", percent_tooltip("value")])
    bars = chart(rows).mark_rule(color=BLUE).encode(x, alt.Y("low:Q"), alt.Y2("high:Q"))
    panel = Panel("", specification([bars, points, *rule(0.0)], "Skill by age of the model"))
    return Figure("decay", "Skill decay", reading, (panel,))


def drift_figure(drift: Sequence[Drift]) -> Figure | None:
    """Population stability index of each feature between development and test rows, the largest first."""
    if not drift:
        return None
    rows = [{"feature": d.feature, "psi": d.psi, "ks": d.ks} for d in drift]
    height = 20 * len(rows) + 20
    y = alt.Y("feature:N", title=None, sort=[d.feature for d in drift])
    x = alt.X("psi:Q", title="stability index", axis=alt.Axis(tickCount=6))
    bars = chart(rows, height=height).mark_bar(color=BLUE)
    bars = bars.encode(
        x, y, tooltip=["feature:N", alt.Tooltip("psi:Q", format=".3f"), alt.Tooltip("ks:Q", format=".3f")]
    )
    reading = (
        "A longer bar is more drift of the feature between development and test rows. By "
        f"convention, below 0.1 is small and above {_DRIFTED} (dashed line, if on the axis) is large: there the "
        "model extrapolates."
    )
    limit = rule(_DRIFTED, vertical=True) if max(d.psi for d in drift) > _DRIFTED / 2 else []
    panel = Panel("", specification([bars, *limit], "Feature drift"))
    return Figure("drift", "Feature drift", reading, (panel,))


def _low_and_high(bounds: Sequence[float]) -> dict[str, float]:
    return {"low": bounds[0], "high": bounds[1]}


def _band_chart(rows: Sequence[ChartedRow], field: str, x_title: str, y_title: str, form: str) -> Spec:
    x = alt.X(field, title=x_title, axis=alt.Axis(format=".0%"), scale=alt.Scale(domain=[0, 1]))
    axis, scale = alt.Axis(format=form), alt.Scale(zero=False)
    band = chart(rows).mark_area(color=BLUE, opacity=0.2).encode(x, alt.Y("low:Q", scale=scale), alt.Y2("high:Q"))
    line = chart(rows).mark_line(color=BLUE, point=True).encode(x, alt.Y("value:Q", title=y_title, axis=axis))
    return specification([band, line], y_title)
