"""Recomputation of the figures of a finished run from its artifacts and raw data, without scripts/statistics."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from statistics import NormalDist, fmean, stdev
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from sklearn.metrics import balanced_accuracy_score, log_loss, matthews_corrcoef, roc_auc_score

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import Result, machine
from benchmarks.recompute_returns import market_returns, table_returns
from scripts.config.experiment import DataConfig

TOLERANCE = 1e-9
ECE_BINS = 15
PBO_BLOCKS = 16
MIN_TRIALS = 10


@dataclass(frozen=True)
class Figure:
    """A figure of the run as it was reported and as it was computed again, and the rows or dates it was made of."""

    name: str
    reported: float
    recomputed: float
    n: int

    @property
    def agrees(self) -> bool:
        """Return whether both are equal up to rounding, relative to the larger one if that is above 1."""
        return abs(self.reported - self.recomputed) <= TOLERANCE * max(1.0, abs(self.reported))


@dataclass(frozen=True)
class Run:
    """A finished run: its JSON artifacts, tables and configuration."""

    folder: Path
    evaluation: Mapping[str, Any]
    extended: Mapping[str, Any]
    credibility: Mapping[str, Any]
    trials: Mapping[str, Any]
    data: DataConfig
    predictions: pd.DataFrame
    out_of_fold: pd.DataFrame
    validation: pd.DataFrame

    @property
    def probabilities(self) -> np.ndarray:
        """Probabilities of the sealed rows, shape (n_rows, n_classes)."""
        return self.predictions.filter(regex="^probability_").to_numpy(np.float64)

    @property
    def labels(self) -> np.ndarray:
        """Classes of the sealed rows as positions among the probability columns."""
        classes = [str(name).removeprefix("probability_") for name in self.predictions.filter(regex="^probability_")]
        return np.array([classes.index(label) for label in self.predictions["label"]])


def read_run(folder: Path) -> Run:
    """Read the artifacts of a finished run."""
    parts = {
        "evaluation": "evaluation/evaluation_results.json",
        "extended": "extended_training_results/extended_training_results.json",
        "credibility": "analysis/credibility.json",
        "trials": "hyperparameter_tuning_results/trials.json",
    }
    best = json.loads((folder / "best_config.json").read_text())
    text = {"label": str, "predicted": str, "ticker": str, "group": str}
    return Run(
        folder=folder,
        data=DataConfig.model_validate(best["experiment"]["data"]),
        predictions=pd.read_csv(
            folder / "evaluation/predictions.csv", dtype=text, keep_default_na=False, na_values=[""]
        ),
        out_of_fold=pd.read_parquet(folder / "extended_training_results/out_of_fold_predictions.parquet"),
        validation=pd.read_parquet(folder / "hyperparameter_tuning_results/validation_by_date.parquet"),
        **{name: json.loads((folder / path).read_text()) for name, path in parts.items()},
    )


def recompute(run: Run) -> list[Figure]:
    """Compute all figures again."""
    figures = [*classification(run), *cross_validation(run), *search(run)]
    if run.evaluation["returns"] is not None:
        figures += returns(run)
    return figures


def classification(run: Run) -> Iterator[Figure]:
    """Yield figures of the answers and probabilities on the sealed rows."""
    reported, p, y = run.evaluation, run.probabilities, run.labels
    answer, n = p.argmax(axis=1), len(y)
    constant = max(np.bincount(y)) / n
    best_naive = max(constant, *reported["naive"].values())
    several = {"multi_class": "ovr"} if p.shape[1] > 2 else {}
    found = {
        "accuracy": fmean(answer == y),
        "naive.best_constant": constant,
        "skill": fmean(answer == y) - best_naive,
        "auc": roc_auc_score(y, p if several else p[:, 1], **several) if len(set(y)) == p.shape[1] else None,
        "log_loss": log_loss(y, p, labels=range(p.shape[1])),
        "brier": fmean(sum((q - (k == true)) ** 2 for k, q in enumerate(row)) for row, true in zip(p, y, strict=True)),
        "ece": calibration_error(p.max(axis=1), answer == y),
        "balanced_accuracy": balanced_accuracy_score(y, answer),
        "mcc": matthews_corrcoef(y, answer),
    }
    for name, value in found.items():
        if (said := at(reported, name)) is not None and value is not None:
            yield Figure(name, said, float(value), n)
    for ticker, own in reported["by_group"].items():
        rows = (run.predictions.iloc[:, 1] == ticker).to_numpy()
        yield Figure(f"by_group.{ticker}.accuracy", own["accuracy"], fmean((answer == y)[rows]), int(rows.sum()))


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Return the expected calibration error of the largest probability, in 15 bins of equal width."""
    gaps = [0.0] * ECE_BINS
    for sure, hit in zip(confidence, right, strict=True):
        gaps[min(int(sure * ECE_BINS), ECE_BINS - 1)] += float(sure) - float(hit)
    return sum(map(abs, gaps)) / len(right)


