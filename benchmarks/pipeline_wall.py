"""Seconds from data to model: the default phases 1 to 3, compared with 60 full trials of 50 epochs by Optuna.

All search the default space on the embedded market, on all cores. The opponents are TPE over a plain PyTorch loop and
over Lightning's Trainer (optional: `pip install lightning`). Both run in parallel processes on one storage, as in
Optuna's documentation. Every contender's model is evaluated on the same sealed rows.

With `--trials` below 60 or `--epochs` below 50 an opponent runs a share of its job. The time after its start-up is then
extrapolated to the whole job and shown in a separate column. A trial must be long compared with the imports of its
process, and the accuracy is that of the share. So the results of `--trials 2 --epochs 2` are meaningless. Hyper always
runs its whole job.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.common import EVALUATION, PHASES, Result, arguments, run_commands, show
from benchmarks.pipeline_opponents import Job, sealed_accuracy, search
from scripts.config.experiment import Experiment
from scripts.config.yaml_files import load_experiment

TRIALS, EPOCHS = 60, 50
MEASURED, WHOLE = "seconds", f"seconds for {TRIALS} x {EPOCHS}, extrapolated"
ACCURACY, RATIO = "sealed accuracy", "times hyper's seconds"


def hyper(folder: Path, flags: list[str], workers: int) -> tuple[float, float]:
    """Seconds of the three phases, each started from scratch, and the accuracy on the sealed rows."""
    flags = ["--workers", str(workers), *flags]
    start = time.monotonic()
    run_commands(PHASES, folder, *flags)
    seconds = time.monotonic() - start
    run_commands([EVALUATION], folder, *flags)
    results = json.loads((folder / "evaluation" / "evaluation_results.json").read_text())
    return seconds, float(results["accuracy"])


def opponent(job: Job, hyper_s: float) -> list[Result]:
    """Seconds and accuracy of an opponent; a share of the job is measured and extrapolated."""
    start, began = time.monotonic(), datetime.now()
    search(job)
    seconds = time.monotonic() - start
    accuracy, n_done, first_trial = sealed_accuracy(job)
    start_up = (first_trial - began).total_seconds()
    whole = start_up + (seconds - start_up) * TRIALS * EPOCHS / (n_done * job.epochs)
    name = f"{job.contender}, TPE {n_done} x {job.epochs}"
    found = {MEASURED: seconds, ACCURACY: accuracy, RATIO: whole / hyper_s}
    if (n_done, job.epochs) != (TRIALS, EPOCHS):
        found[WHOLE] = whole
    return [Result(name, metric, value, None, 1) for metric, value in found.items()]


def contenders() -> list[str]:
    """Opponents that can take part."""
    if importlib.util.find_spec("lightning"):
        return ["plain loop", "lightning"]
    print("lightning is not installed and does not take part; pip install lightning", file=sys.stderr)
    return ["plain loop"]


def main() -> None:
    """Run Hyper, then each opponent, and print the table."""
    given = arguments(__doc__, trials=TRIALS, epochs=EPOCHS, workers=0, set="", contenders="")
    workers = given.workers or len(os.sched_getaffinity(0))
    assignments = given.set.split() if given.set else []
    experiment: Experiment = load_experiment(None, assignments)
    chosen = given.contenders.split(",") if given.contenders else contenders()
    with tempfile.TemporaryDirectory() as name:
        flags = [part for assignment in assignments for part in ("--set", assignment)]
        seconds, accuracy = hyper(Path(name) / "hyper", flags, workers)
        results = [Result("hyper, phases 1 to 3", MEASURED, seconds, None, 1)]
        results += [Result(results[0].contender, m, v, None, 1) for m, v in ((ACCURACY, accuracy), (RATIO, 1.0))]
        for contender in chosen:
            folder = Path(name) / contender.replace(" ", "_")
            results += opponent(Job(contender, folder, experiment, given.trials, given.epochs, workers), seconds)
    show(f"From data to model on {workers} cores, wall time", results, given.json)


if __name__ == "__main__":
    main()
