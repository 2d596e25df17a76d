"""Analysis of phases 1 and 2: ranking, agreement, importance, cost, and the next search space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.table import Table
from scipy import stats

from scripts.commands.dry_run import show_plan_table, show_table
from scripts.commands.experiment import load_later
from scripts.commands.phase import echo_all
from scripts.commands.session import Session
from scripts.config.experiment import Experiment
from scripts.config.selection_order import PREFERENCES
from scripts.errors import InputError
from scripts.evaluation.selection_bias import assess_choice, assess_search, in_words
from scripts.extended_training.out_of_fold import fold_spans
from scripts.extended_training.selection import complete, pareto_set, rank
from scripts.extended_training.trainer import write_best_config
from scripts.reporting.figures import NO_PICTURES, can_draw, write_svg
from scripts.reporting.page import number
from scripts.reporting.report import AnalysisReport, write_analysis_report
from scripts.reporting.sections.candidates import racing_in_words
from scripts.reporting.sections.shared import YARDSTICK
from scripts.storage.artifacts import read_record, write_record
from scripts.storage.credibility_record import ChoiceBias, Credibility, SearchBias
from scripts.storage.durable_files import file_sha256, write_bytes
from scripts.storage.extended_record import Configuration, Extended
from scripts.storage.records import BestConfig, Plan, Trials
from scripts.storage.run_dir import Command, RunDir
from scripts.storage.table_artifacts import read_by_date, read_out_of_fold
from scripts.tuning.importance import hyperparameter_importance
from scripts.tuning.next_search_space import suggested_space, to_yaml


def analyse(session: Session) -> None:
    """Compare the phases, write the report and best_config.json if it is missing."""
    run_dir = session.run_dir
    trials = read_record(run_dir.trials, Command.TUNING, Trials)
    extended = read_record(run_dir.extended_results, Command.EXTENDED, Extended)
    plan = read_record(run_dir.extended / "plan.json", Command.EXTENDED, Plan)
    experiment = load_later(session, plan.experiment, Command.EXTENDED)
    if extended.inputs != {run_dir.trials.name: file_sha256(run_dir.trials)}:
        raise InputError(
            "was made from another trials.json", str(run_dir.extended_results), f"run {Command.EXTENDED} --fresh first"
        )
    if session.arguments.dry_run:
        rows = {"reads": f"{run_dir.trials}\n{run_dir.extended_results}", "trains": "nothing"}
        show_plan_table(session, rows, _artifacts(run_dir))
        return
    extended = _with_choice(session, experiment, extended)
    best = read_record(run_dir.best_config, Command.EXTENDED, BestConfig)
    importance = hyperparameter_importance(trials.trials, experiment.search_space, experiment.seed)
    finished = complete(extended.configurations)
    agreement = rank_agreement(finished)
    _print_table(session, extended)
    echo_all(session, (*racing_in_words(extended.racing, extended.n_folds), *_costs(trials, extended)))
    if agreement is not None:
        session.echo(f"rank correlation of the phases over {len(finished)} configurations: {agreement:.2f}")
    if importance:
        shown = ", ".join(f"{name} {share:.0%}" for name, share in list(importance.items())[:5])
        session.echo(f"importance in phase 1: {shown}")
    _write_suggestion(run_dir, experiment, trials, extended, importance)
    out_of_fold = read_out_of_fold(run_dir, extended)
    search, choice = _credibility(session, experiment, trials, extended, out_of_fold)
    words = [*in_words(search, choice), _tradeoff(extended.configurations)]
    echo_all(session, words)
    content = AnalysisReport(
        trials=trials,
        extended=extended,
        best=best,
        importance=importance,
        credibility=words,
        confidence_set=choice.confidence_set,
        fold_spans=fold_spans(out_of_fold),
        warnings=trials.warnings,
    )
    figures = write_analysis_report(run_dir.analysis / "report.html", content)
    if can_draw():
        write_svg(run_dir.analysis, figures)
    else:
        session.echo(NO_PICTURES)
    session.echo(f"report in {run_dir.analysis / 'report.html'}")
    session.conclude(
        session.next_command(Command.FINAL, models=experiment.models),
        _artifacts(run_dir),
        epochs=trials.epochs_spent + extended.epochs_spent,
        trial_number=extended.chosen.trial_number,
        avg_accuracy=extended.chosen.avg_accuracy,
        expected_accuracy=choice.expected_accuracy,
        rank_correlation=agreement,
    )


def _artifacts(run_dir: RunDir) -> list[Path]:
    """Write the files of the analysis besides its figures."""
    return [run_dir.analysis / "report.html", run_dir.suggestion, run_dir.credibility, run_dir.best_config]


def _with_choice(session: Session, experiment: Experiment, extended: Extended) -> Extended:
    """Return the results of phase 2, reordered by --select; write best_config.json if needed."""
    run_dir, preference = session.run_dir, session.arguments.select
    if preference is not None:
        ranked, reason = rank(extended.configurations, PREFERENCES[preference])
        extended = extended.model_copy(update={"configurations": ranked, "reason": reason})
    if preference is not None or not run_dir.best_config.exists():
        write_best_config(run_dir, experiment, extended, extended)
        session.echo(f"chosen: {extended.reason}")
    return extended


def _write_suggestion(
    run_dir: RunDir,
    experiment: Experiment,
    trials: Trials,
    extended: Extended,
    importance: dict[str, float],
) -> None:
    """Write the search space that the configurations of phase 2 and the best five trials suggest."""
    ordered = sorted(trials.usable, key=lambda trial: -trial.accuracy)
    values = [c.config for c in extended.configurations] + [trial.hyperparameters for trial in ordered[:5]]
    suggestions = suggested_space(experiment.search_space, values, importance)
    write_bytes(run_dir.suggestion, to_yaml(suggestions).encode())


def _costs(trials: Trials, extended: Extended) -> tuple[str, str]:
    """Return the accuracy of the best constant, and the epochs of both phases."""
    spent, passes = trials.epochs_spent + extended.epochs_spent, trials.data_passes + extended.data_passes
    return (
        f"best constant answer in the same folds: {extended.best_constant_accuracy:.4f}",
        f"epochs so far: {spent} against 60 x 50 = {YARDSTICK}, as {passes:.0f} passes over all development rows",
    )


def _tradeoff(configurations: Sequence[Configuration]) -> str:
    """The Pareto set as a sentence."""
    numbers = ", ".join(map(str, pareto_set(configurations)))
    return (
        f"In accuracy, simulated return, parameters and time a row at once, no other configuration beats these trials "
        f"(Pareto set): {numbers}. --select spread, return, size or latency takes another of them."
    )


def _credibility(
    session: Session,
    experiment: Experiment,
    trials: Trials,
    extended: Extended,
    out_of_fold: pd.DataFrame,
) -> tuple[SearchBias | None, ChoiceBias]:
    """Return the multiple-testing corrections, also written to credibility.json."""
    run_dir, horizon = session.run_dir, experiment.data.horizon
    ledger = read_by_date(run_dir, trials)
    search = assess_search(ledger, horizon, experiment.seed, trials)
    order = experiment.extended.selection_order
    if session.arguments.select is not None:
        order = PREFERENCES[session.arguments.select]
    choice = assess_choice(out_of_fold, extended, horizon, experiment.seed, by_spread="std_accuracy" in order)
    found = Credibility(
        config_hash=extended.config_hash,
        data_fingerprint=extended.data_fingerprint,
        sealed_fingerprint=extended.sealed_fingerprint,
        search=search,
        choice=choice,
    )
    write_record(run_dir.credibility, found)
    return search, choice


def rank_agreement(configurations: Sequence[Configuration]) -> float | None:
    """Spearman correlation between the accuracies of phase 1 and phase 2; None below three configurations."""
    if len(configurations) < 3:
        return None
    first = [c.phase_1_accuracy for c in configurations]
    second = [c.avg_accuracy for c in configurations]
    if len(set(first)) == 1 or len(set(second)) == 1:
        return None
    return float(stats.spearmanr(first, second).statistic)


def _print_table(session: Session, extended: Extended) -> None:
    table = Table(title=f"{extended.n_folds}-fold cross-validation; the spread over folds is not an error of the mean")
    figures = ("accuracy", "spread", "s.e.", "phase 1", "log loss", "net", "weights")
    for heading in ("rank", "trial", "family", *figures):
        table.add_column(heading, justify="left" if heading == "family" else "right", no_wrap=True)
    for c in extended.configurations:
        measured = (c.avg_accuracy, c.std_accuracy, c.accuracy_se, c.phase_1_accuracy, c.avg_val_loss)
        cells = [number(value, ".4f") for value in measured]
        shown = number(c.avg_simulated_return, "+.1%")
        table.add_row(
            str(c.rank) if c.is_complete else "stopped",
            *(str(c.trial_number), c.family, *cells, shown, str(c.n_parameters)),
        )
    show_table(session, table)
