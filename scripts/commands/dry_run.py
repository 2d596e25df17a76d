"""Plan of a command as a table for --dry-run, and as text for the first line of a phase."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scripts.commands.placement import Placement
from scripts.commands.session import Session
from scripts.commands.time_estimates import (
    START_UP_S,
    TYPICAL_BEST_EPOCH,
    Measured,
    epochs_in,
    extended_s,
    final_s,
    likely_configurations,
    measure_epochs,
    search_s,
)
from scripts.config.class_positions import in_words
from scripts.config.experiment import Experiment
from scripts.config.search_space import Range, SearchSpace, Values
from scripts.data.dataset import Dataset
from scripts.data.summary import DataSummary, summarise_market
from scripts.errors import InputError
from scripts.storage.artifacts import recorded_plan
from scripts.storage.printable import duration_in_words, printable
from scripts.storage.records import Trial
from scripts.tuning.stages import draw

_DRAWN = 64  # random configurations, among which every family is found
TABLE_WIDTH = 120
MAX_SHOWN = 12  # tickers in the table of a plan


def show_table(session: Session, table: Table) -> None:
    """Print a table, without escape codes."""
    console = Console(width=TABLE_WIDTH)
    with console.capture() as drawn:
        console.print(table)
    for line in drawn.get().rstrip().split("\n"):
        session.echo(line.rstrip())


def show_plan_table(session: Session, rows: Mapping[str, str], files: Sequence[Path]) -> None:
    """Print the plan of a command as a table of two columns, with its files last; keep it for --json."""
    written = [f"{path} {'(there already)' if path.exists() else '(new)'}" for path in files]
    table = Table(title=f"{session.answer.command} would do this; nothing is done", box=SIMPLE_HEAD)
    table.add_column("what", justify="right", no_wrap=True)
    table.add_column("plan", overflow="fold")
    # Text, so that brackets in names of files and classes are not markup.
    for name, value in {**rows, "writes": "\n".join(written)}.items():
        table.add_row(name, Text(printable(value, lines=True)))
    show_table(session, table)
    would_write = [str(path) for path in files]
    session.conclude(session.same_command("--dry-run"), [], plan=dict(rows), would_write=would_write)


def likely_search(experiment: Experiment, space: SearchSpace, first: Sequence[Values]) -> list[Values]:
    """Return configurations like those of phase 1; `first` are its initial ones."""
    return likely_configurations(space, first, [draw(space, experiment.seed, k) for k in range(_DRAWN)])


def measured_search(
    experiment: Experiment, dataset: Dataset, device: str, space: SearchSpace, first: Sequence[Values]
) -> Measured:
    """Epochs of `likely_search`."""
    return measure_epochs(likely_search(experiment, space, first), dataset, experiment, device, first)


def time_of_search(workers: int, experiment: Experiment, dataset: Dataset, measure: Callable[[], Measured]) -> str:
    """Estimate the duration of the three phases from measured epochs of the initial trials.

    Before phase 1 nothing is known of what phases 2 and 3 will train, so it counts as what phase 1 trains.
    """
    measured = measure()
    config, extended, n_rows = experiment.tuning, experiment.extended, len(dataset.rows)
    n_train = len(dataset.tail_split(config.validation_fraction, experiment.seed)[0])
    n_trainings = extended.top_n * extended.cross_validation_folds
    decisions = config.n_trials if config.scheduler == "guide" else experiment.search_epochs // config.rungs[0]
    search = search_s(measured, n_train, experiment.search_epochs, decisions, min(workers, config.proposal_lag))
    later_workers = min(workers, n_trainings), min(workers, experiment.final.n_seeds)
    n_fold = n_rows * (extended.cross_validation_folds - 1) // extended.cross_validation_folds
    later = extended_s(measured, n_fold, experiment, n_trainings, TYPICAL_BEST_EPOCH, later_workers[0])
    n_members = min(experiment.final.ensemble, extended.top_n)
    last = n_members * final_s(measured, n_rows, experiment, TYPICAL_BEST_EPOCH, later_workers[1])
    return (
        f"{_in_words(search)}, then about {_in_words(later)} of phase 2 and "
        f"{_in_words(last)} of phase 3 (an epoch: {measured.in_words(n_train)})"
    )


def in_epochs(
    session: Session, experiment: Experiment, dataset: Dataset, workers: int, measure: Callable[[], Measured]
) -> Experiment:
    """Return the experiment with the epochs that fit into --epoch-budget, if that is a time.

    Measured once: a started search keeps its epochs, so that its decisions do not depend on a clock.

    Raises
    ------
    InputError
        The scheduler knows no budget.
    """
    seconds = session.search_time
    if seconds is None:
        return experiment
    if experiment.tuning.scheduler != "rungs":
        raise InputError("needs tuning.scheduler: rungs", "--epoch-budget", "the guide's stages have fixed epochs")
    if (plan := recorded_plan(session.run_dir, session.arguments.fresh)) is not None:
        return experiment.model_copy(update={"epoch_budget": plan.experiment.epoch_budget})
    measured = measure()
    n_train = len(dataset.tail_split(experiment.tuning.validation_fraction, experiment.seed)[0])
    # This command has taken some of the time already, and phase 2 has to start.
    left = max(seconds / 2.0, seconds - (time.monotonic() - session.started) - START_UP_S)
    epochs = epochs_in(left, measured, n_train, experiment, workers)
    session.echo(f"{duration_in_words(seconds)} of phases 1 and 2: {epochs} epochs ({measured.in_words(n_train)} each)")
    return experiment.model_copy(update={"epoch_budget": epochs})


def time_of_folds(
    placement: Placement,
    experiment: Experiment,
    dataset: Dataset,
    trials: Sequence[Trial],
    n_trainings: int,
    max_parallel_runs: int,
) -> str:
    """Estimate the duration of phase 2 from the chosen trials and the epochs of their lowest loss."""
    values = [trial.hyperparameters for trial in trials]
    measured = measure_epochs(values, dataset, experiment, placement.measuring_device)
    losses = [[epoch.val_loss for epoch in trial.history if epoch.val_loss is not None] for trial in trials]
    best = float(np.mean([1 + int(np.argmin(curve)) for curve in losses if curve] or [TYPICAL_BEST_EPOCH]))
    n_folds = experiment.extended.cross_validation_folds
    n_rows, workers = len(dataset.rows) * (n_folds - 1) // n_folds, min(placement.workers, max_parallel_runs)
    return _in_words(extended_s(measured, n_rows, experiment, n_trainings, best, workers))


def time_of_final(placement: Placement, experiment: Experiment, dataset: Dataset, members: Sequence[Values]) -> str:
    """Estimate the duration of phase 3 for these configurations."""
    n_rows, workers = len(dataset.rows), min(placement.workers, experiment.final.n_seeds * len(members))
    measured = [measure_epochs([values], dataset, experiment, placement.measuring_device) for values in members]
    return _in_words(sum(final_s(m, n_rows, experiment, TYPICAL_BEST_EPOCH, workers) for m in measured))


def _in_words(training_s: float) -> str:
    """Return the duration of a command that trains for some seconds."""
    return duration_in_words(START_UP_S + training_s)


def show_plan(
    session: Session, experiment: Experiment, dataset: Dataset, training: Mapping[str, str], files: Sequence[Path]
) -> None:
    """Print what a phase would do, with the rows of the table that are about its training."""
    train, validation = dataset.tail_split(experiment.tuning.validation_fraction, experiment.seed)
    folds = dataset.folds(experiment.extended.cv, experiment.extended.cross_validation_folds, experiment.seed)
    rows = {
        "data": f"{experiment.data.source}, label {experiment.data.label}, {len(dataset.feature_names)} features",
        "classes": ", ".join(dataset.classes),
        **_positions(dataset),
        "development rows": _described(dataset, dataset.rows),
        "phase 1 trains on": _described(dataset, train),
        "phase 1 validates on": _described(dataset, validation),
        "folds of phase 2": "\n".join(f"{len(a)} rows train, {len(b)} test" for a, b in folds),
        "search space": _space_in_words(experiment),
        **training,
    }
    if experiment.data.source == "market":
        summary = summarise_market(experiment.data)
        rows = {"data": rows["data"], **_as_read(summary), **rows}
        session.answer.figures["data"] = summary.plain()
    show_plan_table(session, rows, files)


def _as_read(summary: DataSummary) -> dict[str, str]:
    """Return how a market file was read: tickers, columns and notes."""
    tickers = [f"{name}: {ticker.in_words()}" for name, ticker in summary.tickers.items()]
    more = [f"and {len(tickers) - MAX_SHOWN} more tickers"] if len(tickers) > MAX_SHOWN else []
    columns = ", ".join(f"{own} as {role}" for role, own in summary.columns.items())
    columns_row = {"columns": columns} if columns else {}
    return {
        "tickers": "\n".join([*tickers[:MAX_SHOWN], *more]),
        **columns_row,
        "notes": "\n".join(summary.notes) or "none",
    }


def _positions(dataset: Dataset) -> dict[str, str]:
    """Return the position of each class and the dates per year, if there are returns."""
    held = dataset.class_positions
    if held is None:
        return {}
    year = (
        {} if dataset.periods is None else {"dates per year": f"{dataset.periods.value:g} (from {dataset.periods.how})"}
    )
    return {"positions of the classes": in_words(dataset.classes, held), **year}


def _described(dataset: Dataset, rows: np.ndarray) -> str:
    """Number of rows and their dates."""
    if dataset.dates is None:
        return f"{len(rows)} rows"
    date = dataset.date[rows]
    return f"{len(rows)} rows from {str(dataset.dates[date.min()])[:10]} to {str(dataset.dates[date.max()])[:10]}"


def _space_in_words(experiment: Experiment) -> str:
    """Return the searched and the fixed hyperparameters."""
    searched = [name for name, dimension in experiment.search_space.items() if isinstance(dimension, Range)]
    fixed = [f"{name} = {value}" for name, value in experiment.search_space.items() if not isinstance(value, Range)]
    return f"searched: {', '.join(searched) or 'none'}" + (f"\nfixed: {', '.join(fixed)}" if fixed else "")
