"""Seconds to compute the intervals of five statistics on a million rows."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import Result, arguments, show
from scripts.statistics.intervals import Interval, mean_intervals
from scripts.statistics.metrics import auc_by_row, log_losses

ROWS_PER_DATE = {"200 tickers x 5,000 dates": 200, "1 ticker x 1,000,000 bars": 1, "rows without dates": 0}


def intervals(rows: int, per_date: int) -> dict[str, Interval]:
    """Accuracy, skill over a constant, log loss, Brier score and AUC of simulated predictions with their intervals."""
    generator = np.random.default_rng(0)
    y = generator.integers(2, size=rows)
    up = np.clip(0.5 + 0.05 * (2 * y - 1) + 0.1 * generator.standard_normal(rows), 0.01, 0.99)
    probabilities = np.column_stack([1 - up, up])
    hits = (probabilities.argmax(axis=1) == y).astype(float)
    values = {
        "accuracy": hits,
        "skill": hits - (y == 1),
        "log loss": log_losses(y, probabilities),
        "brier": 2 * (up - y) ** 2,
        "auc": auc_by_row(y, probabilities),
    }
    date = np.arange(rows) // per_date if per_date else None
    return mean_intervals({name: v for name, v in values.items() if v is not None}, date, 1)


def main() -> None:
    """Measure and print."""
    given = arguments(__doc__, rows=1_000_000)
    results = []
    for name, per_date in ROWS_PER_DATE.items():
        start = time.process_time()
        found = intervals(given.rows, per_date)
        results.append(Result(name, "seconds", time.process_time() - start, None, 1))
        results += [Result(name, f"s.e. of {metric}", interval.se, None, 1) for metric, interval in found.items()]
    show(f"Intervals of five statistics on {given.rows} rows, CPU time", results, given.json)


if __name__ == "__main__":
    main()
