"""Section of both reports on what a run cost: epochs, passes over the data and training time, by phase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scripts.reporting.page import Cell, Column, Section, Table, TableRow, duration, number_cell, percent_cell

NAIVE_TRIALS, NAIVE_EPOCHS = 60, 50  # the search without phases that the cost is held against
YARDSTICK = NAIVE_TRIALS * NAIVE_EPOCHS


@dataclass(frozen=True)
class PhaseCost:
    """What one phase took; None where it is not recorded. `seconds` are summed over all workers."""

    name: str
    epochs: int | None
    seconds: float | None = None
    passes: float | None = None


def costs_of_search(trials: Mapping[str, Any], extended: Mapping[str, Any]) -> tuple[PhaseCost, PhaseCost]:
    """Costs of phases 1 and 2 from trials.json and extended_training_results.json."""
    spent = [c.get("duration_s") for c in extended.get("configurations") or ()]
    long = sum(s for s in spent if s is not None) if any(s is not None for s in spent) else None
    return (
        PhaseCost("phase 1: search", trials.get("epochs_spent"), trials.get("duration_s"), trials.get("data_passes")),
        PhaseCost("phase 2: cross-validation", extended.get("epochs_spent"), long, extended.get("data_passes")),
    )


def costs_of_model(epochs: Mapping[str, int], seconds: Mapping[str, float]) -> tuple[PhaseCost, ...]:
    """Return the costs of all phases from epochs and seconds by phase."""
    names = {"tuning": "phase 1: search", "extended": "phase 2: cross-validation", "final": "phase 3: final networks"}
    return tuple(PhaseCost(told, epochs.get(key), seconds.get(key)) for key, told in names.items() if key in epochs)


def together(costs: tuple[PhaseCost, ...]) -> PhaseCost:
    """All phases as one; a figure that one of them lacks is None."""
    seconds, passes = [c.seconds for c in costs], [c.passes for c in costs]
    return PhaseCost(
        "together",
        sum(c.epochs or 0 for c in costs),
        None if None in seconds else sum(s for s in seconds if s is not None),
        None if None in passes else sum(p for p in passes if p is not None),
    )


def cost_section(costs: tuple[PhaseCost, ...]) -> Section:
    """Table of the phases and all together; empty where nothing is recorded."""
    if not costs:
        return Section("What it cost")
    told = (
        "Every training epoch of every trial and of every fold counts, also those of failed trials. "
        f"The comparison is {NAIVE_TRIALS} trials of {NAIVE_EPOCHS} epochs each, without phases."
    )
    with_passes = any(c.passes is not None for c in costs)
    columns = [Column("part", numeric=False), Column("epochs"), Column("share", f"of {YARDSTICK:,} epochs")]
    columns += [Column("passes", "over all development rows")] * with_passes
    rows = tuple(_row(cost, with_passes) for cost in (*costs, together(costs)))
    table = Table("Epochs and training time, summed over all workers.", (*columns, Column("training", "time")), rows)
    return Section("What it cost", (told,), (table,))


def _row(cost: PhaseCost, with_passes: bool) -> TableRow:
    share = None if cost.epochs is None else cost.epochs / YARDSTICK
    cells = [Cell(cost.name), number_cell(cost.epochs, ",d"), percent_cell(share, 0)]
    cells += [number_cell(cost.passes, ",.0f")] * with_passes
    return TableRow((*cells, Cell(duration(cost.seconds), cost.seconds)))
