"""Features are causal to the last bit, read exactly their lookback and follow their published formulas."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.config.experiment import SyntheticConfig
from scripts.data import features as features_module
from scripts.data.features import MAX_HALT, index_bars, market_features
from scripts.data.ranks import rank_by_date
from scripts.data.synthetic import generate
from tests.conftest import SHARED

PRICES = ["open", "high", "low", "close"]


def market(tickers: dict[str, np.ndarray], seed: int = 0, start: str = "2020-01-01") -> pd.DataFrame:
    """A random market; each ticker has bars at its positions in a calendar of weekdays."""
    rng = np.random.default_rng(seed)
    calendar = pd.bdate_range(start, periods=1 + max(int(p.max()) for p in tickers.values()))
    parts = []
    for name, positions in sorted(tickers.items()):
        n = len(positions)
        close = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, n)))
        opening = close * np.exp(rng.normal(0, 0.01, n))
        high = np.maximum(opening, close) * np.exp(np.abs(rng.normal(0, 0.01, n)))
        low = np.minimum(opening, close) * np.exp(-np.abs(rng.normal(0, 0.01, n)))
        columns = {"open": opening, "high": high, "low": low, "close": close, "volume": rng.lognormal(13, 0.5, n)}
        parts.append(pd.DataFrame({"date": calendar[positions], "ticker": name, **columns}))
    return pd.concat(parts, ignore_index=True)


def ragged(seed: int = 0) -> pd.DataFrame:
    return market({"A": np.arange(150), "B": np.arange(40, 150), "C": np.delete(np.arange(130), [70, 71, 72])}, seed)


def values_by_name(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    features = market_features(frame, index_bars(frame))
    return dict(zip(features.names, features.values.T, strict=True))


def test_calendar_and_histories_of_a_ragged_panel() -> None:
    frame = market({"A": np.array([0, 1, 2]), "B": np.array([1, 3])})
    bars = index_bars(frame)
    assert bars.tickers == ("A", "B")
    assert bars.date.tolist() == [0, 1, 2, 1, 3]
    assert bars.ticker.tolist() == [0, 0, 0, 1, 1]
    assert bars.dates.tolist() == np.sort(frame["date"].unique()).tolist()
    assert bars.history.tolist() == [1, 2, 3, 1, 2]
    assert bars.last_row.tolist() == [2, 2, 2, 4, 4]


@pytest.mark.parametrize(("missing", "n_segments"), [(MAX_HALT, 2), (MAX_HALT + 1, 3)])
def test_a_halt_longer_than_the_bound_starts_a_new_segment(missing: int, n_segments: int) -> None:
    with_halt = np.concatenate([np.arange(10), np.arange(10 + missing, 60)])
    bars = index_bars(market({"A": np.arange(60), "B": with_halt}))
    assert len(np.unique(bars.first_row)) == n_segments


@pytest.mark.parametrize("order", [[1, 0, 2], [0, 0, 1]])
def test_unsorted_or_repeated_bars_are_a_defect_of_the_caller(order: list[int]) -> None:
    frame = market({"A": np.arange(3)}).iloc[order].reset_index(drop=True)
    with pytest.raises(ValueError, match="sorted"):
        index_bars(frame)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(65, 149))
def test_bars_after_a_row_never_change_it(seed: int, cut: int) -> None:
    frame = ragged(seed)
    past = (index_bars(frame).date <= cut).nonzero()[0]
    changed = frame.copy()
    later = np.setdiff1d(np.arange(len(frame)), past)
    changed.loc[later, [*PRICES, "volume"]] *= np.random.default_rng(seed).uniform(0.5, 2, (len(later), 1))
    known = frame.iloc[past].reset_index(drop=True)
    expected = market_features(known, index_bars(known)).values
    for other in (frame, changed):
        assert market_features(other, index_bars(other)).values[past].tobytes() == expected.tobytes()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), row=st.integers(60, 149))
def test_bars_before_the_lookback_never_change_a_row(seed: int, row: int) -> None:
    frame = ragged(seed)
    bars = index_bars(frame)
    features = market_features(frame, bars)
    first_read = bars.date[row - features.lookback + 1]
    changed = frame.copy()
    changed.loc[bars.date < first_read, [*PRICES, "volume"]] *= 1.7
    assert market_features(changed, bars).values[row].tobytes() == features.values[row].tobytes()


def test_the_oldest_bar_of_the_lookback_is_read() -> None:
    frame = ragged()
    bars = index_bars(frame)
    features = market_features(frame, bars)
    changed = frame.copy()
    changed.loc[100 - features.lookback + 1, "close"] *= 1.01
    assert not np.array_equal(market_features(changed, bars).values[100], features.values[100])


def test_rows_are_complete_exactly_from_the_lookback_on() -> None:
    frame = ragged()
    bars = index_bars(frame)
    features = market_features(frame, bars)
    complete = np.isfinite(features.values).all(axis=1)
    assert np.array_equal(complete, bars.history >= features.lookback)
    assert 25 <= len(features.names) == features.values.shape[1] <= 35
    assert features.values.dtype == np.float32
    assert features.left_out == {}


def test_a_halt_forgets_the_history_before_it() -> None:
    whole = market({"A": np.arange(200), "B": np.concatenate([np.arange(80), np.arange(110, 200)])})
    after = whole[(whole["ticker"] == "A") | (whole["date"] >= whole["date"].sort_values().unique()[110])]
    after = after.reset_index(drop=True)
    values = market_features(whole, index_bars(whole)).values[-90:]
    assert values.tobytes() == market_features(after, index_bars(after)).values[-90:].tobytes()
    assert np.isnan(values[:60]).any(axis=1).all()


def test_results_do_not_depend_on_the_blocks_they_are_worked_out_in(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = ragged()
    bars = index_bars(frame)
    expected = market_features(frame, bars).values
    monkeypatch.setattr(features_module, "BLOCK_ROWS", 7)
    assert market_features(frame, bars).values.tobytes() == expected.tobytes()


def test_features_without_their_columns_are_left_out_and_named() -> None:
    frame = market({"A": np.arange(100)}).drop(columns=["open", "high", "low", "volume"])
    features = market_features(frame, index_bars(frame))
    assert np.isfinite(features.values[features.lookback - 1 :]).all()
    absent = {"overnight_gap": "no open", "range_shock": "no high", "volume_shock": "no volume"}
    absent |= {"market_return": "one ticker", "return_rank": "one ticker"}
    assert absent.items() <= features.left_out.items()
    assert not features.left_out.keys() & set(features.names)


def test_bars_within_the_day_have_no_weekday() -> None:
    frame = market({"A": np.arange(100), "B": np.arange(100)})
    daily = market_features(frame, index_bars(frame))
    frame["date"] += pd.to_timedelta(np.tile(np.arange(100) % 7, 2), unit="h")
    features = market_features(frame, index_bars(frame))
    assert set(daily.names) - set(features.names) == {"weekday_sin", "weekday_cos"}
    assert features.left_out["weekday_sin"] == "bars within the day"


def test_prices_that_stand_still_and_bars_without_volume_stay_finite() -> None:
    frame = market({"A": np.arange(150), "B": np.arange(150)})
    frame.loc[frame["ticker"] == "A", PRICES] = 10.0
    frame.loc[::7, "volume"] = 0.0
    frame.loc[frame["ticker"] == "B", "volume"] = 0.0
    frame.loc[140, PRICES] = 1000.0
    features = market_features(frame, index_bars(frame))
    complete = features.values[index_bars(frame).history >= features.lookback]
    assert np.isfinite(complete).all()
    assert np.abs(complete).max() < 20


def test_price_features_equal_rolling_formulas() -> None:
    frame = market({"A": np.arange(120)})
    close, got = frame["close"], values_by_name(frame)
    r = np.log(close).diff()
    vol = {w: (r**2).rolling(w).mean() ** 0.5 for w in (5, 20, 60)}
    gain, loss = r.clip(lower=0).rolling(14).mean(), (-r).clip(lower=0).rolling(14).mean()
    rsi = 100 - 100 / (1 + gain / loss)
    low, high = close.rolling(20).min(), close.rolling(20).max()
    expected = {
        "return_lag_0": r / vol[20].shift(1),
        "return_lag_3": (r / vol[20].shift(1)).shift(3),
        "momentum_10": np.log(close / close.shift(10)) / (vol[60] * np.sqrt(10)),
        "log_volatility_20": np.log(vol[20]),
        "volatility_5_to_20": np.log(vol[5] / vol[20]),
        "relative_strength_14": rsi / 50 - 1,
        "distance_to_mean_20": np.log(close / close.rolling(20).mean()) / (vol[20] * np.sqrt(20)),
        "place_in_range_20": 2 * (close - low) / (high - low) - 1,
        "drawdown_60": np.log(close / close.rolling(60).max()) / (vol[60] * np.sqrt(60)),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(got[name], values, rtol=1e-5, atol=1e-6, err_msg=name)


def test_range_gap_and_volume_features_equal_rolling_formulas() -> None:
    frame = market({"A": np.arange(120)})
    got = values_by_name(frame)
    r = np.log(frame["close"]).diff()
    vol = (r**2).rolling(20).mean() ** 0.5
    squared = np.log(frame["high"] / frame["low"]) ** 2 / (4 * np.log(2))
    parkinson = squared.rolling(20).mean() ** 0.5
    v = np.log(frame["volume"])
    level = v.rolling(60).mean()
    expected = {
        "range_volatility_20": np.log(parkinson / vol),
        "range_shock": np.log(squared**0.5 / parkinson.shift(1)),
        "close_in_range": 2 * (frame["close"] - frame["low"]) / (frame["high"] - frame["low"]) - 1,
        "overnight_gap": np.log(frame["open"] / frame["close"].shift(1)) / vol.shift(1),
        "volume_shock": v - level,
        "volume_shock_lag_1": v.shift(1) - level,
        "volume_surprise": (v - level) - 0.5 * (v.shift(1) - level),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(got[name], values, rtol=1e-5, atol=1e-5, err_msg=name)


def test_cross_section_features_read_the_tickers_of_the_same_date() -> None:
    frame = ragged()
    got = values_by_name(frame)
    returns = np.log(frame["close"]).groupby(frame["ticker"]).diff()
    vol = (returns**2).groupby(frame["ticker"]).rolling(20).mean().droplevel(0) ** 0.5
    mean = returns.groupby(frame["date"]).transform("mean")
    np.testing.assert_allclose(got["market_return"], mean / vol.groupby(frame["ticker"]).shift(1), rtol=1e-5, atol=1e-6)
    on_day = frame.index[frame["date"] == frame["date"].iloc[100]]
    by_return = on_day[np.argsort(returns[on_day])]
    np.testing.assert_allclose(got["return_rank"][by_return], [-2 / 3, 0, 2 / 3], atol=1e-6)


def test_weekdays_lie_on_a_circle_that_begins_on_monday() -> None:
    frame = market({"A": np.arange(5)}, start="2024-01-01")
    got = values_by_name(frame)
    angles = np.arctan2(got["weekday_sin"], got["weekday_cos"])
    np.testing.assert_allclose(np.mod(angles, 2 * np.pi), np.arange(5) * 2 * np.pi / 7, atol=1e-6)


def test_the_features_hold_the_signal_of_the_synthetic_market() -> None:
    frame, truth = generate(SyntheticConfig(n_tickers=20, n_days=700))
    frame = frame.assign(date=pd.to_datetime(frame["date"]))
    z, z_1, surprise, shock_1 = (
        values_by_name(frame)[name]
        for name in ("return_lag_0", "return_lag_1", "volume_surprise", "volume_shock_lag_1")
    )
    # The market's own formula (w = 0.35), with what its bars show in place of what they hide.
    innovation = surprise - 0.1 * shock_1 - 0.25 * (np.abs(z) - 0.75) + 0.15 * (np.abs(z_1) - 0.75)
    signal = -np.sqrt(0.35) * z + np.sqrt(0.65) * z_1 * np.sign(innovation)
    known = np.isfinite(signal) & truth["p_up_next"].notna().to_numpy()
    assert np.corrcoef(signal[known], truth["p_up_next"][known])[0, 1] > 0.8


def test_real_prices_give_complete_and_bounded_features() -> None:
    path = SHARED / "data" / "us_daily.csv.gz"
    if not path.exists():
        pytest.skip("shared/data/us_daily.csv.gz is not beside the checkout")
    frame = pd.read_csv(path, parse_dates=["date"]).sort_values(["ticker", "date"], ignore_index=True)
    bars = index_bars(frame)
    features = market_features(frame, bars)
    assert (len(bars.tickers), len(np.unique(bars.first_row))) == (13, 13)
    complete = features.values[bars.history >= features.lookback]
    assert len(complete) == 60_295 - 13 * 60
    assert np.isfinite(complete).all()
    assert np.abs(complete).max() <= 20


def test_ranks_of_a_date_are_those_of_pandas_also_for_equal_and_missing_values():
    rng = np.random.default_rng(0)
    for n, n_dates in ((0, 1), (1, 1), (1000, 7), (3000, 70_000)):
        x, date = rng.integers(-5, 5, n).astype(float), rng.integers(0, n_dates, n)
        x[rng.random(n) < 0.1] = np.nan
        np.testing.assert_array_equal(rank_by_date(x, date), pd.Series(x).groupby(date).rank().to_numpy())
