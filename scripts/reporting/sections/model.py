"""Section of the evaluation report on the model itself: which configuration it is, why, and how far its seeds agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.reporting.page import Cell, Column, Section, Table, TableRow, number, percent, value_cell


def model_section(e: Mapping[str, Any], model: Mapping[str, Any]) -> Section:
    """Hyperparameters, the reason of the choice, what it was trained on, and the accuracy of each seed."""
    members = model.get("members") or ()
    names = list(dict.fromkeys(name for member in members for name in member["hyperparameters"]))
    rows = tuple(
        TableRow((Cell(name), *(value_cell(member["hyperparameters"].get(name)) for member in members)))
        for name in names
    )
    values = tuple(Column("value" if len(members) == 1 else f"trial {m['trial_number']}") for m in members)
    table = Table("Hyperparameters of the final model.", (Column("hyperparameter", numeric=False), *values), rows)
    return Section("Which configuration, and why", (*_choice(model), *_seeds(e)), (table,))


def _choice(model: Mapping[str, Any]) -> tuple[str, ...]:
    reason, span = (model.get("selection") or {}).get("reason"), model.get("trained_on") or {}
    members = model.get("members") or ()
    told = []
    if reason:
        told.append(f"The choice fell on {reason}. analysis/report.html compares all that were considered.")
    if span.get("n_rows") is not None:
        dates = f" from {span['first_date']} to {span.get('last_date')}" if span.get("first_date") else ""
        size = f" It has {sum(m['n_parameters'] for m in members):,} parameters." if members else ""
        told.append(f"It was trained on {number(span['n_rows'], ',d')} rows{dates}.{size}")
    return tuple(told)


def _seeds(e: Mapping[str, Any]) -> tuple[str, ...]:
    by_seed: Sequence[float] = e.get("by_seed") or ()
    if len(by_seed) < 2:
        return ()
    each = ", ".join(percent(accuracy, 2) for accuracy in by_seed)
    mean_of = "answer of each configuration" if e.get("ensemble") else "model"
    return (
        f"The {mean_of} is the mean of {len(by_seed)} networks that differ by their seed alone. With one of them the "
        f"accuracy is {each}; a spread as large as the lead over the naive rules would mean that the lead hangs on the "
        "seed.",
    )
