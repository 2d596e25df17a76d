"""Milliseconds per training epoch: Hyper, a plain PyTorch loop and other tools, alternating, on one thread.

By default these are the MLP, a TabM of 32 heads and a GRU on windows of 20 rows, with 40 features, 3 classes, dropout
0.1, batches of 256 and AdamW; `contenders.JOBS` has the other settings. Contenders alternate epoch by epoch, so that
changes in the speed of the machine affect all of them. The final validation accuracy shows that each one really trains.
The plain loop follows a tutorial, with PyTorch's dropout. That of the GRU stores its windows, which multiplies the
memory by the window. Lightning and skorch join for the MLP if installed. scikit-learn's MLP has no dropout and uses
Adam's weight decay. The lower bound is the matrix products of the same epoch of the MLP alone.
Times of a population are those of an epoch of all its models, divided by their number. With bfloat16, Hyper's matrix
products use 16-bit numbers, which is faster on processors with such instructions and for wide networks. Explicit
backward passes in both precisions are also compared with autograd over seeds, to show equal accuracy.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import Result, arguments, show, summarised
from benchmarks.contenders import (
    CLASSES,
    FEATURES,
    JOBS,
    Contender,
    HyperPopulation,
    HyperRun,
    LightningFit,
    PlainLoop,
    Products,
    ScikitLearn,
    SkorchNet,
    hyper_run,
)
from scripts.data.dataset import Dataset
from scripts.training.engines.population import MAX_GROUP_SIZE

EXPLICIT = ("mlp", "resnet", "tabm")  # families whose backward pass is written out
FLOOR = "matrix products alone"
SEED_ROWS, SEED_EPOCHS = 20_000, 10  # of the comparison over seeds


def make_data(n: int = max(job.rows + job.validation for job in JOBS.values()), n_features: int = FEATURES) -> Dataset:
    """Three classes from a random two-layer network with noise."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((n, n_features), dtype=np.float32)
    hidden = np.maximum(x @ generator.standard_normal((n_features, 32), dtype=np.float32) / np.sqrt(n_features), 0)
    y = (hidden @ generator.standard_normal((32, CLASSES)) + 0.3 * generator.standard_normal((n, CLASSES))).argmax(1)
    row = np.arange(n)
    return Dataset(
        x=x,
        feature_names=tuple(f"f{k}" for k in range(n_features)),
        categorical=np.zeros(n_features, dtype=bool),
        vocabularies={},
        y=y,
        classes=("a", "b", "c"),
        date=row,
        dates=None,
        ticker=np.zeros(n, dtype=np.int64),
        tickers=("all",),
        feature_start=row,
        label_end=row,
        forward_return=np.full(n, np.nan),
        class_positions=None,
        naive={},
        rows=row,
        horizon=1,
        embargo=0,
        groups=False,
        ordered=True,
        fingerprint="",
        sealed_fingerprint="",
    )


def contenders(data: Dataset, family: str, device: str, epochs: int) -> Iterator[tuple[str, Contender]]:
    """Those that can train the family, the reference first."""
    yield "plain loop", PlainLoop(data, family, device)
    if family in EXPLICIT:
        yield "hyper, autograd", HyperRun(data, epochs, f"autograd_{family}", device)
    yield "hyper", HyperRun(data, epochs, family, device)
    yield "hyper, bfloat16", HyperRun(data, epochs, family, device, "bfloat16")
    if family in EXPLICIT and family != "tabm":  # a TabM always trains alone
        for n_models in (3, MAX_GROUP_SIZE[torch.device(device).type]):
            yield f"hyper, population of {n_models}", HyperPopulation(data, epochs, family, n_models, device)
    if family != "mlp" or device != "cpu":
        return
    for name, make in (("lightning", LightningFit), ("skorch", SkorchNet)):
        if importlib.util.find_spec(name):
            yield name, make(data, epochs)
        else:
            print(f"{name} is not installed and does not take part", file=sys.stderr)
    yield "scikit-learn, no dropout", ScikitLearn(data)
    yield FLOOR, Products()


def measured(data: Dataset, family: str, device: str, epochs: int) -> list[Result]:
    """Times and accuracies of all contenders; the first epoch warms up."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    found, results = dict(contenders(data, family, device, epochs + 1)), list[Result]()
    times: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(epochs + 1):
        for name, contender in found.items():
            start = clock()
            contender.epoch()
            n_models = contender.n_models if isinstance(contender, HyperPopulation) else 1
            times[name].append((clock() - start) * 1e3 / n_models)
    reference = next(iter(found))
    for name, contender in found.items():
        results.append(summarised(f"{family} {name}", "ms per epoch", times[name][1:]))
        for other, metric in ((reference, f"times the {reference}"), (FLOOR, "share of the floor")):
            if other in times:
                ratios = [a / b for a, b in zip(times[other][1:], times[name][1:], strict=True)]
                results.append(summarised(f"{family} {name}", metric, ratios))
        if (accuracy := contender.accuracy()) is not None:
            results.append(Result(f"{family} {name}", "validation accuracy", accuracy, None, 1))
    return results


def over_seeds(data: Dataset, family: str, device: str, seeds: int) -> list[Result]:
    """Mean validation accuracy over seeds, by autograd and explicit, and the differences with their standard errors."""
    ways = {
        "by autograd": (f"autograd_{family}", "float32"),
        "explicit": (family, "float32"),
        "explicit, bfloat16": (family, "bfloat16"),
    }
    accuracies: dict[str, list[float]] = {way: [] for way in ways}
    for seed, (way, (name, precision)) in itertools.product(range(seeds), ways.items()):
        run = hyper_run(data, SEED_EPOCHS, name, device, seed, SEED_ROWS, precision)
        report = run.advance(SEED_EPOCHS)
        accuracies[way].append(report.val_accuracy if report and report.val_accuracy is not None else np.nan)
    return less_the_first({f"{family} {way}": np.array(values) for way, values in accuracies.items()})


def less_the_first(accuracies: dict[str, np.ndarray]) -> list[Result]:
    """Means over seeds, and of the differences from the first contender, with their standard errors."""
    results, reference = [], next(iter(accuracies.values()))
    for name, values in accuracies.items():
        for metric, v in (("mean validation accuracy", values), ("less that by autograd", values - reference)):
            error = float(v.std(ddof=1) / len(v) ** 0.5)
            results.append(Result(name, metric, float(v.mean()), error, len(v)))
    return results


def main() -> None:
    """Measure and print."""
    given = arguments(__doc__, models="mlp,tabm,gru", device="cpu", epochs=9, seeds=10)
    torch.set_num_threads(1)
    data, results, compared = make_data(), list[Result](), list[Result]()
    with threadpool_limits(1):
        for family in given.models.split(","):
            results += measured(data, family, given.device, given.epochs)
            if family in EXPLICIT and given.seeds > 1:
                compared += over_seeds(data, family, given.device, given.seeds)
    title = "Training throughput, CPU time on one thread" if given.device == "cpu" else "Training throughput"
    show(title, results, given.json)
    if compared:
        rows = f"{given.seeds} seeds, {SEED_ROWS:,} rows, {SEED_EPOCHS} epochs"
        show(f"Validation accuracy, {rows}", compared, given.json and given.json.with_suffix(".seeds.json"))


if __name__ == "__main__":
    main()
