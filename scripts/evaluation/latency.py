"""Inference latency from raw columns to probabilities, measured on test rows."""

from __future__ import annotations

import time

import numpy as np

from scripts.data.dataset import Dataset
from scripts.final_training.model import FinalModel
from scripts.storage.evaluation_record import Call, CostedEnsemble, CostedMember, Latency

BATCH = 1024  # rows
_CALLS = {1: 200, BATCH: 50}
_MIN_CALLS, _MAX_SECONDS = 20, 3.0


def measure_latency(model: FinalModel, dataset: Dataset) -> Latency:
    """Median and 99 % quantile of the seconds of a call, for one row and for a batch; preprocessing included."""
    (one, rare), (batch, rare_batch) = (_quantiles(model, dataset, n_rows) for n_rows in (1, BATCH))
    return Latency(one_row=Call(p50_s=one, p99_s=rare), batch=Call(n_rows=BATCH, p50_s=batch, p99_s=rare_batch))


def costed_ensemble(model: FinalModel, dataset: Dataset, latency: Latency) -> CostedEnsemble | None:
    """Return the selection of an ensemble with the cost of each member; None for a single configuration."""
    if (ensemble := model.content.selection.ensemble) is None:
        return None
    seconds = [_quantiles(model.alone(k), dataset, 1)[0] for k in range(len(model.members))]
    members = [
        CostedMember(**dict(member), epochs_spent=kept.epochs_spent, n_parameters=n, one_row_p50_s=median)
        for member, kept, n, median in zip(
            ensemble.members, model.content.members, model.n_parameters, seconds, strict=True
        )
    ]
    return CostedEnsemble(**dict(ensemble) | {"members": members}, one_row_p50_s=latency.one_row.p50_s)


def _quantiles(model: FinalModel, dataset: Dataset, n_rows: int) -> tuple[float, float]:
    window = model.window
    rows = np.resize(dataset.rows, n_rows)
    x = dataset.x[rows[:, None] + np.arange(1 - window, 1)].reshape(n_rows * window, -1)
    asked = np.arange(n_rows) * window + window - 1
    model.predict_raw(x, asked)  # the first call makes what later ones find made
    seconds: list[float] = []
    while len(seconds) < _CALLS[n_rows] and (len(seconds) < _MIN_CALLS or sum(seconds) < _MAX_SECONDS):
        start = time.perf_counter()
        model.predict_raw(x, asked)
        seconds.append(time.perf_counter() - start)
    p50, p99 = np.quantile(seconds, [0.5, 0.99])
    return float(p50), float(p99)
