"""Phase 2: cross-validate the best trials and choose one."""

from __future__ import annotations

from scripts.commands.dry_run import time_of_folds
from scripts.commands.experiment import load_later
from scripts.commands.phase import Closing, Phase, check_data, load_data, run_phase
from scripts.commands.placement import choose_placement
from scripts.commands.recovery import finished, started_plan, whole
from scripts.commands.session import Session
from scripts.config.experiment import Experiment
from scripts.evaluation.warnings import shortfall
from scripts.execution.driver import RunMonitor
from scripts.execution.executor import Executor
from scripts.extended_training.cross_validation import CrossValidation, top_trials
from scripts.extended_training.trainer import ExtendedTrainer, write_best_config
from scripts.reporting.sections.candidates import racing_in_words
from scripts.reporting.tensorboard_images import write_fold_bands
from scripts.storage.artifacts import read_record
from scripts.storage.extended_record import Extended
from scripts.storage.record_base import Made
from scripts.storage.records import BestConfig, Plan, Trials
from scripts.storage.run_dir import Command
from scripts.training.models.registry import check_named


def extend(session: Session) -> None:
    """Run phase 2."""
    run_phase(_planned(session), session)


def _planned(session: Session) -> Phase[Extended]:
    run_dir = session.run_dir
    trials = read_record(run_dir.trials, Command.TUNING, Trials)
    recorded = read_record(run_dir.tuning / "plan.json", Command.TUNING, Plan).experiment
    plan = started_plan(session, run_dir.extended, Command.EXTENDED)
    experiment = load_later(session, recorded, Command.TUNING, plan)
    dataset = load_data(session, experiment)
    check_data(dataset, trials, Command.TUNING)
    chosen = top_trials(trials, experiment.extended.top_n)
    values = [trial.hyperparameters for trial in chosen]
    check_named((str(v.get("family", "mlp")) for v in values), experiment.models, str(run_dir.trials))
    n_trainings = len(chosen) * experiment.extended.cross_validation_folds
    placement = choose_placement(session, experiment, dataset, plan, lambda: values, n_trainings)
    left = None if experiment.epoch_budget is None else experiment.epoch_budget - trials.epochs_spent
    work = CrossValidation(experiment, dataset, chosen, placement.device, left)
    few = f"note: phase 1 has only {len(chosen)} distinct usable configurations"
    max_parallel_runs, n_planned, epochs = work.max_parallel_runs, work.n_planned, work.epochs_planned
    n_validated = max(len(test) for _, test in work.folds)

    def train(executor: Executor, watch: RunMonitor, origin: Made) -> Extended:
        results = ExtendedTrainer(run_dir.path).run(work, executor, watch, session.deadline, origin)
        write_fold_bands(watch.tensorboard, results.configurations)
        return results

    return Phase(
        command=Command.EXTENDED,
        next=Command.ANALYSIS,
        name="phase 2",
        title="cross-validation",
        folder=run_dir.extended,
        experiment=experiment,
        dataset=dataset,
        placement=placement,
        inputs=[run_dir.trials],
        files=[run_dir.extended_results, run_dir.out_of_fold, run_dir.best_config],
        fresh=[run_dir.best_config],
        extent=f"{len(chosen)} configurations x {len(work.folds)} folds",
        epochs=epochs,
        max_parallel_runs=max_parallel_runs,
        likely_time=lambda: time_of_folds(placement, experiment, dataset, chosen, n_planned, max_parallel_runs),
        # Further seeds may come on larger folds than the trainings that they take the place of.
        size=(n_planned, placement.workers, epochs, n_validated, n_planned * n_validated),
        finished=lambda origin: _finished(session, experiment, origin),
        train=train,
        closing=lambda results: _closing(session, results),
        notes=[few] if len(chosen) < experiment.extended.top_n else [],
    )


def _finished(session: Session, experiment: Experiment, origin: Made) -> Extended | None:
    run_dir = session.run_dir
    results = finished(session, run_dir.extended, Command.EXTENDED, run_dir.out_of_fold, Extended)
    if results is not None and whole(session, run_dir.best_config, Command.EXTENDED, BestConfig) is None:
        write_best_config(run_dir, experiment, results, origin)
        session.echo(f"{run_dir.best_config} is written again: {results.reason}")
    return results


def _closing(session: Session, results: Extended) -> Closing:
    best, run_dir = results.chosen, session.run_dir
    lines = [
        *racing_in_words(results.racing, results.n_folds),
        f"phase 2: {results.epochs_spent} epochs, {session.took}; chosen: {results.reason}",
        f"best constant answer in the same folds: {results.best_constant_accuracy:.4f}",
        f"results in {run_dir.extended_results} and {run_dir.best_config}",
    ]
    names = ("trial_number", "avg_accuracy", "accuracy_se", "skill", "skill_ci95")
    figures = {
        "best_constant_accuracy": results.best_constant_accuracy,
        **{name: getattr(best, name) for name in names},
    }
    return Closing(f"extended_{best.trial_number:04d}_*", lines, figures, shortfall(best))
