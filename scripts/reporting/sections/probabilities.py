"""Sections of the evaluation report on probabilities: quality, calibration, and which classes are confused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.reporting.charts.evaluation import reliability_figure
from scripts.reporting.page import Cell, Column, Section, Table, TableRow, number_cell, present

_MEASURES = (
    ("auc", "area under the ROC curve", "0.5 is chance, 1 is perfect"),
    ("average_precision", "average precision", "the share of the rarer class is chance, 1 is perfect"),
    ("log_loss", "log loss (nats)", "lower is better; ln 2 = 0.693 is a coin for two classes"),
    ("log_loss_skill", "log loss below that of the classes' shares (nats)", "0 is no better than the shares"),
    ("balanced_accuracy", "balanced accuracy", "mean over the classes; 1 / number of classes is chance"),
    ("mcc", "Matthews correlation coefficient", "0 is chance, 1 is perfect"),
    ("brier", "Brier score", "lower is better; 0 is perfect"),
    ("ece", "expected calibration error", "mean gap between probability and frequency; 0 is perfect"),
)


def calibration_section(e: Mapping[str, Any], reliability: Sequence[Mapping[str, Any]]) -> Section:
    """Whether the probabilities mean what they say, and how good they are."""
    rows = tuple(
        TableRow((Cell(title), number_cell(e[name]), Cell(_bounds(e.get(f"{name}_ci95"))), Cell(reading)))
        for name, title, reading in _MEASURES
        if e.get(name) is not None
    )
    columns = (
        Column("measure", numeric=False),
        Column("value"),
        Column("95 % interval", numeric=False),
        Column("how to read it", numeric=False),
    )
    table = Table("Quality of the probabilities and of the answers, beside accuracy.", columns, rows)
    return Section("Calibration", (), (table,), present([reliability_figure(reliability)]), figures_first=True)


def confusion_section(confusion: Sequence[Sequence[int]], class_names: Sequence[str]) -> Section:
    """Rows by true and predicted class; empty without them."""
    title = "Which classes are confused"
    if not confusion:
        return Section(title)
    names = [str(n) for n in class_names] or [f"class {k}" for k in range(len(confusion))]
    rows = []
    for name, counts in zip(names, confusion, strict=True):
        total = sum(counts) or 1
        shares = [count / total for count in counts]
        cells = (Cell(f"{c:,} ({s:.0%})", c, round(s, 3)) for c, s in zip(counts, shares, strict=True))
        rows.append(TableRow((Cell(name), *cells, Cell(f"{sum(counts):,}", sum(counts)))))
    columns = (
        Column("truth", numeric=False),
        *(Column(f"predicted {name}") for name in names),
        Column("rows"),
    )
    caption = "Rows by true and predicted class, with the share of the true class; the darker, the larger the share."
    return Section(title, (), (Table(caption, columns, tuple(rows)),))


def _bounds(bounds: Sequence[float] | None) -> str:
    return f"{bounds[0]:.4f} to {bounds[1]:.4f}" if bounds else "-"
