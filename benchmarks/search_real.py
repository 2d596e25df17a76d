"""Search by real training: the default phases compared with 60 trials of 50 epochs, on sealed test rows.

Every contender is a run of the ordinary commands in its own folder. Rerun the same command to resume. An opponent
trains 60 trials of 50 epochs on one split, proposed at random or by Optuna's TPE after 10 random trials. It selects the
best validation accuracy, and its configuration goes through the same phase 3. Phase 2 then has a single candidate, and
its epochs do not count for the opponent. By default all search only the families MLP and ResNet, because 3,000 epochs
of recurrent networks take hours. Accuracies are compared on the same sealed rows, by blocks of dates.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.common import EVALUATION, PHASES, Result, run_commands, show
from scripts.statistics.intervals import mean_intervals

_US_DAILY = ROOT.parent / "shared" / "data" / "us_daily.csv.gz"
DATA: dict[str, list[str]] = {
    "synthetic": [],
    "us_daily volatility": ["--config", str(ROOT / "configs" / "us_daily_volatility.yaml")],
    "breast_cancer": ["--config", str(ROOT / "configs" / "table_breast_cancer.yaml")],
    "digits": ["--config", str(ROOT / "configs" / "table_breast_cancer.yaml"), "--set", "data.path=sklearn:digits"],
}
_ONE_CANDIDATE = ("extended.top_n=1", "extended.cross_validation_folds=2", "extended.extended_epochs=5")


def _fixed_plan(n_random: int, n_trials: int, epochs: int) -> list[str]:
    """Flags of a search of `n_trials` full trials, the first `n_random` of them random."""
    values = {
        "scheduler": "guide",
        "n_random_trials": n_random,
        "n_bayesian_trials": n_trials - n_random,
        "n_fine_tune_trials": 0,
        "epochs_per_trial_random": epochs,
        "epochs_per_trial_bayesian": epochs,
        "early_stopping_patience": epochs,
    }
    assignments = [*(f"tuning.{name}={value}" for name, value in values.items()), *_ONE_CANDIDATE]
    return [f"--set={assignment}" for assignment in assignments]


def contenders(n_trials: int, epochs: int) -> dict[str, list[str]]:
    """Flags of each contender by name."""
    return {
        "hyper": [],
        f"tpe {n_trials}x{epochs}": _fixed_plan(10, n_trials, epochs),
        f"random {n_trials}x{epochs}": _fixed_plan(n_trials, n_trials, epochs),
    }


def run(folder: Path, flags: list[str], workers: str) -> dict[str, Any]:
    """Finish the run in `folder`: epochs of the search, and the hits on the sealed rows with their dates."""
    if not (folder / "evaluation" / "evaluation_results.json").exists():
        run_commands((*PHASES, EVALUATION), folder, "--workers", workers, *flags)
    trials = json.loads((folder / "hyperparameter_tuning_results" / "trials.json").read_text())
    extended = json.loads((folder / "extended_training_results" / "extended_training_results.json").read_text())
    table = pd.read_csv(folder / "evaluation" / "predictions.csv", dtype={"label": str, "predicted": str})
    date = table["date"] if "date" in table else pd.Series(dtype=object)
    handed_over = any(flag.endswith(_ONE_CANDIDATE[0]) for flag in flags)
    return {
        "epochs": trials["epochs_spent"] + (0 if handed_over else extended["epochs_spent"]),
        "hits": (table["label"] == table["predicted"]).to_numpy(float),
        "date": pd.factorize(date, sort=True)[0] if len(date) and date.notna().all() else None,
    }


def compare(data: str, runs: dict[str, list[dict[str, Any]]]) -> list[Result]:
    """Epochs, accuracy, and what ours is ahead by on the same rows, means over the seeds."""
    results = []
    ours = np.mean([own["hits"] for own in runs["hyper"]], axis=0)
    for name, own in runs.items():
        hits, date = np.mean([one["hits"] for one in own], axis=0), own[0]["date"]
        found = mean_intervals({"accuracy": hits, "ahead": ours - hits}, date, 1)
        where = f"{data}: {name}"
        results.append(Result(where, "epochs", float(np.mean([one["epochs"] for one in own])), None, len(own)))
        for metric, interval in found.items():
            shown = "hyper ahead by" if metric == "ahead" else metric
            results.append(Result(where, shown, interval.estimate, interval.se, len(hits)))
    return results


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "search_real", help="folder of the runs")
    parser.add_argument("--data", metavar="NAME,...", default=",".join(DATA), help=f"default: {', '.join(DATA)}")
    parser.add_argument("--seeds", type=int, default=1, metavar="N")
    parser.add_argument("--trials", type=int, default=60, metavar="N", help="of an opponent (default: 60)")
    parser.add_argument("--epochs", type=int, default=50, metavar="N", help="of an opponent's trial (default: 50)")
    parser.add_argument("--families", default="mlp,resnet", metavar="NAME,...", help="searched by every contender")
    parser.add_argument("--contenders", metavar="NAME,...", help="all by default; compared where hyper is among them")
    parser.add_argument("--workers", default="auto", metavar="N|auto")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    results: list[Result] = []
    choices = given.families.replace(",", ", ")
    families = [f"--set=search_space.family={{type: categorical, choices: [{choices}]}}"]
    for data in given.data.split(","):
        if data.startswith("us_daily") and not _US_DAILY.exists():
            print(f"{data} left out: {_US_DAILY.name} is not there", file=sys.stderr)
            continue
        runs: dict[str, list[dict[str, Any]]] = {}
        for name, flags in contenders(given.trials, given.epochs).items():
            if given.contenders and name not in given.contenders.split(","):
                continue
            folders = [given.folder / f"{data} {name} {seed}".replace(" ", "_") for seed in range(given.seeds)]
            runs[name] = [
                run(folder, [*DATA[data], *flags, *families, "--seed", str(seed)], given.workers)
                for seed, folder in enumerate(folders)
            ]
        if "hyper" in runs:
            results += compare(data, runs)
    if results:
        show("The default phases against full trials, on sealed test rows", results, given.json)


if __name__ == "__main__":
    main()
