"""The synthetic market: the bytes of its default output, its ceiling, and what it refuses."""

import gzip
import hashlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.config.experiment import DataConfig, SyntheticConfig
from scripts.data.sources import read_data
from scripts.data.synthetic import generate
from scripts.errors import InputError
from tests.conftest import SHARED


def as_csv(frame):
    return frame.to_csv(index=False, lineterminator="\n").encode()


@pytest.mark.parametrize(("position", "name"), [(0, "synthetic_daily.csv.gz"), (1, "synthetic_truth.csv.gz")])
def test_default_market_is_the_recorded_one_byte_for_byte(position, name):
    if not (SHARED / "data" / name).exists():
        pytest.skip(f"{name} is not beside the checkout")
    with gzip.open(SHARED / "data" / name) as file:
        assert as_csv(generate(SyntheticConfig())[position]) == file.read()


def test_small_market_is_pinned():
    bars, truth = generate(SyntheticConfig(n_tickers=2, n_days=50, seed=1))
    digests = [hashlib.sha256(as_csv(frame)).hexdigest() for frame in (bars, truth)]
    assert digests == [
        "3b2e8a2a68b561363f9499a6cfda9438c26e03e05de282b7cf346dbfed1c3187",
        "11beaafe3baa6de668e64fdfed3d151bff0eb9dd01bb2478d0e4d6bf19fe7997",
    ]


def test_default_ceiling_is_the_published_one():
    p = generate(SyntheticConfig())[1]["p_up_next"].dropna()
    assert np.maximum(p, 1 - p).mean() == pytest.approx(0.5734, abs=5e-5)


def test_truth_is_calibrated_against_the_moves_that_follow():
    bars, truth = generate(SyntheticConfig(rho=0.5))
    up = bars.groupby("ticker")["close"].shift(-1) > bars["close"]
    known = truth["p_up_next"].notna()
    bins = pd.cut(truth["p_up_next"][known], np.linspace(0, 1, 11))
    groups = pd.DataFrame({"p": truth["p_up_next"][known], "up": up[known]}).groupby(bins, observed=True)
    table = groups.agg(p=("p", "mean"), up=("up", "mean"), n=("up", "size"))
    table = table[table["n"] > 1000]
    # Moves of one day are correlated across tickers, so the errors are larger than those of independent rows.
    assert len(table) >= 6
    assert np.abs(table["p"] - table["up"]).max() < 0.03


def test_without_signal_no_day_is_more_predictable_than_the_drift_allows():
    p = generate(SyntheticConfig(rho=0.0, n_days=300))[1]["p_up_next"].dropna()
    assert np.abs(p - 0.5).max() < 0.05


def test_switch_turns_the_signal_around():
    plain, switched = (generate(SyntheticConfig(n_days=200, rho=0.5, beta=0.0, drift=0.0, switch=k)) for k in (None, 0))

    def reversal(bars):
        r = np.log(bars["close"]).groupby(bars["ticker"]).diff()
        return r.corr(r.groupby(bars["ticker"]).shift(1))

    assert reversal(plain[0]) < -0.1
    assert reversal(switched[0]) > 0.1


@given(
    n_tickers=st.integers(1, 4),
    seed=st.integers(0, 1000),
    rho=st.floats(0, 0.9),
    w=st.floats(0, 1),
    nu=st.sampled_from([3, 5]),
    beta=st.floats(0, 0.9),
)
@settings(max_examples=20, deadline=None)
def test_bars_are_consistent_and_truth_is_a_probability(**values):
    bars, truth = generate(SyntheticConfig(n_days=60, **values))
    assert (bars["high"] >= bars[["open", "close", "low"]].max(axis=1)).all()
    assert (bars["low"] <= bars[["open", "close", "high"]].min(axis=1)).all()
    assert (bars["low"] > 0).all()
    assert truth["p_up_next"].isna().sum() == values["n_tickers"]
    assert truth["p_up_next"].dropna().between(0, 1).all()


def test_truth_stays_beside_its_bar_when_names_sort_unlike_numbers():
    config = SyntheticConfig(n_tickers=102, n_days=50)
    data = read_data(DataConfig(synthetic=config))
    truth = generate(config)[1]
    assert data.frame["ticker"].is_monotonic_increasing
    expected = truth.set_index(["ticker", "date"])["p_up_next"]
    keys = zip(data.frame["ticker"], data.frame["date"].dt.strftime("%Y-%m-%d"), strict=True)
    np.testing.assert_array_equal(expected.loc[list(keys)].to_numpy(), data.truth)


def test_market_beyond_the_accepted_years_is_refused():
    with pytest.raises(InputError, match=r"n_days.*2100.*at most \d+"):
        generate(SyntheticConfig(n_tickers=1, n_days=100_000))
