"""Too few usable rows: the refusal names what takes the bars, and the setting that it gives works."""

import re

import numpy as np
import pandas as pd
import pytest

from scripts.config.experiment import Experiment
from scripts.config.yaml_files import load_experiment
from scripts.data.loading import read_development
from scripts.errors import InputError

MARKET = {"data": {"synthetic": {"n_tickers": 2, "n_days": 400}}}


def build(base, *assignments, window=3):
    """Development data with its folds."""
    config = load_experiment(None, list(assignments), base=Experiment.model_validate(base)).data
    dataset = read_development(config, 0).dataset(window)
    return dataset, dataset.folds("kfold", 3, 0)


@pytest.mark.parametrize(
    ("assignments", "says"),
    [
        (
            ["data.embargo=300"],
            r"data\.embargo: .* 320 bars of the longest ticker, .*horizon 1 and embargo 300 take 363",
        ),
        (["data.embargo=6000"], r"data\.embargo: .*embargo 6000"),
        (["data.label=k_bar_direction", "data.horizon=200"], r"data\.horizon: labels look 200 .*more than 80 bars"),
        (["data.label=triple_barrier", "data.horizon=80"], r"data\.horizon: labels look 80 .*more than 80 bars"),
        (
            ["data.label=volatility_regime", "data.regime_window=400"],
            r"data\.regime_window: .*look-back 406, horizon 1 and embargo 5 take 412",
        ),
    ],
)
def test_the_setting_that_takes_the_bars_is_named_with_a_value_that_works(assignments, says):
    with pytest.raises(InputError, match=says) as refused:
        build(MARKET, *assignments)
    remedy = re.search(r"set (data\.\w+=\d+)", str(refused.value)).group(1)
    dataset, folds = build(MARKET, *assignments, remedy)
    assert len(dataset.rows) > 200 and len(folds) == 3


def test_a_window_and_a_short_history_are_named(tmp_path):
    with pytest.raises(InputError, match=r"search_space\.window: .*look-back 409, .*; set search_space\.window=25"):
        build(MARKET, window=350)
    short = {"data": {"synthetic": {"n_tickers": 2, "n_days": 80}}}
    with pytest.raises(InputError, match=r"data: .*64 bars .*look-back 62, .*; give more than 136 bars"):
        build(short)
    path = tmp_path / "t.csv"
    rng = np.random.default_rng(0)
    when = pd.date_range("2020-01-01", periods=100)
    pd.DataFrame({"when": when, "x": rng.random(100), "y": rng.integers(0, 2, 100)}).to_csv(path, index=False)
    dated = {"source": "table", "path": str(path), "label": "column", "label_column": "y", "time_column": "when"}
    with pytest.raises(InputError, match=r"data\.embargo: .*80 rows, .*embargo 90 take 93; set data\.embargo=7"):
        build({"data": dated | {"embargo": 90}})


def test_folds_without_training_rows_name_what_takes_them():
    with pytest.raises(InputError, match=r"look-back is 258 dates, the horizon 1, the embargo 5;.*data\.regime_window"):
        build(MARKET, "data.label=volatility_regime", "data.regime_window=252")


def bars(path, **volume):
    """Two tickers of 400 daily bars, with the volume given."""
    rng = np.random.default_rng(0)
    parts = []
    for ticker in ("A", "B"):
        close = np.round(50 * np.exp(np.cumsum(rng.normal(0, 0.01, 400))), 4)
        when = pd.bdate_range("2020-01-01", periods=400)
        parts.append(pd.DataFrame({"date": when, "ticker": ticker, "close": close, "volume": volume[ticker]}))
    pd.concat(parts).to_csv(path, index=False)
    return {"data": {"source": "market", "path": str(path)}}


def test_bars_without_volume_and_features_that_never_vary_are_noted(tmp_path):
    later = np.r_[np.zeros(320), np.full(80, 7.0)]  # volume in the sealed bars alone
    dataset, _ = build(bars(tmp_path / "none.csv", A=0, B=later))
    assert any("volume is 0 in all development bars of any ticker" in note for note in dataset.notes)
    (constant,) = [note for note in dataset.notes if "are constant" in note]
    assert constant.endswith("volume_shock, volume_shock_lag_1, volume_surprise")
    dataset, _ = build(bars(tmp_path / "one.csv", A=np.arange(1, 401), B=0))
    assert any("volume is 0 in all development bars of B" in note for note in dataset.notes)
    assert not any("are constant" in note for note in dataset.notes)
