"""Phase 1: plan the search, begin it or go on with it, and conclude it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scripts.commands.device_choice import choose_device
from scripts.commands.dry_run import in_epochs, likely_search, means, measured_search, show_plan, time_of_search
from scripts.commands.executors import device, executing
from scripts.commands.experiment import load_first
from scripts.commands.leak_check import check_leaks, leak_warnings
from scripts.commands.next_experiment import inherit_openings
from scripts.commands.phase import (
    claim,
    keep_checkpoints,
    load_data,
    make_fresh,
    memory_bound,
    provenance,
    say_all,
    watching,
)
from scripts.commands.recovery import begun, finished
from scripts.commands.session import Session
from scripts.commands.time_estimates import Measured
from scripts.config.experiment import Experiment
from scripts.config.search_space import SearchSpace
from scripts.data.dataset import Dataset
from scripts.data.loading import Development, read_development
from scripts.execution.disk_space import Workload, check_room
from scripts.storage.database import place_of_study
from scripts.storage.database_errors import database_errors
from scripts.storage.durable_files import set_aside
from scripts.storage.records import Trials
from scripts.storage.run_dir import Command
from scripts.training.models.registry import applicable_space
from scripts.tuning.failures import short_of_time
from scripts.tuning.initial_trials import FirstTrials, first_trials
from scripts.tuning.search import run_search
from scripts.tuning.search_context import SearchContext, run_name
from scripts.tuning.study import TrialStudy


@dataclass(frozen=True)
class _PlannedSearch:
    """What phase 1 will do: its data, its space, the trials that it starts with, and where all of it comes from."""

    experiment: Experiment
    development: Development
    dataset: Dataset
    space: SearchSpace
    first: FirstTrials
    origin: dict[str, Any]
    notes: list[str]
    measure: Callable[[], Measured]

    @property
    def began(self) -> dict[str, Any]:
        """What the study records of its beginning."""
        return {name: self.origin[name] for name in ("config_hash", "data_fingerprint", "sealed_fingerprint")}


def tune(session: Session) -> None:
    """Phase 1."""
    search = _planned_search(session)
    if session.arguments.dry_run:
        _show_search(session, search)
    elif session.arguments.check_leaks:
        check_leaks(session, search.experiment, search.development, search.origin)
    else:
        _begin_search(session, search)
        trials = _finished_search(session)
        if trials is None:
            trials = _searched(session, search)
        _conclude(session, search.experiment, trials)


def _planned_search(session: Session) -> _PlannedSearch:
    """Read experiment and data; choose the device and, where a time is given, how many epochs it allows."""
    run_dir = session.run_dir
    experiment = load_first(session, begun(session, run_dir.tuning, Command.TUNING))
    development = read_development(experiment.data, experiment.seed, memory_bound(session, experiment))
    dataset = load_data(session, experiment, development)
    space, note = applicable_space(experiment.search_space, dataset.ordered)
    # Before --fresh moves results aside: they may be what the new search starts with.
    earlier = [path for path in (session.arguments.next, *session.arguments.warm_start) if path is not None]
    first = first_trials(run_dir, earlier, experiment, space, dataset.fingerprint, session.arguments.fresh)
    starting = [trial.values for trial in first.trials]
    likely = functools.partial(likely_search, experiment, space, starting)
    choose_device(session, experiment, dataset, run_dir.tuning / "plan.json", likely, experiment.tuning.proposal_lag)
    measure = functools.cache(functools.partial(measured_search, session, experiment, dataset, space, starting))
    experiment = in_epochs(session, experiment, dataset, measure)
    # Data that phase 2 could not split are refused before anything is trained.
    dataset.folds(experiment.extended.cv, experiment.extended.cross_validation_folds, experiment.seed)
    origin = provenance(Command.TUNING, experiment, dataset, [])
    notes = [f"note: {note}" for note in (note, *first.notes) if note]
    return _PlannedSearch(experiment, development, dataset, space, first, origin, notes, measure)


def _show_search(session: Session, search: _PlannedSearch) -> None:
    run_dir, config = session.run_dir, search.experiment.tuning
    say_all(session, search.notes)
    files = [run_dir.trials, run_dir.study if session.storage is None else run_dir.study_on_server]
    took = time_of_search(session, search.experiment, search.dataset, search.measure)
    what, total = f"{config.n_trials} trials", search.experiment.search_epochs
    show_plan(session, search.experiment, search.dataset, what, total, files, config.proposal_lag, took)


def _begin_search(session: Session, search: _PlannedSearch) -> None:
    """Claim the folder of the phase, with what the leak check found and what the search starts with."""
    run_dir, experiment, origin = session.run_dir, search.experiment, search.origin
    make_fresh(session, run_dir.tuning, run_dir.tensorboard)
    # Before the claim: once a run is claimed, its plan holds what the check found.
    origin["warnings"] = leak_warnings(session, experiment, search.development, origin)
    origin |= search.first.recorded()
    if looks := inherit_openings(run_dir, search.first.warm_start, experiment, search.dataset):
        session.say(f"note: {looks}")
    if not (run_dir.tuning / "plan.json").exists() and run_dir.study.exists():
        # The plan is lost: before another one is written, the study must agree.
        TrialStudy(run_dir.study, search.began, session.say).close()
    claim(session, run_dir.tuning, Command.TUNING, experiment, origin)


def _finished_search(session: Session) -> Trials | None:
    """Content of trials.json where the phase is finished; trials that ran out of time may have more of it now."""
    run_dir = session.run_dir
    trials = finished(session, run_dir.tuning, Command.TUNING, run_dir.ledger, Trials)
    if trials is None:
        return None
    if short := short_of_time(trials.trials, session.arguments.max_trial_time):
        session.say(
            f"{len(short)} trials ran out of time and are trained again; backed up: {set_aside(run_dir.trials)}"
        )
        return None
    keep_checkpoints(session, run_dir.tuning, run_name(trials.best.number))
    session.say(f"phase 1 is finished: {len(trials.trials)} trials in {run_dir.trials}")
    return trials


def _searched(session: Session, search: _PlannedSearch) -> Trials:
    """Run what is left of the search; content of trials.json."""
    run_dir, experiment, dataset = session.run_dir, search.experiment, search.dataset
    config, total = experiment.tuning, experiment.search_epochs
    say_all(session, search.notes)
    up_to = "up to " if config.scheduler == "rungs" else ""
    session.say(
        f"phase 1: {up_to}{config.n_trials} trials, at most {total} epochs, {means(session, config.proposal_lag)}"
    )
    n_validated = len(dataset.tail_split(config.validation_fraction, experiment.seed)[1])
    table_rows = config.n_trials * min(n_validated, dataset.n_dates)
    # The checkpoint of a run that paused holds nearly twice as much as that of a finished one.
    n_runs = config.n_trials * (2 if config.scheduler == "rungs" else 1)
    size = (n_runs, session.workers, total, n_validated, table_rows)
    check_room(run_dir.tuning, Workload.of(experiment.search_space, dataset, *size))
    place = place_of_study(run_dir, session.storage)
    limit, first = session.arguments.max_trial_time, search.first.trials
    setting = SearchContext(experiment, dataset, search.space, device(session, experiment), limit, first)
    with database_errors(place), watching(session, "phase 1", "search", total) as watch:
        study = TrialStudy(place, search.began, watch.warn)
        with executing(session, experiment, dataset, config.proposal_lag, watch) as executor:
            trials = run_search(setting, study, executor, run_dir, watch, session.deadline, search.origin)
    study.close()
    keep_checkpoints(session, run_dir.tuning, run_name(trials.best.number))
    _say_found(session, trials)
    return trials


def _say_found(session: Session, trials: Trials) -> None:
    """What phase 1 has found and cost."""
    session.say(f"phase 1: {len(trials.trials)} trials, {trials.epochs_spent} epochs, {session.took}")
    if trials.stopped_because:
        session.say(f"phase 1 ended because {trials.stopped_because}")
    session.say(f"best on one split, so optimistic: trial {trials.best.number} with {trials.best.accuracy:.4f}")
    session.say(f"results in {session.run_dir.trials}")


def _conclude(session: Session, experiment: Experiment, trials: Trials) -> None:
    """The end of phase 1, also of one that was finished before."""
    best, run_dir = trials.best, session.run_dir
    session.conclude(
        session.next_command(Command.EXTENDED, models=experiment.models),
        [run_dir.trials, run_dir.study],
        epochs=trials.epochs_spent,
        n_trials=len(trials.trials),
        best_trial=best.number,
        best_accuracy_on_one_split=best.val_accuracy,
    )