def cross_validation(run: Run) -> Iterator[Figure]:
    """Yield averages and spreads of the configurations of phase 2, from the out-of-fold probabilities."""
    frame = run.out_of_fold
    p = frame.filter(regex="^probability_").to_numpy(np.float64)
    hits = frame[["trial_number", "fold", "seed"]].assign(hit=p.argmax(axis=1) == frame["label"].to_numpy())
    for own in run.extended["configurations"]:
        name, mine = f"trial_{own['trial_number']}", hits[hits["trial_number"] == own["trial_number"]]
        networks = mine.groupby(["fold", "seed"])["hit"].mean()
        folds = networks.groupby("fold").mean().tolist()
        for fold, value in zip(own["folds"], folds, strict=True):
            yield Figure(f"{name}.folds.{fold['fold']}.accuracy", fold["accuracy"], value, len(mine))
        yield Figure(f"{name}.avg_accuracy", own["avg_accuracy"], fmean(folds), len(folds))
        for average, part in (("avg_val_loss", "val_loss"), ("avg_simulated_return", "simulated_return")):
            if own[average] is not None:
                yield Figure(f"{name}.{average}", own[average], fmean(f[part] for f in own["folds"]), len(folds))
        if len(networks) == len(folds) > 1:
            yield Figure(f"{name}.std_accuracy", own["std_accuracy"], stdev(folds), len(folds))


def search(run: Run) -> Iterator[Figure]:
    """Yield the probability of backtest overfitting and the deflated Sharpe ratio of phase 1."""
    reported = run.credibility["search"]
    if reported is None:
        return
    hits = run.validation.pivot(index="date", columns="trial", values="hits")
    rivals = comparable(hits, run.trials)
    yield Figure("search.n_comparable", reported["n_comparable"], len(rivals), hits.shape[1])
    yield Figure("search.pbo", reported["pbo"], overfitting(hits[rivals].to_numpy()), len(rivals))
    net = run.validation.pivot(index="date", columns="trial", values="net_return").dropna()
    if reported["deflated_sharpe"] is not None:
        yield Figure("search.deflated_sharpe", reported["deflated_sharpe"], deflated_sharpe(net), net.shape[1])


def comparable(hits: pd.DataFrame, trials: Mapping[str, Any]) -> list[int]:
    """Return the trials that were trained as far as the one with most hits, at least ten of them."""
    known = {trial["number"]: trial for trial in trials["trials"]}
    numbers = [int(number) for number in hits.columns]
    winner = max(numbers, key=lambda number: hits[number].sum())
    reached = [rung for rung in trials.get("rungs") or () if rung <= known[winner]["epochs"]]
    for rung in sorted(reached, reverse=True):
        far = [n for n in numbers if known[n]["epochs"] >= rung or known[n]["state"] == "stopped"]
        if len(far) >= MIN_TRIALS:
            return far
    return numbers


