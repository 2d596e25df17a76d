"""Phases 1 and 2 as commands see them, and what all phases share: load, check what came before, train, say where."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.artifacts import read_json, write_json
from scripts.carrying_on import inherit_openings
from scripts.checkpoints import Checkpoints
from scripts.cli import Session
from scripts.conclusions import best_trial, conclude_extended, conclude_tuning, say_tuned
from scripts.config import Experiment, config_hash, differing_keys
from scripts.config_files import dump_yaml
from scripts.data.dataset import Dataset
from scripts.data.loading import Development, read_development
from scripts.data.mapped_rows import MemoryBound
from scripts.disk_room import Workload, check_room
from scripts.durable_files import file_sha256, set_aside, write_bytes
from scripts.durations import Measured
from scripts.errors import InputError
from scripts.event_log import EventLog
from scripts.executing import device, executing
from scripts.execution.driver import Watch
from scripts.experiments import SECTIONS, comparable, load_first, load_later
from scripts.models.registry import applicable_space, check_named
from scripts.placement import choose_device
from scripts.plans import in_epochs, likely_search, means, measured_search, show_plan, time_of_folds, time_of_search
from scripts.recovery import begun, check_unclaimed, finished, whole
from scripts.reporting.monitoring import Progress
from scripts.reporting.racing_section import racing_in_words
from scripts.reporting.tensorboard_log import TensorBoardLog
from scripts.reporting.tensorboard_pages import write_fold_bands, write_layout
from scripts.run_dir import Command
from scripts.search_space import SearchSpace, longest_window
from scripts.tuning.first_trials import FirstTrials, first_trials


def load_data(session: Session, experiment: Experiment, development: Development | None = None) -> Dataset:
    """The development data, of `development` if they were read before, with what was noticed while reading."""
    development = development or read_development(experiment.data, experiment.seed, memory_bound(session, experiment))
    dataset = development.dataset(longest_window(experiment.search_space))
    for note in dataset.notes:
        session.say(f"note: {note}")
    if dataset.mapped is not None:
        session.say(f"note: the features are mapped from {dataset.mapped.n_bytes / 2**20:,.0f} MB on disk")
    return dataset


def memory_bound(session: Session, experiment: Experiment) -> MemoryBound:
    """How much memory the data may take; rows of what would take more lie beside the run."""
    return MemoryBound(experiment.execution.memory_limit_mb, session.run_dir.path)


def check_data(dataset: Dataset, artifact: dict[str, Any], made_by: str) -> None:
    """Raise InputError if the data are not those that an earlier artifact was made from."""
    parts = {
        "development": ("data_fingerprint", dataset.fingerprint),
        "sealed": ("sealed_fingerprint", dataset.sealed_fingerprint),
    }
    for part, (name, now) in parts.items():
        if artifact[name] != now:
            raise InputError(
                f"the {part} rows of the data changed since {made_by}",
                "data",
                f"restore the data, or run {made_by} again with --fresh or in another --run-dir",
            )


def provenance(phase: Command, experiment: Experiment, dataset: Dataset, inputs: list[Path]) -> dict[str, Any]:
    """What every artifact of a phase says about where it came from."""
    return {
        "config_hash": config_hash(comparable(experiment.recorded(), SECTIONS[phase])),
        "data_fingerprint": dataset.fingerprint,
        "sealed_fingerprint": dataset.sealed_fingerprint,
        "inputs": {path.name: file_sha256(path) for path in inputs},
    }


def claim(session: Session, folder: Path, phase: Command, experiment: Experiment, origin: dict[str, Any]) -> None:
    """Record what a phase was started with, or check that it goes on with the same.

    Raises
    ------
    InputError
        The folder holds work on another config, other data or other inputs; each difference is named.
    """
    plan = folder / "plan.json"
    now = {"experiment": experiment.recorded(), **origin}
    if not plan.exists():
        check_unclaimed(folder, phase, origin)
        now["device"] = device(session, experiment)
        # The plan comes last: once it is there, so is everything that belongs to the start of the phase.
        write_bytes(folder / "config.yaml", dump_yaml(experiment.recorded()).encode())
        write_json(plan, now)
        return
    then = read_json(plan, phase)
    sections = SECTIONS[phase]
    differ = differing_keys(comparable(then["experiment"], sections), comparable(now["experiment"], sections))
    origins = [n for n in ("data_fingerprint", "sealed_fingerprint", "inputs", "warm_start") if n in now]
    differ += differing_keys({name: then.get(name) for name in origins}, {name: now[name] for name in origins})
    if differ:
        raise InputError(
            f"was started with other settings: {', '.join(differ[:5])}",
            str(folder),
            "take the change back, or add --fresh to keep these results aside and start anew",
        )


def make_fresh(session: Session, *paths: Path) -> None:
    """With --fresh, move earlier results of the phase aside."""
    if session.arguments.fresh:
        for path in paths:
            if (aside := set_aside(path)) is not None:
                session.say(f"kept aside: {aside}")


def keep_checkpoints(session: Session, folder: Path, *patterns: str) -> None:
    """Keep one generation of a finished phase's checkpoints; with --keep-checkpoints best, only where names match."""
    Checkpoints(folder / "checkpoints").drop_all_earlier()
    wanted = session.arguments.keep_checkpoints == "best"
    if wanted and not Checkpoints(folder / "checkpoints").keep_only(*patterns):
        session.say(f"note: {folder / 'checkpoints'} is reached through a link, so all checkpoints stay")


