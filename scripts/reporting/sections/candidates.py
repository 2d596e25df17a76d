"""Sections of the analysis report on the candidates of phase 2: against naive rules, which one was chosen and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

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

Record = Mapping[str, Any]

_LABELLED_ROWS = (
    "Returns trade rows with a label alone. The evaluation also trades rows without one, such as ties and the last "
    "bars of a listing, so the two differ where there are many of them."
)


def standard_error(candidate: Record) -> float | None:
    """Standard error of a candidate's accuracy: as recorded, else from the spread over its folds."""
    if candidate.get("accuracy_se") is not None:
        return float(candidate["accuracy_se"])
    folds, spread = len(candidate.get("folds") or ()), candidate.get("std_accuracy")
    return spread / math.sqrt(folds) if folds and spread is not None else None


def better_section(extended: Record, chosen: Record) -> Section:
    """Whether the chosen configuration beats rules that need no model, on rows that it was not trained on."""
    candidates = extended.get("configurations") or ()
    rule = words(extended.get("best_naive") or "the best constant")
    told = []
    if chosen.get("skill") is not None:
        bounds = chosen.get("skill_ci95")
        clear = bounds is not None and bounds[0] > 0
        told.append(
            f"{'Yes' if clear else 'Not clearly'}: out of fold it lies {points(chosen['skill'])} from the best naive "
            f"rule ({rule}), 95 % interval {interval(bounds, signed=True)} points, on the same rows."
        )
    if told:
        told.append(
            "Whether it is better than a tuned linear model and boosted trees is told by the evaluation, which fits "
            "both and holds all of them against each other on the sealed rows."
        )
    columns = (Column("trial"), Column("skill", f"over {rule}"), Column("95 % interval"), Column("folds"))
    rows = tuple(
        TableRow(
            (
                number_cell(c.get("trial_number"), "d"),
                Cell(points(c["skill"]), c["skill"]),
                Cell(interval(c.get("skill_ci95"), signed=True), (c.get("skill_ci95") or [None])[0]),
                number_cell(len(c.get("folds") or ()), "d"),
            ),
            chosen=c is chosen,
        )
        for c in candidates
        if c.get("skill") is not None
    )
    table = Table("Accuracy above the best naive rule, out of fold; the chosen one shaded.", columns, rows)
    return Section("Is it better than the naive rules?", tuple(told), (table,), present([skill_figure(candidates)]))


def choice_section(best: Record, extended: Record, chosen: Record, confidence_set: Sequence[int]) -> Section:
    """Which configuration was chosen, why, and what was compared."""
    candidates = extended.get("configurations") or ()
    constant = extended.get("best_constant_accuracy")
    tables = (_candidate_table(candidates, chosen, constant, confidence_set), _settings_table(candidates, chosen))
    return Section("Which configuration, and why", _reasons(best, extended), tables)


def _reasons(best: Record, extended: Record) -> tuple[str, ...]:
    selection = best.get("selection") or {}
    reason, failed = selection.get("reason"), extended.get("n_failed_configurations") or 0
    told = [f"The choice fell on {reason}." if reason else "The reason of the choice is not recorded."]
    if decision := selection.get("decision"):
        told.append(f"How its probabilities become decisions: {decision['reason']}.")
    if failed:
        told.append(f"{failed} further candidates failed in a fold and were left out.")
    if copies := extended.get("n_duplicates"):
        told.append(f"{copies:,} tested rows have exactly the features of a row that the same fold trained on.")
    return (*told, *racing_in_words(extended))


def _candidate_table(
    candidates: Sequence[Record], chosen: Record, constant: float | None, confidence_set: Sequence[int]
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
        accuracy, seconds = c.get("avg_accuracy"), c.get("duration_s")
        folds = [f["accuracy"] for f in c.get("folds") or () if f.get("accuracy") is not None]
        # What was stopped was tested on fewer rows than the constant answer.
        lead = None
        if accuracy is not None and constant is not None and c.get("state") != "stopped":
            lead = accuracy - constant
        cells = (
            number_cell(c.get("rank"), "d"), number_cell(c.get("trial_number"), "d"),
            Cell(str((c.get("config") or {}).get("family", "-"))), Cell(race_state(c)), percent_cell(accuracy, 2),
            percent_cell(standard_error(c), 2), Cell(points(c.get("behind"), signed=False), c.get("behind")),
            percent_cell(c.get("behind_se"), 2), Cell("yes" if c.get("trial_number") in confidence_set else "no"),
            percent_cell(c.get("std_accuracy"), 2),
            percent_cell(min(folds, default=None), 2), percent_cell(max(folds, default=None), 2),
            Cell(points(lead), lead), number_cell(c.get("avg_val_loss"), ".4f"),
            number_cell(c.get("avg_train_loss"), ".4f"), percent_cell(c.get("avg_simulated_return")),
            number_cell(c.get("n_parameters"), ",d"), number_cell(c.get("operations_per_row"), ",d"),
            Cell(duration(seconds), seconds),
            number_cell(c.get("inference_us_per_row"), ".2f"),
        )  # fmt: skip
        rows.append(TableRow(cells, chosen=c is chosen))
    baseline = "not recorded" if constant is None else percent(constant, 2)
    caption = (
        f"Cross-validated candidates, the chosen one shaded. Always answering one class: {baseline}. Standard errors "
        "are by blocks of dates; that of being behind counts what both models share. Tied: it may be the best by log "
        "loss. What racing stopped is never chosen, and its figures are of fewer folds; with several networks a fold, "
        "figures are means over single networks."
    )
    if any(c.get("avg_simulated_return") is not None for c in candidates):
        caption += f" {_LABELLED_ROWS}"
    return Table(caption, columns, tuple(rows))


def _settings_table(candidates: Sequence[Record], chosen: Record) -> Table:
    names = sorted({name for c in candidates for name in c.get("config") or ()})
    heads = (Column(f"trial {c.get('trial_number', '?')}", "chosen" if c is chosen else "") for c in candidates)
    rows = (
        TableRow((Cell(name), *(value_cell((c.get("config") or {}).get(name)) for c in candidates))) for name in names
    )
    return Table("Hyperparameters of each candidate.", (Column("hyperparameter", numeric=False), *heads), tuple(rows))
