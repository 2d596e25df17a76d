"""Sections of both reports: cost of the run by phase, inference latency, warnings and notes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from scripts.reporting.page import Cell, Column, Section, duration, number_cell, percent_cell, table, text_column
from scripts.storage.evaluation_record import Latency
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


def total_cost(costs: tuple[PhaseCost, ...]) -> PhaseCost:
    """Sum of all phases; a figure that one of them lacks is None."""
    seconds, passes = [c.seconds for c in costs], [c.passes for c in costs]
    return PhaseCost(
        "total",
        sum(c.epochs for c in costs),
        None if None in seconds else sum(s for s in seconds if s is not None),
        None if None in passes else sum(p for p in passes if p is not None),
    )


def cost_section(costs: tuple[PhaseCost, ...]) -> Section:
    """Table of the phases and all together; empty where nothing is recorded."""
    if not costs:
        return Section("Cost")
    words = (
        "Every training epoch of every trial and of every fold counts, also those of failed trials. "
        f"The comparison is {NAIVE_TRIALS} trials of {NAIVE_EPOCHS} epochs each, without phases."
    )
    columns: list[tuple[Column | str, Callable[[PhaseCost], Cell | str]]] = [
        (text_column("part"), lambda c: c.name),
        ("epochs", lambda c: number_cell(c.epochs, ",d")),
        (Column("share", f"of {YARDSTICK:,} epochs"), lambda c: percent_cell(c.epochs / YARDSTICK, 0)),
        (Column("passes", "over all development rows"), lambda c: number_cell(c.passes, ",.0f")),
        (Column("training", "time"), lambda c: Cell(duration(c.seconds), c.seconds)),
    ]
    if all(c.passes is None for c in costs):
        del columns[3]
    caption = "Epochs and training time, summed over all workers."
    return Section("Cost", (words,), (table(caption, (*costs, total_cost(costs)), *columns),))


def latency_section(latency: Latency | None) -> Section:
    """Median and 99% quantile of a call, for one row and for a batch; empty without measurements."""
    rows = table(
        "Time from raw features to probabilities with all networks, on the CPU of the evaluating machine.",
        ({} if latency is None else latency.calls).items(),
        (text_column("call"), lambda named: named[0]),
        ("median", lambda named: Cell(milliseconds(named[1].p50_s), named[1].p50_s)),
        ("99% are faster than", lambda named: Cell(milliseconds(named[1].p99_s), named[1].p99_s)),
    )
    return Section("Inference latency", (), (rows,))


def milliseconds(seconds: float) -> str:
    """Write a duration in milliseconds with three digits."""
    return f"{seconds * 1000:.3g} ms"


def warnings_section(warnings: Sequence[str], notes: Sequence[str]) -> Section:
    """List of the warnings, which are also at the top, and of the notes."""
    listed = [*(("warning", one) for one in warnings), *(("note", one) for one in notes)]
    rows = table("", listed, (text_column("kind"), lambda line: line[0]), (text_column("text"), lambda line: line[1]))
    return Section("Warnings and notes", () if warnings else ("There are no warnings.",), (rows,))
