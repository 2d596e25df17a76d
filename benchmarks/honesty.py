"""Is the verdict to be believed? The real pipeline on many markets, with and without a signal.

Every market is a run of the ordinary commands in the quick profile, in a folder of its own, so that the benchmark
resumes where it was stopped. Beside it a naive script on the same market: shuffled folds, scaler fitted on all rows,
the best of all configurations reported with a binomial error.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binom
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, cross_val_score
from sklearn.preprocessing import StandardScaler

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.common import Result, show
from scripts.config import DataConfig, SyntheticConfig
from scripts.data.loading import load_development

PHASES = ("run_hyperparameter_tuning.py", "run_extended_training.py", "run_final_training.py", "evaluate_model.py")


def pipeline(folder: Path, seed: int, rho: float) -> dict[str, Any]:
    """Results of the pipeline on market `seed` with signal `rho`."""
    folder = folder / f"rho_{rho:g}_seed_{seed}"
    flags = ["--run-dir", str(folder), "--config", str(ROOT / "configs" / "quick.yaml"), "--workers", "1", "-q"]
    flags += ["--seed", str(seed), "--set", f"data.synthetic.seed={seed}", "--set", f"data.synthetic.rho={rho}"]
    for script in PHASES:
        subprocess.run([sys.executable, str(ROOT / script), *flags, "--no-progress"], check=True)
    evaluation: dict[str, Any] = json.loads((folder / "evaluation" / "evaluation_results.json").read_text())
    extended = json.loads((folder / "extended_training_results" / "extended_training_results.json").read_text())
    trials = json.loads((folder / "hyperparameter_tuning_results" / "trials.json").read_text())["trials"]
    evaluation["best_on_one_split"] = max(t["val_accuracy"] for t in trials if t["val_accuracy"] is not None)
    evaluation["cross_validated"] = extended["configurations"][0]["avg_accuracy"]
    return evaluation


def naive_script(seed: int, rho: float) -> bool:
    """Whether a careless script would report skill: best of several models over shuffled folds, rows as independent."""
    market = SyntheticConfig(n_tickers=8, n_days=900, rho=rho, seed=seed)
    data = load_development(DataConfig(synthetic=market), 1, 0)
    x, y = StandardScaler().fit_transform(data.x[data.rows]), data.y[data.rows]
    folds = KFold(5, shuffle=True, random_state=seed)
    scores = [
        cross_val_score(LogisticRegression(C=c, max_iter=300), x, y, cv=folds).mean() for c in np.logspace(-4, 2, 7)
    ]
    error = math.sqrt(0.25 / len(y))
    return max(scores) - 1.96 * error > 0.5


def summarise(rho: float, runs: list[dict[str, Any]], naive: list[bool]) -> list[Result]:
    """Shares, coverage and bias over the markets of one signal."""
    n, name = len(runs), f"rho {rho:g}"
    share = float(np.mean([r["verdict"] == "skill" for r in runs]))
    # The truth of an interval is the accuracy that these very predictions have in expectation over the labels.
    excess = [r["accuracy"] - r["ceiling"] for r in runs]
    errors = [(r["accuracy"] - r["ceiling"]) / r["accuracy_se"] for r in runs]
    bias = [r["best_on_one_split"] - r["accuracy"] for r in runs]
    folds = [r["cross_validated"] - r["accuracy"] for r in runs]
    return [
        Result(name, "verdict skill", share, math.sqrt(share * (1 - share) / n), n),
        Result(name, "naive script: skill", float(np.mean(naive)), None, n),
        Result(name, "accuracy - ceiling", float(np.mean(excess)), float(np.std(excess) / math.sqrt(n)), n),
        Result(name, "above ceiling by 2 s.e.", float(np.mean(np.array(errors) > 2)), None, n),
        Result(name, "best on one split - test", float(np.mean(bias)), float(np.std(bias) / math.sqrt(n)), n),
        Result(name, "cross-validated - test", float(np.mean(folds)), float(np.std(folds) / math.sqrt(n)), n),
    ]


def main() -> None:
    """Run the missing markets, as many at a time as there are cores, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where the runs lie; run again to go on")
    parser.add_argument("--null", type=int, default=100, metavar="N", help="markets without signal")
    parser.add_argument("--signal", type=int, default=20, metavar="N", help="markets for each rho of 0.1, 0.2, 0.3")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    counts = {0.0: given.null, 0.1: given.signal, 0.2: given.signal, 0.3: given.signal}
    results: list[Result] = []
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for rho, n in counts.items():
            if n:
                runs = list(pool.map(lambda seed, rho=rho: pipeline(given.folder, seed, rho), range(1, n + 1)))
                results += summarise(rho, runs, [naive_script(seed, rho) for seed in range(1, n + 1)])
    show("Is the verdict to be believed?", results, given.json)
    if given.null:
        allowed = int(binom.ppf(0.975, given.null, 0.05))
        print(f"of {given.null} null markets, at most {allowed} may be called skill by chance at 5 %")


if __name__ == "__main__":
    main()
