"""Charts of phases 1 and 2: learning curves, what mattered, and whether short trials foretold long ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
from scipy import stats

from scripts.reporting.figures import (
    BLUE,
    GREY,
    Figure,
    Panel,
    Row,
    chart,
    percent_tooltip,
    rule,
    specification,
    stage_encoding,
    thinned,
    words,
)

_MAX_CANDIDATES = 8
_MAX_SLICES = 16


def learning_curve_figure(configurations: Sequence[Row], constant: float | None) -> Figure | None:
    """Training and validation loss and validation accuracy of each candidate and fold, two panels a candidate."""
    rows = [row for c in configurations[:_MAX_CANDIDATES] for row in _curve_rows(c)]
    if not rows:
        return None
    panels = []
    for trial, (measure, title, form) in itertools.product(dict.fromkeys(r["trial"] for r in rows), _MEASURES):
        # Equal limits everywhere, so that candidates can be compared by eye.
        values = [r["value"] for r in rows if r["measure"] == measure]
        if own := [r for r in rows if r["trial"] == trial and r["measure"] == measure]:
            baseline = constant if measure == "accuracy" else None
            domain = (min(values), max(values))
            panels.append(Panel(f"{trial}: {title.split(' (')[0]}", _curve(own, title, form, domain, baseline)))
    reading = (
        "Solid is validation, dashed is training, one colour per fold; all candidates have the same limits. Training "
        "loss that falls while validation loss rises is overfitting; folds that lie far apart mean that the number "
        "depends on the period tested."
    )
    reading += " The dashed grey line is the accuracy of always answering one class." if constant is not None else ""
    return Figure("learning_curves", "Loss and accuracy by epoch", reading, tuple(panels))


_SERIES = (
    ("train_loss", "loss", "training"),
    ("val_loss", "loss", "validation"),
    ("val_accuracy", "accuracy", "validation"),
)
_MEASURES = (("loss", "cross-entropy loss (nats)", ".3f"), ("accuracy", "validation accuracy", ".1%"))


def _curve_rows(configuration: Row) -> Iterator[dict[str, Any]]:
    for fold in configuration.get("folds") or ():
        where = {"trial": f"trial {configuration.get('trial_number', '?')}", "fold": f"fold {fold.get('fold', '?')}"}
        for epoch in fold.get("history") or ():
            for key, measure, part in _SERIES:
                if epoch.get(key) is not None:
                    at = {"measure": measure, "set": part, "epoch": epoch.get("epoch"), "value": epoch[key]}
                    yield where | at


def _curve(
    rows: list[dict[str, Any]], title: str, form: str, domain: tuple[float, float], baseline: float | None
) -> dict[str, Any]:
    sets = alt.Scale(domain=["validation", "training"], range=[[1, 0], [4, 3]])
    kept = [{k: row[k] for k in ("fold", "set", "epoch", "value")} for row in thinned(rows)]
    lines = chart(kept, height=200).mark_line()
    lines = lines.encode(
        alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1)),
        alt.Y("value:Q", title=title, axis=alt.Axis(format=form), scale=alt.Scale(zero=False, domain=domain)),
        alt.Color("fold:N", title=None),
        alt.StrokeDash("set:N", legend=None, scale=sets),
        tooltip=["fold:N", "set:N", "epoch:Q", alt.Tooltip("value:Q", format=form)],
    )
    return specification([lines, *rule(baseline)], title)


def importance_figure(importance: Mapping[str, float]) -> Figure | None:
    """Share of the variation of phase 1's accuracy that each hyperparameter explains."""
    rows = [{"name": name, "share": share} for name, share in importance.items() if share is not None]
    if not rows:
        return None
    bars = (
        chart(rows, height=24 * len(rows) + 20)
        .mark_bar(color=BLUE)
        .encode(
            alt.X("share:Q", title="share of the explained variation", axis=alt.Axis(format=".0%", tickCount=6)),
            alt.Y("name:N", title=None, sort="-x"),
            tooltip=["name:N", percent_tooltip("share")],
        )
    )
    reading = (
        "The longer the bar, the more the accuracy of phase 1 changed with this hyperparameter over the ranges that "
        "were searched. A short bar does not mean that the hyperparameter never matters, only that it did not here."
    )
    panel = Panel("", specification([bars], "Importance of the hyperparameters"))
    return Figure("importance", "Importance of the hyperparameters", reading, (panel,))


