"""Milliseconds per training epoch on a GPU: single or recorded steps, three precisions, populations of 1 to 512.

The jobs are those of `training_throughput.py`. The reference is the plain loop on the same GPU, one model after the
other. Hyper on one CPU thread of the same machine shows at which size a GPU is faster. Times are wall-clock times of
an epoch with its validation, divided by the number of models. The first epochs are excluded, because they warm up and
record. The busy share is the time of all kernels (PyTorch profiler) over the wall-clock time of the same epoch
without the profiler.
Over seeds, the validation accuracy of each precision is compared with autograd in float32 on the same GPU.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import Result, arguments, show, summarised
from benchmarks.contenders import Contender, HyperPopulation, HyperRun, PlainLoop, hyper_run
from benchmarks.training_throughput import EXPLICIT, SEED_EPOCHS, SEED_ROWS, less_the_first, make_data
from scripts.data.dataset import Dataset
from scripts.training.engines.cuda_graphs import CudaGraphStep

PRECISIONS = ("float32", "tf32", "bfloat16")
WARM_UP = 2  # epochs
USUAL, NEVER = CudaGraphStep.warm_up, 10**9  # calls after which a step is recorded


def measured(contender: Contender, epochs: int, n_models: int = 1) -> list[float]:
    """Milliseconds of an epoch and model."""
    times = []
    for _ in range(WARM_UP + epochs):
        start = time.perf_counter()
        contender.epoch()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) * 1e3 / n_models)
    return times[WARM_UP:]


def busy_s(contender: Contender) -> float:
    """Seconds that the GPU spends in kernels and copies in an epoch."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
        contender.epoch()
        torch.cuda.synchronize()
    return sum(event.self_device_time_total for event in profiler.key_averages()) / 1e6


def variants(data: Dataset, family: str, epochs: int, populations: list[int]) -> Iterator[tuple[str, int, Contender]]:
    """Name, number of models, contender; each is made when its turn comes, and leaves its memory to the next."""
    total = WARM_UP + epochs + 1  # and one for the profiler
    numbers = populations if family in ("mlp", "resnet") else [1]
    eager = [("eager", "float32", n) for n in numbers if n <= 64]  # with more, kernels take longer than their launches
    for mode, precision, n_models in [*eager, *itertools.product(["recorded"], PRECISIONS, numbers)]:
        CudaGraphStep.warm_up = NEVER if mode == "eager" else USUAL
        name = f"{family} {mode}, {precision}, {n_models}"
        yield name, n_models, HyperPopulation(data, total, family, n_models, "cuda", precision)


def compared(data: Dataset, family: str, epochs: int, populations: list[int]) -> list[Result]:
    """Times of all variants, how many times the plain loop each is, busy shares, and accuracies."""
    results = []
    plain, on_cpu = PlainLoop(data, family, "cuda"), HyperRun(data, epochs + WARM_UP, family, "cpu")
    references = {f"{family} plain loop": plain, f"{family} hyper on one CPU thread": on_cpu}
    times = {name: measured(contender, epochs) for name, contender in references.items()}
    for name, contender in references.items():
        results.append(summarised(name, "ms per epoch", times[name]))
        results.append(Result(name, "validation accuracy", contender.accuracy() or 0.0, None, 1))
    reference = float(np.median(times[f"{family} plain loop"]))
    for name, n_models, contender in variants(data, family, epochs, populations):
        own = measured(contender, epochs, n_models)
        results.append(summarised(name, "ms per epoch", own))
        results.append(summarised(name, "times the plain loop", [reference / t for t in own]))
        share = busy_s(contender) / (np.median(own) * n_models / 1e3)
        results.append(Result(name, "busy share", float(share), None, 1))
        results.append(Result(name, "validation accuracy", contender.accuracy() or 0.0, None, 1))
        results.append(Result(name, "GB", torch.cuda.max_memory_allocated() / 2**30, None, 1))
        torch.cuda.reset_peak_memory_stats()
        print(*(f"{r.metric} {r.value:.4g}" for r in results[-5:]), name, sep="; ", file=sys.stderr, flush=True)
    CudaGraphStep.warm_up = USUAL
    return results


def over_seeds(data: Dataset, family: str, seeds: int) -> list[Result]:
    """Mean validation accuracy over seeds by precision, and its difference from autograd with its standard error."""
    reference = []
    for seed in range(seeds):
        report = hyper_run(data, SEED_EPOCHS, f"autograd_{family}", "cuda", seed, SEED_ROWS).advance(SEED_EPOCHS)
        reference.append(report.val_accuracy if report and report.val_accuracy is not None else np.nan)
    columns = {f"{family}, autograd": np.array(reference)}
    for precision in PRECISIONS:
        together = HyperPopulation(data, SEED_EPOCHS, family, seeds, "cuda", precision, SEED_ROWS)
        for _ in range(SEED_EPOCHS):
            together.epoch()
        columns[f"{family}, {precision}"] = np.array([run.history[-1].val_accuracy for run in together.population.runs])
    return less_the_first(columns)


def main() -> None:
    """Measure and print."""
    families, populations = "mlp,tabm,gru,tcn,transformer", "1,8,64,512"
    given = arguments(__doc__, models=families, populations=populations, epochs=3, seeds=10)
    torch.set_num_threads(1)
    data, results, accuracies = make_data(), list[Result](), list[Result]()
    for family in given.models.split(","):
        results += compared(data, family, given.epochs, [int(n) for n in given.populations.split(",")])
        if family in EXPLICIT and given.seeds > 1:
            accuracies += over_seeds(data, family, given.seeds)
    show("Training on a GPU", results, given.json)
    if accuracies:
        rows = f"{given.seeds} seeds, {SEED_ROWS:,} rows, {SEED_EPOCHS} epochs"
        show(f"Validation accuracy, {rows}", accuracies, given.json and given.json.with_suffix(".seeds.json"))


if __name__ == "__main__":
    main()
