"""Reliability of the verdict: the real pipeline on many markets, with and without a signal.

Every market is a run of the ordinary commands with the budget of configs/quick.yaml, in its own folder. Rerun the same
command to resume. The commands run in a process forked from one that has imported everything, which only saves
start-up time. For comparison, a careless script analyses the same market: shuffled folds, a scaler fitted on all rows,
and the best of all configurations reported with a binomial error.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import binom
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, cross_val_score
from sklearn.preprocessing import StandardScaler

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

# The phases import these themselves; here they are loaded once, before the forks.
import scripts.commands.evaluate
import scripts.extended_training.trainer
import scripts.final_training.training
import scripts.tuning.search  # noqa: F401
from benchmarks.common import EVALUATION, PHASES, Result, show
from scripts.config.experiment import DataConfig, SyntheticConfig
from scripts.data.loading import load_development
from scripts.extended_training.selection import complete
from scripts.statistics.winners_curse import cross_validation_selection_bias
from scripts.storage.artifacts import read_record
from scripts.storage.extended_record import Extended
from scripts.storage.run_dir import RunDir

MARKET = {"n_tickers": 12, "n_days": 1500}
RHOS = (0.0, 0.1, 0.2, 0.3)  # strength of the signal


def market(task: tuple[Path, float, int]) -> dict[str, Any]:
    """Results of the pipeline and of the careless script for market number `seed` with signal `rho`."""
    folder, rho, seed = task
    torch.set_num_threads(1)
    folder = folder / f"rho_{rho:g}_seed_{seed}"
    flags = ["--run-dir", str(folder), "--config", str(ROOT / "configs" / "quick.yaml"), "--workers", "1", "-q"]
    values = MARKET | {"seed": seed, "rho": rho}
    flags += ["--seed", str(seed), *(f"--set=data.synthetic.{name}={value}" for name, value in values.items())]
    for script in (*PHASES, EVALUATION):
        _call(script, [*flags, "--no-progress"])
    evaluation: dict[str, Any] = json.loads((folder / "evaluation" / "evaluation_results.json").read_text())
    extended = read_record(RunDir(folder).extended_results, PHASES[1], Extended)
    trials = json.loads((folder / "hyperparameter_tuning_results" / "trials.json").read_text())["trials"]
    scores = np.array([[fold.accuracy for fold in c.folds] for c in complete(extended.configurations)])
    return evaluation | {
        "best_on_one_split": max(t["val_accuracy"] for t in trials if t["val_accuracy"] is not None),
        "cross_validated": scores[0].mean() - cross_validation_selection_bias(scores)[1],
        "careless": _careless(rho, seed),
    }


def _call(script: str, flags: list[str]) -> None:
    """Run a command in this process; it ends by SystemExit, as every command does."""
    sys.argv = [script, *flags]
    try:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise RuntimeError(f"{script} {' '.join(flags)} ended with {end.code}") from end


def _careless(rho: float, seed: int) -> bool:
    """Whether a careless script would report skill: best of several models over shuffled folds, rows as independent."""
    config = DataConfig(synthetic=SyntheticConfig(**MARKET, rho=rho, seed=seed))
    data = load_development(config, 1, 0)
    x, y = StandardScaler().fit_transform(data.x[data.rows]), data.y[data.rows]
    folds = KFold(5, shuffle=True, random_state=seed)
    scores = [
        cross_val_score(LogisticRegression(C=c, max_iter=300), x, y, cv=folds).mean() for c in np.logspace(-4, 2, 7)
    ]
    error = math.sqrt(0.25 / len(y))
    return max(scores) - 1.96 * error > 0.5


def summarise(name: str, runs: list[dict[str, Any]]) -> list[Result]:
    """Shares, coverage and bias over markets.

    The truth behind an accuracy is what these very predictions have in expectation over the labels, which the synthetic
    market knows exactly.
    """
    covered = [r["accuracy_ci95"][0] <= r["expected_accuracy"] <= r["accuracy_ci95"][1] for r in runs]
    above = np.array([(r["accuracy"] - r["ceiling"]) / r["accuracy_se"] for r in runs])
    return [
        _share(name, "verdict skill", [r["verdict"] == "skill" for r in runs]),
        _share(name, "by accuracy alone", [r["skill_ci95"][0] > 0 for r in runs]),
        _share(name, "careless script: skill", [r["careless"] for r in runs]),
        _share(name, "interval covers", covered),
        _mean(name, "accuracy - ceiling", [r["accuracy"] - r["ceiling"] for r in runs]),
        _share(name, "above ceiling by 2 s.e.", above > 2),
        _share(name, "by 3 s.e.", above > 3),
        _mean(name, "best on one split - truth", [r["best_on_one_split"] - r["expected_accuracy"] for r in runs]),
        _mean(name, "cross-validated - truth", [r["cross_validated"] - r["expected_accuracy"] for r in runs]),
    ]


def _share(name: str, metric: str, values: list[bool] | np.ndarray) -> Result:
    share, n = float(np.mean(values)), len(values)
    return Result(name, metric, share, math.sqrt(share * (1 - share) / n), n)


def _mean(name: str, metric: str, values: list[float]) -> Result:
    n = len(values)
    return Result(name, metric, float(np.mean(values)), float(np.std(values) / math.sqrt(n)), n)


def main() -> None:
    """Run the missing markets, as many at a time as there are cores, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--folder", type=Path, required=True, help="folder of the runs; rerun the same command to resume"
    )
    parser.add_argument("--null", type=int, default=100, metavar="N", help="markets without signal")
    parser.add_argument("--signal", type=int, default=40, metavar="N", help="markets for each rho of 0.1, 0.2, 0.3")
    parser.add_argument("--share", default="1/1", metavar="K/N", help="only every N-th market, from the K-th on")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    part, parts = (int(number) for number in given.share.split("/"))
    numbers = {rho: range(part, (given.signal if rho else given.null) + 1, parts) for rho in RHOS}
    tasks = {rho: [(given.folder, rho, k) for k in own] for rho, own in numbers.items()}
    results: list[Result] = []
    everything: list[dict[str, Any]] = []
    # A process for each market: the commands set signal handlers and threads, as if they were alone.
    with multiprocessing.get_context("fork").Pool(len(os.sched_getaffinity(0)), maxtasksperchild=1) as pool:
        for rho, own in tasks.items():
            if own:
                runs = pool.map(market, own, chunksize=1)
                results += summarise(f"rho {rho:g}", runs)
                everything += runs
    results += summarise("all markets", everything)
    show("Is the verdict to be believed?", results, given.json)
    if given.null:
        allowed = int(binom.ppf(0.975, given.null, 0.05))
        print(f"of {given.null} null markets, at most {allowed} may be called skill by chance at 5 %")


if __name__ == "__main__":
    main()
