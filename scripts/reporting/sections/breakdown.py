"""Sections of the evaluation report on parts of the test rows and on probabilities: accuracy by ticker, year, class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scripts.reporting.charts.evaluation import PartAccuracy, group_figure, reliability_figure
from scripts.reporting.figures import Figure, wilson
from scripts.reporting.page import (
    Cell,
    Column,
    Section,
    Table,
    TableRow,
    bounds_cell,
    number_cell,
    percent,
    percent_cell,
    present,
    table,
    text_column,
)
from scripts.statistics.metrics import ReliabilityBin
from scripts.storage.evaluation_record import Evaluation
from scripts.storage.score_records import Part, VolatilityPart

_MAX_PARTS = 60


def part_sections(e: Evaluation) -> tuple[Section, ...]:
    """Sections by ticker, year and volatility; empty ones where the results have no such parts."""
    volatility = {_volatility_name(name, part): part for name, part in e.by_volatility.items()}
    kinds = (
        ("by_group", "ticker", _parts(e.by_group)),
        ("by_year", "year", _parts(e.by_year)),
        ("by_volatility", "volatility", _parts(volatility)),
    )
    return tuple(
        Section(
            f"By {kind}",
            _notes(kind, rows),
            _tables(kind, rows),
            present([_figure(name, kind, rows, e.naive[e.best_naive])]),
            figures_first=True,
        )
        for name, kind, rows in kinds
    )


def _volatility_name(name: str, part: VolatilityPart) -> str:
    """Name of a third with its bounds in per cent a bar."""
    if part.lower is None and part.upper is None:
        return name
    if part.lower is None:
        return f"{name}: below {percent(part.upper, 2)}"
    # Short, for a phone: the first tercile shows the lower bound of the second.
    return (
        f"{name}: above {percent(part.lower, 2)}" if part.upper is None else f"{name}: up to {percent(part.upper, 2)}"
    )


def _notes(kind: str, rows: Sequence[PartAccuracy]) -> tuple[str, ...]:
    if kind != "volatility" or not rows:
        return ()
    return (
        "Volatility is the root mean square of the last 20 returns of the ticker, per bar; the bounds divide the "
        "development rows in three equal parts.",
    )


def _parts(parts: Mapping[str, Part]) -> list[PartAccuracy]:
    """Parts of the test set in the order given, with an interval of independent rows where they have none."""
    bounds = {name: part.accuracy_ci95 or wilson(part.accuracy, part.n_rows) for name, part in parts.items()}
    return [PartAccuracy(name, part.accuracy, bounds[name], part.n_rows) for name, part in parts.items()]


def _figure(name: str, kind: str, rows: Sequence[PartAccuracy], naive: float) -> Figure | None:
    title, shown = f"Accuracy by {kind}", rows
    if len(shown) > _MAX_PARTS:
        shown = sorted(shown, key=lambda row: -row.n_rows)[:_MAX_PARTS]
        title += f" ({_MAX_PARTS} largest of {len(rows)})"
    return group_figure(name, title, shown, naive)


def _tables(kind: str, rows: Sequence[PartAccuracy]) -> tuple[Table, ...]:
    if not rows:
        return ()
    return (
        table(
            f"Accuracy by {kind}; intervals of parts without one assume independent rows.",
            rows,
            (text_column(kind), lambda row: row.name),
            ("rows", lambda row: number_cell(row.n_rows, ",d")),
            ("accuracy", lambda row: percent_cell(row.accuracy, 1)),
            ("95% interval", lambda row: bounds_cell(row.bounds, signed=False)),
        ),
    )


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
    rows = table(
        "Metrics besides accuracy.",
        [measure for measure in measures if measure[2] is not None],
        (text_column("measure"), lambda measure: measure[0]),
        ("value", lambda measure: number_cell(measure[2])),
        (text_column("95% interval"), lambda measure: _bounds(measure[3])),
        (text_column("interpretation"), lambda measure: measure[1]),
    )
    return Section("Calibration", (), (rows,), present([reliability_figure(reliability)]), figures_first=True)


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
    columns = (text_column("truth"), *(Column(f"predicted {name}") for name in class_names), Column("rows"))
    caption = "Rows by true and predicted class, with the share of the true class; darker is larger."
    return Section(title, (), (Table(caption, columns, tuple(rows)),))


def _bounds(bounds: Sequence[float] | None) -> str:
    return f"{bounds[0]:.4f} to {bounds[1]:.4f}" if bounds else "-"
