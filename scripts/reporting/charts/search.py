"""Charts of the search of phase 1: best accuracy so far by cost, and the rungs that trials reached."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import altair as alt

from scripts.reporting.figures import (
    GREY,
    ChartedRow,
    Figure,
    Panel,
    chart,
    percent_tooltip,
    rule,
    specification,
    stage_encoding,
    thinned,
    words,
)
from scripts.reporting.page import Column, Table, number_cell, percent_cell, table
from scripts.storage.records import Trial, Trials

_MAX_TRIALS = 150  # shown in the chart of rungs, the best ones


@dataclass(frozen=True)
class Piece:
    """A piece of training without a pause in between.

    Attributes
    ----------
    split : int
        0 is the split that all trials are compared on.
    start, end : int
        Epochs of the run before and after it.
    """

    trial: Trial
    split: int
    start: int
    end: int

    @property
    def accuracy(self) -> float | None:
        """Best validation accuracy of the run up to here; None on other splits and of failed trials."""
        if self.split or self.trial.state == "failed":
            return None
        if not self.trial.history or self.end >= self.trial.epochs:
            return self.trial.val_accuracy
        seen = [epoch.val_accuracy for epoch in self.trial.history[: self.end]]
        return max((accuracy for accuracy in seen if accuracy is not None), default=None)


def pieces(trials: Trials) -> Iterator[Piece]:
    """Return the trainings of phase 1, in order."""
    records = {t.number: t for t in trials.trials}
    if not trials.decisions:
        for number in sorted(records):
            yield Piece(records[number], 0, 0, records[number].epochs)
        return
    reached: Counter[tuple[int, int]] = Counter()
    for decision in trials.decisions:
        number, split = decision.trial, decision.split
        if (trial := records.get(number)) is not None:
            end = min(decision.epochs, _trained(trial, split))
            yield Piece(trial, split, reached[number, split], end)
            reached[number, split] = end


def _trained(trial: Trial, split: int) -> int:
    if split == 0:
        return trial.epochs
    return sum(replicate.epochs for replicate in trial.replicates if replicate.split == split)


def search_figure(trials: Trials, constant: float) -> Figure | None:
    """Accuracy where each piece of training ended, and the best so far, against the epochs spent.

    Parameters
    ----------
    constant : float
        Accuracy of the most frequent class, drawn as the baseline.
    """
    rows = _search_rows(trials)
    if not rows:
        return None
    kept = thinned(rows, [bool(r["improved"]) for r in rows])
    x = alt.X("epochs:Q", title="epochs spent so far")
    y = alt.Y("accuracy:Q", title="validation accuracy", axis=alt.Axis(format=".1%"), scale=alt.Scale(zero=False))
    colour, shape = stage_encoding(kept)
    tooltip = ["trial:Q", "stage:N", "reached:Q", percent_tooltip("accuracy"), "epochs:Q"]
    points = chart(kept).mark_point(opacity=0.8).encode(x, y, colour, shape, tooltip=tooltip)
    line = chart(kept).mark_line(interpolate="step-after", color=GREY).encode(x, alt.Y("best:Q"))
    reading = (
        "Each mark is a trial where its training ended or paused; the line is the best accuracy so far. A line that "
        "is flat for long means that more trials of this kind would not have helped. One split and one run per "
        "trial: differences between neighbouring marks are mostly chance, phase 2 measures how much. The dashed line "
        "is the accuracy of the best constant."
    )
    layers = [line, points, *rule(constant)]
    panel = Panel("", specification(layers, "Trials of phase 1"))
    return Figure("search", "Best so far against epochs spent", reading, (panel,))


def _search_rows(trials: Trials) -> list[ChartedRow]:
    """Accuracy, best so far and epochs spent so far after each piece of training that has a result."""
    rows: list[ChartedRow] = []
    spent, best = 0, -math.inf
    for piece in pieces(trials):
        spent += piece.end - piece.start
        accuracy = piece.accuracy
        if accuracy is None:
            continue
        improved = accuracy > best
        best = max(best, accuracy)
        row: ChartedRow = {"epochs": spent, "accuracy": accuracy, "best": best, "improved": improved}
        rows.append({**row, "reached": piece.end, "trial": piece.trial.number, "stage": words(piece.trial.stage)})
    return rows


def rung_figure(trials: Trials) -> Figure | None:
    """Return the last epoch of each trial, with a mark for each rung at which it paused; None without rungs."""
    if not trials.rungs:
        return None
    shown = {p.trial.number for p in pieces(trials) if p.split == 0 and p.end > p.start}
    if len(shown) > _MAX_TRIALS:
        ranks = {t.number: t.rank or math.inf for t in trials.trials}
        shown = set(sorted(shown, key=lambda n: (ranks[n], n))[:_MAX_TRIALS])
    rows = [
        {"trial": p.trial.number, "start": p.start, "end": p.end, "stage": words(p.trial.stage)}
        | {"accuracy": p.accuracy, "rank": p.trial.rank}
        for p in pieces(trials)
        if p.split == 0 and p.trial.number in shown
    ]
    if not rows:
        return None
    colour, shape = stage_encoding(rows)
    x = alt.X("trial:Q", title="trial, in the order in which they started", axis=alt.Axis(format="d", tickMinStep=1))
    y = alt.Y("end:Q", title="epochs", axis=alt.Axis(values=trials.rungs))
    tooltip = ["trial:Q", "stage:N", "end:Q", percent_tooltip("accuracy"), "rank:Q"]
    bars = chart(rows).mark_rule(opacity=0.7, strokeWidth=2).encode(x, alt.Y("start:Q"), alt.Y2("end:Q"), colour)
    points = chart(rows).mark_point(opacity=0.9).encode(x, y, colour, shape, tooltip=tooltip)
    reading = (
        "Each line is a trial on the common split, and each mark is a rung at which it paused. A promoted trial "
        "resumed from there, at the cost of the further epochs only."
    )
    return Figure("rungs", "Promotions", reading, (Panel("", specification([bars, points], "Rungs")),))


def rung_tables(trials: Trials) -> tuple[Table, ...]:
    """Return the number of runs at each rung and the epochs spent between two rungs; empty without rungs."""
    if not trials.rungs:
        return ()
    rungs = [0, *trials.rungs]
    trained = list(pieces(trials))
    reached, spent = Counter[int](), Counter[int]()
    for piece in trained:
        rung = min((r for r in rungs if r >= piece.end), default=rungs[-1])
        reached[rung] += piece.split == 0
        spent[rung] += piece.end - piece.start
    total = max(1, sum(spent.values()))
    n_repeated = sum(p.split != 0 and p.start == 0 for p in trained)
    caption = (
        f"Runs that reached each rung on the common split, and epochs spent to reach it, "
        f"including {n_repeated} repeats of leaders on other splits. The search ended because "
        f"{trials.stopped_because}."
    )
    return (
        table(
            caption,
            rungs[1:],
            (Column("rung", "epochs"), lambda r: number_cell(r, "d")),
            ("runs", lambda r: number_cell(reached[r], "d")),
            ("epochs", lambda r: number_cell(spent[r], ",d")),
            ("share", lambda r: percent_cell(spent[r] / total, 0)),
        ),
    )