def slice_figure(
    trials: Sequence[Row], importance: Mapping[str, float], constant: float | None, space: Mapping[str, Any]
) -> Figure | None:
    """Show validation accuracy against each hyperparameter, the most important first, on the scales of `space`."""
    usable = [t for t in trials if t.get("val_accuracy") is not None and t.get("state") != "failed"]
    kept = thinned(usable)
    names = sorted({n for t in kept for n in t.get("hyperparameters") or ()}, key=lambda n: (-importance.get(n, 0), n))
    panels = []
    for name in names:
        rows = [
            {"x": t["hyperparameters"][name], "accuracy": t["val_accuracy"], "stage": words(t.get("stage"))}
            for t in kept
            if (t.get("hyperparameters") or {}).get(name) is not None
        ]
        if len({str(row["x"]) for row in rows}) > 1:
            panels.append(Panel(name, _slice(name, rows, constant, _is_log(space.get(name)))))
    if not panels:
        return None
    reading = (
        "One chart per hyperparameter, the most important first; each mark is a trial of phase 1. Best marks that "
        "crowd at one edge of a range suggest widening it. The other hyperparameters vary too, so a trend here is a "
        "hint and no proof."
    )
    return Figure("slices", "Hyperparameters against validation accuracy", reading, tuple(panels[:_MAX_SLICES]))


def _is_log(dimension: Any) -> bool:
    return isinstance(dimension, Mapping) and bool(dimension.get("log"))


def _slice(name: str, rows: list[dict[str, Any]], constant: float | None, log: bool) -> dict[str, Any]:
    values = [row["x"] for row in rows]
    if any(isinstance(v, str | bool) for v in values):
        rows = [row | {"x": str(row["x"])} for row in rows]
        x = alt.X("x:N", title=name, axis=alt.Axis(labelAngle=0))
    elif len(set(values)) <= 6:
        x = alt.X("x:O", title=name, axis=alt.Axis(labelAngle=0))
    else:
        scale = alt.Scale(type="log", nice=False) if log and min(values) > 0 else alt.Scale(zero=False, nice=False)
        x = alt.X("x:Q", title=name, axis=alt.Axis(format="~g", tickCount=4, grid=not log), scale=scale)
    points = (
        chart(rows, height=160)
        .mark_point(opacity=0.7)
        .encode(
            x,
            alt.Y("accuracy:Q", title="validation accuracy", axis=alt.Axis(format=".1%"), scale=alt.Scale(zero=False)),
            *stage_encoding(rows),
            tooltip=[alt.Tooltip("x:N", title=name), percent_tooltip("accuracy"), "stage:N"],
        )
    )
    return specification([points, *rule(constant)], f"{name} against validation accuracy")


def rank_figure(configurations: Sequence[Row], trials: Sequence[Row]) -> Figure | None:
    """Rank of the candidates by phase 1 against their rank in phase 2, with Spearman's rank correlation."""
    short = {t.get("number"): t.get("val_accuracy") for t in trials}
    both = [(c.get("trial_number"), short.get(c.get("trial_number")), c.get("avg_accuracy")) for c in configurations]
    both = [b for b in both if b[1] is not None and b[2] is not None]
    if len(both) < 2:
        return None
    first, second = (stats.rankdata(-np.array([b[k] for b in both], dtype=float)) for k in (1, 2))
    rows = [
        {"trial": f"trial {b[0]}", "phase1": p, "phase2": q}
        for b, p, q in zip(both, first.tolist(), second.tolist(), strict=True)
    ]
    scale = alt.Scale(domain=[0.5, len(rows) + 0.5], reverse=True, nice=False)
    axis = alt.Axis(format="d", values=list(range(1, len(rows) + 1)))
    x = alt.X("phase1:Q", title="rank after phase 1 (1 is best)", scale=scale, axis=axis)
    y = alt.Y("phase2:Q", title="rank after phase 2", scale=scale, axis=axis)
    points = chart(rows).mark_point(size=90, color=BLUE).encode(x, y, tooltip=["trial:N", "phase1:Q", "phase2:Q"])
    labels = chart(rows).mark_text(align="left", dx=9, fontSize=12).encode(x, y, text="trial:N")
    ends = [{"phase1": 1, "phase2": 1}, {"phase1": len(rows), "phase2": len(rows)}]
    diagonal = chart(ends).mark_line(color=GREY, strokeDash=[4, 4]).encode(x, y)
    reading = (
        f"On the dashed line both phases agree. Spearman's rank correlation is {_spearman(first, second)} over "
        f"{len(rows)} candidates; near 1 the short trials foretold the long ones, near 0 they did not and a larger "
        "--top-n would be worth its epochs. So few points decide little."
    )
    panel = Panel("", specification([diagonal, points, labels], "Ranks of phases 1 and 2"))
    return Figure("ranks", "Did the short trials foretell the long ones?", reading, (panel,))


def _spearman(first: np.ndarray, second: np.ndarray) -> str:
    if len(set(first)) < 2 or len(set(second)) < 2:  # undefined when all are tied
        return "undefined (ties)"
    return f"{stats.spearmanr(first, second).statistic:.2f}"
