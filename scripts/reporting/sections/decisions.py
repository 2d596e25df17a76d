"""Sections of the evaluation report on the use of the model: abstention, cost of decisions, decay, drift."""

from __future__ import annotations

from scripts.reporting.charts.evaluation import coverage_figure, decay_figure, drift_figure
from scripts.reporting.page import (
    Cell,
    Column,
    Section,
    Table,
    interval,
    number,
    number_cell,
    percent,
    percent_cell,
    points,
    present,
    table,
    text_column,
)
from scripts.storage.evaluation_record import Evaluation
from scripts.storage.trading_records import Costs, Decay


def abstention_section(e: Evaluation) -> Section:
    """Return the section on abstention by a margin."""
    return Section(
        "Selective prediction",
        _policy_notes(e),
        _policy_tables(e),
        present([coverage_figure(e.decision.curve)]),
    )


def decision_cost_section(e: Evaluation) -> Section:
    """Return the section on the cost of decisions."""
    title, costs = "Cost of decisions", e.costs
    return Section(title) if costs is None else Section(title, _cost_notes(costs), _cost_tables(costs))


def decay_section(e: Evaluation) -> Section:
    """Return the section on skill by the age of the model."""
    title, decay = "Skill decay", e.decay
    if decay is None:
        return Section(title)
    return Section(title, _decay_notes(decay), _decay_tables(decay), present([decay_figure(decay.bins)]))


def drift_section(e: Evaluation) -> Section:
    """Return the section on feature drift between development and test rows."""
    figures = present([drift_figure(e.drift)])
    return Section("Feature drift", _shift_notes(e), _drift_tables(e), figures, figures_first=True)


def _policy_notes(e: Evaluation) -> tuple[str, ...]:
    decision = e.decision
    answered = f"On these rows the coverage is {percent(decision.coverage)}"
    if decision.accuracy is not None:
        answered += f", the accuracy {percent(decision.accuracy)}"
    if decision.net is not None:
        answered += f", and the return {percent(decision.net)} after costs"
    return f"Chosen on predictions of unseen development rows: {decision.reason}.", answered + "."


def _policy_tables(e: Evaluation) -> tuple[Table, ...]:
    return (
        table(
            "Rows answered if the lead exceeds the margin; do not choose the margin on these rows.",
            e.decision.curve,
            (Column("margin", "lead of the answer"), lambda p: number_cell(p.margin, ".3f")),
            ("answered", lambda p: percent_cell(p.coverage)),
            (Column("accuracy", "of the answered"), lambda p: percent_cell(p.accuracy)),
            ("standard error", lambda p: percent_cell(p.accuracy_se)),
            (Column("net return", "per date"), lambda p: percent_cell(p.mean_net, 3)),
            (Column("standard error", "of it"), lambda p: percent_cell(p.mean_net_se, 3)),
        ),
    )


def _cost_notes(costs: Costs) -> tuple[str, ...]:
    low, high = map(number, costs.saved_ci95)
    return (
        f"Deciding by the lowest expected cost saves {number(costs.saved)} per row over always deciding for "
        f"{costs.constant_class} (95% interval {low} to {high}).",
    )


def _cost_tables(costs: Costs) -> tuple[Table, ...]:
    ways = {
        "lowest expected cost": costs.cheapest,
        "most probable class": costs.most_probable,
        "best constant decision": costs.best_constant,
    }
    columns = (text_column("decision"), lambda way: way[0]), ("cost", lambda way: number_cell(way[1]))
    return (table("Mean cost per row.", ways.items(), *columns),)


def _decay_notes(decay: Decay) -> tuple[str, ...]:
    text = f"{decay.advice[:1].upper()}{decay.advice[1:]}."
    if decay.slope_per_100_dates is not None:
        bounds = interval(decay.slope_ci95, signed=True)
        text += f" The skill changes by {points(decay.slope_per_100_dates)} per 100 dates (95% interval {bounds})."
    return (text,)


def _decay_tables(decay: Decay) -> tuple[Table, ...]:
    return (
        table(
            "Accuracy minus that of the best naive rule, by the age of the model.",
            decay.bins,
            (text_column("dates since training"), lambda p: Cell(f"{p.first_age} to {p.last_age}", p.first_age)),
            ("rows", lambda p: number_cell(p.n_rows, ",d")),
            ("skill", lambda p: Cell(points(p.skill), p.skill)),
            ("95% interval", lambda p: interval(p.skill_ci95, signed=True)),
        ),
    )


def _shift_notes(e: Evaluation) -> tuple[str, ...]:
    return (f"{e.n_duplicates:,} test rows have exactly the features of a development row.",)


def _drift_tables(e: Evaluation) -> tuple[Table, ...]:
    return (
        table(
            "Feature drift between development and test rows, the largest first.",
            e.drift,
            (text_column("feature"), lambda d: d.feature),
            (Column("stability index", "above 0.25 is large"), lambda d: number_cell(d.psi, ".3f")),
            (Column("Kolmogorov-Smirnov", "0 to 1"), lambda d: number_cell(d.ks, ".3f")),
        ),
    )
