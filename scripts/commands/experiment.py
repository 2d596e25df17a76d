"""Experiment of each phase: from YAML, flags and earlier runs for the first, from the records for later ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.commands.next_experiment import continued_from
from scripts.commands.session import Session
from scripts.config.experiment import DataConfig, Experiment
from scripts.config.recorded import differing_keys, recorded_data
from scripts.config.search_space import Hyperparameters
from scripts.config.unused_keys import keys_without_effect
from scripts.config.yaml_files import given_values, load_experiment
from scripts.errors import InputError, nearest
from scripts.storage.run_dir import Command, RunDir
from scripts.training.models.registry import check_families

# Sections that every phase depends on; a later phase must leave them as they were.
_SHARED = ("seed", "data", "search_space")
# Keys of `data` that describe a file and not the model: new data may be written otherwise.
_OF_FILE = ("delimiter", "decimal", "date_format")
# Sections that decide the results of a phase; a later phase takes over those of the phases before it.
SECTIONS = {
    Command.TUNING: (*_SHARED, "tuning"),
    Command.EXTENDED: (*_SHARED, "tuning", "extended"),
    Command.FINAL: (*_SHARED, "tuning", "extended", "final"),
}
_OWN = {Command.TUNING: ("extended",), Command.EXTENDED: ("final",)}  # sections that are free after a phase


def load_first(session: Session, plan: dict[str, Any] | None = None) -> Experiment:
    """Load the experiment of phase 1, from YAML and assignments on top of its recorded plan, or of --next.

    Parameters
    ----------
    plan : dict, optional
        The plan of this run's phase 1; a YAML file takes the place of its experiment.

    Raises
    ------
    InputError
        Also for an unknown model family or hyperparameter.
    """
    earlier = session.arguments.next
    path, base = _yaml_file(session), None
    if earlier is not None:
        base = continued_from(RunDir(earlier), session.run_dir, session.arguments.fresh)
    elif plan is not None and path is None:
        base = {**plan["experiment"], "data": recorded_data(plan["experiment"]["data"])}
    experiment = load_experiment(path, session.assignments, base=base)
    for key, reason in keys_without_effect(experiment, given_values(path, session.assignments)[0]):
        session.echo(f"note: {key} has no effect: {reason}")
    check_families(experiment.search_space, experiment.models)
    known = list(Hyperparameters.model_fields)
    if not experiment.models and (unknown := [n for n in experiment.search_space if n not in known]):
        raise InputError("unknown hyperparameter", f"search_space.{unknown[0]}", nearest(unknown[0], known))
    return experiment


def load_later(
    session: Session, recorded: dict[str, Any], earlier: Command, plan: dict[str, Any] | None = None
) -> Experiment:
    """Load the experiment of a later phase: the recorded one, with the changes that are still allowed.

    Parameters
    ----------
    recorded : dict
        The experiment of the earlier phase.
    plan : dict, optional
        Plan of this phase, whose section has the flags of its first start.

    Raises
    ------
    InputError
        Names each key that the earlier phase had otherwise.
    """
    path, recorded = _yaml_file(session), {**recorded, "data": recorded_data(recorded["data"])}
    own = {} if plan is None else {name: plan["experiment"][name] for name in _OWN.get(earlier, ())}
    experiment = load_experiment(path, session.assignments, base=None if path else recorded | own)
    now = experiment.recorded()
    if _reads_new_file(session):
        now["data"] |= {name: recorded["data"][name] for name in _OF_FILE}
    if differ := differing_keys(comparable(recorded, _SHARED), comparable(now, _SHARED)):
        raise InputError(
            f"{', '.join(differ[:5])} changed since {earlier}",
            str(path or "command line"),
            f"revert the change, or run {earlier} again with --fresh or in another --run-dir",
        )
    done = {name: recorded[name] for name in SECTIONS[earlier]} | {"data": now["data"]}
    free = {"models": experiment.models, "execution": experiment.execution}
    if session.search_time is not None:  # phase 1 has turned it into epochs
        free["epoch_budget"] = recorded["epoch_budget"]
    return Experiment.model_validate(now | done | free)


def new_file_config(session: Session, recorded: dict[str, Any]) -> DataConfig:
    """Return the data config of a model for the file of --predict or --data, whose format --set may give."""
    path = _yaml_file(session)
    now = load_experiment(path, session.assignments, base=None if path else recorded).data
    return DataConfig.model_validate(recorded_data(recorded["data"]) | {name: getattr(now, name) for name in _OF_FILE})


def _reads_new_file(session: Session) -> bool:
    given = (getattr(session.arguments, name, None) for name in ("predict", "data"))
    return any(path is not None for path in given)


def comparable(recorded: dict[str, Any], sections: tuple[str, ...]) -> dict[str, Any]:
    """Return sections without the path of the data, which may move: fingerprints check its content."""
    data = {**recorded_data(recorded["data"]), "path": None}
    return {name: data if name == "data" else recorded[name] for name in sections}


def _yaml_file(session: Session) -> Path | None:
    """The YAML file among --config, if any."""
    files = [path for path in session.arguments.config if path.suffix != ".json"]
    if len(files) > 1:
        raise InputError("names two YAML files", "--config", "give one")
    return files[0] if files else None
