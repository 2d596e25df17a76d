"""Labels agree with the reference vectors, read exactly the bars they name, and stop at halts."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.config.experiment import DataConfig
from scripts.data.features import MAX_HALT, index_bars
from scripts.data.labels import Labels, find_touches, market_labels
from scripts.errors import InputError
from tests.reference_cases import reference_cases

CASES = reference_cases("labels")
KINDS = [("next_direction", 1), ("k_bar_direction", 4), ("triple_barrier", 3), ("volatility_regime", 5)]


def vector(name: str) -> dict[str, Any]:
    return next(c for c in CASES if c["section"] == "labels" and c["name"] == name)


def frame_of(columns: dict[str, list[float]], ticker: str = "A", positions: np.ndarray | None = None) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    dates = pd.bdate_range("2020-01-01", periods=500)[np.arange(n) if positions is None else positions]
    return pd.DataFrame({"date": dates, "ticker": ticker, **{k: np.asarray(v, float) for k, v in columns.items()}})


def random_market(seed: int, n: int = 80) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    parts = []
    for ticker in "AB":
        close = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, n)))
        opening = close * np.exp(rng.normal(0, 0.005, n))
        high = np.maximum(opening, close) * np.exp(np.abs(rng.normal(0, 0.01, n)))
        low = np.minimum(opening, close) * np.exp(-np.abs(rng.normal(0, 0.01, n)))
        parts.append(frame_of({"open": opening, "high": high, "low": low, "close": close}, ticker))
    return pd.concat(parts, ignore_index=True)


def label(frame: pd.DataFrame, kind: str = "next_direction", horizon: int = 1, **config: Any) -> Labels:
    options = {"source": "market", "path": "prices.csv", "label": kind, "horizon": horizon, "regime_window": 10}
    return market_labels(frame, index_bars(frame), DataConfig(**{**options, **config}))


def with_none(values: np.ndarray) -> list[int | None]:
    return [None if v < 0 else int(v) for v in values]


@pytest.mark.parametrize("horizon", [1, 3])
def test_direction_equals_the_reference(horizon: int) -> None:
    case = vector("k_bar_direction")
    frame = pd.concat([frame_of({"close": c}, t) for t, c in case["inputs"]["close"].items()], ignore_index=True)
    labels = label(frame, "k_bar_direction", horizon, ties="down")
    expected = case["expected"][str(horizon)]
    assert with_none(labels.y) == expected["A"] + expected["B"]
    tie = (frame["close"] == frame.groupby("ticker")["close"].shift(-horizon)).to_numpy()
    assert np.array_equal(label(frame, "k_bar_direction", horizon).y, np.where(tie, -1, labels.y))
    assert (labels.classes, labels.positions) == (("down", "up"), (-1.0, 1.0))


def test_direction_persists_from_the_last_move() -> None:
    labels = label(frame_of({"close": [10, 11, 11, 10.5, 10.5, 12]}))
    assert with_none(labels.naive["persistence"]) == [None, 1, 0, 0, 0, 1]
    assert label(random_market(0), "k_bar_direction", 4).lookback == 5


def test_barriers_equal_the_reference() -> None:
    case = vector("triple_barrier")
    for inputs, horizon, expected in (
        (case["inputs"], 3, [e[0] for e in case["expected"]["label_bars_exit_price"]]),
        (case["inputs"]["both_and_close_unchanged"], 3, [case["expected"]["both_and_close_unchanged_first_row"][0]]),
    ):
        quotes = {k: np.array(inputs[k], float) for k in ("open", "high", "low", "close")}
        width = np.array([np.nan if w is None else w for w in inputs["width"]])
        side = find_touches(quotes, width, horizon, index_bars(frame_of(quotes))).side
        assert [None if np.isnan(s) else int(s) for s in side][: len(expected)] == expected


def test_barriers_of_closes_alone_equal_the_reference() -> None:
    case = vector("triple_barrier_closes_only")
    close = np.array(case["inputs"]["close"])
    quotes = {**dict.fromkeys(("high", "low", "close"), close), "open": np.full(len(close), np.nan)}
    side = find_touches(quotes, np.full(len(close), 0.02), 3, index_bars(frame_of({"close": close}))).side
    assert [None if np.isnan(s) else int(s) for s in side] == case["expected"]


def test_touching_a_barrier_exactly_counts() -> None:
    quotes = {
        "open": np.array([100.0, 100, 100, 100]),
        "high": np.array([100.0, 150, 100, 100]),
        "low": np.array([100.0, 100, 50, 100]),
        "close": np.array([100.0, 100, 100, 100]),
    }
    side = find_touches(quotes, np.full(4, 0.5), 1, index_bars(frame_of(quotes))).side
    np.testing.assert_array_equal(side, [1.0, -1.0, 0.0, np.nan])


def test_barriers_are_as_wide_as_the_trailing_volatility_of_the_horizon() -> None:
    frame = random_market(3)
    horizon, scale = 4, 0.8
    labels = label(frame, "triple_barrier", horizon, barrier_width=scale)
    for _, part in frame.groupby("ticker"):
        close = part["close"]
        rms = (np.log(close).diff() ** 2).rolling(20).mean() ** 0.5
        quotes = {k: part[k].to_numpy() for k in ("open", "high", "low", "close")}
        width = (scale * rms * np.sqrt(horizon)).to_numpy()
        side = find_touches(quotes, width, horizon, index_bars(part.reset_index(drop=True))).side
        assert with_none(labels.y[part.index]) == [None if np.isnan(s) else int(s) + 1 for s in side]
        move = (close / close.shift(horizon) - 1).to_numpy()
        known = ~np.isnan(width)
        persistence = np.where(known, 1 + (move >= width).astype(int) - (move <= -width), -1)
        assert np.array_equal(labels.naive["persistence"][part.index], persistence)
    assert labels.positions == (-1.0, 0.0, 1.0)
    assert set(np.unique(labels.y)) == {-1, 0, 1, 2}


def test_prices_that_stand_still_have_no_barriers() -> None:
    frame = frame_of({"close": [100.0] * 40 + [101.0, 102.0]})
    assert (label(frame, "triple_barrier", 2).y == -1).all()


def test_barriers_without_ranges_say_so_and_use_closes() -> None:
    frame = random_market(1)
    labels = label(frame[["date", "ticker", "close"]], "triple_barrier", 3)
    flat = frame.assign(open=frame["close"], high=frame["close"], low=frame["close"])
    assert any("closes" in note for note in labels.notes)
    assert np.array_equal(labels.y, label(flat, "triple_barrier", 3).y)


def test_regimes_equal_the_reference() -> None:
    case = vector("volatility_regime")
    labels = label(frame_of({"close": case["inputs"]["close"]}), "volatility_regime", 5)
    assert with_none(labels.y) == case["expected"]["label"]
    assert with_none(labels.naive["persistence"]) == case["expected"]["persistence"]
    realised, median = (np.array(case["expected"][k], float) for k in ("realised_volatility", "trailing_median"))
    np.testing.assert_allclose(labels.features["volatility_to_median"], np.log(realised / median), atol=1e-6)
    assert (labels.classes, labels.positions) == (("calm", "turbulent"), (1.0, 0.0))


def test_a_regime_that_overlaps_with_today_is_pointed_out() -> None:
    assert any("4 of 5 returns" in note for note in label(random_market(0), "volatility_regime", 1).notes)
    assert label(random_market(0), "volatility_regime", 5).notes == ()


def test_a_volatility_equal_to_its_median_is_calm() -> None:
    labels = label(frame_of({"close": [10.0] * 40}), "volatility_regime", 5)
    assert with_none(labels.y) == [None] * 14 + [0] * 21 + [None] * 5
    assert with_none(labels.naive["persistence"]) == [None] * 14 + [0] * 26


def test_a_regime_does_not_read_the_ticker_before() -> None:
    both = random_market(5)
    alone = both[both["ticker"] == "B"].reset_index(drop=True)
    assert np.array_equal(label(both, "volatility_regime", 5).y[80:], label(alone, "volatility_regime", 5).y)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(KINDS), row=st.integers(0, 79))
def test_a_label_depends_on_its_look_back_and_horizon_alone(seed: int, kind: tuple[str, int], row: int) -> None:
    frame = random_market(seed)
    labels, bars = label(frame, *kind), index_bars(frame)
    if labels.y[row] < 0:
        assert labels.label_end[row] == -1
        return
    assert bars.date[row] < labels.label_end[row] == bars.date[row] + kind[1]
    outside = (bars.date <= bars.date[row] - labels.lookback) | (bars.date > labels.label_end[row])
    changed = frame.copy()
    changed.loc[outside, ["open", "high", "low", "close"]] *= 3.0
    assert label(changed, *kind).y[row] == labels.y[row]


@pytest.mark.parametrize("kind", KINDS)
def test_naive_rules_and_offered_features_do_not_look_ahead(kind: tuple[str, int]) -> None:
    frame = random_market(2)
    past = frame.groupby("ticker").head(60).index
    known = frame.loc[past].reset_index(drop=True)
    whole, part = label(frame, *kind), label(known, *kind)
    assert np.array_equal(whole.naive["persistence"][past], part.naive["persistence"])
    assert whole.features.keys() == part.features.keys()
    for name, values in part.features.items():
        assert values.tobytes() == whole.features[name][past].tobytes()
    defined = part.y >= 0
    assert np.array_equal(whole.y[past][defined], part.y[defined])
    history = index_bars(frame).history
    assert (whole.naive["persistence"][history >= whole.lookback] >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_bars_of_a_ticker_and_of_a_segment_have_no_label(kind: tuple[str, int]) -> None:
    halted = np.concatenate([np.arange(50), np.arange(80, 110)])
    frame = random_market(4)
    frame.loc[80:, "date"] = pd.bdate_range("2020-01-01", periods=110)[halted]
    frame = pd.concat([frame, frame_of({c: [9.0] * 110 for c in ("open", "high", "low", "close")}, "C")])
    labels = label(frame.reset_index(drop=True), *kind)
    h = kind[1]
    assert (labels.y[[79, 159]] == -1).all()
    assert (labels.y[-h:] == -1).all()
    assert labels.y[129 - h] >= 0
    # The last labels before the halt take its last price, and are known only once it is longer than any other.
    near_halt = np.arange(130 - h, 130)
    known = near_halt[labels.y[near_halt] >= 0]
    assert (labels.label_end[known] == 49 + MAX_HALT + 1).all()
    assert len(known) == (0 if kind[0] == "volatility_regime" else h - 1)


def test_a_tie_is_neither_up_nor_down() -> None:
    frame = frame_of({"close": [10, 10, 11, 11, 10]})
    assert with_none(label(frame).y) == [None, 1, None, 0, None]
    assert label(frame).notes[:1] == (
        "50.0% of the rows are ties (unchanged price), which have no label, but are traded (data.ties)",
    )
    as_down = label(frame, ties="down")
    assert with_none(as_down.y) == [0, 1, 0, 0, None]
    assert "are labelled down" in as_down.notes[0]
    assert label(frame_of({"close": np.r_[np.arange(1.0, 120), 119]}), fill="close_to_close").notes == ()


@pytest.mark.parametrize("k", [1, 3])
def test_a_direction_of_tradable_prices_runs_from_the_next_open_to_the_open_after_the_horizon(k: int) -> None:
    frame = random_market(7)
    labels = label(frame, "k_bar_direction", k, label_price="next_open")
    opens = frame["open"].to_numpy()
    for row in range(len(frame)):
        last = row + 1 + k
        if last >= (80 if row < 80 else 160):
            assert (labels.y[row], labels.label_end[row]) == (-1, -1)
        else:
            assert labels.y[row] == (opens[last] > opens[row + 1])
            assert labels.label_end[row] == last % 80
    closes = label(frame, "k_bar_direction", k)
    assert np.array_equal(labels.naive["persistence"], closes.naive["persistence"])
    if k == 1:
        assert np.array_equal(labels.y[labels.y >= 0], labels.forward_return[labels.y >= 0] > 0)


def test_tradable_prices_need_opens() -> None:
    with pytest.raises(InputError, match=r"no column open.*data\.label_price=close"):
        label(frame_of({"close": [10, 11, 12]}), label_price="next_open")


def ending_market(positions: list[int], n_dates: int, **columns: list[float]) -> pd.DataFrame:
    others = frame_of({name: [5.0] * n_dates for name in columns}, "B")
    return pd.concat([frame_of(columns, "A", np.array(positions)), others], ignore_index=True)


def test_the_last_labels_of_a_listing_that_ends_take_its_last_price() -> None:
    def last(n_dates: int = 25, horizon: int = 2, positions: tuple[int, ...] = (0, 1, 2, 3), **config: Any) -> Any:
        prices = {"open": [10.0, 10.0, 13.0, 8.0], "close": [10.0, 11.0, 12.0, 9.0]}
        labels = label(ending_market(list(positions), n_dates, **prices), "k_bar_direction", horizon, **config)
        return with_none(labels.y[:4]), labels.label_end[:4].tolist()

    assert last() == ([1, 0, 0, None], [2, 3, 24, -1])
    assert last(horizon=5) == ([0, 0, 0, None], [24, 24, 24, -1])
    # Opens 10, 13, 8 of the next bars against 8, 9, 9: two bars later, or the last close.
    assert last(label_price="next_open") == ([0, 0, 1, None], [3, 24, 24, -1])
    # One date earlier nobody knows yet that the ticker does not come back.
    assert last(n_dates=24) == ([1, 0, None, None], [2, 3, -1, -1])
    # A ticker that was away for 30 dates before is known to be gone after more than that.
    gap = (0, 30, 31, 32)
    assert last(n_dates=63, positions=gap) == ([None, 0, 0, None], [-1, 32, 62, -1])
    assert last(n_dates=62, positions=gap) == ([None, 0, None, None], [-1, 32, -1, -1])


def test_barriers_of_a_listing_that_ends_look_to_its_last_bar() -> None:
    close = [100.0, 100.0, 101.0, 103.0, 90.0]
    frame = ending_market(list(range(5)), 40, open=close, high=close, low=close, close=close)
    bars = index_bars(frame)
    quotes = {name: frame[name].to_numpy() for name in ("open", "high", "low", "close")}
    wide = find_touches(quotes, np.full(len(frame), 0.2), 6, bars)
    np.testing.assert_array_equal(wide.side[:5], [0, 0, 0, 0, np.nan])
    np.testing.assert_array_equal(wide.price[:5], [90, 90, 90, 90, np.nan])
    assert wide.after[:4].tolist() == [4, 3, 2, 1]
    narrow = find_touches(quotes, np.full(len(frame), 0.1), 6, bars)
    np.testing.assert_array_equal(narrow.side[:5], [-1, -1, -1, -1, np.nan])


def ragged_market(seed: int) -> pd.DataFrame:
    """Random prices with a listing that ends, halts of many lengths, and a ticker with all dates."""
    rng, frame = np.random.default_rng(seed), random_market(seed, 150)
    third = frame[frame["ticker"] == "A"].assign(ticker="C")
    frame = pd.concat([frame, third], ignore_index=True)
    position = np.tile(np.arange(150), 3)
    away = (frame["ticker"] == "B") & (position >= 60) & (position < 60 + rng.integers(1, 50))
    gone = (frame["ticker"] == "A") & ((position >= 110) | (position % 7 == 3))
    return frame[~away & ~gone].reset_index(drop=True)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(KINDS),
    price=st.sampled_from(["close", "next_open"]),
    last=st.integers(40, 149),
)
def test_a_label_is_there_from_the_date_on_which_its_span_ends(
    seed: int, kind: tuple[str, int], price: str, last: int
) -> None:
    frame = ragged_market(seed)
    dates = np.unique(frame["date"])
    past = np.flatnonzero(frame["date"] <= dates[last])
    whole = label(frame, *kind, label_price=price)
    part = label(frame.loc[past].reset_index(drop=True), *kind, label_price=price)
    known = whole.label_end[past] <= last
    assert np.array_equal(part.y, np.where(known, whole.y[past], -1))
    assert np.array_equal(part.label_end, np.where(known, whole.label_end[past], -1))


def test_forward_returns_are_earned_from_the_next_open_or_from_this_close() -> None:
    frame = pd.concat(
        [
            frame_of({"open": [10, 11, 12, 15], "close": [10, 20, 30, 15]}, "A", np.array([0, 1, 5, 6])),
            frame_of({"open": [5, 6, 3], "close": [5, 4, 8]}, "B"),
        ],
        ignore_index=True,
    )
    nan = np.nan
    np.testing.assert_allclose(label(frame).forward_return, [1 / 11, 0.25, nan, nan, -0.5, nan, nan])
    closes = label(frame, fill="close_to_close")
    np.testing.assert_allclose(closes.forward_return, [1.0, 0.5, -0.5, nan, -0.2, 1.0, nan])
    without_open = label(frame.drop(columns="open"))
    np.testing.assert_array_equal(without_open.forward_return, closes.forward_return)
    assert any("close_to_close" in note for note in without_open.notes) and closes.notes == ()


def test_a_position_is_carried_through_a_halt() -> None:
    halted = frame_of({"close": [10.0, 20.0, 30.0]}, "B", np.array([0, 50, 51]))
    frame = pd.concat([frame_of({"close": [1.0] * 60}), halted], ignore_index=True)
    labels = label(frame, fill="close_to_close")
    assert labels.forward_return[60] == 1.0
    assert labels.y[60] == -1
