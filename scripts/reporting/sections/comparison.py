"""Section of the evaluation report that holds the model beside naive rules and reference models."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.charts.evaluation import ComparedAccuracy, comparison_figure
from scripts.reporting.figures import words
from scripts.reporting.page import (
    Cell,
    Column,
    Section,
    Table,
    TableRow,
    interval,
    number,
    percent_cell,
    points,
    present,
)
from scripts.storage.evaluation_record import Evaluation


def comparison_section(e: Evaluation) -> Section:
    """Paired differences to naive rule and reference models, accuracies on the same rows, and how sure they are."""
    rows = _compared(e)
    return Section(
        "Is it better than the naive rule, the linear model, the boosted trees?",
        _skill_notes(e),
        (_difference_table(e), _comparison_table(rows)),
        present([comparison_figure(rows)]),
    )


def _difference_table(e: Evaluation) -> Table:
    """One line for each opponent: what the model lies above it, and whether that is clear."""
    leads = {f"best naive rule ({words(e.best_naive)})": (e.skill, e.skill_ci95)}
    leads |= {words(name): (lead.difference, lead.ci95) for name, lead in e.versus_references.items()}
    columns = (
        Column("against", numeric=False), Column("difference"), Column("95 % interval", "points"),
        Column("better?", numeric=False),
    )  # fmt: skip
    rows = tuple(
        TableRow(
            (
                Cell(name),
                Cell(points(difference), difference),
                Cell(interval(bounds, signed=True), bounds[0]),
                Cell(_answer(bounds)),
            )
        )
        for name, (difference, bounds) in leads.items()
    )
    return Table("Accuracy of the model less that of each opponent, paired on the same rows.", columns, rows)


def _answer(bounds: Sequence[float]) -> str:
    """What an interval of a difference allows to say."""
    if bounds[0] > 0:
        return "yes"
    return "no, it is worse" if bounds[1] < 0 else "cannot be told"


def _compared(e: Evaluation) -> list[ComparedAccuracy]:
    """Model, naive rules, reference models and ceiling, the best first."""
    rows = [ComparedAccuracy("this model", "model", e.accuracy, e.accuracy_ci95)]
    rows += [ComparedAccuracy(words(name), "naive rule", accuracy) for name, accuracy in e.naive.items()]
    rows += [ComparedAccuracy(words(name), "reference model", accuracy) for name, accuracy in e.references.items()]
    if e.ceiling is not None:
        rows.append(ComparedAccuracy("best possible", "ceiling", e.ceiling))
    return sorted(rows, key=lambda row: -row.accuracy)


def _comparison_table(rows: Sequence[ComparedAccuracy]) -> Table:
    columns = (
        Column("name", numeric=False),
        Column("kind", numeric=False),
        Column("accuracy"),
        Column("95 % interval"),
    )
    body = tuple(
        TableRow(
            (
                Cell(row.name),
                Cell(row.kind),
                percent_cell(row.accuracy, 2),
                Cell(interval(row.bounds), row.bounds[0] if row.bounds else None),
            ),
            chosen=row.kind == "model",
        )
        for row in rows
    )
    return Table("Accuracy on the same rows, the model shaded.", columns, body)


def _skill_notes(e: Evaluation) -> tuple[str, ...]:
    bounds = interval(e.skill_ci95, signed=True)
    told = (
        f"The test that counts is paired, on the same rows: model minus best naive rule {points(e.skill)}, "
        f"standard error {points(e.skill_se, signed=False)}, 95 % interval {bounds} points. "
        "The intervals treat rows of one date as one observation, because prices move together."
    )
    if e.n_effective is not None:
        told += f" The accuracy is as sure as one on {e.n_effective:,.0f} independent rows."
    return told, *_test_notes(e), *_reference_notes(e)


def _test_notes(e: Evaluation) -> tuple[str, ...]:
    """Classical tests, which assume more than the interval does."""
    said, dated = [], e.tests.diebold_mariano
    if dated is not None and dated.p is not None:
        said.append(f"Diebold-Mariano by date gives p = {dated.p:.3g}")
    by_row = number(e.tests.mcnemar.p_mid, ".3g")
    said.append(f"McNemar's test p = {by_row}, which takes rows as independent and so is too small")
    return (f"Against the best naive rule, {'; '.join(said)}.",)


def _reference_notes(e: Evaluation) -> tuple[str, ...]:
    """What the reference models were given, and whether the network was worth it."""
    versus, rows = e.versus_reference, e.reference_rows
    bounds = interval(versus.ci95, signed=True)
    told = f"Against {words(versus.name)} the model leads by {points(versus.difference)} ({bounds} points)."
    budgets = [
        f"{words(name)}: best of {tuning.n_settings} settings on {tuning.n_folds} folds"
        for name, tuning in e.reference_tuning.items()
    ]
    told += f" The reference models were tuned too ({'; '.join(budgets)})." if budgets else ""
    if rows is not None and rows.fitted < rows.of:
        told += f" They learned from {rows.fitted:,} of {rows.of:,} rows, since memory has no room for all."
    return (told,)