def overfitting(hits: np.ndarray) -> float:
    """Return the probability of backtest overfitting (Bailey and others 2017), by exact counts of hits in 16 blocks."""
    blocks = [block.sum(axis=0).astype(int) for block in np.array_split(hits, PBO_BLOCKS)]
    everything, shares = sum(blocks), []
    for inside in combinations(range(PBO_BLOCKS), PBO_BLOCKS // 2):
        chosen_on = sum(blocks[k] for k in inside)
        outside = everything - chosen_on
        order = np.sort(outside)
        best = outside[chosen_on == chosen_on.max()]
        # Twice the average rank less the number of trials and one: below 0 is below the median.
        place = np.searchsorted(order, best, "left") + np.searchsorted(order, best, "right") - len(order)
        shares.append(fmean(1.0 if one < 0 else 0.5 if one == 0 else 0.0 for one in place))
    return fmean(shares)


def deflated_sharpe(net: pd.DataFrame) -> float:
    """Return the deflated Sharpe ratio of the trial with the highest one (Bailey and Lopez de Prado 2014)."""
    varying = net.loc[:, net.nunique() > 1]
    ratios = varying.mean() / varying.std()
    best = varying[ratios.idxmax()]
    correlations = varying.corr().to_numpy()
    mean_correlation = fmean(correlations[a, b] for a, b in combinations(range(varying.shape[1]), 2))
    trials = max(1.0, mean_correlation + (1 - mean_correlation) * varying.shape[1])
    normal, weight = NormalDist(), float(np.euler_gamma)
    by_luck = 0.0
    if trials > 1.0:
        by_luck = (1 - weight) * normal.inv_cdf(1 - 1 / trials) + weight * normal.inv_cdf(1 - 1 / (trials * math.e))
    z = (best - best.mean()) / best.std(ddof=0)
    ratio, skew, kurtosis = float(ratios.max()), float((z**3).mean()), float((z**4).mean())
    error = math.sqrt((1 - skew * ratio + (kurtosis - 1) / 4 * ratio**2) / (len(best) - 1))
    return normal.cdf((ratio - max(0.0, by_luck * ratios.std())) / error)


def at(content: Any, name: str) -> Any:
    """Return a nested value by its dotted name."""
    for part in name.split("."):
        content = content[part]
    return content


def returns(run: Run) -> Iterator[Figure]:
    """Yield figures of the simulated returns that the run reports too."""
    reported = run.evaluation["returns"]
    books = table_returns if run.data.source == "table" else market_returns
    for name, value, n in books(run.folder, run.data, reported, run.predictions):
        said = {"by_cost.0": reported["by_cost"][0]["net"]} if name == "by_cost.0" else None
        yield Figure(f"returns.{name}", said["by_cost.0"] if said else at(reported, name), value, n)


def main() -> int:
    """Print every figure as reported and as computed again; return 1 if any two differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run-dir", type=Path, required=True, metavar="DIR", help="a finished run")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    given = parser.parse_args()
    figures = recompute(read_run(given.run_dir))
    table = Table(title=f"Figures of {given.run_dir}", caption=machine(), title_justify="left", caption_justify="left")
    for column in ("figure", "reported", "recomputed", "difference", "n"):
        table.add_column(column, justify="left" if column == "figure" else "right")
    for one in figures:
        difference = f"{one.recomputed - one.reported:.1e}" + ("" if one.agrees else "  DIFFERS")
        table.add_row(one.name, f"{one.reported:.12g}", f"{one.recomputed:.12g}", difference, str(one.n))
    Console(width=140).print(table)
    if given.json is not None:
        results = [
            Result(one.name, metric, value, None, one.n)
            for one in figures
            for metric, value in (("reported", one.reported), ("recomputed", one.recomputed))
        ]
        given.json.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")
    wrong = [one.name for one in figures if not one.agrees]
    print(f"{len(figures)} figures, {len(wrong)} differ by more than {TOLERANCE:g}: {', '.join(wrong) or 'none'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
