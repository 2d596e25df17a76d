"""Phase 3 as its command sees it: choose what to train, train, say where the model is."""

from __future__ import annotations

from scripts.commands.device_choice import choose_device
from scripts.commands.dry_run import means, show_plan, time_of_final
from scripts.commands.executors import device, executing
from scripts.commands.experiment import load_later
from scripts.commands.phase import (
    check_data,
    claim,
    keep_checkpoints,
    load_data,
    make_fresh,
    provenance,
    watching,
)
from scripts.commands.recovery import begun, check_descent, finished
from scripts.commands.session import Session
from scripts.config.experiment import Experiment
from scripts.data.dataset import Dataset
from scripts.execution.disk_space import Workload, check_room
from scripts.final_training.members import choose_members
from scripts.final_training.training import FinalTraining, run_final_training
from scripts.storage.artifacts import read_record
from scripts.storage.records import BestConfig
from scripts.storage.result_records import Final, Selection
from scripts.storage.run_dir import Command, RunDir
from scripts.training.models.registry import check_named


def finalise(session: Session) -> None:
    """Phase 3."""
    run_dir = session.run_dir
    given = [path for path in session.arguments.config if path.suffix == ".json"]
    source = given[0] if given else run_dir.best_config
    best = read_record(source, Command.EXTENDED, BestConfig)
    if source.resolve() == run_dir.best_config.resolve():
        check_descent(run_dir, best)
    experiment = load_later(
        session, best.experiment.recorded(), Command.EXTENDED, begun(session, run_dir.final, Command.FINAL)
    )
    dataset = load_data(session, experiment)
    check_data(dataset, best, Command.EXTENDED)
    members, selection = choose_members(run_dir, best, experiment, dataset)
    check_named((member.hyperparameters.family for member in members), experiment.models, str(source))
    values = [member.hyperparameters.model_dump() for member in members]
    most_runs = experiment.final.n_seeds * len(members)
    choose_device(session, experiment, dataset, run_dir.final / "plan.json", lambda: values, most_runs)
    work = FinalTraining(experiment, members, dataset, device(session, experiment))
    if session.arguments.dry_run:
        _show_plan(session, experiment, work, selection)
        return
    make_fresh(session, run_dir.final, run_dir.final_model)
    chosen_from = [] if experiment.final.ensemble == 1 else [run_dir.extended_results]
    origin = provenance(Command.FINAL, experiment, dataset, [source, *chosen_from])
    claim(session, run_dir.final, Command.FINAL, experiment, origin)
    if (results := finished(session, run_dir.final, Command.FINAL, run_dir.final_model, Final)) is not None:
        keep_checkpoints(session, run_dir.final, "final_all_*")
        session.say(f"phase 3 is finished: {run_dir.final_model}")
        _conclude(session, experiment, results)
        return
    if selection.ensemble is not None:
        session.say(f"phase 3: {selection.reason}")
    _check_room(run_dir, experiment, dataset, work)
    n_runs, most = work.n_runs, work.most_epochs
    what = f"{work.n_seeds} seeds" if len(work.members) == 1 else _in_words(work)
    session.say(
        f"phase 3: {what}, at most {most} epochs on the hold-out's split, then on all rows, {means(session, n_runs)}"
    )
    with (
        watching(session, "phase 3", "final training", most) as watch,
        executing(session, experiment, dataset, n_runs, watch) as executor,
    ):
        results = run_final_training(
            work, selection, best.epochs_spent, executor, run_dir, watch, session.deadline, origin
        )
    keep_checkpoints(session, run_dir.final, "final_all_*")
    _say_trained(session, results)
    _conclude(session, experiment, results)


def _show_plan(session: Session, experiment: Experiment, work: FinalTraining, selection: Selection) -> None:
    run_dir, dataset = session.run_dir, work.dataset
    what = f"{_in_words(work)}, each on the hold-out's split and on all rows"
    if selection.ensemble is not None:
        what += f"\n{selection.reason}"
    likely = time_of_final(session, experiment, dataset, [m.hyperparameters.model_dump() for m in work.members])
    files = [run_dir.final_model, run_dir.final_results]
    show_plan(session, experiment, dataset, what, work.most_epochs, files, work.n_runs, likely)


def _check_room(run_dir: RunDir, experiment: Experiment, dataset: Dataset, work: FinalTraining) -> None:
    # All runs at a time: the workers share them out.
    size = (2 * work.n_runs, work.n_runs, work.most_epochs, len(work.holdout), 0)
    check_room(run_dir.final, Workload.of(experiment.search_space, dataset, *size))


def _in_words(work: FinalTraining) -> str:
    """How many configurations are trained, each how often."""
    n = len(work.members)
    return f"{n} configuration{'s' if n > 1 else ''}, {work.n_seeds} seeds"


def _say_trained(session: Session, results: Final) -> None:
    """What the training came to."""
    members = results.members
    by_seed = [", ".join(f"{seed.holdout_accuracy:.4f}" for seed in member.seeds) for member in members]
    accuracy = f"hold-out accuracy {results.holdout_accuracy:.4f} on {results.holdout_rows} rows"
    alone = f", by seed {by_seed[0]}" if len(members) == 1 else ""
    session.say(f"phase 3: {results.epochs_spent} epochs, {session.took}; {accuracy}{alone}")
    for member, seeds in zip(members, by_seed, strict=True) if len(members) > 1 else ():
        name = f"trial {member.trial_number} ({member.family})"
        session.say(f"  {name}: {member.holdout_accuracy:.4f}, by seed {seeds}")
    for member in members:
        told = [f"{name} {now} (searched: {before})" for name, (before, now) in member.replaced.items()]
        if told:
            session.say(f"note: trial {member.trial_number} was trained with {', '.join(told)}")
    session.say(f"model in {session.run_dir.final_model}")


def _conclude(session: Session, experiment: Experiment, results: Final) -> None:
    """The end of phase 3, also of one that was finished before."""
    run_dir = session.run_dir
    figures = {"holdout_accuracy": results.holdout_accuracy, "holdout_rows": results.holdout_rows}
    next_command = session.next_command(Command.EVALUATION, models=experiment.models)
    session.conclude(next_command, [run_dir.final_model, run_dir.final_results], epochs=results.epochs_spent, **figures)
