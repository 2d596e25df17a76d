"""Helpers of all benchmarks: the commands of a run, the name of the machine, the table and the JSON of results."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
PHASES = ("run_hyperparameter_tuning.py", "run_extended_training.py", "run_final_training.py")
EVALUATION = "evaluate_model.py"
os.environ["HYPER_STATE_DIR"] = "none"  # evaluations of a benchmark are not openings of the user's data


def run_commands(scripts: Sequence[str], run_dir: Path, *flags: str) -> None:
    """Run commands on a run directory, one after the other, each as a process of its own that must succeed."""
    for script in scripts:
        command = [sys.executable, str(ROOT / script), "--run-dir", str(run_dir), "-q", "--no-progress", *flags]
        subprocess.run(command, check=True)


@dataclass(frozen=True)
class Result:
    """One measured figure: median of `n` repetitions and its standard error (None for a single one)."""

    contender: str
    metric: str
    value: float
    standard_error: float | None
    n: int


def summarised(contender: str, metric: str, values: Sequence[float]) -> Result:
    """Median and standard error of repeated measurements."""
    array = np.asarray(values, dtype=float)
    error = 1.2533 * array.std(ddof=1) / np.sqrt(len(array)) if len(array) > 1 else None  # of a median, normal case
    return Result(contender, metric, float(np.median(array)), None if error is None else float(error), len(array))


def machine() -> str:
    """Processor, cores, library and date of a measurement."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ] or [platform.processor()]
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return (
        f"{names[0]}, {len(os.sched_getaffinity(0))} cores{gpu}; torch {torch.__version__}; "
        f"{datetime.now(UTC).date().isoformat()}"
    )


def arguments(description: str | None, **defaults: object) -> argparse.Namespace:
    """Flags of a benchmark: --json and one flag per default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    for name, default in defaults.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=type(default), default=default, help=f"default: {default}"
        )
    return parser.parse_args()


def show(title: str, results: Sequence[Result], path: Path | None) -> None:
    """Print a table with one row per contender and one column per metric; write the JSON."""
    metrics = list(dict.fromkeys(r.metric for r in results))
    table = Table(title=title, caption=machine(), title_justify="left", caption_justify="left")
    table.add_column("contender")
    for metric in metrics:
        table.add_column(metric, justify="right")
    for contender in dict.fromkeys(r.contender for r in results):
        own = {r.metric: r for r in results if r.contender == contender}
        table.add_row(contender, *(_cell(own.get(metric)) for metric in metrics))
    Console(width=140).print(table)
    if path is not None:
        path.write_text(json.dumps([asdict(r) for r in results], indent=1) + "\n")


def _cell(result: Result | None) -> str:
    if result is None:
        return "-"
    error = "" if result.standard_error is None else f" ±{result.standard_error:.2g}"
    return f"{result.value:.4g}{error}"
