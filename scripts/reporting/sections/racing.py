"""Decisions of the race of phase 2, as sentences and for a table."""

from __future__ import annotations

from scripts.storage.extended_record import Configuration, Look, Race


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
