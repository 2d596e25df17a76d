"""Recovery of a phase with lost or damaged artifacts: back them up, and restore them from checkpoints.

A phase is finished only if all its artifacts are whole. What is missing is made again from checkpoints by the same
command, without its flags, because the plan of the phase records them; a lost plan is written again if the config
in its folder is the one that the results name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.commands.experiment import SECTIONS, comparable
from scripts.commands.session import Session
from scripts.config.recorded import config_hash, differing_keys
from scripts.config.yaml_files import load_experiment
from scripts.errors import HyperError, InputError, MissingInputError, OtherSchemaError
from scripts.storage.artifacts import read_json, write_json
from scripts.storage.durable_files import back_up, file_sha256
from scripts.storage.records import BestConfig, R
from scripts.storage.run_dir import Command, RunDir

_RESULTS = {
    Command.TUNING: "trials.json",
    Command.EXTENDED: "extended_training_results.json",
    Command.FINAL: "final_training_results.json",
}
_ORIGIN = ("config_hash", "data_fingerprint", "sealed_fingerprint", "inputs", "warm_start", "starting", "warnings")
_COMPARED = ("config_hash", "data_fingerprint", "sealed_fingerprint", "inputs", "warm_start")


def whole(session: Session, path: Path, phase: Command) -> dict[str, Any] | None:
    """Return the content of a JSON artifact, None if it is missing, or was damaged and is backed up now.

    Raises
    ------
    OtherSchemaError
        It is intact, but of another version of Hyper.
    """
    try:
        return read_json(path, phase)
    except MissingInputError:
        return None
    except OtherSchemaError:
        raise
    except InputError as error:
        _back_up(session, path, error.what)
        return None


def finished(session: Session, folder: Path, phase: Command, listed: Path, record: type[R]) -> R | None:
    """Return the results of a phase if they and the file that they list by its digest are whole, else None."""
    body = whole(session, folder / _RESULTS[phase], phase)
    if body is None:
        return None
    if listed.exists() and file_sha256(listed) == body.get("files", {}).get(listed.name):
        return record.model_validate(body)
    if listed.exists():
        _back_up(session, listed, "SHA-256 mismatch")
    session.echo(f"{listed.name} is restored from checkpoints")
    return None


def started_plan(session: Session, folder: Path, phase: Command) -> dict[str, Any] | None:
    """Return the plan with which a phase was started, None if it was not started or starts over.

    A damaged plan is backed up. One that is lost is written again from config.yaml, if that is the config which the
    results of the phase name.
    """
    plan = folder / "plan.json"
    if session.arguments.fresh:
        return None
    if session.arguments.dry_run:  # which writes nothing
        return read_json(plan, phase) if plan.exists() else None
    if (body := whole(session, plan, phase)) is not None:
        return body
    results = whole(session, folder / _RESULTS[phase], phase)
    experiment = _recorded(folder / "config.yaml")
    if experiment is None:
        return None
    if results is None:  # what is left, the study or checkpoints, knows whether this is its config
        return {"experiment": experiment}
    if config_hash(comparable(experiment, SECTIONS[phase])) != results["config_hash"]:
        return None
    write_json(plan, {"experiment": experiment, **{name: results[name] for name in _ORIGIN if name in results}})
    session.echo(f"note: {plan} was lost and is written again from config.yaml and {_RESULTS[phase]}")
    return read_json(plan, phase)


def check_unclaimed(folder: Path, phase: Command, origin: Mapping[str, Any]) -> None:
    """Raise InputError if a folder without a plan has results of another config, other data or other inputs."""
    path = folder / _RESULTS[phase]
    try:
        results = read_json(path, phase)
    except HyperError:
        return
    names = [name for name in _COMPARED if name in origin and name in results]
    if differ := differing_keys({n: results[n] for n in names}, {n: origin[n] for n in names}):
        raise InputError(
            f"plan.json is lost, and the results are of another {', '.join(differ[:5])}",
            str(folder),
            "give the --config and flags of these results, or add --fresh to back them up and start over",
        )


def check_descent(run_dir: RunDir, best: BestConfig) -> None:
    """Raise InputError unless best_config.json was made from the results of phases 1 and 2 that exist now.

    A directory without the folders of these phases is not checked: the file was copied there for training.
    """
    known = {run_dir.trials.name: run_dir.trials, run_dir.extended_results.name: run_dir.extended_results}
    if not any(path.parent.exists() for path in known.values()):
        return
    for name, recorded in best.inputs.items():
        path = known.get(name)
        if path is not None and (not path.exists() or file_sha256(path) != recorded):
            state = "is missing" if not path.exists() else "has changed since"
            raise InputError(
                f"was made from {name}, which {state}",
                str(run_dir.best_config),
                f"create it again with {Command.EXTENDED} --fresh",
            )


def _recorded(path: Path) -> dict[str, Any] | None:
    """Return the config that a phase wrote at its start, None if it is lost or damaged."""
    if not path.exists():
        return None
    try:
        return load_experiment(path, []).recorded()
    except InputError:
        return None


def _back_up(session: Session, path: Path, reason: str) -> None:
    session.echo(f"note: {path} is damaged ({reason}); backed up as {back_up(path)}")
