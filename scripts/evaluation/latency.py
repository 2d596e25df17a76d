"""How long an answer takes: the model's own way from raw columns to probabilities, timed on judged rows."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from scripts.data.dataset import Dataset
from scripts.final_training.model import FinalModel

BATCH = 1024  # rows
_CALLS = {1: 200, BATCH: 50}
_LEAST_CALLS, _MOST_SECONDS = 20, 3.0


def measure_latency(model: FinalModel, dataset: Dataset) -> dict[str, Any]:
    """Median and 99 % quantile of the seconds of a call, for one row and for a batch; preprocessing included."""
    return {
        "one_row": _quantiles(model, dataset, 1),
        "batch": {"n_rows": BATCH} | _quantiles(model, dataset, BATCH),
    }


def measure_members(model: FinalModel, dataset: Dataset) -> list[float]:
    """Median seconds of each member alone for one row."""
    return [_quantiles(model.alone(k), dataset, 1)["p50_s"] for k in range(len(model.members))]


def _quantiles(model: FinalModel, dataset: Dataset, n_rows: int) -> dict[str, float]:
    window = model.window
    rows = np.resize(dataset.rows, n_rows)
    x = dataset.x[rows[:, None] + np.arange(1 - window, 1)].reshape(n_rows * window, -1)
    asked = np.arange(n_rows) * window + window - 1
    model.predict_raw(x, asked)  # the first call makes what later ones find made
    seconds: list[float] = []
    while len(seconds) < _CALLS[n_rows] and (len(seconds) < _LEAST_CALLS or sum(seconds) < _MOST_SECONDS):
        start = time.perf_counter()
        model.predict_raw(x, asked)
        seconds.append(time.perf_counter() - start)
    p50, p99 = np.quantile(seconds, [0.5, 0.99])
    return {"p50_s": float(p50), "p99_s": float(p99)}
