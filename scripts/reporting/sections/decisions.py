"""Sections of the evaluation report on what to do with the model: abstention, costs of decisions, decay, drift."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from scripts.reporting.charts.evaluation import coverage_figure, decay_figure, drift_figure
from scripts.reporting.page import (
    Cell,
    Column,
    Section,
    Table,
    TableRow,
    interval,
    number,
    number_cell,
    percent,
    percent_cell,
    points,
    present,
)

Record = Mapping[str, Any]


def abstention_section(e: Record) -> Section:
    """What answering only with a lead costs and brings."""
    return Section("Answering only where it is sure", _policy_notes(e), _policy_tables(e), present([_coverage(e)]))


def decision_cost_section(e: Record) -> Section:
    """What decisions cost where mistakes differ in price."""
    return Section("What decisions cost", _cost_notes(e), _cost_tables(e))


def decay_section(e: Record) -> Section:
    """How skill changes with the age of the model."""
    return Section("How long it lasts", _decay_notes(e), _decay_tables(e), present([_decay(e)]))


def drift_section(e: Record) -> Section:
    """How far the features have moved between development and the judged rows."""
    figures = present([drift_figure(e.get("drift") or ())])
    return Section(
        "Drift of the features since development", _shift_notes(e), _drift_tables(e), figures, figures_first=True
    )


def _policy_notes(e: Record) -> tuple[str, ...]:
    decision = e.get("decision") or {}
    if not decision:
        return ()
    told = f"Chosen on predictions of unseen development rows: {decision.get('reason') or 'not recorded'}."
    answered = f"On these rows it answers {percent(decision.get('coverage'))}"
    if decision.get("accuracy") is not None:
        answered += f", of which {percent(decision['accuracy'])} are right"
    if decision.get("net") is not None:
        answered += f", and earns {percent(decision['net'])} after costs"
    return told, answered + "."


def _coverage(e: Record) -> Any:
    return coverage_figure((e.get("decision") or {}).get("curve") or ())


def _policy_tables(e: Record) -> tuple[Table, ...]:
    curve = (e.get("decision") or {}).get("curve") or ()
    columns = (
        Column("margin", "lead of the answer"), Column("answered"), Column("accuracy", "of the answered"),
        Column("standard error"), Column("net return", "per date"), Column("standard error", "of it"),
    )  # fmt: skip
    rows = tuple(
        TableRow(
            (
                number_cell(p.get("margin"), ".3f"), percent_cell(p.get("coverage")), percent_cell(p.get("accuracy")),
                percent_cell(p.get("accuracy_se")), percent_cell(p.get("mean_net"), 3),
                percent_cell(p.get("mean_net_se"), 3),
            )
        )
        for p in curve
    )  # fmt: skip
    caption = "Rows answered only where the lead exceeds the margin; the margin is not to be chosen on these rows."
    return (Table(caption, columns, rows),)


def _cost_notes(e: Record) -> tuple[str, ...]:
    costs = e.get("costs") or {}
    if not costs:
        return ()
    return (
        f"Deciding by the least expected cost saves {number(costs.get('saved'))} per row on always deciding for "
        f"{costs.get('constant_class')} (95 % interval {_bounds(costs.get('saved_ci95'))}).",
    )


def _cost_tables(e: Record) -> tuple[Table, ...]:
    ways = {
        "cheapest": "least expected cost",
        "most_probable": "most probable class",
        "best_constant": "best constant decision",
    }
    costs = e.get("costs") or {}
    rows = tuple(TableRow((Cell(told), number_cell(costs[name]))) for name, told in ways.items() if name in costs)
    return (Table("Mean cost per row.", (Column("decision", numeric=False), Column("cost")), rows),)


def _decay_notes(e: Record) -> tuple[str, ...]:
    decay = e.get("decay") or {}
    if not decay:
        return ()
    slope = decay.get("slope_per_100_dates")
    told = f"Since training: {decay.get('advice')}."
    if slope is not None:
        bounds = interval(decay.get("slope_ci95"), signed=True)
        told += f" The skill changes by {points(slope)} per 100 dates (95 % interval {bounds})."
    return (told,)


def _decay(e: Record) -> Any:
    return decay_figure((e.get("decay") or {}).get("bins") or ())


def _decay_tables(e: Record) -> tuple[Table, ...]:
    columns = (Column("dates since training", numeric=False), Column("rows"), Column("skill"), Column("95 % interval"))
    rows = tuple(
        TableRow(
            (
                Cell(f"{p['first_age']} to {p['last_age']}", p["first_age"]),
                number_cell(p.get("n_rows"), ",d"),
                Cell(points(p.get("skill")), p.get("skill")),
                Cell(interval(p.get("skill_ci95"), signed=True)),
            )
        )
        for p in (e.get("decay") or {}).get("bins") or ()
    )
    return (Table("Accuracy less that of the best naive rule, by the model's age.", columns, rows),)


def _shift_notes(e: Record) -> tuple[str, ...]:
    if e.get("n_duplicates") is None:
        return ()
    return (f"{e['n_duplicates']:,} test rows have exactly the features of a development row.",)


def _drift_tables(e: Record) -> tuple[Table, ...]:
    rows = tuple(
        TableRow((Cell(str(d["feature"])), number_cell(d.get("psi"), ".3f"), number_cell(d.get("ks"), ".3f")))
        for d in e.get("drift") or ()
    )
    columns = (
        Column("feature", numeric=False),
        Column("stability index", "above 0.25 is much"),
        Column("Kolmogorov-Smirnov", "0 to 1"),
    )
    return (Table("Drift of the features between development and these rows, the largest first.", columns, rows),)


def _bounds(values: Sequence[float] | None) -> str:
    return "-" if not values else f"{number(values[0])} to {number(values[1])}"
