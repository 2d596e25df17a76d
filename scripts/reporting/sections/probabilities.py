"""Sections of the evaluation report on probabilities: quality, calibration and confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.charts.evaluation import reliability_figure
from scripts.reporting.page import Cell, Column, Section, Table, TableRow, number_cell, present
from scripts.statistics.metrics import ReliabilityBin
from scripts.storage.evaluation_record import Evaluation


def calibration_section(e: Evaluation, reliability: Sequence[ReliabilityBin]) -> Section:
    """Return the section on the calibration and quality of the probabilities."""
    nats = "0 is as good as the class shares"
    measures = (
        ("area under the ROC curve", "0.5 is chance, 1 is perfect", e.auc, e.auc_ci95),
        ("average precision", "chance level is the share of the rarer class, 1 is perfect", e.average_precision, None),
        ("log loss (nats)", "lower is better; ln 2 = 0.693 is a coin for two classes", e.log_loss, e.log_loss_ci95),
        ("log loss below that of the classes' shares (nats)", nats, e.log_loss_skill, e.log_loss_skill_ci95),
        ("balanced accuracy", "mean over the classes; 1 / number of classes is chance", e.balanced_accuracy, None),
        ("Matthews correlation coefficient", "0 is chance, 1 is perfect", e.mcc, None),
        ("Brier score", "lower is better; 0 is perfect", e.brier, None),
        ("expected calibration error", "mean gap between probability and frequency; 0 is perfect", e.ece, None),
    )
    rows = tuple(
        TableRow((Cell(title), number_cell(value), Cell(_bounds(bounds)), Cell(reading)))
        for title, reading, value, bounds in measures
        if value is not None
    )
    columns = (
        Column("measure", numeric=False),
        Column("value"),
        Column("95% interval", numeric=False),
        Column("interpretation", numeric=False),
    )
    table = Table("Metrics besides accuracy.", columns, rows)
    return Section("Calibration", (), (table,), present([reliability_figure(reliability)]), figures_first=True)


def confusion_section(confusion: Sequence[Sequence[int]], class_names: Sequence[str]) -> Section:
    """Rows by true and predicted class; empty without them."""
    title = "Confusion matrix"
    if not confusion:
        return Section(title)
    rows = []
    for name, counts in zip(class_names, confusion, strict=True):
        total = sum(counts) or 1
        shares = [count / total for count in counts]
        cells = (Cell(f"{c:,} ({s:.0%})", c, round(s, 3)) for c, s in zip(counts, shares, strict=True))
        rows.append(TableRow((Cell(name), *cells, Cell(f"{sum(counts):,}", sum(counts)))))
    columns = (
        Column("truth", numeric=False),
        *(Column(f"predicted {name}") for name in class_names),
        Column("rows"),
    )
    caption = "Rows by true and predicted class, with the share of the true class; darker is larger."
    return Section(title, (), (Table(caption, columns, tuple(rows)),))


def _bounds(bounds: Sequence[float] | None) -> str:
    return f"{bounds[0]:.4f} to {bounds[1]:.4f}" if bounds else "-"
