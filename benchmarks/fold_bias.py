"""Bias of cross-validated accuracy compared with sealed accuracy, with and without training on later dates."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import Result, arguments, show
from scripts.config.experiment import DataConfig, SyntheticConfig
from scripts.data.dataset import Dataset, FoldKind
from scripts.data.loading import load_development, load_sealed

N_TICKERS, N_DAYS, N_FOLDS = 8, 1_200, 3
KINDS: tuple[FoldKind, ...] = ("kfold", "walk_forward")
# Label, its horizon, and the day on which the relation of features and label changes its sign.
DESIGNS = {
    "next day": ("next_direction", 1, None),
    "10 days": ("k_bar_direction", 10, None),
    "volatility": ("volatility_regime", 1, None),
    "next day, sign changes at day 500": ("next_direction", 1, 500),
    "next day, sign changes at day 800": ("next_direction", 1, 800),
}


def hits(dataset: Dataset, train: np.ndarray, tested: Dataset, test: np.ndarray) -> np.ndarray:
    """Right answers, bool of shape (n_tested,), of small boosted trees."""
    model = HistGradientBoostingClassifier(max_iter=40, learning_rate=0.1, max_leaf_nodes=8, random_state=0)
    model.fit(dataset.x[train], dataset.y[train])
    return np.asarray(model.predict(tested.x[test]) == tested.y[test])


def biases(config: DataConfig) -> dict[str, float]:
    """Accuracy out of fold less that of the final model on the sealed rows, in percentage points, by kind of folds."""
    development = load_development(config, 1, 0)
    sealed = load_sealed(config, 1, development, 0)
    truth = hits(development, development.rows, sealed, sealed.rows).mean()
    found = {}
    for kind in KINDS:
        folds = development.folds(kind, N_FOLDS, 0)
        estimate = np.concatenate([hits(development, train, development, test) for train, test in folds]).mean()
        found[kind] = 100 * float(estimate - truth)
    return found | {"kfold less walk_forward": found["kfold"] - found["walk_forward"]}


def main() -> None:
    """Make markets and print."""
    given = arguments(__doc__, markets=10)
    results: list[Result] = []
    for name, (label, horizon, switch) in DESIGNS.items():
        found = []
        for seed in range(given.markets):
            market = SyntheticConfig(n_tickers=N_TICKERS, n_days=N_DAYS, seed=1_000 + seed, rho=0.25, switch=switch)
            found.append(biases(DataConfig(synthetic=market, label=label, horizon=horizon)))
        for kind in found[0]:
            own = np.array([one[kind] for one in found])
            results.append(Result(name, kind, float(own.mean()), float(own.std(ddof=1) / len(own) ** 0.5), len(own)))
    show("Bias of accuracy out of fold in percentage points", results, given.json)


if __name__ == "__main__":
    main()
