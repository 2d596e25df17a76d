"""Section of both reports on the cost of a run: epochs, passes over the data and training time, by phase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scripts.reporting.page import Cell, Column, Section, Table, TableRow, duration, number_cell, percent_cell
from scripts.storage.extended_record import Extended
from scripts.storage.records import Trials

NAIVE_TRIALS, NAIVE_EPOCHS = 60, 50  # the search without phases that the cost is compared with
YARDSTICK = NAIVE_TRIALS * NAIVE_EPOCHS


@dataclass(frozen=True)
class PhaseCost:
    """Cost of one phase; None if not recorded. `seconds` are summed over all workers."""

    name: str
    epochs: int
    seconds: float | None = None
    passes: float | None = None


def costs_of_search(trials: Trials, extended: Extended) -> tuple[PhaseCost, PhaseCost]:
    """Return the costs of phases 1 and 2."""
    long = sum(c.duration_s for c in extended.configurations)
    return (
        PhaseCost("phase 1: search", trials.epochs_spent, trials.duration_s, trials.data_passes),
        PhaseCost("phase 2: cross-validation", extended.epochs_spent, long, extended.data_passes),
    )


def costs_of_model(epochs: Mapping[str, int], seconds: Mapping[str, float]) -> tuple[PhaseCost, ...]:
    """Return the costs of all phases from epochs and seconds by phase."""
    names = {"tuning": "phase 1: search", "extended": "phase 2: cross-validation", "final": "phase 3: final networks"}
    return tuple(PhaseCost(text, epochs[key], seconds.get(key)) for key, text in names.items() if key in epochs)


def together(costs: tuple[PhaseCost, ...]) -> PhaseCost:
    """Sum of all phases; a figure that one of them lacks is None."""
    seconds, passes = [c.seconds for c in costs], [c.passes for c in costs]
    return PhaseCost(
        "together",
        sum(c.epochs for c in costs),
        None if None in seconds else sum(s for s in seconds if s is not None),
        None if None in passes else sum(p for p in passes if p is not None),
    )


def cost_section(costs: tuple[PhaseCost, ...]) -> Section:
    """Table of the phases and all together; empty where nothing is recorded."""
    if not costs:
        return Section("Cost")
    text = (
        "Every training epoch of every trial and of every fold counts, also those of failed trials. "
        f"The comparison is {NAIVE_TRIALS} trials of {NAIVE_EPOCHS} epochs each, without phases."
    )
    with_passes = any(c.passes is not None for c in costs)
    columns = [Column("part", numeric=False), Column("epochs"), Column("share", f"of {YARDSTICK:,} epochs")]
    columns += [Column("passes", "over all development rows")] * with_passes
    rows = tuple(_row(cost, with_passes) for cost in (*costs, together(costs)))
    table = Table("Epochs and training time, summed over all workers.", (*columns, Column("training", "time")), rows)
    return Section("Cost", (text,), (table,))


def _row(cost: PhaseCost, with_passes: bool) -> TableRow:
    cells = [Cell(cost.name), number_cell(cost.epochs, ",d"), percent_cell(cost.epochs / YARDSTICK, 0)]
    cells += [number_cell(cost.passes, ",.0f")] * with_passes
    return TableRow((*cells, Cell(duration(cost.seconds), cost.seconds)))
