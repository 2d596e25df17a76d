"""Section of the evaluation report on an ensemble: members, gain over one configuration, cost."""

from __future__ import annotations

from scripts.reporting.page import (
    Cell,
    Column,
    Section,
    Table,
    TableRow,
    interval,
    number_cell,
    percent,
    percent_cell,
    points,
)
from scripts.reporting.sections.latency import milliseconds
from scripts.storage.evaluation_record import CostedEnsemble


def ensemble_section(ensemble: CostedEnsemble | None) -> Section:
    """Section of an ensemble's evaluation; empty for a model of a single configuration."""
    if ensemble is None:
        return Section("Ensemble: gain and cost")
    return Section("Ensemble: gain and cost", (ensemble_in_words(ensemble),), (_table(ensemble),))


def ensemble_in_words(ensemble: CostedEnsemble) -> str:
    """Gain and cost of an ensemble in sentences.

    Parameters
    ----------
    ensemble : CostedEnsemble
    """
    single, members = ensemble.single_trial_number, ensemble.members
    if len(members) == 1 and members[0].trial_number == single:
        return f"No other configuration improves trial {single}: the model is this one, without further cost."
    loss, accuracy = ensemble.log_loss, ensemble.accuracy
    low, high = loss.gain_ci95
    gains = (
        f"log loss {loss.ensemble:.4f} against {loss.single:.4f} of trial {single}, the choice of phase 2 "
        f"(a gain of {loss.gain:+.4f}, 95% {low:+.4f} to {high:+.4f}), accuracy {percent(accuracy.ensemble, 2)} "
        f"against {percent(accuracy.single, 2)} ({points(accuracy.gain)}, 95% "
        f"{interval(accuracy.gain_ci95, signed=True)})"
    )
    worth = (
        "it is better than one configuration"
        if ensemble.is_better
        else "the gain over one configuration is not significant"
    )
    return (
        f"Out of fold {worth}: {gains}, on the same {ensemble.n_rows:,} rows by blocks of dates. Weights and "
        "calibration were fitted for each fold on the other folds, because a selection looks too good on the rows that "
        "it was made on. Trial "
        f"{single} was chosen with all folds in view, which favours it. {_cost_in_words(ensemble)}"
    )


def _cost_in_words(ensemble: CostedEnsemble) -> str:
    """Return epochs, size and latency, compared with the largest member."""
    members = ensemble.members
    epochs, parameters = [m.epochs_spent for m in members], [m.n_parameters for m in members]
    slowest = max(m.one_row_p50_s for m in members)
    return (
        f"The ensemble takes {sum(epochs):,} epochs of phase 3, {sum(parameters):,} parameters and "
        f"{milliseconds(ensemble.one_row_p50_s)} for one row; no single member takes more than "
        f"{max(epochs):,}, {max(parameters):,} and {milliseconds(slowest)}."
    )


def _table(ensemble: CostedEnsemble) -> Table:
    columns = (
        Column("trial"),
        Column("family", numeric=False),
        Column("weight"),
        Column("epochs of phase 3"),
        Column("parameters"),
        Column("latency of one row"),
    )
    rows = tuple(
        TableRow(
            (
                number_cell(m.trial_number, "d"),
                Cell(m.family),
                percent_cell(m.weight, 0),
                number_cell(m.epochs_spent, ",d"),
                number_cell(m.n_parameters, ",d"),
                Cell(milliseconds(m.one_row_p50_s), m.one_row_p50_s),
            )
        )
        for m in ensemble.members
    )
    return Table("Members of the ensemble, each with all its networks; median latency.", columns, rows)
