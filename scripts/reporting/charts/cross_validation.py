"""Charts of trained configurations: against naive rules, over the folds, ranks of both phases, learning curves."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import altair as alt
import numpy as np
from scipy import stats

from scripts.extended_training.out_of_fold import FoldSpan
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
    thinned,
)
from scripts.storage.extended_record import Configuration
from scripts.storage.record_base import Curve
from scripts.storage.records import Trial
from scripts.storage.result_records import SeedCurves

_MAX_CANDIDATES = 8
_SERIES = (
    ("train_loss", "loss", "training"),
    ("val_loss", "loss", "validation"),
    ("val_accuracy", "accuracy", "validation"),
)
_MEASURES = (("loss", "cross-entropy loss (nats)", ".3f"), ("accuracy", "validation accuracy", ".1%"))
_READING = (
    "Solid is validation, dashed is training, one colour per {line}; all charts have the same limits. Training loss "
    "that falls while validation loss rises is overfitting; distant {line}s mean that the result depends on "
    "{why}."
)


def skill_figure(configurations: Sequence[Configuration]) -> Figure | None:
    """Skill of each candidate over the best naive rule on the out-of-fold rows, with 95% intervals."""
    rows: list[ChartedRow] = [
        {"name": f"trial {c.trial_number}", "skill": c.skill, "low": bounds[0], "high": bounds[1]}
        for c in configurations[:_MAX_CANDIDATES]
        if c.skill is not None and (bounds := c.skill_ci95)
    ]
    if not rows:
        return None
    height = 26 * len(rows) + 20
    y = alt.Y("name:N", title=None, sort=[row["name"] for row in rows])
    axis = alt.Axis(format="+.1%", tickCount=6)
    x = alt.X("skill:Q", title="accuracy above best naive rule", axis=axis)
    points = chart(rows, height=height).mark_point(color=BLUE, size=90)
    points = points.encode(x, y, tooltip=["name:N", *map(percent_tooltip, ("skill", "low", "high"))])
    bars = chart(rows, height=height).mark_rule(color=BLUE, strokeWidth=2)
    bars = bars.encode(alt.X("low:Q"), y, alt.X2("high:Q"))
    reading = (
        "Right of the dashed line a candidate is more accurate than the best naive rule, on rows that it "
        "was not trained on; bars are 95% intervals by blocks of dates. The best of several is biased upwards: "
        "see the multiple-testing correction."
    )
    panel = Panel("", specification([bars, points, *rule(0.0, vertical=True)], "Skill of the candidates"))
    return Figure("skill", "Candidates against the best naive rule", reading, (panel,))


def fold_figure(configurations: Sequence[Configuration], spans: Sequence[FoldSpan], chosen: int) -> Figure | None:
    """Accuracy of the candidates on each fold, over the dates that the fold tests where there are dates.

    Parameters
    ----------
    chosen : int
        Trial number of the chosen one.
    """
    by_fold = {span.fold: span for span in spans}
    rows = [
        _fold_row(by_fold[f.fold], f.accuracy, "chosen" if c.trial_number == chosen else "others")
        | {"trial": f"trial {c.trial_number}"}
        for c in configurations
        for f in c.folds
        if f.accuracy is not None and f.fold in by_fold
    ]
    if not rows:
        return None
    constants = [_fold_row(s, s.best_constant, "best constant") | {"trial": "best constant"} for s in spans]
    rows = [*rows, *constants]
    dated = all(span.first_date for span in spans)
    spec = _folds_over_time(rows) if dated else _folds_by_number(rows)
    reading = (
        "Each bar is a fold, as wide as its tested dates; each line is a candidate or the best constant of "
        "that fold. A lead in a single period may not last."
        if dated
        else "Each column is a fold, each mark is a candidate or the best constant of that fold. A lead in a "
        "single fold may be chance."
    )
    return Figure("folds", "Accuracy of each fold", reading, (Panel("", spec),))


def _fold_row(span: FoldSpan, accuracy: float, kind: str) -> ChartedRow:
    dates = {"first": span.first_date, "last": span.last_date}
    return {"fold": span.fold, "accuracy": accuracy, "kind": kind, **dates}


def _folds_over_time(rows: Sequence[ChartedRow]) -> Spec:
    utc = alt.Scale(type="utc")
    x = alt.X("first:T", title="dates tested", axis=alt.Axis(format="%b %Y", tickCount=5), scale=utc)
    return specification(
        [
            chart(selected)
            .mark_rule(strokeWidth=width)
            .encode(x, _FOLD_Y, alt.X2("last:T"), colour, tooltip=_FOLD_TOOLTIP)
            for selected, width, colour in _by_kind(rows)
        ],
        "Accuracy by fold over time",
    )


def _folds_by_number(rows: Sequence[ChartedRow]) -> Spec:
    x = alt.X("fold:O", title="fold", axis=alt.Axis(labelAngle=0))
    return specification(
        [
            chart(selected).mark_tick(thickness=width, width=40).encode(x, _FOLD_Y, colour, tooltip=_FOLD_TOOLTIP)
            for selected, width, colour in _by_kind(rows)
        ],
        "Accuracy by fold",
    )


_FOLD_Y = alt.Y("accuracy:Q", title="accuracy", axis=alt.Axis(format=".1%"), scale=alt.Scale(zero=False))
_FOLD_TOOLTIP = ["trial:N", "fold:O", percent_tooltip("accuracy")]
_FOLD_KINDS = {"others": (GREY, 1.5), "best constant": (ORANGE, 2.5), "chosen": (BLUE, 4.0)}  # the last on top


def _by_kind(rows: Sequence[ChartedRow]) -> Iterator[tuple[list[ChartedRow], float, alt.Color]]:
    """Rows of each kind with the width of their lines and the colours of all."""
    present = [kind for kind in _FOLD_KINDS if any(row["kind"] == kind for row in rows)]
    colours = alt.Scale(domain=present, range=[_FOLD_KINDS[kind][0] for kind in present])
    for kind in present:
        selected = [row for row in rows if row["kind"] == kind]
        yield selected, _FOLD_KINDS[kind][1], alt.Color("kind:N", title=None, scale=colours)


def rank_figure(configurations: Sequence[Configuration], trials: Sequence[Trial]) -> Figure | None:
    """Rank of the candidates by phase 1 against their rank in phase 2, with Spearman's rank correlation."""
    short = {t.number: t.val_accuracy for t in trials}
    both = [(c.trial_number, short.get(c.trial_number), c.avg_accuracy) for c in configurations]
    both = [b for b in both if b[1] is not None]
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
        f"{len(rows)} candidates; near 1, short trials predict long ones; near 0, a larger "
        "--top-n may help. Few points give an uncertain estimate."
    )
    panel = Panel("", specification([diagonal, points, labels], "Ranks of phases 1 and 2"))
    return Figure("ranks", "Agreement of phases 1 and 2", reading, (panel,))


