"""Phase 1: search many configurations for a few epochs each."""

from __future__ import annotations

import functools

from scripts.commands.dry_run import in_epochs, likely_search, measured_search, time_of_search
from scripts.commands.experiment import load_first
from scripts.commands.leak_check import check_leaks, leak_warnings
from scripts.commands.next_experiment import inherit_openings
from scripts.commands.phase import Closing, Phase, load_data, memory_bound, run_phase
from scripts.commands.placement import choose_placement
from scripts.commands.recovery import finished, started_plan
from scripts.commands.session import Session
from scripts.data.loading import Development, read_development
from scripts.execution.driver import RunMonitor
from scripts.execution.executor import Executor
from scripts.storage.database import locate_study
from scripts.storage.database_errors import database_errors
from scripts.storage.durable_files import back_up
from scripts.storage.record_base import Made
from scripts.storage.records import Started, Trials
from scripts.storage.run_dir import Command
from scripts.training.models.registry import applicable_space
from scripts.tuning.failures import short_of_time
from scripts.tuning.initial_trials import FirstTrials, first_trials
from scripts.tuning.search import run_search
from scripts.tuning.search_context import SearchContext, run_name
from scripts.tuning.study import TrialStudy


def tune(session: Session) -> None:
    """Run phase 1, or with --check-leaks only the leak check."""
    phase, development = _planned(session)
    if session.arguments.check_leaks and not session.arguments.dry_run:
        check_leaks(session, phase.experiment, development, phase.origin)
    else:
        run_phase(phase, session)


def _planned(session: Session) -> tuple[Phase[Trials], Development]:
    """Read experiment and data; choose where to train and, where a time is given, how many epochs it allows."""
    run_dir = session.run_dir
    plan = started_plan(session, run_dir.tuning, Command.TUNING)
    experiment = load_first(session, plan)
    development = read_development(experiment.data, experiment.seed, memory_bound(session, experiment))
    dataset = load_data(session, experiment, development)
    space, note = applicable_space(experiment.search_space, dataset.ordered)
    # Before --fresh backs up results: the new search may start with them.
    earlier = [path for path in (session.arguments.next, *session.arguments.warm_start) if path is not None]
    first = first_trials(run_dir, earlier, experiment, space, dataset.fingerprint, session.arguments.fresh)
    starting = [trial.values for trial in first.trials]
    likely = functools.partial(likely_search, experiment, space, starting)
    config = experiment.tuning
    placement = choose_placement(session, experiment, dataset, plan, likely, config.proposal_lag)
    device, workers = placement.measuring_device, placement.workers
    measure = functools.cache(functools.partial(measured_search, experiment, dataset, device, space, starting))
    experiment = in_epochs(session, experiment, dataset, workers, measure)
    # Data that phase 2 could not split are refused before anything is trained.
    dataset.folds(experiment.extended.cv, experiment.extended.cross_validation_folds, experiment.seed)
    limit = session.arguments.max_trial_time
    context = SearchContext(experiment, dataset, space, placement.device, limit, first.trials)
    rungs, epochs = config.scheduler == "rungs", experiment.search_epochs
    n_validated = len(dataset.tail_split(config.validation_fraction, experiment.seed)[1])
    table_rows = config.n_trials * min(n_validated, dataset.n_dates)
    phase = Phase(
        command=Command.TUNING,
        next=Command.EXTENDED,
        name="phase 1",
        title="search",
        folder=run_dir.tuning,
        experiment=experiment,
        dataset=dataset,
        placement=placement,
        inputs=[],
        files=[run_dir.trials, run_dir.study if session.storage is None else run_dir.study_on_server],
        fresh=[run_dir.tensorboard],
        extent=f"{'up to ' if rungs else ''}{config.n_trials} trials",
        epochs=epochs,
        max_parallel_runs=config.proposal_lag,
        # The checkpoint of a paused run is nearly twice as large as that of a finished one.
        size=(config.n_trials * (2 if rungs else 1), workers, epochs, n_validated, table_rows),
        likely_time=lambda: time_of_search(workers, experiment, dataset, measure),
        begin=lambda origin: _begin(session, context, first, development, origin),
        finished=lambda origin: _finished(session),
        train=functools.partial(_search, session, context),
        closing=lambda results: _closing(session, results),
        notes=[f"note: {note}" for note in (note, *first.notes) if note],
    )
    return phase, development


def _origin_of_study(origin: Made) -> dict[str, str]:
    """Return what the study records of its start."""
    return {name: getattr(origin, name) for name in ("config_hash", "data_fingerprint", "sealed_fingerprint")}


def _begin(
    session: Session, context: SearchContext, first: FirstTrials, development: Development, origin: Made
) -> Started:
    """Check for leaks and inherit openings; return the provenance with the warnings and the first trials."""
    run_dir = session.run_dir
    # Before the claim: the plan of a claimed run contains the findings of the check.
    warnings = leak_warnings(session, context.experiment, development, origin)
    if looks := inherit_openings(run_dir, first.warm_start, context.experiment, context.dataset):
        session.echo(f"note: {looks}")
    if not (run_dir.tuning / "plan.json").exists() and run_dir.study.exists():
        # The plan is lost: before another one is written, the study must agree.
        TrialStudy(run_dir.study, _origin_of_study(origin), session.echo).close()
    return Started(
        **origin.as_fields(), warnings=warnings, warm_start=list(first.warm_start), starting=list(first.trials)
    )


def _finished(session: Session) -> Trials | None:
    """Return the content of trials.json if the phase is finished, and no trial may have more time now."""
    run_dir = session.run_dir
    trials = finished(session, run_dir.tuning, Command.TUNING, run_dir.ledger, Trials)
    if trials is not None and (short := short_of_time(trials.trials, session.arguments.max_trial_time)):
        backup = back_up(run_dir.trials)
        session.echo(f"{len(short)} trials ran out of time and are trained again; backed up: {backup}")
        return None
    return trials


def _search(session: Session, context: SearchContext, executor: Executor, watch: RunMonitor, origin: Made) -> Trials:
    location = locate_study(session.run_dir, session.storage)
    with database_errors(location):
        study = TrialStudy(location, _origin_of_study(origin), watch.warn)
        body = run_search(context, study, executor, session.run_dir, watch, session.deadline, origin)
        study.close()
    return body


def _closing(session: Session, trials: Trials) -> Closing:
    best, n_trials = trials.best, len(trials.trials)
    lines = [
        f"phase 1: {n_trials} trials, {trials.epochs_spent} epochs, {session.took}",
        *([f"phase 1 ended because {trials.stopped_because}"] if trials.stopped_because else []),
        f"best on one split, so optimistic: trial {best.number} with {best.accuracy:.4f}",
        f"results in {session.run_dir.trials}",
    ]
    figures = {"n_trials": n_trials, "best_trial": best.number, "best_accuracy_on_one_split": best.val_accuracy}
    return Closing(run_name(best.number), lines, figures)
