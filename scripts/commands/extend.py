"""Phase 2: cross-validate the best trials and choose one."""

from __future__ import annotations

from scripts.commands.device_choice import choose_device
from scripts.commands.dry_run import means, show_plan, time_of_folds
from scripts.commands.executors import device, executing
from scripts.commands.experiment import load_later
from scripts.commands.phase import (
    check_data,
    claim,
    keep_checkpoints,
    load_data,
    make_fresh,
    provenance,
    say_all,
    watching,
)
from scripts.commands.recovery import begun, finished, whole
from scripts.commands.session import Session
from scripts.config.experiment import Experiment
from scripts.evaluation.shortfall import shortfall
from scripts.execution.disk_space import Workload, check_room
from scripts.extended_training.cross_validation import CrossValidation, top_trials
from scripts.extended_training.trainer import ExtendedTrainer, write_best_config
from scripts.reporting.sections.racing import racing_in_words
from scripts.reporting.tensorboard_images import write_fold_bands
from scripts.storage.artifacts import read_record
from scripts.storage.extended_record import Extended
from scripts.storage.records import Plan, Trials
from scripts.storage.run_dir import Command
from scripts.training.models.registry import check_named


def extend(session: Session) -> None:
    """Phase 2."""
    run_dir = session.run_dir
    trials = read_record(run_dir.trials, Command.TUNING, Trials)
    recorded = read_record(run_dir.tuning / "plan.json", Command.TUNING, Plan).experiment.recorded()
    experiment = load_later(session, recorded, Command.TUNING, begun(session, run_dir.extended, Command.EXTENDED))
    dataset = load_data(session, experiment)
    check_data(dataset, trials, Command.TUNING)
    chosen = top_trials(trials, experiment.extended.top_n)
    families = (str(trial.hyperparameters.get("family", "mlp")) for trial in chosen)
    check_named(families, experiment.models, str(run_dir.trials))
    n_trainings = len(chosen) * experiment.extended.cross_validation_folds
    values = [trial.hyperparameters for trial in chosen]
    choose_device(session, experiment, dataset, run_dir.extended / "plan.json", lambda: values, n_trainings)
    left = None if experiment.epoch_budget is None else experiment.epoch_budget - trials.epochs_spent
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
    if (results := finished(session, run_dir.extended, Command.EXTENDED, run_dir.out_of_fold, Extended)) is not None:
        if whole(session, run_dir.best_config, Command.EXTENDED) is None:
            write_best_config(run_dir, experiment, results, origin)
            session.say(f"{run_dir.best_config} is written again: {results.reason}")
        keep_checkpoints(session, run_dir.extended, f"extended_{results.chosen.trial_number:04d}_*")
        session.say(f"phase 2 is finished: {run_dir.extended_results}")
        _conclude(session, experiment, results)
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
        write_fold_bands(watch.tensorboard, results.configurations)
    keep_checkpoints(session, run_dir.extended, f"extended_{results.chosen.trial_number:04d}_*")
    say_all(session, racing_in_words(results.racing, results.n_folds))
    session.say(f"phase 2: {results.epochs_spent} epochs, {session.took}; chosen: {results.reason}")
    session.say(f"best constant answer in the same folds: {results.best_constant_accuracy:.4f}")
    session.say(f"results in {run_dir.extended_results} and {run_dir.best_config}")
    _conclude(session, experiment, results)


def _conclude(session: Session, experiment: Experiment, results: Extended) -> None:
    """The end of phase 2, also of one that was finished before."""
    best, run_dir = results.chosen, session.run_dir
    shown = ("trial_number", "avg_accuracy", "accuracy_se", "skill", "skill_ci95")
    if warning := shortfall(best):
        session.say(f"warning: {warning}")
    session.conclude(
        session.next_command(Command.ANALYSIS, models=experiment.models),
        [run_dir.extended_results, run_dir.out_of_fold, run_dir.best_config],
        epochs=results.epochs_spent,
        best_constant_accuracy=results.best_constant_accuracy,
        **{name: getattr(best, name) for name in shown},
    )
