"""Recovery of a phase with lost or damaged artifacts: back them up, and restore them from checkpoints.

A phase is finished only if all its artifacts are whole. What is missing is made again from checkpoints by the same
command, without its flags, because the plan of the phase records them; a lost plan is written again if the config
in its folder is the one that the results name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from scripts.commands.experiment import hash_of_phase
from scripts.commands.session import Session
from scripts.config.experiment import Experiment
from scripts.config.recorded import differing_keys
from scripts.config.yaml_files import load_experiment
from scripts.errors import HyperError, InputError, MissingInputError, OtherSchemaError
from scripts.storage.artifacts import read_record, write_record
from scripts.storage.durable_files import back_up, file_sha256
from scripts.storage.extended_record import Extended
from scripts.storage.record_base import Made
from scripts.storage.records import BestConfig, Plan, Planned, R, Trials
from scripts.storage.result_records import Final
from scripts.storage.run_dir import Command, RunDir

Results = TypeVar("Results", bound=Trials | Extended | Final)
_RESULTS: Mapping[Command, tuple[str, type[Trials | Extended | Final]]] = {
    Command.TUNING: ("trials.json", Trials),
    Command.EXTENDED: ("extended_training_results.json", Extended),
    Command.FINAL: ("final_training_results.json", Final),
}
_COMPARED = ("data_fingerprint", "sealed_fingerprint", "inputs", "warm_start")


def whole(session: Session, path: Path, phase: Command, record: type[R]) -> R | None:
    """Return the content of a JSON artifact, None if it is missing, or was damaged and is backed up now.

    Raises
    ------
    OtherSchemaError
        It is intact, but of another version of Hyper.
    """
    try:
        return read_record(path, phase, record)
    except MissingInputError:
        return None
    except OtherSchemaError:
        raise
    except InputError as error:
        _back_up(session, path, error.what)
        return None


def finished(session: Session, folder: Path, phase: Command, listed: Path, record: type[Results]) -> Results | None:
    """Return the results of a phase if they and the file that they list by its digest are whole, else None."""
    results = whole(session, folder / _RESULTS[phase][0], phase, record)
    if results is None:
        return None
    if listed.exists() and file_sha256(listed) == results.files.get(listed.name):
        return results
    if listed.exists():
        _back_up(session, listed, "SHA-256 mismatch")
    session.echo(f"{listed.name} is restored from checkpoints")
    return None


def started_plan(session: Session, folder: Path, phase: Command) -> Planned | None:
    """Return the plan with which a phase was started, None if it was not started or starts over.

    A damaged plan is backed up. One that is lost is written again from config.yaml, if that is the config which the
    results of the phase name.
    """
    plan = folder / "plan.json"
    if session.arguments.fresh:
        return None
    if session.arguments.dry_run:  # which writes nothing
        return read_record(plan, phase, Plan) if plan.exists() else None
    if (found := whole(session, plan, phase, Plan)) is not None:
        return found
    name, record = _RESULTS[phase]
    results = whole(session, folder / name, phase, record)
    experiment = _recorded(folder / "config.yaml")
    if experiment is None:
        return None
    if results is None:  # what is left, the study or checkpoints, knows whether this is its config
        return Planned(experiment=experiment)
    if hash_of_phase(experiment, phase) != results.config_hash:
        return None
    write_record(plan, Plan(experiment=experiment, **results.as_fields()))
    session.echo(f"note: {plan} was lost and is written again from config.yaml and {name}")
    return read_record(plan, phase, Plan)


def check_unclaimed(folder: Path, phase: Command, origin: Made) -> None:
    """Raise InputError if a folder without a plan has results of another config, other data or other inputs."""
    name, record = _RESULTS[phase]
    try:
        results = read_record(folder / name, phase, record)
    except HyperError:
        return
    if differ := other_origin(results, origin, "config_hash"):
        raise InputError(
            f"plan.json is lost, and the results are of another {', '.join(differ[:5])}",
            str(folder),
            "give the --config and flags of these results, or add --fresh to back them up and start over",
        )


def other_origin(then: Made, now: Made, *further: str) -> list[str]:
    """Return the fields at which the provenance of an artifact differs from the present one, each with both values."""
    a, b = then.as_fields(), now.as_fields()
    names = [name for name in (*further, *_COMPARED) if name in a and name in b]
    return differing_keys({name: a[name] for name in names}, {name: b[name] for name in names})


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


def _recorded(path: Path) -> Experiment | None:
    """Return the config that a phase wrote at its start, None if it is lost or damaged."""
    if not path.exists():
        return None
    try:
        return load_experiment(path, [])
    except InputError:
        return None


def _back_up(session: Session, path: Path, reason: str) -> None:
    session.echo(f"note: {path} is damaged ({reason}); backed up as {back_up(path)}")
