"""Sections of the evaluation report on the model: configuration and seeds; members, gain and cost of an ensemble."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.page import (
    Cell,
    Column,
    Section,
    interval,
    number,
    number_cell,
    percent,
    percent_cell,
    points,
    settings_table,
    table,
    text_column,
)
from scripts.reporting.sections.shared import milliseconds
from scripts.storage.evaluation_record import CostedEnsemble, Evaluation
from scripts.storage.model_record import FinalModelContent


def model_section(e: Evaluation, model: FinalModelContent, n_parameters: Sequence[int]) -> Section:
    """Hyperparameters, reason of the selection, training rows, and the accuracy of each seed."""
    members = model.members
    own = [member.hyperparameters.model_dump() for member in members]
    heads = ["value"] if len(members) == 1 else [f"trial {member.trial_number}" for member in members]
    names = dict.fromkeys(name for values in own for name in values)
    rows = settings_table("Hyperparameters of the final model.", names, own, map(Column, heads))
    return Section("Configuration", (*_choice(model, sum(n_parameters)), *_seeds(e)), (rows,))


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


def ensemble_section(ensemble: CostedEnsemble | None) -> Section:
    """Section of an ensemble's evaluation; empty for a model of a single configuration."""
    if ensemble is None:
        return Section("Ensemble: gain and cost")
    members = table(
        "Members of the ensemble, each with all its networks; median latency.",
        ensemble.members,
        ("trial", lambda m: number_cell(m.trial_number, "d")),
        (text_column("family"), lambda m: m.family),
        ("weight", lambda m: percent_cell(m.weight, 0)),
        ("epochs of phase 3", lambda m: number_cell(m.epochs_spent, ",d")),
        ("parameters", lambda m: number_cell(m.n_parameters, ",d")),
        ("latency of one row", lambda m: Cell(milliseconds(m.one_row_p50_s), m.one_row_p50_s)),
    )
    return Section("Ensemble: gain and cost", (ensemble_in_words(ensemble),), (members,))


def ensemble_in_words(ensemble: CostedEnsemble) -> str:
    """Gain and cost of an ensemble in sentences."""
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
