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
    "Returns use rows with a label only. The evaluation also trades rows without one, such as ties and the last "
    "bars of a listing, so the two differ if there are many of them."
)


def better_section(extended: Extended, chosen: Configuration) -> Section:
    """Return the comparison of the candidates with naive rules on out-of-fold rows."""
    candidates, bounds = extended.configurations, chosen.skill_ci95
    rule = words(extended.best_naive or "the best constant")
    lines = (
        f"{'Yes' if bounds is not None and bounds[0] > 0 else 'Not clearly'}: the out-of-fold "
        f"difference is {points(chosen.skill)} to the best naive rule ({rule}), 95% interval "
        f"{interval(bounds, signed=True)} pp, on the same rows.",
        "The evaluation compares the model with a tuned linear model and tuned boosted trees on the sealed rows.",
    )
    columns = (Column("trial"), Column("skill", f"over {rule}"), Column("95% interval"), Column("folds"))
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
    table = Table("Out-of-fold difference to the best naive rule; the chosen configuration is shaded.", columns, rows)
    return Section("Comparison with naive rules", lines, (table,), present([skill_figure(candidates)]))


def choice_section(
    selection: Selection, extended: Extended, chosen: Configuration, confidence_set: Sequence[int]
) -> Section:
    """Return the chosen configuration, the reason and the compared candidates."""
    candidates, constant = extended.configurations, extended.best_constant_accuracy
    tables = (_candidate_table(candidates, chosen, constant, confidence_set), _settings_table(candidates, chosen))
    return Section("Configuration", _reasons(selection, extended), tables)


def _reasons(selection: Selection, extended: Extended) -> tuple[str, ...]:
    lines = [f"Selected: {selection.reason}."]
    if selection.decision is not None:
        lines.append(f"Decision rule: {selection.decision.reason}.")
    if failed := extended.n_failed_configurations:
        lines.append(f"{failed} further candidates failed in a fold and were excluded.")
    if copies := extended.n_duplicates:
        lines.append(f"{copies:,} tested rows have exactly the features of a row that the same fold trained on.")
    return (*lines, *racing_in_words(extended.racing, extended.n_folds))


def _candidate_table(
    candidates: Sequence[Configuration], chosen: Configuration, constant: float, confidence_set: Sequence[int]
) -> Table:
    columns = (
        Column("rank"), Column("trial"), Column("model", numeric=False), Column("racing", numeric=False),
        Column("accuracy", "mean of folds"),
        Column("standard error"), Column("behind the best", "paired"), Column("s.e. of it"),
        Column("tied", "90% set", numeric=False), Column("spread", "s.d. of folds"), Column("lowest fold"),
        Column("highest fold"), Column("lead", "over one class"), Column("validation loss", "nats"),
        Column("training loss", "nats"), Column("return", "net of costs"), Column("parameters"),
        Column("operations", "per row"), Column("training"), Column("inference", "µs per row"),
    )  # fmt: skip
    rows = []
    for c in candidates:
        folds = [fold.accuracy for fold in c.folds if fold.accuracy is not None]
        # Stopped configurations were tested on fewer rows than the constant.
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
        f"Cross-validated candidates, the chosen one is shaded. Best constant: {percent(constant, 2)}. Standard errors "
        "are by blocks of dates; that of the difference to the best is paired. Tied: may be the best by log loss. "
        "Stopped configurations are never chosen and have fewer folds. With several networks a fold, figures are means "
        "over single networks."
    )
    if any(c.avg_simulated_return is not None for c in candidates):
        caption += f" {_LABELLED_ROWS}"
    return Table(caption, columns, tuple(rows))


def _settings_table(candidates: Sequence[Configuration], chosen: Configuration) -> Table:
    names = sorted({name for c in candidates for name in c.config})
    heads = (Column(f"trial {c.trial_number}", "chosen" if c is chosen else "") for c in candidates)
    rows = (TableRow((Cell(name), *(value_cell(c.config.get(name)) for c in candidates))) for name in names)
    return Table("Hyperparameters of each candidate.", (Column("hyperparameter", numeric=False), *heads), tuple(rows))
