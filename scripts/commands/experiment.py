"""Experiment of a command: from YAML, flags and earlier runs in phase 1, from the records in later phases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from scripts.commands.next_experiment import continued_from
from scripts.commands.session import Session
from scripts.config.experiment import DataConfig, Experiment
from scripts.config.recorded import config_hash, differing_keys
from scripts.config.search_space import Hyperparameters, PlainValues
from scripts.config.unused_keys import keys_without_effect
from scripts.config.yaml_files import given_values, load_experiment
from scripts.config.yaml_text import dump_yaml
from scripts.errors import InputError, nearest
from scripts.storage.durable_files import write_bytes
from scripts.storage.records import Planned
from scripts.storage.run_dir import Command, RunDir
from scripts.training.models.registry import check_families

# Sections that every phase depends on; a later phase must leave them as they were.
_SHARED = ("seed", "data", "search_space")
# Keys of `data` that describe a file and not the model: new data may be written otherwise.
_OF_FILE = ("table", "columns", "header", "delimiter", "decimal", "thousands", "date_format")
# Sections that decide the results of a phase; a later phase takes over those of the phases before it.
SECTIONS = {
    Command.TUNING: (*_SHARED, "tuning"),
    Command.EXTENDED: (*_SHARED, "tuning", "extended"),
    Command.FINAL: (*_SHARED, "tuning", "extended", "final"),
}
_OWN = {Command.TUNING: ("extended",), Command.EXTENDED: ("final",)}  # sections that are free after a phase


def load_first(session: Session, plan: Planned | None = None) -> Experiment:
    """Load the experiment of phase 1, from YAML and assignments on top of its recorded plan, or of --next.

    Parameters
    ----------
    plan : Planned, optional
        The plan of this run's phase 1; a YAML file takes the place of its experiment.

    Raises
    ------
    InputError
        Also for an unknown model family or hyperparameter.
    """
    earlier = session.arguments.next
    path, base = _yaml_files(session), None
    if earlier is not None:
        base = continued_from(RunDir(earlier), session.run_dir, session.arguments.fresh)
    elif plan is not None and not path:
        base = plan.experiment
    experiment = load_experiment(path, session.assignments, base=base)
    given = given_values(path, session.assignments)[0]
    for key, reason in keys_without_effect(experiment, given):
        session.echo(f"note: {key} has no effect: {reason}")
    if session.arguments.write_config is not None:
        _write_config(session.arguments.write_config, given)
    check_families(experiment.search_space, experiment.models)
    known = list(Hyperparameters.model_fields)
    if not experiment.models and (unknown := [n for n in experiment.search_space if n not in known]):
        raise InputError("unknown hyperparameter", f"search_space.{unknown[0]}", nearest(unknown[0], known))
    return experiment


def load_later(session: Session, recorded: Experiment, earlier: Command, plan: Planned | None = None) -> Experiment:
    """Load the experiment of a later phase: the recorded one, with the changes that are still allowed.

    Parameters
    ----------
    recorded : Experiment
        The experiment of the earlier phase.
    plan : Planned, optional
        Plan of this phase, whose section has the flags of its first start.

    Raises
    ------
    InputError
        Names each key that the earlier phase had otherwise.
    """
    path = _yaml_files(session)
    own = {} if plan is None else {name: getattr(plan.experiment, name) for name in _OWN.get(earlier, ())}
    base = None if path else recorded.model_copy(update=own)
    now = load_experiment(path, session.assignments, base=base)
    if _reads_new_file(session):
        now = now.model_copy(update={"data": _with_format_of(now.data, recorded.data)})
    if differ := differences(recorded, now, _SHARED):
        raise InputError(
            f"{', '.join(differ[:5])} changed since {earlier}",
            str(path or "command line"),
            f"revert the change, or run {earlier} again with --fresh or in another --run-dir",
        )
    done = {name: getattr(recorded, name) for name in SECTIONS[earlier] if name != "data"}
    if session.search_time is not None:  # phase 1 has turned it into epochs
        done["epoch_budget"] = recorded.epoch_budget
    return Experiment.model_validate(dict(now) | done)


def new_file_config(session: Session, recorded: Experiment) -> DataConfig:
    """Return the data config of a model for the file of --predict or --data, whose format --set may give."""
    path = _yaml_files(session)
    now = load_experiment(path, session.assignments, base=None if path else recorded).data
    return _with_format_of(recorded.data, now)


def _with_format_of(data: DataConfig, other: DataConfig) -> DataConfig:
    return DataConfig.model_validate(dict(data) | {name: getattr(other, name) for name in _OF_FILE})


def _reads_new_file(session: Session) -> bool:
    given = (getattr(session.arguments, name, None) for name in ("predict", "data"))
    return any(path is not None for path in given)


def differences(a: Experiment, b: Experiment, sections: Sequence[str]) -> list[str]:
    """Return the keys of sections at which two experiments differ, each with both values."""
    return differing_keys(_comparable(a, sections), _comparable(b, sections))


def hash_of_phase(experiment: Experiment, phase: Command) -> str:
    """Return the SHA-256 of the sections that decide the results of a phase."""
    return config_hash(_comparable(experiment, SECTIONS[phase]))


def _comparable(experiment: Experiment, sections: Sequence[str]) -> Mapping[str, object]:
    """Return sections without the path of the data, which may move: fingerprints check its content."""
    recorded = experiment.recorded()
    recorded["data"]["path"] = None
    return {name: recorded[name] for name in sections}


def _write_config(path: Path, given: PlainValues) -> None:
    """Write what files and flags have set as YAML that is read the same way.

    Raises
    ------
    InputError
        The file exists with another content.
    """
    content = dump_yaml(given).encode()
    if path.exists() and path.read_bytes() != content:
        raise InputError("exists with another content", str(path), "name a new file in --write-config")
    write_bytes(path, content)


def _yaml_files(session: Session) -> list[Path]:
    """The YAML files among --config, of which later ones come first."""
    return [path for path in session.arguments.config if path.suffix != ".json"]
