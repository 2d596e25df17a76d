"""Generated markets and tables on which the portfolio is chosen; no test or benchmark uses them.

Seeds of markets start at 730,000; the embedded market has seed 7, and the markets of the benchmarks have seeds below
1,000. Tables are generated, so that no bundled or shared table is among them. Generated rows are free, so scores use
far more validation rows than in a search, which makes them less noisy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn import datasets as generators

from scripts.config.experiment import DataConfig, Label, SyntheticConfig
from scripts.data.dataset import Dataset
from scripts.data.loading import load_development
from scripts.random_keys import numpy_generator

LONGEST_WINDOW = 10
_FIRST_SEED = 730_000
_TABLE_ROWS = 16_000
Arrays = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Market:
    """A generated market and what is predicted on it."""

    number: int
    n_tickers: int
    n_days: int
    rho: float
    label: Label = "next_direction"
    horizon: int = 1
    train_fraction: float = 0.4
    w: float = 0.35
    nu: int = 5
    windows: bool = False  # whether families that read windows are trained on it too

    @property
    def name(self) -> str:
        """Name in the table of results."""
        return f"market_{self.number}_{self.label}"

    def load(self, folder: Path) -> Dataset:
        """The data set; nothing is written."""
        values = {"n_tickers": self.n_tickers, "n_days": self.n_days, "rho": self.rho, "w": self.w, "nu": self.nu}
        synthetic = SyntheticConfig(**values, seed=_FIRST_SEED + self.number)
        config = DataConfig(label=self.label, horizon=self.horizon, synthetic=synthetic, test_fraction=0.02)
        return load_development(config, LONGEST_WINDOW, 0)


@dataclass(frozen=True)
class Table:
    """A generated table without time."""

    name: str
    make: Callable[[np.random.RandomState], Arrays]
    train_fraction: float = 0.3
    windows = False

    def load(self, folder: Path) -> Dataset:
        """The data set, read from a file that is made in `folder`."""
        path = folder / f"{self.name}.parquet"
        state = np.random.RandomState(int(numpy_generator("portfolio table", self.name).integers(2**31)))
        x, y = self.make(state)
        columns = {f"feature_{k}": column.astype(np.float32) for k, column in enumerate(x.T)}
        pd.DataFrame(columns | {"label": [f"class_{int(c)}" for c in y]}).to_parquet(path, index=False)
        config = DataConfig(source="table", path=str(path), label="column", label_column="label", test_fraction=0.02)
        return load_development(config, 1, 0)


def _blobs(**shape: object) -> Callable[[np.random.RandomState], Arrays]:
    """Classes of several normal clusters each, among columns that are mixtures or noise."""
    return lambda state: generators.make_classification(_TABLE_ROWS, random_state=state, **shape)


def _spheres(state: np.random.RandomState) -> Arrays:
    """Three classes by the distance from the middle, one row in seven mislabelled."""
    x, y = generators.make_gaussian_quantiles(n_samples=_TABLE_ROWS, n_features=8, n_classes=3, random_state=state)
    return x, np.where(state.uniform(size=len(y)) < 0.15, state.randint(3, size=len(y)), y)


def _sum_of_squares(state: np.random.RandomState) -> Arrays:
    """Whether the sum of ten squares exceeds its median (Hastie et al. 2009, 10.2), among five columns of noise."""
    x, y = generators.make_hastie_10_2(n_samples=_TABLE_ROWS, random_state=state)
    return np.hstack([x, state.normal(size=(len(x), 5))]), (y > 0).astype(int)


def _smooth(state: np.random.RandomState) -> Arrays:
    """Quartile of a smooth function of five of twenty columns, with noise (Friedman 1991)."""
    x, y = generators.make_friedman1(_TABLE_ROWS, n_features=20, noise=2.0, random_state=state)
    return x, np.digitize(y, np.quantile(y, [0.25, 0.5, 0.75]))


def _boxes(state: np.random.RandomState) -> Arrays:
    """Parity of two of eight skewed columns cut into three, which only steps along the axes describe."""
    x = state.lognormal(size=(_TABLE_ROWS, 8))
    box = sum(np.digitize(x[:, k], np.quantile(x[:, k], [0.33, 0.67])) for k in range(2))
    return x, np.where(state.uniform(size=len(x)) < 0.1, state.randint(2, size=len(x)), np.asarray(box) % 2)


def _faint(state: np.random.RandomState) -> Arrays:
    """A weak linear and a weak product signal in thirty heavy-tailed columns, as in returns."""
    x = state.standard_t(4, size=(_TABLE_ROWS, 30))
    score = 0.35 * x[:, :4].sum(axis=1) / 2 + 0.5 * np.sign(x[:, 4]) * np.tanh(x[:, 5])
    return x, (state.uniform(size=len(x)) < 1 / (1 + np.exp(-score))).astype(int)


MARKETS = (
    Market(1, 12, 900, 0.30),
    Market(2, 6, 1500, 0.20, train_fraction=0.5),
    Market(3, 25, 1000, 0.25),
    Market(4, 8, 700, 0.45, w=0.1, nu=3, windows=True),
    Market(5, 10, 1000, 0.40, label="k_bar_direction", horizon=2, windows=True),
    Market(6, 8, 1200, 0.40, label="triple_barrier", horizon=3, windows=True),
    Market(7, 10, 1400, 0.10, label="volatility_regime", horizon=5),
    Market(8, 5, 1800, 0.20, label="volatility_regime", horizon=10, nu=3, windows=True),
)
TABLES = (
    Table("blobs_small", _blobs(n_features=12, n_informative=5, flip_y=0.1, class_sep=0.8), 0.1),
    Table(
        "blobs_wide",
        _blobs(n_features=60, n_informative=12, n_redundant=8, n_classes=4, n_clusters_per_class=3, flip_y=0.05),
    ),
    Table("blobs_rare", _blobs(n_features=20, n_informative=8, n_clusters_per_class=4, weights=[0.9], flip_y=0.02)),
    Table("spheres", _spheres),
    Table("sum_of_squares", _sum_of_squares, 0.5),
    Table("smooth", _smooth),
    Table("boxes", _boxes),
    Table("faint", _faint, 0.4),
)
