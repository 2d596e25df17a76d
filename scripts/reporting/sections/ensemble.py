"""Section of the evaluation report on an ensemble: who is in it, what it gains on one configuration, what it costs."""

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
        return Section("Is the ensemble worth its cost")
    return Section("Is the ensemble worth its cost", (ensemble_in_words(ensemble),), (_table(ensemble),))


def ensemble_in_words(ensemble: CostedEnsemble) -> str:
    """Gain and cost of an ensemble in sentences.

    Parameters
    ----------
    ensemble : CostedEnsemble
    """
    single, members = ensemble.single_trial_number, ensemble.members
    if len(members) == 1 and members[0].trial_number == single:
        return f"No other configuration adds to trial {single}: the model is this one alone, and costs no more."
    loss, accuracy = ensemble.log_loss, ensemble.accuracy
    low, high = loss.gain_ci95
    gains = (
        f"log loss {loss.ensemble:.4f} against {loss.single:.4f} of trial {single}, the choice of phase 2 alone "
        f"(a gain of {loss.gain:+.4f}, 95 % {low:+.4f} to {high:+.4f}), accuracy {percent(accuracy.ensemble, 2)} "
        f"against {percent(accuracy.single, 2)} ({points(accuracy.gain)}, 95 % "
        f"{interval(accuracy.gain_ci95, signed=True)})"
    )
    worth = "it is better than one configuration" if ensemble.is_better else "no gain over one configuration is shown"
    return (
        f"Out of fold {worth}: {gains}, on the same {ensemble.n_rows:,} rows by blocks of dates. Weights and "
        "calibration were chosen anew for each fold on the other folds alone, since on the rows that it is made on a "
        "selection looks better than it is; trial "
        f"{single} had been chosen with all folds in view, which favours it. {_cost_in_words(ensemble)}"
    )


def _cost_in_words(ensemble: CostedEnsemble) -> str:
    """Epochs, size and time of an answer, against the dearest member alone."""
    members = ensemble.members
    epochs, parameters = [m.epochs_spent for m in members], [m.n_parameters for m in members]
    slowest = max(m.one_row_p50_s for m in members)
    return (
        f"It takes {sum(epochs):,} epochs of phase 3, {sum(parameters):,} parameters and "
        f"{milliseconds(ensemble.one_row_p50_s)} for one row; of its members alone none takes more than "
        f"{max(epochs):,}, {max(parameters):,} and {milliseconds(slowest)}."
    )


def _table(ensemble: CostedEnsemble) -> Table:
    columns = (
        Column("trial"),
        Column("family", numeric=False),
        Column("weight"),
        Column("epochs of phase 3"),
        Column("parameters"),
        Column("time for one row"),
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
    return Table("Members of the ensemble, each with all its networks; the time is a median.", columns, rows)
