"""What a command would do, as a table: for --dry-run, and in words for the first line of a phase."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scripts.cli import Session
from scripts.config import Experiment
from scripts.data.dataset import Dataset
from scripts.search_space import Range

TABLE_WIDTH = 120


def means(session: Session, most_runs: int) -> str:
    """What trains, in words; no more than `most_runs` workers are of use."""
    if session.arguments.execution == "ray":
        return f"Ray on {session.arguments.ray_address or 'this machine'}"
    workers = min(session.workers, most_runs)
    return f"{workers} worker{'s' if workers > 1 else ''} on {session.device}"


def show_table(session: Session, table: Table) -> None:
    """Say a table; where it is no terminal that it goes to, without any escape codes."""
    console = Console(width=TABLE_WIDTH)
    with console.capture() as drawn:
        console.print(table)
    session.say("\n".join(line.rstrip() for line in drawn.get().rstrip().splitlines()))


def show_plan_table(session: Session, rows: Mapping[str, str], files: list[Path]) -> None:
    """Say what a command would do as a table of two columns, files that it would write last; keep it for --json."""
    written = [f"{path} {'(there already)' if path.exists() else '(new)'}" for path in files]
    table = Table(title=f"{session.answer['command']} would do this; nothing is done", box=SIMPLE_HEAD)
    table.add_column("what", justify="right", no_wrap=True)
    table.add_column("plan", overflow="fold")
    # Text, so that brackets in names of files and classes are no markup.
    for name, value in {**rows, "writes": "\n".join(written)}.items():
        table.add_row(name, Text(value))
    show_table(session, table)
    session.keep(plan=dict(rows), would_write=[str(path) for path in files])
    session.conclude(session.same_command("--dry-run"), [])


def show_plan(
    session: Session,
    experiment: Experiment,
    dataset: Dataset,
    what: str,
    epochs: int,
    files: list[Path],
    most_runs: int = 1,
) -> None:
    """Say what a phase that trains would do."""
    train, validation = dataset.tail_split(experiment.tuning.validation_fraction, experiment.seed)
    folds = dataset.folds(experiment.extended.cv, experiment.extended.cross_validation_folds, experiment.seed)
    rows = {
        "data": f"{experiment.data.source}, label {experiment.data.label}, {len(dataset.feature_names)} features",
        "classes": ", ".join(dataset.classes),
        "development rows": _described(dataset, dataset.rows),
        "phase 1 trains on": _described(dataset, train),
        "phase 1 validates on": _described(dataset, validation),
        "folds of phase 2": "\n".join(f"{len(a)} rows train, {len(b)} test" for a, b in folds),
        "search space": _space_in_words(experiment),
        "training": what,
        "epochs at most": str(epochs),
        "trained by": means(session, most_runs),
    }
    show_plan_table(session, rows, files)


def _described(dataset: Dataset, rows: np.ndarray) -> str:
    """Number of rows and their dates."""
    if dataset.dates is None:
        return f"{len(rows)} rows"
    date = dataset.date[rows]
    return f"{len(rows)} rows from {str(dataset.dates[date.min()])[:10]} to {str(dataset.dates[date.max()])[:10]}"


def _space_in_words(experiment: Experiment) -> str:
    """Which hyperparameters are searched, and which are fixed."""
    searched = [name for name, dimension in experiment.search_space.items() if isinstance(dimension, Range)]
    fixed = [f"{name} = {value}" for name, value in experiment.search_space.items() if not isinstance(value, Range)]
    return f"searched: {', '.join(searched) or 'none'}" + (f"\nfixed: {', '.join(fixed)}" if fixed else "")
