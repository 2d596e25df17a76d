"""Sections of the evaluation report on parts of the test rows: accuracy by ticker, by year and by volatility."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scripts.reporting.charts.evaluation import PartAccuracy, group_figure
from scripts.reporting.figures import Figure, wilson
from scripts.reporting.page import (
    Cell,
    Column,
    Section,
    Table,
    TableRow,
    interval,
    number_cell,
    percent,
    percent_cell,
    present,
)
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
    columns = (Column(kind, numeric=False), Column("rows"), Column("accuracy"), Column("95% interval"))
    body = tuple(
        TableRow(
            (
                Cell(row.name),
                number_cell(row.n_rows, ",d"),
                percent_cell(row.accuracy, 1),
                Cell(interval(row.bounds), row.bounds[0]),
            )
        )
        for row in rows
    )
    return (Table(f"Accuracy by {kind}; intervals of parts without one assume independent rows.", columns, body),)
