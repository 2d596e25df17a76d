"""Check that the final model of a run directory follows from the present results of its phases."""

from __future__ import annotations

import shlex
from pathlib import Path

from scripts.commands.experiment import SECTIONS, differences
from scripts.commands.session import Session
from scripts.errors import HyperError, InputError
from scripts.storage.artifacts import read_record
from scripts.storage.durable_files import file_sha256
from scripts.storage.model_record import FinalModelContent
from scripts.storage.records import BestConfig, Plan, Trials
from scripts.storage.run_dir import Command, RunDir


def check_lineage(session: Session, path: Path, content: FinalModelContent) -> list[str]:
    """Refuse a model that is older than the phases of its run directory; warnings about what cannot be checked.

    Parameters
    ----------
    path : Path
        Of the model. Only the run directory's own final_model.pkl must be of its phases.
    content : FinalModelContent
        Content of the model.

    Raises
    ------
    InputError
        A phase was run again with other settings or results since the model was trained.
    """
    run_dir = session.run_dir
    if path.resolve() != run_dir.final_model:
        return [f"{path.name} is not the final model of this run directory"] if run_dir.final_model.exists() else []
    try:
        found = _newer_phase(run_dir, content)
    except HyperError as error:  # a damaged artifact is not evidence about the model
        return [f"the origin of the model could not be checked: {error}"]
    if found is None:
        return []
    what, again = found
    old = [Command.EVALUATION, "--run-dir", f"{session.place}_old", "--model", str(path)]
    raise InputError(
        f"is older than this run directory's results: {what}",
        str(path),
        f"train the model again, starting with {session.next_command(*again)}; "
        f"or evaluate the old one in another directory: {shlex.join(old)}",
    )


def _newer_phase(run_dir: RunDir, content: FinalModelContent) -> tuple[str, tuple[str, ...]] | None:
    """Return the artifact that the model does not come from, and the first command to run; None if it is current."""
    best = read_record(run_dir.best_config, Command.EXTENDED, BestConfig) if run_dir.best_config.exists() else None
    source = content if best is None else best
    if differ := _differences(run_dir.tuning / "plan.json", Command.TUNING, source):
        return f"phase 1 was started with other settings ({differ})", (Command.EXTENDED, "--fresh")
    if best is not None and _searched_again(run_dir, best):
        return "phase 1 was run again since best_config.json was chosen", (Command.EXTENDED, "--fresh")
    if differ := _differences(run_dir.extended / "plan.json", Command.EXTENDED, source):
        again = (Command.EXTENDED,) if best is None else (Command.EXTENDED, "--fresh")
        return f"phase 2 was started with other settings ({differ})", again
    if best is not None and _chosen_otherwise(run_dir, best, content):
        return "it was trained from another best_config.json", (Command.FINAL, "--fresh")
    return None


def _differences(plan: Path, phase: Command, source: BestConfig | FinalModelContent) -> str:
    """Keys in which a phase's plan differs from the experiment of a later artifact; empty without a plan."""
    if not plan.exists():
        return ""
    started = read_record(plan, phase, Plan).experiment
    return ", ".join(differences(started, source.experiment, SECTIONS[phase])[:3])


def _searched_again(run_dir: RunDir, best: BestConfig) -> bool:
    """Return True if trials.json has changed since phase 2, and the chosen trial is not in it."""
    if not run_dir.trials.exists() or best.inputs.get(run_dir.trials.name) == file_sha256(run_dir.trials):
        return False
    number, chosen = best.selection.trial_number, best.hyperparameters
    trials = read_record(run_dir.trials, Command.TUNING, Trials).trials
    # A trial names the hyperparameters that are searched, the choice all of them.
    return not any(t.number == number and t.hyperparameters.items() <= chosen.items() for t in trials)


def _chosen_otherwise(run_dir: RunDir, best: BestConfig, content: FinalModelContent) -> bool:
    """Return True if the model was trained from a best_config.json with other content."""
    recorded = content.inputs.get(run_dir.best_config.name)
    if recorded is None or recorded == file_sha256(run_dir.best_config):
        return False  # None: trained from a file of another name
    differ = differences(best.experiment, content.experiment, SECTIONS[Command.EXTENDED])
    return bool(differ) or best.selection != content.selection
