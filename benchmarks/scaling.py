"""Growth of time and memory with rows, features, tickers, days, trials and workers, with fitted exponents.

Each point is measured in its own process, on one thread. Memory is the peak resident size, with Python and libraries.
Rows and features: an epoch of an MLP after the first, with validation. Tickers: the embedded market of 500 days, from
its generation to features and labels. Days: features alone, of 5,000 tickers; the peak is reached while the market is
generated. Trials: all decisions of a search with rungs on made-up curves (`scheduler_cost.py`), without training.
Workers: concurrent processes that each train the same runs on the default market, one of each family; seconds are those
of the slowest and memory that of the largest. The exponent is the slope of log seconds by log size. For memory it is
that of the bytes above those of the smallest size.
`--most N` skips larger sizes, `--axes` selects axes.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import Result, arguments, show
from benchmarks.contenders import settings
from benchmarks.scheduler_cost import measure as drive_scheduler
from benchmarks.training_throughput import make_data
from scripts.config.experiment import DataConfig, SyntheticConfig
from scripts.config.search_space import Hyperparameters
from scripts.data.dataset import Dataset
from scripts.data.features import index_bars, market_features
from scripts.data.loading import load_development
from scripts.data.synthetic import generate
from scripts.training.run import TrainingRun
from scripts.training.spec import RunSpec

SIZES = {
    "rows": (10**4, 10**5, 10**6, 10**7),
    "features": (10, 30, 100, 300, 1000),
    "tickers": (10, 100, 1000, 5000),
    "days": (60, 500, 5000),
    "trials": (10, 100, 1000, 10_000),
}
_TICKER_DAYS, _FEATURE_ROWS, _EPOCHS = 500, 20_000, 3
_WINDOW = 10


def _train(data: Dataset, hyperparameters: Hyperparameters) -> float:
    """Median seconds of an epoch after the first."""
    cut = len(data.rows) * 4 // 5
    run = TrainingRun(RunSpec("run", (0,), hyperparameters, data.rows[:cut], data.rows[cut:], _EPOCHS + 1), data)
    run.advance(_EPOCHS + 1)
    return float(np.median([report.duration_s for report in run.history[1:]]))


def rows(size: int, n_features: int = 40) -> float:
    """An epoch on so many rows."""
    data = make_data(size, n_features)
    return _train(data, settings("mlp"))


def features(size: int) -> float:
    """An epoch on so many features."""
    return rows(_FEATURE_ROWS, size)


def tickers(size: int) -> float:
    """Making a market of so many tickers, its features and labels."""
    start = time.perf_counter()
    load_development(DataConfig(synthetic=SyntheticConfig(n_tickers=size, n_days=_TICKER_DAYS)), _WINDOW, 0)
    return time.perf_counter() - start


def days(size: int) -> float:
    """Features of 5,000 tickers on so many days."""
    frame = generate(SyntheticConfig(n_tickers=5000, n_days=size))[0]
    start = time.perf_counter()
    market_features(frame, index_bars(frame))
    return time.perf_counter() - start


def trials(size: int) -> float:
    """All decisions of a search of so many trials."""
    return next(figure.value for figure in reversed(drive_scheduler(size)) if figure.metric == "total_s")


def workers(size: int) -> float:
    """Runs of one process, of which `size` are at work."""
    data = load_development(DataConfig(), _WINDOW, 0)
    start = time.perf_counter()
    for family in ("mlp", "resnet", "tabm", "gru", "tcn", "transformer"):
        _train(data, Hyperparameters(family=family, width=64, window=5))
    return time.perf_counter() - start


AXES: dict[str, Callable[[int], float]] = {f.__name__: f for f in (rows, features, tickers, days, trials, workers)}


def _report(pipe: Connection, axis: str, size: int) -> None:
    torch.set_num_threads(1)
    seconds = AXES[axis](size)
    pipe.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def measured(axis: str, size: int) -> tuple[float, float]:
    """Seconds and peak bytes of a point; of workers the slowest and the largest."""
    context, running = multiprocessing.get_context("spawn"), []
    for _ in range(size if axis == "workers" else 1):
        ours, theirs = context.Pipe()
        process = context.Process(target=_report, args=(theirs, axis, size))
        process.start()
        theirs.close()
        running.append((process, ours))
    found = [pipe.recv() for _, pipe in running]
    for process, _ in running:
        process.join()
    seconds, peaks = zip(*found, strict=True)
    return max(seconds), max(peaks)


def exponent(sizes: Sequence[int], values: Sequence[float]) -> float:
    """Slope of log value by log size."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def of_axis(axis: str, sizes: Sequence[int]) -> list[Result]:
    """Figures of all points of an axis, and how they grow."""
    results, points = list[Result](), list[tuple[float, float]]()
    for size in sizes:
        points.append(measured(axis, size))
        results.append(Result(f"{axis} {size:,}", "seconds", points[-1][0], None, 1))
        results.append(Result(f"{axis} {size:,}", "peak memory, GB", points[-1][1] / 1e9, None, 1))
        print(f"{axis} {size:,}: {points[-1][0]:.3g} s, {points[-1][1] / 1e9:.3g} GB", file=sys.stderr)
    if len(sizes) > 1:
        seconds, peaks = zip(*points, strict=True)
        results.append(Result(f"{axis}, exponent", "seconds", exponent(sizes, seconds), None, len(sizes)))
        beyond = [(size, peak - peaks[0]) for size, peak in zip(sizes[1:], peaks[1:], strict=True)]
        if len(beyond) > 1 and all(grown > 0 for _, grown in beyond):
            grown = exponent(*zip(*beyond, strict=True))
            results.append(Result(f"{axis}, exponent", "peak memory, GB", grown, None, len(beyond)))
    return results


def main() -> None:
    """Measure and print."""
    n_cores = len(os.sched_getaffinity(0))
    given = arguments(__doc__, most=10**7, axes=",".join(AXES))
    fewer = itertools.takewhile(lambda n: n < n_cores, (2**k for k in itertools.count()))
    sizes = SIZES | {"workers": (*fewer, n_cores)}
    results = list[Result]()
    for axis in given.axes.split(","):
        results += of_axis(axis, [size for size in sizes[axis] if size <= given.most])
    show("How time and memory grow", results, given.json)


if __name__ == "__main__":
    main()