def _spearman(first: np.ndarray, second: np.ndarray) -> str:
    if len(set(first)) < 2 or len(set(second)) < 2:  # undefined if all are tied
        return "undefined (ties)"
    return f"{stats.spearmanr(first, second).statistic:.2f}"


def learning_curve_figure(configurations: Sequence[Configuration], constant: float) -> Figure | None:
    """Training and validation loss and validation accuracy of each candidate and fold, two panels a candidate."""
    groups = {
        f"trial {c.trial_number}": {f"fold {fold.fold}": fold.history for fold in c.folds}
        for c in configurations[:_MAX_CANDIDATES]
    }
    reading = _READING.format(line="fold", why="the period tested")
    reading += " The dashed grey line is the accuracy of the best constant."
    return _curves_figure("learning_curves", "Loss and accuracy by epoch", reading, groups, constant)


def final_curve_figure(seeds: Sequence[SeedCurves]) -> Figure | None:
    """Learning curves of the final model's networks on the split that found their best epoch."""
    groups = {"hold-out": {f"seed {k}": seed.history for k, seed in enumerate(seeds)}}
    reading = _READING.format(line="seed", why="the random initial weights")
    reading += " Each network was then trained on all development rows, up to the epoch that was best here."
    return _curves_figure("final_curves", "Loss and accuracy of the final networks by epoch", reading, groups, None)


def _curves_figure(
    name: str, title: str, reading: str, groups: Mapping[str, Mapping[str, Curve]], constant: float | None
) -> Figure | None:
    rows: list[ChartedRow] = [
        {"group": group, "line": line} | at
        for group, lines in groups.items()
        for line, history in lines.items()
        for at in _points(history)
    ]
    panels = []
    for group, (measure, title_of_axis, form) in itertools.product(dict.fromkeys(r["group"] for r in rows), _MEASURES):
        # Equal limits everywhere, so that candidates can be compared by eye.
        values = [r["value"] for r in rows if r["measure"] == measure]
        if own := [r for r in rows if r["group"] == group and r["measure"] == measure]:
            baseline = constant if measure == "accuracy" else None
            heading = f"{group}: {title_of_axis.split(' (')[0]}"
            panels.append(Panel(heading, _curve(own, title_of_axis, form, (min(values), max(values)), baseline)))
    return Figure(name, title, reading, tuple(panels)) if panels else None


def _points(history: Curve) -> Iterator[ChartedRow]:
    for epoch in history:
        for key, measure, part in _SERIES:
            if (value := getattr(epoch, key)) is not None:
                yield {"measure": measure, "set": part, "epoch": epoch.epoch, "value": value}


def _curve(rows: list[ChartedRow], title: str, form: str, domain: tuple[float, float], baseline: float | None) -> Spec:
    sets = alt.Scale(domain=["validation", "training"], range=[[1, 0], [4, 3]])
    kept = [{k: row[k] for k in ("line", "set", "epoch", "value")} for row in thinned(rows)]
    lines = chart(kept, height=200).mark_line()
    lines = lines.encode(
        alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1)),
        alt.Y("value:Q", title=title, axis=alt.Axis(format=form), scale=alt.Scale(zero=False, domain=domain)),
        alt.Color("line:N", title=None),
        alt.StrokeDash("set:N", legend=None, scale=sets),
        tooltip=["line:N", "set:N", "epoch:Q", alt.Tooltip("value:Q", format=form)],
    )
    return specification([lines, *rule(baseline)], title)
