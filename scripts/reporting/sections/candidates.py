"""Sections of the analysis report on the candidates of phase 2: against naive rules, their race, the choice and why."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.charts.cross_validation import skill_figure
from scripts.reporting.figures import words
from scripts.reporting.page import (
    Cell,
    Column,
    Section,
    Table,
    bounds_cell,
    duration,
    interval,
    number_cell,
    percent,
    percent_cell,
    points,
    present,
    settings_table,
    table,
    text_column,
)
from scripts.storage.extended_record import Configuration, Extended, Look, Race
from scripts.storage.result_records import Selection

_LABELLED_ROWS = (
    "Returns use rows with a label only. The evaluation also trades rows without one, such as ties and the last "
    "bars of a listing, so the two differ if there are many of them."
)


def better_section(extended: Extended, chosen: Configuration) -> Section:
    """Return the comparison of the candidates with naive rules on out-of-fold rows."""
    candidates, bounds = extended.configurations, chosen.skill_ci95
    rule = words(extended.best_naive or "the best constant")
    lines = (
        f"{'Yes' if bounds is not None and bounds[0] > 0 else 'Not clearly'}: the out-of-fold "
        f"difference is {points(chosen.skill)} to the best naive rule ({rule}), 95% interval "
        f"{interval(bounds, signed=True)} pp, on the same rows.",
        "The evaluation compares the model with a tuned linear model and tuned boosted trees on the sealed rows.",
    )
    rows = table(
        "Out-of-fold difference to the best naive rule; the chosen configuration is shaded.",
        [c for c in candidates if c.skill is not None],
        ("trial", lambda c: number_cell(c.trial_number, "d")),
        (Column("skill", f"over {rule}"), lambda c: Cell(points(c.skill), c.skill)),
        ("95% interval", lambda c: bounds_cell(c.skill_ci95)),
        ("folds", lambda c: number_cell(len(c.folds), "d")),
        chosen=chosen,
    )
    return Section("Comparison with naive rules", lines, (rows,), present([skill_figure(candidates)]))


def choice_section(
    selection: Selection, extended: Extended, chosen: Configuration, confidence_set: Sequence[int]
) -> Section:
    """Return the chosen configuration, the reason and the compared candidates."""
    candidates, constant = extended.configurations, extended.best_constant_accuracy
    tables = (_candidate_table(candidates, chosen, constant, confidence_set), _settings_table(candidates, chosen))
    return Section("Configuration", _reasons(selection, extended), tables)


def _reasons(selection: Selection, extended: Extended) -> tuple[str, ...]:
    lines = [f"Selected: {selection.reason}."]
    if selection.decision is not None:
        lines.append(f"Decision rule: {selection.decision.reason}.")
    if failed := extended.n_failed_configurations:
        lines.append(f"{failed} further candidates failed in a fold and were excluded.")
    if copies := extended.n_duplicates:
        lines.append(f"{copies:,} tested rows have exactly the features of a row that the same fold trained on.")
    return (*lines, *racing_in_words(extended.racing, extended.n_folds))


def _candidate_table(
    candidates: Sequence[Configuration], chosen: Configuration, constant: float, confidence_set: Sequence[int]
) -> Table:
    caption = (
        f"Cross-validated candidates, the chosen one is shaded. Best constant: {percent(constant, 2)}. Standard errors "
        "are by blocks of dates; that of the difference to the best is paired. Tied: may be the best by log loss. "
        "Stopped configurations are never chosen and have fewer folds. With several networks a fold, figures are means "
        "over single networks."
    )
    if any(c.avg_simulated_return is not None for c in candidates):
        caption += f" {_LABELLED_ROWS}"

    def accuracies(c: Configuration) -> list[float]:
        return [fold.accuracy for fold in c.folds if fold.accuracy is not None]

    def lead(c: Configuration) -> Cell:
        # Stopped configurations were tested on fewer rows than the constant.
        value = c.avg_accuracy - constant if c.is_complete else None
        return Cell(points(value), value)

    return table(
        caption,
        candidates,
        ("rank", lambda c: number_cell(c.rank, "d")),
        ("trial", lambda c: number_cell(c.trial_number, "d")),
        (text_column("model"), lambda c: c.family),
        (text_column("racing"), race_state),
        (Column("accuracy", "mean of folds"), lambda c: percent_cell(c.avg_accuracy, 2)),
        ("standard error", lambda c: percent_cell(c.accuracy_se, 2)),
        (Column("behind the best", "paired"), lambda c: Cell(points(c.behind, signed=False), c.behind)),
        ("s.e. of it", lambda c: percent_cell(c.behind_se, 2)),
        (Column("tied", "90% set", numeric=False), lambda c: "yes" if c.trial_number in confidence_set else "no"),
        (Column("spread", "s.d. of folds"), lambda c: percent_cell(c.std_accuracy, 2)),
        ("lowest fold", lambda c: percent_cell(min(accuracies(c), default=None), 2)),
        ("highest fold", lambda c: percent_cell(max(accuracies(c), default=None), 2)),
        (Column("lead", "over one class"), lead),
        (Column("validation loss", "nats"), lambda c: number_cell(c.avg_val_loss, ".4f")),
        (Column("training loss", "nats"), lambda c: number_cell(c.avg_train_loss, ".4f")),
        (Column("return", "net of costs"), lambda c: percent_cell(c.avg_simulated_return)),
        ("parameters", lambda c: number_cell(c.n_parameters, ",d")),
        (Column("operations", "per row"), lambda c: number_cell(c.operations_per_row, ",d")),
        ("training", lambda c: Cell(duration(c.duration_s), c.duration_s)),
        (Column("inference", "µs per row"), lambda c: number_cell(c.inference_us_per_row, ".2f")),
        chosen=chosen,
    )


def _settings_table(candidates: Sequence[Configuration], chosen: Configuration) -> Table:
    names = sorted({name for c in candidates for name in c.config})
    heads = (Column(f"trial {c.trial_number}", "chosen" if c is chosen else "") for c in candidates)
    return settings_table("Hyperparameters of each candidate.", names, [c.config for c in candidates], heads)


def racing_in_words(race: Race | None, n_folds: int) -> tuple[str, ...]:
    """Return the stopped configurations, the reasons and the use of the savings; empty without a race."""
    if race is None:
        return ()
    lines = [_look_in_words(look, n_folds) for look in race.looks]
    if not lines:
        return ("Racing made no comparison: fewer than two configurations finished two folds.",)
    spared, given = race.n_trainings_spared, race.n_further_seeds
    if spared:
        given_words = (
            f"{given} trainings ({race.epochs_of_further_seeds} epochs) were given to tied configurations "
            "as further seeds"
            if given
            else "none was given as a further seed"
        )
        lines.append(f"{spared} trainings of folds were saved; {given_words}.")
    return (*lines, f"The best configuration is stopped with a probability of at most {race.error_rate:.0%}.")


def race_state(configuration: Configuration) -> str:
    """State of a configuration for a table: stopped after so many folds, or its networks over all folds."""
    if not configuration.is_complete:
        return f"stopped after {configuration.stopped_after_folds}"
    seeds = configuration.seeds
    return "complete" if max(seeds) == 1 else f"complete, {sum(seeds)} networks"


def _look_in_words(look: Look, n_folds: int) -> str:
    found, level = look.by_trial, look.level
    after = f"After {look.after_folds} of {n_folds} folds"
    behind = [f"{trial} (p = {found[trial]:.2g})" for trial in look.behind]
    if not behind:
        lowest = min(found.values())
        return f"{after}, all configurations tie with the best (lowest p = {lowest:.2g}, limit {level:.3f})."
    what = "stopped" if look.after_folds < n_folds else "gave no further seeds to"
    return f"{after}, racing {what} trial{'s' if len(behind) > 1 else ''} {', '.join(behind)}; limit {level:.3f}."
