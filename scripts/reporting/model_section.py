"""Section of the evaluation report on the model itself: which configuration it is, why, and how far its seeds agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.reporting.page import Cell, Column, Section, Table, TableRow, number, percent, value_cell


def model_section(e: Mapping[str, Any], model: Mapping[str, Any]) -> Section:
    """Hyperparameters, the reason of the choice, what it was trained on, and the accuracy of each seed."""
    settings = model.get("hyperparameters") or {}
    rows = tuple(TableRow((Cell(name), value_cell(value))) for name, value in settings.items())
    columns = (Column("hyperparameter", numeric=False), Column("value"))
    table = Table("Hyperparameters of the final model.", columns, rows)
    return Section("Which configuration, and why", (*_choice(model), *_seeds(e)), (table,))


def _choice(model: Mapping[str, Any]) -> tuple[str, ...]:
    reason, span = (model.get("selection") or {}).get("reason"), model.get("trained_on") or {}
    told = []
    if reason:
        told.append(f"The choice fell on {reason}. analysis/report.html compares all that were considered.")
    if span.get("n_rows") is not None:
        dates = f" from {span['first_date']} to {span.get('last_date')}" if span.get("first_date") else ""
        size = "" if model.get("n_parameters") is None else f" It has {model['n_parameters']:,} parameters."
        told.append(f"It was trained on {number(span['n_rows'], ',d')} rows{dates}.{size}")
    return tuple(told)


def _seeds(e: Mapping[str, Any]) -> tuple[str, ...]:
    by_seed: Sequence[float] = e.get("by_seed") or ()
    if len(by_seed) < 2:
        return ()
    each = ", ".join(percent(accuracy, 2) for accuracy in by_seed)
    return (
        f"The model is the mean of {len(by_seed)} networks that differ by their seed alone. Each by itself reaches "
        f"{each}; a spread as large as the lead over the naive rules would mean that the lead hangs on the seed.",
    )
