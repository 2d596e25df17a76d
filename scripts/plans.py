"""What a command would do, in words and as a table: for --dry-run and the first line of a phase."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from scripts.cli import Session
from scripts.config import Experiment
from scripts.data.dataset import Dataset


def means(session: Session, most_runs: int) -> str:
    """What trains, in words; no more than `most_runs` workers are of use."""
    if session.arguments.execution == "ray":
        return f"Ray on {session.arguments.ray_address or 'this machine'}"
    workers = min(session.workers, most_runs)
    return f"{workers} worker{'s' if workers > 1 else ''} on {session.device}"


def _described(dataset: Dataset, rows: np.ndarray) -> str:
    """Number of rows and their dates."""
    if dataset.dates is None:
        return f"{len(rows)} rows"
    date = dataset.date[rows]
    return f"{len(rows)} rows from {str(dataset.dates[date.min()])[:10]} to {str(dataset.dates[date.max()])[:10]}"


def show_plan(
    session: Session,
    experiment: Experiment,
    dataset: Dataset,
    what: str,
    epochs: int,
    files: list[Path],
    most_runs: int = 1,
) -> None:
    """Print what a command would do."""
    train, validation = dataset.tail_split(experiment.tuning.validation_fraction, experiment.seed)
    folds = dataset.folds(experiment.extended.cv, experiment.extended.cross_validation_folds, experiment.seed)
    rows = {
        "data": f"{experiment.data.source}, label {experiment.data.label}, {len(dataset.feature_names)} features",
        "development rows": f"{_described(dataset, dataset.rows)}; classes {', '.join(dataset.classes)}",
        "phase 1 split": f"trains on {_described(dataset, train)}; validates on {_described(dataset, validation)}",
        "folds": "; ".join(f"{len(a)} train, {len(b)} test" for a, b in folds),
        "training": what,
        "epochs at most": str(epochs),
        "workers": means(session, most_runs),
        "files": ", ".join(str(path.relative_to(session.run_dir.path)) for path in files),
    }
    for name, value in rows.items():
        session.say(f"{name:>17}  {value}")
