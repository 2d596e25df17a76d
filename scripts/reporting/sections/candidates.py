"""Sections of the analysis report on the candidates of phase 2: against naive rules, which one was chosen and why."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.charts.cross_validation import skill_figure
from scripts.reporting.figures import words
from scripts.reporting.page import (
    Cell,
    Column,
    Section,
    Table,
    TableRow,
    duration,
    interval,
    number_cell,
    percent,
    percent_cell,
    points,
    present,
    value_cell,
)
from scripts.reporting.sections.racing import race_state, racing_in_words
from scripts.storage.extended_record import Configuration, Extended
from scripts.storage.result_records import Selection

_LABELLED_ROWS = (
    "Returns trade rows with a label alone. The evaluation also trades rows without one, such as ties and the last "
    "bars of a listing, so the two differ where there are many of them."
)


def better_section(extended: Extended, chosen: Configuration) -> Section:
    """Whether the chosen configuration beats rules that need no model, on rows that it was not trained on."""
    candidates, bounds = extended.configurations, chosen.skill_ci95
    rule = words(extended.best_naive or "the best constant")
    told = (
        f"{'Yes' if bounds is not None and bounds[0] > 0 else 'Not clearly'}: out of fold it lies "
        f"{points(chosen.skill)} from the best naive rule ({rule}), 95 % interval {interval(bounds, signed=True)} "
        "points, on the same rows.",
        "Whether it is better than a tuned linear model and boosted trees is told by the evaluation, which fits "
        "both and holds all of them against each other on the sealed rows.",
    )
    columns = (Column("trial"), Column("skill", f"over {rule}"), Column("95 % interval"), Column("folds"))
    rows = tuple(
        TableRow(
            (
                number_cell(c.trial_number, "d"),
                Cell(points(c.skill), c.skill),
                Cell(interval(c.skill_ci95, signed=True), c.skill_ci95[0] if c.skill_ci95 else None),
                number_cell(len(c.folds), "d"),
            ),
            chosen=c is chosen,
        )
        for c in candidates
        if c.skill is not None
    )
    table = Table("Accuracy above the best naive rule, out of fold; the chosen one shaded.", columns, rows)
    return Section("Is it better than the naive rules?", told, (table,), present([skill_figure(candidates)]))


def choice_section(
    selection: Selection, extended: Extended, chosen: Configuration, confidence_set: Sequence[int]
) -> Section:
    """Which configuration was chosen, why, and what was compared."""
    candidates, constant = extended.configurations, extended.best_constant_accuracy
    tables = (_candidate_table(candidates, chosen, constant, confidence_set), _settings_table(candidates, chosen))
    return Section("Which configuration, and why", _reasons(selection, extended), tables)


def _reasons(selection: Selection, extended: Extended) -> tuple[str, ...]:
    told = [f"The choice fell on {selection.reason}."]
    if selection.decision is not None:
        told.append(f"How its probabilities become decisions: {selection.decision.reason}.")
    if failed := extended.n_failed_configurations:
        told.append(f"{failed} further candidates failed in a fold and were left out.")
    if copies := extended.n_duplicates:
        told.append(f"{copies:,} tested rows have exactly the features of a row that the same fold trained on.")
    return (*told, *racing_in_words(extended.racing, extended.n_folds))


def _candidate_table(
    candidates: Sequence[Configuration], chosen: Configuration, constant: float, confidence_set: Sequence[int]
) -> Table:
    columns = (
        Column("rank"), Column("trial"), Column("model", numeric=False), Column("racing", numeric=False),
        Column("accuracy", "mean of folds"),
        Column("standard error"), Column("behind the best", "paired"), Column("s.e. of it"),
        Column("tied", "90 % set", numeric=False), Column("spread", "s.d. of folds"), Column("lowest fold"),
        Column("highest fold"), Column("lead", "over one class"), Column("validation loss", "nats"),
        Column("training loss", "nats"), Column("return", "net of costs"), Column("parameters"),
        Column("operations", "per row"), Column("training"), Column("inference", "µs per row"),
    )  # fmt: skip
    rows = []
    for c in candidates:
        folds = [fold.accuracy for fold in c.folds if fold.accuracy is not None]
        # What was stopped was tested on fewer rows than the constant answer.
        lead = c.avg_accuracy - constant if c.is_complete else None
        cells = (
            number_cell(c.rank, "d"), number_cell(c.trial_number, "d"), Cell(c.family), Cell(race_state(c)),
            percent_cell(c.avg_accuracy, 2), percent_cell(c.accuracy_se, 2),
            Cell(points(c.behind, signed=False), c.behind), percent_cell(c.behind_se, 2),
            Cell("yes" if c.trial_number in confidence_set else "no"), percent_cell(c.std_accuracy, 2),
            percent_cell(min(folds, default=None), 2), percent_cell(max(folds, default=None), 2),
            Cell(points(lead), lead), number_cell(c.avg_val_loss, ".4f"), number_cell(c.avg_train_loss, ".4f"),
            percent_cell(c.avg_simulated_return), number_cell(c.n_parameters, ",d"),
            number_cell(c.operations_per_row, ",d"), Cell(duration(c.duration_s), c.duration_s),
            number_cell(c.inference_us_per_row, ".2f"),
        )  # fmt: skip
        rows.append(TableRow(cells, chosen=c is chosen))
    caption = (
        "Cross-validated candidates, the chosen one shaded. Always answering one class: "
        f"{percent(constant, 2)}. Standard errors are by blocks of dates; that of being behind counts what both models "
        "share. Tied: it may be the best by log loss. What racing stopped is never chosen, and its figures are of "
        "fewer folds; with several networks a fold, figures are means over single networks."
    )
    if any(c.avg_simulated_return is not None for c in candidates):
        caption += f" {_LABELLED_ROWS}"
    return Table(caption, columns, tuple(rows))


def _settings_table(candidates: Sequence[Configuration], chosen: Configuration) -> Table:
    names = sorted({name for c in candidates for name in c.config})
    heads = (Column(f"trial {c.trial_number}", "chosen" if c is chosen else "") for c in candidates)
    rows = (TableRow((Cell(name), *(value_cell(c.config.get(name)) for c in candidates))) for name in names)
    return Table("Hyperparameters of each candidate.", (Column("hyperparameter", numeric=False), *heads), tuple(rows))
