"""Sections of the evaluation report on parts of the judged rows: accuracy by ticker, by year and by volatility."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.reporting.charts.evaluation import group_figure
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

_MAX_PARTS = 60


def part_sections(e: Mapping[str, Any], naive: float | None) -> tuple[Section, ...]:
    """Sections by ticker, year and volatility; empty ones where the results have no such parts."""
    volatility = {_volatility_name(name, part): part for name, part in (e.get("by_volatility") or {}).items()}
    kinds = (
        ("by_group", "ticker", _parts(e.get("by_group"), "group")),
        ("by_year", "year", _parts(e.get("by_year"), "year")),
        ("by_volatility", "volatility", _parts(volatility, "volatility")),
    )
    return tuple(
        Section(
            f"By {kind}",
            _notes(kind, rows),
            _tables(kind, rows),
            present([_figure(name, kind, rows, naive)]),
            figures_first=True,
        )
        for name, kind, rows in kinds
    )


def _volatility_name(name: str, part: Mapping[str, Any]) -> str:
    """Name of a third with its bounds in per cent a bar."""
    low, high = part.get("from"), part.get("to")
    if low is None and high is None:
        return name
    if low is None:
        return f"{name}: below {percent(high, 2)}"
    # Short, for a phone: the lower bound of the middle third is told by the one before it.
    return f"{name}: above {percent(low, 2)}" if high is None else f"{name}: up to {percent(high, 2)}"


def _notes(kind: str, rows: Sequence[Any]) -> tuple[str, ...]:
    if kind != "volatility" or not rows:
        return ()
    return (
        "Volatility is the root mean square of the last 20 returns of the ticker, per bar; the bounds part the "
        "development rows in three equal parts.",
    )


def _parts(value: Any, key: str) -> list[dict[str, Any]]:
    """Parts of the test set as rows with name, accuracy, n_rows, low and high, in the order given."""
    if isinstance(value, Mapping):
        value = [{key: name, **(v if isinstance(v, Mapping) else {"accuracy": v})} for name, v in value.items()]
    rows = []
    for part in value or ():
        accuracy, n = part.get("accuracy"), part.get("n_rows")
        if accuracy is None:
            continue
        bounds = part.get("accuracy_ci95")
        limits = {"low": bounds[0], "high": bounds[1]} if bounds else wilson(accuracy, n)
        rows.append({"name": str(part.get(key, part.get("name", "?"))), "accuracy": accuracy, "n_rows": n} | limits)
    return rows


def _figure(name: str, kind: str, rows: Sequence[Mapping[str, Any]], naive: float | None) -> Figure | None:
    shown = list(rows)
    title = f"Accuracy by {kind}"
    if len(shown) > _MAX_PARTS:
        shown = sorted(shown, key=lambda r: -(r["n_rows"] or 0))[:_MAX_PARTS]
        title += f" ({_MAX_PARTS} largest of {len(rows)})"
    return group_figure(name, title, shown, naive)


def _tables(kind: str, rows: Sequence[Mapping[str, Any]]) -> tuple[Table, ...]:
    if not rows:
        return ()
    columns = (Column(kind, numeric=False), Column("rows"), Column("accuracy"), Column("95 % interval"))
    body = tuple(
        TableRow(
            (
                Cell(r["name"]),
                number_cell(r["n_rows"], ",d"),
                percent_cell(r["accuracy"], 1),
                Cell(interval((r.get("low"), r.get("high"))), r.get("low")),  # type: ignore[arg-type]
            )
        )
        for r in rows
    )
    return (Table(f"Accuracy by {kind}; without an interval of their own, rows count as independent.", columns, body),)
