"""What the phases say at their end: what was found, what it cost, and the next command to type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scripts.cli import Session
from scripts.config import Experiment
from scripts.run_dir import Command


def best_trial(trials: dict[str, Any]) -> dict[str, Any]:
    """The first of the usable trials with the best accuracy."""
    best: dict[str, Any] = max((t for t in trials["trials"] if t["state"] != "failed"), key=lambda t: t["val_accuracy"])
    return best


def shortfall(selection: Mapping[str, Any]) -> str:
    """Warning that a chosen configuration does not lead the best naive rule out of fold; empty where it does.

    Parameters
    ----------
    selection : mapping
        `skill` and `skill_se` out of fold, of best_config.json or of a configuration of phase 2.
    """
    skill, error = selection.get("skill"), selection.get("skill_se")
    if skill is None or skill > 0:
        return ""
    behind = f"{-100 * skill:.1f} pp behind" if skill < 0 else "level with"
    sure = "" if error is None else f" (s.e. {100 * error:.1f} pp)"
    return (
        f"out of fold the model is {behind} the best naive rule{sure}: opening the sealed test set for it uses up a "
        "look; a further search may be the better next step"
    )


def say_tuned(session: Session, body: dict[str, Any]) -> None:
    """What phase 1 has found and cost."""
    best = best_trial(body)
    session.say(f"phase 1: {len(body['trials'])} trials, {body['epochs_spent']} epochs, {session.took}")
    if "stopped_because" in body:
        session.say(f"phase 1 ended because {body['stopped_because']}")
    session.say(f"best on one split, so optimistic: trial {best['number']} with {best['val_accuracy']:.4f}")
    session.say(f"results in {session.run_dir.trials}")


def conclude_tuning(session: Session, experiment: Experiment, trials: dict[str, Any]) -> None:
    """The end of phase 1, also of one that was finished before."""
    best, run_dir = best_trial(trials), session.run_dir
    session.conclude(
        session.next_command(Command.EXTENDED, models=experiment.models),
        [run_dir.trials, run_dir.study],
        epochs=trials["epochs_spent"],
        n_trials=len(trials["trials"]),
        best_trial=best["number"],
        best_accuracy_on_one_split=best["val_accuracy"],
    )


def conclude_extended(session: Session, experiment: Experiment, results: dict[str, Any]) -> None:
    """The end of phase 2, also of one that was finished before."""
    best, run_dir = results["configurations"][0], session.run_dir
    figures = {name: best[name] for name in ("trial_number", "avg_accuracy", "accuracy_se", "skill", "skill_ci95")}
    if warning := shortfall(best):
        session.say(f"warning: {warning}")
    session.conclude(
        session.next_command(Command.ANALYSIS, models=experiment.models),
        [run_dir.extended_results, run_dir.out_of_fold, run_dir.best_config],
        epochs=results["epochs_spent"],
        best_constant_accuracy=results["best_constant_accuracy"],
        **figures,
    )


def conclude_final(session: Session, experiment: Experiment, body: dict[str, Any]) -> None:
    """The end of phase 3, also of one that was finished before."""
    run_dir = session.run_dir
    figures = {name: body[name] for name in ("holdout_accuracy", "holdout_rows")}
    next_command = session.next_command(Command.EVALUATION, models=experiment.models)
    session.conclude(next_command, [run_dir.final_model, run_dir.final_results], epochs=body["epochs_spent"], **figures)
