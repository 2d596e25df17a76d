"""Entry point for notebooks: all three phases on a frame or a file, and the final model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from scripts.errors import HyperError
from scripts.final_training.model import FinalModel, load_model
from scripts.storage.durable_files import write_bytes

_ROOT = Path(__file__).resolve().parents[2]
_PHASES = ("run_hyperparameter_tuning.py", "run_extended_training.py", "run_final_training.py")


def fit(
    data: pd.DataFrame | str | os.PathLike[str],
    run_dir: str | os.PathLike[str],
    label: str | None = None,
    horizon: int | None = None,
    **sections: Mapping[str, object],
) -> FinalModel:
    """Tune, train and return the final model; the test set stays sealed until `evaluate_model.py` opens it.

    The commands run in processes of their own with the same artifacts as in a shell. Repeat an interrupted call to
    resume.

    Parameters
    ----------
    data : DataFrame or path-like
        Prices or a table of features and labels, as `--data` takes them. A frame is written into the run directory;
        its index of dates and names of two levels, such as those of yfinance, are read.
    run_dir : path-like
        Results directory.
    label : str, optional
        Label of a market, or the label column of a table.
    horizon : int, optional
        Bars that the label looks ahead.
    **sections : mapping
        Sections of the config, for example `tuning={"n_random_trials": 10}`.

    Raises
    ------
    HyperError
        A command failed; the message is that of the command.
    """
    folder = Path(run_dir)
    flags = ["--run-dir", str(folder), "--data", str(_as_file(data, folder)), "--quiet", "--no-progress"]
    flags += [] if label is None else ["--label", label]
    flags += [] if horizon is None else ["--horizon", str(horizon)]
    for assignment in _assignments(sections):
        flags += ["--set", assignment]
    for script in _PHASES:
        done = subprocess.run([sys.executable, str(_ROOT / script), *flags], capture_output=True, text=True)
        if done.returncode:
            raise HyperError(done.stderr.strip() or f"{script} ended with code {done.returncode}")
    return load_model(folder / "final_model.pkl")


def _as_file(data: pd.DataFrame | str | os.PathLike[str], folder: Path) -> Path:
    if not isinstance(data, pd.DataFrame):
        return Path(data)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "data.parquet"
    write_bytes(path, data.to_parquet())
    return path


def _assignments(sections: Mapping[str, Mapping[str, object]]) -> list[str]:
    return [
        f"{section}.{key}={json.dumps(value)}" for section, values in sections.items() for key, value in values.items()
    ]
