"""What the race of phase 2 decided, in sentences and for a table."""

from __future__ import annotations

from scripts.storage.extended_record import Configuration, Look, Race


def racing_in_words(race: Race | None, n_folds: int) -> tuple[str, ...]:
    """What racing stopped, why, and what was done with what it saved; empty without a race."""
    if race is None:
        return ()
    told = [_look_in_words(look, n_folds) for look in race.looks]
    if not told:
        return ("Racing compared nothing: fewer than two configurations got through two folds.",)
    spared, given = race.n_trainings_spared, race.n_further_seeds
    if spared:
        given_words = (
            f"{given} trainings ({race.epochs_of_further_seeds} epochs) were given to those that cannot be told "
            "apart, as further seeds"
            if given
            else "none was given as a further seed"
        )
        told.append(f"{spared} trainings of folds were spared; {given_words}.")
    return (*told, f"The best configuration is stopped with a probability of at most {race.error_rate:.0%}.")


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
        return f"{after}, racing told no configuration from the best (lowest p = {lowest:.2g}, limit {level:.3f})."
    what = "stopped" if look.after_folds < n_folds else "gave no further seeds to"
    return f"{after}, racing {what} trial{'s' if len(behind) > 1 else ''} {', '.join(behind)}; limit {level:.3f}."
