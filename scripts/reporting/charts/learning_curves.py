"""Charts of learning curves: training and validation by epoch, for each candidate or for the final networks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import altair as alt

from scripts.reporting.figures import ChartedRow, Figure, Panel, Spec, chart, rule, specification, thinned
from scripts.storage.extended_record import Configuration
from scripts.storage.record_base import Curve
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
    "that falls while validation loss rises is overfitting; {line}s that are far apart mean that the result depends on "
    "{why}."
)


def learning_curve_figure(configurations: Sequence[Configuration], constant: float) -> Figure | None:
    """Training and validation loss and validation accuracy of each candidate and fold, two panels a candidate."""
    groups = {
        f"trial {c.trial_number}": {f"fold {fold.fold}": fold.history for fold in c.folds}
        for c in configurations[:_MAX_CANDIDATES]
    }
    reading = _READING.format(line="fold", why="the period tested")
    reading += " The dashed grey line is the accuracy of the best constant."
    return _figure("learning_curves", "Loss and accuracy by epoch", reading, groups, constant)


def final_curve_figure(seeds: Sequence[SeedCurves]) -> Figure | None:
    """Learning curves of the final model's networks on the split that found their best epoch."""
    groups = {"hold-out": {f"seed {k}": seed.history for k, seed in enumerate(seeds)}}
    reading = _READING.format(line="seed", why="the random initial weights")
    reading += " Each network was then trained on all development rows, up to the epoch that was best here."
    return _figure("final_curves", "Loss and accuracy of the final networks by epoch", reading, groups, None)


def _figure(
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
