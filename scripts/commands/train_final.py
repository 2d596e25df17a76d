"""Phase 3: train the chosen configuration, or an ensemble, on all development data."""

from __future__ import annotations

from scripts.commands.dry_run import time_of_final
from scripts.commands.experiment import load_later
from scripts.commands.phase import Closing, Phase, check_data, load_data, run_phase
from scripts.commands.placement import choose_placement
from scripts.commands.recovery import check_descent, finished, started_plan
from scripts.commands.session import Session
from scripts.final_training.members import choose_members
from scripts.final_training.training import FinalTraining, run_final_training
from scripts.storage.artifacts import read_record
from scripts.storage.records import BestConfig
from scripts.storage.result_records import Final
from scripts.storage.run_dir import Command
from scripts.training.models.registry import check_named


def finalise(session: Session) -> None:
    """Run phase 3."""
    run_phase(_planned(session), session)


def _planned(session: Session) -> Phase[Final]:
    run_dir = session.run_dir
    given = [path for path in session.arguments.config if path.suffix == ".json"]
    source = given[0] if given else run_dir.best_config
    best = read_record(source, Command.EXTENDED, BestConfig)
    if source.resolve() == run_dir.best_config.resolve():
        check_descent(run_dir, best)
    plan = started_plan(session, run_dir.final, Command.FINAL)
    experiment = load_later(session, best.experiment, Command.EXTENDED, plan)
    dataset = load_data(session, experiment)
    check_data(dataset, best, Command.EXTENDED)
    members, selection = choose_members(run_dir, best, experiment, dataset)
    check_named((member.hyperparameters.family for member in members), experiment.models, str(source))
    values = [member.hyperparameters.model_dump() for member in members]
    n_runs = experiment.final.n_seeds * len(members)
    placement = choose_placement(session, experiment, dataset, plan, lambda: values, n_runs)
    work = FinalTraining(experiment, members, dataset, placement.device)
    trained = f"{len(members)} configuration{'s' if len(members) > 1 else ''}, {work.n_seeds} seeds"
    return Phase(
        command=Command.FINAL,
        next=Command.EVALUATION,
        name="phase 3",
        title="final training",
        folder=run_dir.final,
        experiment=experiment,
        dataset=dataset,
        placement=placement,
        inputs=[source, *([] if experiment.final.ensemble == 1 else [run_dir.extended_results])],
        files=[run_dir.final_model, run_dir.final_results],
        fresh=[run_dir.final_model],
        extent=f"{trained}, each on the hold-out's split and on all rows",
        epochs=work.max_epochs,
        max_parallel_runs=n_runs,
        # All runs at a time: the workers share them out.
        size=(2 * n_runs, n_runs, work.max_epochs, len(work.holdout), 0),
        likely_time=lambda: time_of_final(
            placement, experiment, dataset, [member.hyperparameters.model_dump() for member in work.members]
        ),
        finished=lambda origin: finished(session, run_dir.final, Command.FINAL, run_dir.final_model, Final),
        train=lambda executor, watch, origin: run_final_training(
            work, selection, best.epochs_spent, executor, run_dir, watch, session.deadline, origin
        ),
        closing=lambda results: _closing(session, results),
        notes=[f"phase 3: {selection.reason}"] if selection.ensemble is not None else [],
    )


def _closing(session: Session, results: Final) -> Closing:
    members = results.members
    by_seed = [", ".join(f"{seed.holdout_accuracy:.4f}" for seed in member.seeds) for member in members]
    accuracy = f"hold-out accuracy {results.holdout_accuracy:.4f} on {results.holdout_rows} rows"
    alone = f", by seed {by_seed[0]}" if len(members) == 1 else ""
    lines = [f"phase 3: {results.epochs_spent} epochs, {session.took}; {accuracy}{alone}"]
    for member, seeds in zip(members, by_seed, strict=True) if len(members) > 1 else ():
        name = f"trial {member.trial_number} ({member.family})"
        lines.append(f"  {name}: {member.holdout_accuracy:.4f}, by seed {seeds}")
    for member in members:
        changed = member.replaced.items()
        if replaced := [f"{name} {now} (searched: {before})" for name, (before, now) in changed]:
            lines.append(f"note: trial {member.trial_number} was trained with {', '.join(replaced)}")
    lines.append(f"model in {session.run_dir.final_model}")
    figures = {"holdout_accuracy": results.holdout_accuracy, "holdout_rows": results.holdout_rows}
    return Closing("final_all_*", lines, figures)