@contextlib.contextmanager
def watching(session: Session, phase: str, what: str, total_epochs: int) -> Iterator[Watch]:
    """Progress display, TensorBoard logs and event log of a phase."""
    arguments = session.arguments
    shown = not (arguments.no_progress or arguments.quiet)
    log = TensorBoardLog(session.run_dir.tensorboard)
    write_layout(log)
    with Progress(f"{phase}: {what}", total_epochs, enabled=shown, verbose=arguments.verbose) as progress:
        try:
            events = EventLog(session.run_dir.events, phase)
            warn = progress.note if shown else session.say
            yield Watch(progress, log, warn, events, arguments.histograms, steady=session.steady)
        finally:
            log.close()


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
    from scripts.leaks.check import check_leaks

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
        conclude_tuning(session, search.experiment, trials)


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
    from scripts.leaks.check import leak_warnings
    from scripts.tuning.study import TrialStudy

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


def _finished_search(session: Session) -> dict[str, Any] | None:
    """Content of trials.json where the phase is finished; trials that ran out of time may have more of it now."""
    from scripts.tuning.failures import short_of_time
    from scripts.tuning.setting import run_name

    run_dir = session.run_dir
    trials = finished(session, run_dir.tuning, Command.TUNING, run_dir.ledger)
    if trials is None:
        return None
    if short := short_of_time(trials["trials"], session.arguments.max_trial_time):
        session.say(
            f"{len(short)} trials ran out of time and are trained again; backed up: {set_aside(run_dir.trials)}"
        )
        return None
    keep_checkpoints(session, run_dir.tuning, run_name(best_trial(trials)["number"]))
    session.say(f"phase 1 is finished: {len(trials['trials'])} trials in {run_dir.trials}")
    return trials


def _searched(session: Session, search: _PlannedSearch) -> dict[str, Any]:
    """Run what is left of the search; content of trials.json."""
    from scripts.tuning.database_errors import database_errors
    from scripts.tuning.search import run_search
    from scripts.tuning.setting import Setting, run_name
    from scripts.tuning.storage import place_of_study
    from scripts.tuning.study import TrialStudy

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
    setting = Setting(experiment, dataset, search.space, device(session, experiment), limit, first)
    with database_errors(place), watching(session, "phase 1", "search", total) as watch:
        study = TrialStudy(place, search.began, watch.warn)
        with executing(session, experiment, dataset, config.proposal_lag, watch) as executor:
            body = run_search(setting, study, executor, run_dir, watch, session.deadline, search.origin)
    study.close()
    keep_checkpoints(session, run_dir.tuning, run_name(best_trial(body)["number"]))
    say_tuned(session, body)
    return body


