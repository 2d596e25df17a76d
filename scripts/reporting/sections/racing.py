"""What the race of phase 2 decided, in sentences and for a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def racing_in_words(extended: Mapping[str, Any]) -> tuple[str, ...]:
    """What racing stopped, why, and what was done with what it saved; empty without a race.

    Parameters
    ----------
    extended : mapping
        Content of extended_training_results.json.
    """
    race = extended.get("racing")
    if not race:
        return ()
    looks, n_folds = race["looks"], extended["n_folds"]
    told = [_look_in_words(look, n_folds) for look in looks]
    if not told:
        return ("Racing compared nothing: fewer than two configurations got through two folds.",)
    spared, given = race["n_trainings_spared"], race["n_further_seeds"]
    if spared:
        given_words = (
            f"{given} trainings ({race['epochs_of_further_seeds']} epochs) were given to those that cannot be told "
            "apart, as further seeds"
            if given
            else "none was given as a further seed"
        )
        told.append(f"{spared} trainings of folds were spared; {given_words}.")
    return (*told, f"The best configuration is stopped with a probability of at most {race['error_rate']:.0%}.")


def race_state(configuration: Mapping[str, Any]) -> str:
    """State of a configuration for a table: stopped after so many folds, or its networks over all folds."""
    seeds = configuration.get("seeds")
    if configuration.get("state") == "stopped":
        return f"stopped after {configuration['stopped_after_folds']}"
    return "complete" if seeds is None or max(seeds) == 1 else f"complete, {sum(seeds)} networks"


def _look_in_words(look: Mapping[str, Any], n_folds: int) -> str:
    found, level = look["p_values"], look["level"]
    after = f"After {look['after_folds']} of {n_folds} folds"
    behind = [f"{p['trial_number']} (p = {p['p_value']:.2g})" for p in found if p["p_value"] < level]
    if not behind:
        lowest = min(p["p_value"] for p in found)
        return f"{after}, racing told no configuration from the best (lowest p = {lowest:.2g}, limit {level:.3f})."
    what = "stopped" if look["after_folds"] < n_folds else "gave no further seeds to"
    return f"{after}, racing {what} trial{'s' if len(behind) > 1 else ''} {', '.join(behind)}; limit {level:.3f}."
