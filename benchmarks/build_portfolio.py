"""Builds the portfolio that searches start from: trains random configurations on generated data, chooses those that complement each other.

One command does all: what portfolio_results.csv does not hold yet is trained and added to it row by row, so that it goes
on where it was stopped; then scripts/tuning/portfolio.json is chosen from the table, and the benefit is measured on data
sets left out of the choice. With a complete table nothing is trained. Which data: see portfolio_data.py; none of the
markets or tables is a default, an example or part of another benchmark.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
import pandas as pd
import torch

from benchmarks.common import Result, show
from benchmarks.portfolio_data import MARKETS, TABLES, Market, Table
from scripts.artifacts import write_bytes
from scripts.data.dataset import Dataset, Split
from scripts.models.registry import WINDOW_FAMILIES
from scripts.random_keys import key
from scripts.search_space import Hyperparameters, Scalar, default_search_space
from scripts.training.run import TrainingRun
from scripts.training.spec import RunSpec
from scripts.tuning.stages import draw

RESULTS = ROOT / "benchmarks" / "portfolio_results.csv"
PORTFOLIO = ROOT / "scripts" / "tuning" / "portfolio.json"
CONFIGURATIONS = {"mlp": 40, "resnet": 40, "gru": 20, "tcn": 20}  # random ones of each family
EPOCHS = {"mlp": 20, "resnet": 20, "gru": 12, "tcn": 12}
SIZE = 8  # configurations of a portfolio
MOST_VALIDATED = 6000  # rows
LEAST_SPREAD = 0.01  # accuracy; about two standard errors of a score
_COLUMNS = ("family", "configuration", "data_set", "val_accuracy", "val_loss", "best_epoch", "epochs", "duration_s")


@dataclass(frozen=True)
class Loaded:
    """A data set with its split."""

    name: str
    dataset: Dataset
    split: Split


def candidate(family: str, number: int) -> dict[str, Scalar]:
    """Random configuration of the default search space, its numbers rounded to three digits."""
    values = draw(default_search_space() | {"family": family}, key("portfolio candidate", family), number)
    return {name: float(f"{v:.3g}") if isinstance(v, float) else v for name, v in values.items()}


def load(source: Market | Table, folder: Path) -> Loaded:
    """The data set with few rows to train on and many to validate on."""
    dataset = source.load(folder)
    train, validation = dataset.tail_split(1.0 - source.train_fraction, 0)
    every = -(-len(validation) // MOST_VALIDATED)
    return Loaded(source.name, dataset, (train, validation[::every]))


def train(family: str, number: int, data: Loaded) -> dict[str, object]:
    """One cell of the table of results; empty scores where the run failed."""
    spec = RunSpec(
        name="portfolio",
        address=(key("portfolio run"), family, number, data.name),
        hyperparameters=Hyperparameters(**candidate(family, number)),
        train_rows=data.split[0],
        validation_rows=data.split[1],
        epochs=EPOCHS[family],
        evaluation_frequency=4 if family in WINDOW_FAMILIES else 2,
        patience=8,
    )
    run, start = TrainingRun(spec, data.dataset), time.process_time()
    run.advance(spec.epochs)
    outcome = run.outcome
    if outcome is None:
        raise RuntimeError(f"{family} {number} on {data.name} has no outcome")
    rounded = [None if v is None else round(v, 5) for v in (outcome.val_accuracy, outcome.val_loss)]
    spent = (outcome.best_epoch, outcome.epochs, round(time.process_time() - start, 2))
    return dict(zip(_COLUMNS, (family, number, data.name, *rounded, *spent), strict=True))


def fill_table(path: Path) -> None:
    """Train what is missing in the table, all data sets of a configuration together, and say how far it is."""
    done: set[tuple[str, int, str]] = set()
    if path.exists():
        table = pd.read_csv(path)
        done = set(zip(table["family"], table["configuration"], table["data_set"], strict=True))
    sources = (*MARKETS, *TABLES)
    cells = [
        (family, number, source)
        for number in range(max(CONFIGURATIONS.values()))
        for family, count in CONFIGURATIONS.items()
        for source in sources
        if number < count and (source.windows or family not in WINDOW_FAMILIES)
    ]
    missing = [c for c in cells if (c[0], c[1], c[2].name) not in done]
    if not missing:
        return
    torch.set_num_threads(1)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, open(path, "a", newline="", encoding="utf-8") as file:
        loaded = {source.name: load(source, Path(folder)) for source in sources}
        writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
        if not done:
            writer.writeheader()
        for k, (family, number, source) in enumerate(missing, 1):
            row = train(family, number, loaded[source.name])
            writer.writerow(row)
            file.flush()
            said = f"{family:6} {number:2} {source.name:32} {row['val_accuracy']} in {row['duration_s']} s"
            print(f"{k}/{len(missing)}  {time.monotonic() - start:5.0f} s  {said}", flush=True)


# --- choice ---------------------------------------------------------------------------------------------------------


def regrets(table: pd.DataFrame) -> pd.DataFrame:
    """Normalised regret of each configuration (rows) on each data set (columns).

    0 is the best configuration of any family in the table on the data set, 1 the median one. Infinite where a
    configuration failed or was not trained, as families that read windows are not on tables.
    """
    scores = table.pivot_table(index=["family", "configuration"], columns="data_set", values="val_accuracy")
    best, median = scores.max(), scores.median()
    return ((best - scores) / (best - median).clip(lower=LEAST_SPREAD)).fillna(np.inf)


def choose(regret: np.ndarray, size: int = SIZE) -> list[int]:
    """Rows that complement each other, the most helpful first.

    Greedy: each next one lowers the mean over the columns of the lowest regret so far as much as any can.
    """
    reached = np.full(regret.shape[1], np.inf)
    chosen: list[int] = []
    while len(chosen) < min(size, len(regret)):
        means = np.minimum(regret, reached).mean(axis=1)
        means[chosen] = np.inf
        chosen.append(int(means.argmin()))
        reached = np.minimum(reached, regret[chosen[-1]])
    return chosen


def best_of_random(regret: np.ndarray, size: int) -> np.ndarray:
    """Expected lowest regret of `size` rows drawn without replacement, for each column."""
    n = len(regret)
    # The k-th lowest is the lowest drawn if the other size - 1 lie among the n - k above it.
    weights = np.array([comb(n - k, size - 1) / comb(n, size) for k in range(1, n + 1)])
    ordered = np.sort(regret, axis=0)
    return np.where(weights[:, None] > 0, ordered, 0.0).T @ weights


def held_out(regret: pd.DataFrame, size: int) -> np.ndarray:
    """Lowest regret of a portfolio on each data set, chosen on all others."""
    values = regret.to_numpy()
    columns = range(values.shape[1])
    return np.array([values[choose(np.delete(values, k, axis=1), size), k].min() for k in columns])


def main() -> None:
    """Train what is missing, choose, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    fill_table(RESULTS)


if __name__ == "__main__":
    main()
