"""Choice of the portfolio that searches start from, among random configurations trained on generated data.

Configurations that are missing in portfolio_results.csv are trained and added row by row. Rerun the same command to
resume; with a complete table nothing is trained. Then scripts/tuning/portfolio.json is chosen from the table, and the
benefit is measured on data sets excluded from the choice. The data are described in portfolio_data.py. None of the
markets or tables is a default, an example or part of another benchmark.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
import pandas as pd
import torch

from benchmarks.common import Result, show
from benchmarks.portfolio_data import MARKETS, TABLES, Market, Table
from scripts.config.search_space import Hyperparameters, Scalar, default_search_space
from scripts.data.dataset import Dataset, Split
from scripts.random_keys import key
from scripts.storage.durable_files import write_bytes
from scripts.training.models.registry import WINDOW_FAMILIES
from scripts.training.run import TrainingRun
from scripts.training.spec import RunSpec
from scripts.tuning.portfolio import PATH as PORTFOLIO
from scripts.tuning.portfolio import SIZE, Portfolio
from scripts.tuning.stages import draw

RESULTS = ROOT / "benchmarks" / "portfolio_results.csv"
CONFIGURATIONS = {"mlp": 28, "resnet": 28, "gru": 16, "tcn": 16}  # random ones of each family
EPOCHS = {"mlp": 20, "resnet": 20, "gru": 12, "tcn": 12}
TRIALS = (1, 2, 4, 8)  # after so many the benefit is measured
MAX_VALIDATED = 6000  # rows
MIN_SPREAD = 0.01  # accuracy; about two standard errors of a score
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
    every = -(-len(validation) // MAX_VALIDATED)
    return Loaded(source.name, dataset, (train, validation[::every]))


def train(family: str, number: int, data: Loaded) -> dict[str, object]:
    """One cell of the table of results; empty scores where the run failed."""
    spec = RunSpec(
        name="portfolio",
        random_key=(key("portfolio run"), family, number, data.name),
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
    """Train what is missing in the table, all data sets of a configuration as a group, and print the progress."""
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
            line = f"{family:6} {number:2} {source.name:32} {row['val_accuracy']} in {row['duration_s']} s"
            print(f"{k}/{len(missing)}  {time.monotonic() - start:5.0f} s  {line}", flush=True)


# --- choice ---------------------------------------------------------------------------------------------------------


def read_table(path: Path) -> pd.DataFrame:
    """The table of results; a failed run has accuracy 0."""
    return pd.read_csv(path).fillna({"val_accuracy": 0.0})


def regrets(table: pd.DataFrame) -> pd.DataFrame:
    """Normalised regret of each configuration (rows: family, number) on each data set (columns).

    0 is the best configuration of the table on the data set, 1 the median one; NaN where it was not trained.
    """
    scores = table.pivot(index=["family", "configuration"], columns="data_set", values="val_accuracy")
    best, median = scores.max(), scores.median()
    return (best - scores) / (best - median).clip(lower=MIN_SPREAD)


def choose(regret: pd.DataFrame) -> list[dict[str, Scalar]]:
    """Configurations that complement each other, the most helpful first, by family and number.

    Greedy: each next one lowers the mean over the data sets of the lowest regret so far as much as any can.
    """
    values = regret.fillna(np.inf).to_numpy()
    reached = np.full(values.shape[1], np.inf)
    chosen: list[int] = []
    while len(chosen) < min(SIZE, len(values)):
        means = np.minimum(values, reached).mean(axis=1)
        means[chosen] = np.inf
        chosen.append(int(means.argmin()))
        reached = np.minimum(reached, values[chosen[-1]])
    return [{"family": family, "number": number} for family, number in regret.index[chosen]]


def chosen_from(table: pd.DataFrame) -> Portfolio:
    """The portfolio of a table of results, each configuration by family and number."""
    by_family = {family: choose(regrets(table[table["family"] == family])) for family in CONFIGURATIONS}
    return Portfolio(choose(regrets(table)), by_family)


def write_portfolio(chosen: Portfolio, path: Path) -> None:
    """Write the chosen configurations, one a line."""

    def lines(members: Sequence[dict[str, Scalar]]) -> str:
        values = [candidate(str(m["family"]), int(m["number"])) for m in members]
        return "[\n" + ",\n".join(f"  {json.dumps(v)}" for v in values) + "\n ]"

    families = ",\n".join(f' "{family}": {lines(own)}' for family, own in chosen.by_family.items())
    text = f'{{"joint": {lines(chosen.joint)},\n"by_family": {{\n{families}\n}}}}\n'
    write_bytes(path, text.encode())


# --- proof ----------------------------------------------------------------------------------------------------------


def expected_lowest(values: np.ndarray, size: int) -> float:
    """Expected lowest of `size` values drawn without replacement."""
    n = len(values)
    # The k-th lowest is the lowest drawn if the other size - 1 are among the n - k above it.
    weights = [comb(n - k, size - 1) / comb(n, size) for k in range(1, n + 1)]
    return float(np.sort(values) @ weights)


def left_out(table: pd.DataFrame, families: Sequence[str]) -> list[tuple[float, ...]]:
    """For each data set, lowest regret of the portfolio chosen on all others and of random configurations.

    One tuple a data set: portfolio after each number of `TRIALS`, then random configurations likewise. Only families
    that were trained on a data set take part in it.
    """
    own = table[table["family"].isin(families)]
    rows = []
    for name, regret in regrets(own).items():
        here = regret.dropna()
        portfolio = chosen_from(table[table["data_set"] != name]).ordered(set(here.index.get_level_values("family")))
        reached = [here.get((m["family"], m["number"]), np.nan) for m in portfolio]
        by_portfolio = [float(min(reached[:size])) for size in TRIALS]
        rows.append((*by_portfolio, *(expected_lowest(here.to_numpy(), size) for size in TRIALS)))
    return rows


def measured(table: pd.DataFrame) -> list[Result]:
    """Mean regret over data sets that were left out of the choice, with its standard error."""
    results = []
    for name, families in {"all families": tuple(CONFIGURATIONS), **{f: (f,) for f in CONFIGURATIONS}}.items():
        rows = np.array(left_out(table, families))
        errors = rows.std(axis=0, ddof=1) / np.sqrt(len(rows))
        for k, contender in enumerate(("portfolio", "random")):
            for place, size in enumerate(TRIALS, k * len(TRIALS)):
                metric, value = f"regret@{size} trials", rows[:, place].mean()
                results.append(Result(f"{name}, {contender}", metric, float(value), float(errors[place]), len(rows)))
    return results


def main() -> None:
    """Train what is missing, choose, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    fill_table(RESULTS)
    table = read_table(RESULTS)
    write_portfolio(chosen_from(table), PORTFOLIO)
    n_sets = table["data_set"].nunique()
    show(f"{n_sets} generated data sets, each left out of the choice in turn", measured(table), given.json)


if __name__ == "__main__":
    main()
