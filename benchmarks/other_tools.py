"""Accuracy that tools report, compared with the accuracy of their models on sealed rows.

All tools get the same development rows of a synthetic market with a known best possible accuracy. Each is used as in
the first pages of its documentation. Optuna: TPE over 60 trials of 50 epochs of a plain PyTorch loop, one process per
core. Ray Tune: ASHA with its defaults over 60 random configurations of the same loop, at most 50 epochs each.
AutoGluon: its default preset on the same features as a table. The first two search Hyper's default space; Hyper runs
its default phases. `reported` is the accuracy that each tool reports for its best model; for Hyper it is the
cross-validated accuracy of the selected one. On a market without signal (rho 0) everything above one half is luck.

Ray Tune needs requirements/distributed.txt. AutoGluon needs its own Python, because it requires other versions:
`python -m venv ag; ag/bin/pip install "autogluon.tabular[lightgbm,xgboost,catboost]"`, then
`--autogluon ag/bin/python`. Both are optional.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna
import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.common import Result, arguments, show
from benchmarks.pipeline_opponents import (
    Job,
    Tables,
    Training,
    best_trial,
    loaded,
    plain_epochs,
    sealed_accuracy,
    search,
    suggested,
)
from benchmarks.pipeline_wall import EPOCHS, TRIALS
from benchmarks.pipeline_wall import hyper as run_hyper
from scripts.config.experiment import Experiment
from scripts.config.search_space import longest_window
from scripts.config.yaml_files import load_experiment
from scripts.data.dataset import Dataset
from scripts.data.loading import load_development, load_sealed

Figures = dict[str, float]

# Run by AutoGluon's Python: train, sealed, folder for the models.
AUTOGLUON = """
import json, sys
import pandas as pd
from autogluon.tabular import TabularPredictor
train, sealed, folder = sys.argv[1:]
predictor = TabularPredictor("y", path=folder, eval_metric="accuracy", verbosity=0).fit(pd.read_parquet(train))
best = predictor.leaderboard().set_index("model").loc[predictor.model_best]
accuracy = predictor.evaluate(pd.read_parquet(sealed))["accuracy"]
print(json.dumps({"reported": float(best["score_val"]), "sealed": float(accuracy)}))
"""


def hyper(folder: Path, assignments: list[str]) -> Figures:
    """The default phases."""
    flags = [part for assignment in assignments for part in ("--set", assignment)]
    seconds, accuracy = run_hyper(folder, flags, len(os.sched_getaffinity(0)))
    results = json.loads((folder / "evaluation" / "evaluation_results.json").read_text())
    extended = json.loads((folder / "extended_training_results" / "extended_training_results.json").read_text())
    print(f"{assignments[-1]}: hyper: {results['verdict']!r}, best possible {results['ceiling']}", file=sys.stderr)
    return {
        "seconds": seconds,
        "epochs": results["epochs_spent_total"],
        "reported": extended["configurations"][0]["avg_accuracy"],
        "sealed": accuracy,
    }


def optuna_script(job: Job) -> Figures:
    """TPE over full trials."""
    begun = time.monotonic()
    search(job)
    seconds, reported = time.monotonic() - begun, best_trial(job).value
    epochs, sealed = job.n_trials * job.epochs, sealed_accuracy(job)[0]
    return {"seconds": seconds, "epochs": epochs, "reported": reported or 0.0, "sealed": sealed}


def ray_tune(experiment: Experiment, folder: Path, data: tuple[Dataset, Dataset]) -> Figures:
    """Random configurations, stopped by ASHA."""
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    drawn = [suggested(study.ask(), experiment) for _ in range(TRIALS)]
    folder.mkdir()

    def train(config: dict[str, int]) -> None:
        import torch

        torch.set_num_threads(1)
        training = Training(Tables(experiment, data[0]), drawn[config["number"]], EPOCHS)
        for _ in plain_epochs(training):
            torch.save(training.best_weights, folder / f"{config['number']}.pt")
            tune.report({"accuracy": training.best})

    begun = time.monotonic()
    ray.init(num_cpus=os.cpu_count(), include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        tuner = tune.Tuner(
            train,
            param_space={"number": tune.grid_search(list(range(TRIALS)))},
            tune_config=tune.TuneConfig(metric="accuracy", mode="max", scheduler=ASHAScheduler(max_t=EPOCHS)),
            run_config=tune.RunConfig(storage_path=str(folder / "ray"), verbose=0),
        )
        results = tuner.fit()
    finally:
        ray.shutdown()
    seconds = time.monotonic() - begun
    best = results.get_best_result()
    number = (best.config or {})["number"]
    epochs = sum(result.metrics["training_iteration"] for result in results if result.metrics)
    tables, hp = Tables(experiment, data[0]), drawn[number]
    sealed = tables.accuracy(loaded(folder / f"{number}.pt", hp, tables), hp, data[1])
    return {"seconds": seconds, "epochs": epochs, "reported": (best.metrics or {})["accuracy"], "sealed": sealed}


def autogluon(python: str, folder: Path, data: tuple[Dataset, Dataset]) -> Figures:
    """The tabular predictor on the features of each row."""
    folder.mkdir()
    for name, dataset in zip(("train", "sealed"), data, strict=True):
        table = pd.DataFrame(dataset.x[dataset.rows], columns=list(dataset.feature_names))
        table.assign(y=dataset.y[dataset.rows]).to_parquet(folder / f"{name}.parquet")
    files = [str(folder / name) for name in ("train.parquet", "sealed.parquet", "models")]
    begun = time.monotonic()
    done = subprocess.run([python, "-c", AUTOGLUON, *files], check=True, capture_output=True, text=True)
    return {"seconds": time.monotonic() - begun} | json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Each tool on a market with a signal and on one without, and the table."""
    given = arguments(__doc__, rho="0.2,0", set="data.synthetic.n_tickers=8 data.synthetic.n_days=1250", autogluon="")
    results = []
    for rho in given.rho.split(","):
        assignments = [*given.set.split(), f"data.synthetic.rho={rho}"]
        experiment = load_experiment(None, assignments)
        window = longest_window(experiment.search_space)
        development = load_development(experiment.data, window, experiment.seed)
        data = development, load_sealed(experiment.data, window, development, experiment.seed)
        with tempfile.TemporaryDirectory() as name:
            place = Path(name)
            job = Job("plain loop", place / "optuna", experiment, TRIALS, EPOCHS, len(os.sched_getaffinity(0)))
            found = {"hyper": hyper(place / "hyper", assignments), "optuna, TPE 60 x 50": optuna_script(job)}
            if importlib.util.find_spec("ray"):
                found["ray tune, ASHA"] = ray_tune(experiment, place / "ray", data)
            if given.autogluon:
                found["autogluon"] = autogluon(given.autogluon, place / "autogluon", data)
        for contender, figures in found.items():
            figures["reported - sealed"] = figures["reported"] - figures["sealed"]
            results += [Result(f"rho {rho}: {contender}", metric, float(v), None, 1) for metric, v in figures.items()]
    show("What tools report, and what is left of it on sealed rows", results, given.json)


if __name__ == "__main__":
    main()