def say_all(session: Session, lines: Sequence[str]) -> None:
    """Say each line."""
    for line in lines:
        session.say(line)


def extend(session: Session) -> None:
    """Phase 2."""
    from scripts.cross_validation import CrossValidation, top_trials
    from scripts.extended_training import ExtendedTrainer, write_best_config

    run_dir = session.run_dir
    trials = read_json(run_dir.trials, Command.TUNING)
    recorded = read_json(run_dir.tuning / "plan.json", Command.TUNING)["experiment"]
    experiment = load_later(session, recorded, Command.TUNING, begun(session, run_dir.extended, Command.EXTENDED))
    dataset = load_data(session, experiment)
    check_data(dataset, trials, Command.TUNING)
    chosen = top_trials(trials["trials"], experiment.extended.top_n)
    families = (trial["hyperparameters"].get("family", "mlp") for trial in chosen)
    check_named(families, experiment.models, str(run_dir.trials))
    n_trainings = len(chosen) * experiment.extended.cross_validation_folds
    values = [trial["hyperparameters"] for trial in chosen]
    choose_device(session, experiment, dataset, run_dir.extended / "plan.json", lambda: values, n_trainings)
    left = None if experiment.epoch_budget is None else experiment.epoch_budget - trials["epochs_spent"]
    work = CrossValidation(experiment, dataset, chosen, device(session, experiment), left)
    if session.arguments.dry_run:
        what = f"{len(chosen)} configurations x {len(work.folds)} folds"
        files = [run_dir.extended_results, run_dir.best_config]
        likely = time_of_folds(session, experiment, dataset, chosen, work.n_planned, work.most_at_once)
        show_plan(session, experiment, dataset, what, work.epochs_planned, files, work.most_at_once, likely)
        return
    make_fresh(session, run_dir.extended, run_dir.best_config)
    origin = provenance(Command.EXTENDED, experiment, dataset, [run_dir.trials])
    claim(session, run_dir.extended, Command.EXTENDED, experiment, origin)
    trainer = ExtendedTrainer(run_dir.path)
    if (results := finished(session, run_dir.extended, Command.EXTENDED, run_dir.out_of_fold)) is not None:
        if whole(session, run_dir.best_config, Command.EXTENDED) is None:
            write_best_config(run_dir, experiment, results, origin)
            session.say(f"{run_dir.best_config} is written again: {results['reason']}")
        keep_checkpoints(session, run_dir.extended, f"extended_{results['configurations'][0]['trial_number']:04d}_*")
        session.say(f"phase 2 is finished: {run_dir.extended_results}")
        conclude_extended(session, experiment, results)
        return
    if len(chosen) < experiment.extended.top_n:
        session.say(f"note: phase 1 has only {len(chosen)} distinct usable configurations")
    what = f"{len(chosen)} configurations on {len(work.folds)} folds"
    workers = means(session, work.most_at_once)
    session.say(f"phase 2: {what}, at most {work.epochs_planned} epochs, {workers}")
    n_validated = max(len(test) for _, test in work.folds)
    # Further seeds may come on larger folds than the trainings that they take the place of.
    size = (work.n_planned, session.workers, work.epochs_planned, n_validated, work.n_planned * n_validated)
    check_room(run_dir.extended, Workload.of(experiment.search_space, dataset, *size))
    with (
        watching(session, "phase 2", "cross-validation", work.epochs_planned) as watch,
        executing(session, experiment, dataset, work.most_at_once, watch) as executor,
    ):
        results = trainer.run(work, executor, watch, session.deadline, origin)
        write_fold_bands(watch.tensorboard, results["configurations"])
    keep_checkpoints(session, run_dir.extended, f"extended_{results['configurations'][0]['trial_number']:04d}_*")
    say_all(session, racing_in_words(results))
    session.say(f"phase 2: {results['epochs_spent']} epochs, {session.took}; chosen: {results['reason']}")
    session.say(f"best constant answer in the same folds: {results['best_constant_accuracy']:.4f}")
    session.say(f"results in {run_dir.extended_results} and {run_dir.best_config}")
    conclude_extended(session, experiment, results)
