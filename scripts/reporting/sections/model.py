"""Section of the evaluation report on the model: its configuration, the reason, and the accuracy of each seed."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.page import Cell, Column, Section, Table, TableRow, number, percent, value_cell
from scripts.storage.evaluation_record import Evaluation
from scripts.storage.model_record import FinalModelContent


def model_section(e: Evaluation, model: FinalModelContent, n_parameters: Sequence[int]) -> Section:
    """Hyperparameters, reason of the selection, training rows, and the accuracy of each seed."""
    members = model.members
    own = [member.hyperparameters.model_dump() for member in members]
    names = list(dict.fromkeys(name for values in own for name in values))
    rows = tuple(TableRow((Cell(name), *(value_cell(values.get(name)) for values in own))) for name in names)
    values = tuple(Column("value" if len(members) == 1 else f"trial {m.trial_number}") for m in members)
    table = Table("Hyperparameters of the final model.", (Column("hyperparameter", numeric=False), *values), rows)
    return Section("Configuration", (*_choice(model, sum(n_parameters)), *_seeds(e)), (table,))


def _choice(model: FinalModelContent, n_parameters: int) -> tuple[str, ...]:
    span = model.trained_on
    lines = [f"Selected: {model.selection.reason}. analysis/report.html compares all candidates."]
    if span is not None:
        dates = f" from {span.first_date} to {span.last_date}" if span.first_date else ""
        lines.append(f"It was trained on {number(span.n_rows, ',d')} rows{dates}. It has {n_parameters:,} parameters.")
    return tuple(lines)


def _seeds(e: Evaluation) -> tuple[str, ...]:
    if len(e.by_seed) < 2:
        return ()
    each = ", ".join(percent(accuracy, 2) for accuracy in e.by_seed)
    mean_of = "model" if e.ensemble is None else "prediction of each configuration"
    return (
        f"The {mean_of} is the mean of {len(e.by_seed)} networks with different seeds. The accuracy of a single one "
        f"is {each}. If this spread is as large as the lead over the naive rules, the lead depends on the "
        "seed.",
    )
