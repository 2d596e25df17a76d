"""Section of the evaluation report that holds the model beside naive rules and reference models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.reporting.charts.evaluation import comparison_figure
from scripts.reporting.figures import words
from scripts.reporting.page import Cell, Column, Section, Table, TableRow, interval, percent_cell, points, present


def comparison_section(e: Mapping[str, Any]) -> Section:
    """Paired differences to naive rule and reference models, accuracies on the same rows, and how sure they are."""
    rows = _compared(e)
    return Section(
        "Is it better than the naive rule, the linear model, the boosted trees?",
        _skill_notes(e),
        (_difference_table(e), _comparison_table(rows)),
        present([comparison_figure(rows)]),
    )


def _difference_table(e: Mapping[str, Any]) -> Table:
    """One line for each opponent: what the model lies above it, and whether that is clear."""
    naive = {"difference": e.get("skill"), "ci95": e.get("skill_ci95")}
    opponents = {f"best naive rule ({words(e.get('best_naive') or 'not named')})": naive}
    opponents |= {words(name): versus for name, versus in (e.get("versus_references") or {}).items()}
    columns = (
        Column("against", numeric=False), Column("difference"), Column("95 % interval", "points"),
        Column("better?", numeric=False),
    )  # fmt: skip
    rows = tuple(
        TableRow(
            (
                Cell(name),
                Cell(points(versus["difference"]), versus["difference"]),
                Cell(interval(versus.get("ci95"), signed=True), (versus.get("ci95") or [None])[0]),
                Cell(_answer(versus.get("ci95"))),
            )
        )
        for name, versus in opponents.items()
        if versus and versus.get("difference") is not None
    )
    return Table("Accuracy of the model less that of each opponent, paired on the same rows.", columns, rows)


def _answer(bounds: Sequence[float] | None) -> str:
    """What an interval of a difference allows to say."""
    if not bounds or None in bounds:
        return "not recorded"
    if bounds[0] > 0:
        return "yes"
    return "no, it is worse" if bounds[1] < 0 else "cannot be told"


def _compared(e: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Model, naive rules, reference models and ceiling, the best first."""
    rows = [_entry("this model", "model", {"accuracy": e.get("accuracy"), "accuracy_ci95": e.get("accuracy_ci95")})]
    rows += [_entry(words(name), "naive rule", value) for name, value in (e.get("naive") or {}).items()]
    rows += [_entry(words(name), "reference model", value) for name, value in (e.get("references") or {}).items()]
    rows.append(_entry("best possible", "ceiling", e.get("ceiling")))
    return sorted((r for r in rows if r["accuracy"] is not None), key=lambda r: -r["accuracy"])


def _entry(name: str, kind: str, value: Any) -> dict[str, Any]:
    record = value if isinstance(value, Mapping) else {"accuracy": value}
    low, high = record.get("accuracy_ci95") or (None, None)
    return {"name": name, "kind": kind, "accuracy": record.get("accuracy"), "low": low, "high": high}


def _comparison_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    columns = (
        Column("name", numeric=False),
        Column("kind", numeric=False),
        Column("accuracy"),
        Column("95 % interval"),
    )
    body = tuple(
        TableRow(
            (
                Cell(r["name"]),
                Cell(r["kind"]),
                percent_cell(r["accuracy"], 2),
                Cell(interval((r["low"], r["high"])), r["low"]),
            ),
            chosen=r["kind"] == "model",
        )
        for r in rows
    )
    return Table("Accuracy on the same rows, the model shaded.", columns, body)


def _skill_notes(e: Mapping[str, Any]) -> tuple[str, ...]:
    if e.get("skill") is None:
        return ()
    bounds = interval(e.get("skill_ci95"), signed=True)
    told = (
        f"The test that counts is paired, on the same rows: model minus best naive rule {points(e['skill'])}, "
        f"standard error {points(e.get('skill_se'), signed=False)}, 95 % interval {bounds} points. "
        "The intervals treat rows of one date as one observation, because prices move together."
    )
    if e.get("n_effective") is not None:
        told += f" The accuracy is as sure as one on {e['n_effective']:,.0f} independent rows."
    return told, *_test_notes(e), *_reference_notes(e)


def _test_notes(e: Mapping[str, Any]) -> tuple[str, ...]:
    """Classical tests, which assume more than the interval does."""
    tests, said = e.get("tests") or {}, []
    if (found := tests.get("diebold_mariano")) and found.get("p") is not None:
        said.append(f"Diebold-Mariano by date gives p = {found['p']:.3g}")
    if found := tests.get("mcnemar"):
        said.append(f"McNemar's test p = {found['p_mid']:.3g}, which takes rows as independent and so is too small")
    return (f"Against the best naive rule, {'; '.join(said)}.",) if said else ()


def _reference_notes(e: Mapping[str, Any]) -> tuple[str, ...]:
    """What the reference models were given, and whether the network was worth it."""
    versus, tuning = e.get("versus_reference"), e.get("reference_tuning") or {}
    if not versus:
        return ()
    bounds = interval(versus.get("ci95"), signed=True)
    told = f"Against {words(versus['name'])} the model leads by {points(versus.get('difference'))} ({bounds} points)."
    budgets = [
        f"{words(name)}: best of {t['n_settings']} settings on {t['n_folds']} folds" for name, t in tuning.items()
    ]
    told += f" The reference models were tuned too ({'; '.join(budgets)})." if budgets else ""
    rows = e.get("reference_rows") or {"fitted": 0, "of": 0}
    if rows["fitted"] < rows["of"]:
        told += f" They learned from {rows['fitted']:,} of {rows['of']:,} rows, since memory has no room for all."
    return (told,)
