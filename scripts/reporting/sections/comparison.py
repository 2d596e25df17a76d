"""Section of the evaluation report that compares the model with naive rules and reference models."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.charts.evaluation import ComparedAccuracy, comparison_figure
from scripts.reporting.figures import words
from scripts.reporting.page import (
    Cell,
    Column,
    Section,
    Table,
    bounds_cell,
    interval,
    number,
    percent_cell,
    points,
    present,
    table,
    text_column,
)
from scripts.storage.evaluation_record import Evaluation


def comparison_section(e: Evaluation) -> Section:
    """Paired differences to naive rule and reference models, accuracies on the same rows, and how sure they are."""
    rows = _compared(e)
    return Section(
        "Comparison with naive rule, linear model and boosted trees",
        _skill_notes(e),
        (_difference_table(e), _comparison_table(rows)),
        present([comparison_figure(rows)]),
    )


def _difference_table(e: Evaluation) -> Table:
    """Return one line for each opponent: the difference and its significance."""
    leads = {f"best naive rule ({words(e.best_naive)})": (e.skill, e.skill_ci95)}
    leads |= {words(name): (lead.difference, lead.ci95) for name, lead in e.versus_references.items()}
    return table(
        "Accuracy of the model minus that of each opponent, paired on the same rows.",
        [(name, *lead) for name, lead in leads.items()],
        (text_column("against"), lambda lead: lead[0]),
        ("difference", lambda lead: Cell(points(lead[1]), lead[1])),
        (Column("95% interval", "pp"), lambda lead: bounds_cell(lead[2])),
        (text_column("better?"), lambda lead: _answer(lead[2])),
    )


def _answer(bounds: Sequence[float]) -> str:
    """Return the conclusion from the interval of a difference."""
    if bounds[0] > 0:
        return "yes"
    return "no, it is worse" if bounds[1] < 0 else "inconclusive"


def _compared(e: Evaluation) -> list[ComparedAccuracy]:
    """Model, naive rules, reference models and ceiling, the best first."""
    rows = [ComparedAccuracy("this model", "model", e.accuracy, e.accuracy_ci95)]
    rows += [ComparedAccuracy(words(name), "naive rule", accuracy) for name, accuracy in e.naive.items()]
    rows += [ComparedAccuracy(words(name), "reference model", accuracy) for name, accuracy in e.references.items()]
    if e.ceiling is not None:
        rows.append(ComparedAccuracy("best possible", "ceiling", e.ceiling))
    return sorted(rows, key=lambda row: -row.accuracy)


def _comparison_table(rows: Sequence[ComparedAccuracy]) -> Table:
    return table(
        "Accuracy on the same rows, the model shaded.",
        rows,
        (text_column("name"), lambda row: row.name),
        (text_column("kind"), lambda row: row.kind),
        ("accuracy", lambda row: percent_cell(row.accuracy, 2)),
        ("95% interval", lambda row: bounds_cell(row.bounds, signed=False)),
        chosen=next(row for row in rows if row.kind == "model"),
    )


def _skill_notes(e: Evaluation) -> tuple[str, ...]:
    bounds = interval(e.skill_ci95, signed=True)
    text = (
        f"The deciding test is paired, on the same rows: model minus best naive rule {points(e.skill)}, "
        f"standard error {points(e.skill_se, signed=False)}, 95% interval {bounds} pp. "
        "The intervals treat rows of one date as one observation, because prices move together."
    )
    if e.n_effective is not None:
        text += f" The effective sample size is {e.n_effective:,.0f} rows."
    return text, *_test_notes(e), *_reference_notes(e)


def _test_notes(e: Evaluation) -> tuple[str, ...]:
    """Classical tests, with stronger assumptions than the interval."""
    tests, dated = [], e.tests.diebold_mariano
    if dated is not None and dated.p is not None:
        tests.append(f"Diebold-Mariano by date gives p = {dated.p:.3g}")
    by_row = number(e.tests.mcnemar.p_mid, ".3g")
    tests.append(f"McNemar's test p = {by_row}, which assumes independent rows and is too small")
    return (f"Against the best naive rule, {'; '.join(tests)}.",)


def _reference_notes(e: Evaluation) -> tuple[str, ...]:
    """Return the comparison with the reference models, and their tuning."""
    versus, rows = e.versus_reference, e.reference_rows
    bounds = interval(versus.ci95, signed=True)
    text = f"The difference to {words(versus.name)} is {points(versus.difference)} (95% interval {bounds} pp)."
    budgets = [
        f"{words(name)}: best of {tuning.n_settings} settings on {tuning.n_folds} folds"
        for name, tuning in e.reference_tuning.items()
    ]
    text += f" The reference models were tuned too ({'; '.join(budgets)})." if budgets else ""
    if rows is not None and rows.fitted < rows.of:
        text += f" They learned from {rows.fitted:,} of {rows.of:,} rows, because memory does not suffice for all."
    return (text,)
