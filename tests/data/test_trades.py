"""Trades follow the labels: held for their horizon, left at their barriers, and booked to the end of a listing."""

import numpy as np
import pandas as pd
import pytest

from scripts.config.experiment import DataConfig
from scripts.config.recorded import recorded_data
from scripts.data.files.raw_tables import frame_table
from scripts.data.inference_rows import Schema, table_rows
from scripts.data.loading import load_development, load_sealed
from scripts.errors import InputError
from scripts.statistics.periods_per_year import infer_periods_per_year
from scripts.statistics.returns import TradingRules, total_return
from scripts.training.trading import SimulatedTrading

N_BARS = 700


def market_file(path, n_tickers=3, n_bars=N_BARS, ending=None, dates=None):
    """Bars of random walks; the first ticker loses 90% in its last 12 bars and ends after `ending` bars."""
    rng, parts = np.random.default_rng(0), []
    dates = pd.bdate_range("2015-01-01", periods=n_bars) if dates is None else dates
    for k in range(n_tickers):
        n = ending if ending and k == 0 else len(dates)
        moves = rng.normal(0, 0.01, n)
        if n == ending:
            moves[-12:] = np.log(0.1) / 12
        close = 100 * np.exp(np.cumsum(moves))
        opening = close * np.exp(rng.normal(0, 0.004, n))
        high, low = np.maximum(opening, close) * 1.004, np.minimum(opening, close) * 0.996
        columns = {"date": dates[:n], "ticker": f"T{k}", "open": opening, "high": high, "low": low, "close": close}
        parts.append(pd.DataFrame(columns))
    frame = pd.concat(parts)
    frame.to_csv(path, index=False)
    return frame


def sealed_of(path, **keys):
    config = DataConfig(source="market", path=str(path), **keys)
    development = load_development(config, 1, 0)
    return load_sealed(config, 1, development, 0)


def hit_rate(sealed):
    simulator = SimulatedTrading.of(sealed, sealed.rows, TradingRules()).simulator
    won = np.array(sealed.class_positions)[sealed.y[sealed.rows]] * simulator.earned
    return (won[won != 0] > 0).mean()


def test_who_knows_a_label_wins_every_trade_that_is_held_for_its_horizon(tmp_path):
    market_file(tmp_path / "a.csv")
    keys = {"path": tmp_path / "a.csv", "label": "k_bar_direction", "horizon": 5, "fill": "close_to_close"}
    # Of the last bars no whole horizon is left; they have no label either.
    assert hit_rate(sealed_of(**keys)) == 1.0
    assert hit_rate(sealed_of(**keys, holding="bar")) < 0.8
    assert 0.8 < hit_rate(sealed_of(**(keys | {"fill": "next_open"}))) < 1.0


@pytest.mark.parametrize("fill", ["next_open", "close_to_close"])
def test_a_triple_barrier_trade_earns_what_its_barriers_say(tmp_path, fill):
    frame = market_file(tmp_path / "a.csv", n_tickers=1)
    sealed = sealed_of(tmp_path / "a.csv", label="triple_barrier", horizon=6, fill=fill)
    simulator = SimulatedTrading.of(sealed, sealed.rows, TradingRules()).simulator
    o, h, low, c = (frame[name].to_numpy() for name in ("open", "high", "low", "close"))
    volatility = (np.log(frame["close"]).diff() ** 2).rolling(20).mean().to_numpy() ** 0.5
    for row, earned in zip(sealed.rows, simulator.earned, strict=True):
        width, leave = volatility[row] * np.sqrt(6), c[row + 6]
        entry = o[row + 1] if fill == "next_open" else c[row]
        for j in range(row + 1, row + 7):
            up, down = c[row] * (1 + width), c[row] * (1 - width)
            if o[j] >= up or o[j] <= down:
                leave = o[j]
            elif h[j] >= up and low[j] <= down:
                leave = c[j]
            elif h[j] >= up or low[j] <= down:
                leave = up if h[j] >= up else down
            else:
                continue
            break
        expected = leave / entry - 1
        assert np.isnan(earned) if entry == leave else earned == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("horizon", [1, 20])
def test_the_loss_of_a_listing_that_ends_is_booked_to_its_last_price(tmp_path, horizon):
    frame = market_file(tmp_path / "a.csv", ending=640)
    label = "next_direction" if horizon == 1 else "k_bar_direction"
    sealed = sealed_of(tmp_path / "a.csv", label=label, horizon=horizon)
    rows = sealed.predictable
    assert set(sealed.rows) < set(rows)
    simulator = SimulatedTrading.of(sealed, rows, TradingRules()).simulator
    alone = simulator.run_each_ticker(np.ones(len(rows)))[0]
    own = frame[frame["ticker"] == "T0"]
    first = sealed.date[rows[sealed.ticker[rows] == 0]].min() + 1
    whole = own["close"].iloc[-1] / own["open"].iloc[first] - 1
    assert whole < -0.8
    # A ladder is built up over its horizon, so that it misses some of the first moves.
    assert total_return(alone.gross) == pytest.approx(whole, abs=1e-9 if horizon == 1 else 0.05)


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        (pd.bdate_range("2015-01-01", periods=400), 252),
        (pd.date_range("2015-01-01", periods=400), 365),
        (pd.date_range("2015-01-01", periods=400).delete(slice(50, 90)), 365),
        (pd.date_range("2015-01-02", periods=100, freq="W-FRI"), 52),
        (pd.date_range("2005-01-31", periods=100, freq="BME"), 12),
        (pd.date_range("2020-01-01", periods=2000, freq="h"), 8760),
        (pd.date_range("2020-01-01", periods=2000, freq="4h"), 2190),
    ],
)
def test_periods_a_year_come_from_the_dates(dates, expected):
    assert infer_periods_per_year(dates.to_numpy()).value == expected


def test_sessions_of_a_weekday_market_count_their_bars():
    days = pd.bdate_range("2020-01-01", periods=60)
    dates = pd.DatetimeIndex([day + pd.Timedelta(hours=9.5 + k) for day in days for k in range(7)])
    assert infer_periods_per_year(dates.to_numpy()).value == 7 * 252


def test_a_number_of_periods_that_the_dates_contradict_is_refused(tmp_path):
    market_file(tmp_path / "a.csv", dates=pd.date_range("2020-01-01", periods=N_BARS, freq="h"))
    keys = {"source": "market", "path": str(tmp_path / "a.csv")}
    assert load_development(DataConfig(**keys), 1, 0).periods.value == 8760
    assert load_development(DataConfig(**keys, periods_per_year=8000), 1, 0).periods.value == 8000
    with pytest.raises(InputError, match=r"252 does not fit 24 bars a day.*data.periods_per_year=8760"):
        load_development(DataConfig(**keys, periods_per_year=252), 1, 0)


def test_the_config_of_an_earlier_run_means_what_it_meant():
    earlier = DataConfig().model_dump(mode="json") | {"periods_per_year": 252}
    del earlier["holding"], earlier["ties"]
    now = DataConfig.model_validate(recorded_data(earlier))
    assert (now.holding, now.periods_per_year, now.ties) == ("bar", None, "down")
    market = {**DataConfig(source="market", path="a.csv").model_dump(mode="json"), "delimiter": ",", "decimal": "."}
    for name in ("columns", "prices", "repair"):
        del market[name]
    now = DataConfig.model_validate(recorded_data(market))
    assert (now.prices, now.repair, now.delimiter, now.decimal) == ("raw", "strict", None, None)
    del earlier["prices"], earlier["repair"]  # keys that only markets read are as they are for new runs
    assert DataConfig.model_validate(recorded_data(earlier)).prices == DataConfig().prices
    stated = DataConfig(periods_per_year=252).model_dump(mode="json")
    assert recorded_data(stated)["periods_per_year"] == 252


@pytest.mark.parametrize(("label", "horizon"), [("next_direction", 1), ("k_bar_direction", 5)])
def test_labels_of_tradable_prices_are_what_is_traded_and_stay_before_the_seal(tmp_path, label, horizon):
    frame = market_file(tmp_path / "a.csv", ending=450)
    keys = {"path": str(tmp_path / "a.csv"), "label": label, "horizon": horizon, "label_price": "next_open"}
    assert hit_rate(sealed_of(**keys)) == 1.0
    config = DataConfig(source="market", **keys, embargo=3)
    development = load_development(config, 1, 0)
    place = {date: k for k, date in enumerate(np.unique(frame["date"]))}
    rows = development.rows
    own = frame.set_index(["ticker", "date"])["open"]
    for row in rows[:: len(rows) // 200]:
        ticker, date = development.tickers[development.ticker[row]], development.dates[development.date[row]]
        opens = own[ticker]
        at = opens.index.get_loc(date)
        if ticker == "T0" and at + 1 + horizon > 449:
            assert development.label_end[row] == 449 + 21
            continue
        assert development.y[row] == (opens.iloc[at + 1 + horizon] > opens.iloc[at + 1])
        assert development.label_end[row] == place[opens.index[at + 1 + horizon]]
    assert development.label_end[rows].max() + 3 == development.n_dates - 1
    for train, test in development.folds("kfold", 3, 0):
        spans = development.date[train], development.label_end[train] + 3
        before, after = development.date[test].min(), development.label_end[test].max()
        assert ((spans[1] < before) | (spans[0] > after)).all()


@pytest.mark.parametrize("ending", [485, 495])
def test_a_listing_that_ends_just_before_the_seal_has_no_label_by_its_last_price(tmp_path, ending):
    market_file(tmp_path / "a.csv", ending=ending)
    keys = {"source": "market", "path": str(tmp_path / "a.csv"), "label": "k_bar_direction", "horizon": 10}
    development = load_development(DataConfig(**keys, embargo=0), 1, 0)
    assert (ending - 1 + 21 < development.n_dates) == (ending == 485)
    rows = development.rows[development.ticker[development.rows] == 0]
    assert development.date[rows].max() == (483 if ending == 485 else 484)


def test_each_ticker_pays_its_own_cost(tmp_path):
    market_file(tmp_path / "a.csv")
    keys = {"cost_bps": 5.0, "ticker_cost_bps": {"T1": 50.0}}
    sealed = sealed_of(tmp_path / "a.csv", **keys)
    rules = DataConfig(**keys).trading
    trading = SimulatedTrading.of(sealed, sealed.predictable, rules)
    position = np.random.default_rng(0).choice([-1.0, 1.0], len(sealed.predictable))
    whole = trading.simulator.run(position)
    for ticker, series in trading.simulator.run_each_ticker(position).items():
        cost = 50.0 if sealed.tickers[ticker] == "T1" else 5.0
        np.testing.assert_allclose(series.costs, series.turnover * cost * 1e-4, atol=1e-15)
    paid = whole.costs.sum() / whole.turnover.sum()
    assert 15e-4 < paid < 25e-4  # of which the mean of 5, 50 and 5 is 20
    np.testing.assert_allclose(trading.at_cost(paid * 1e4, paid * 1e4).run(position).net, whole.net, atol=1e-15)
    twice = trading.at_cost(paid * 2e4, paid * 1e4)
    np.testing.assert_allclose(twice.bars.cost, trading.simulator.bars.cost * 2)
    assert trading.at_cost(0.0, paid * 1e4).run(position).costs.sum() == 0.0


def test_tickers_whose_cost_is_stated_but_that_are_not_in_the_data_are_named(tmp_path):
    market_file(tmp_path / "a.csv")
    config = DataConfig(source="market", path=str(tmp_path / "a.csv"), ticker_cost_bps={"T1": 1.0, "T9": 2.0})
    assert [note for note in load_development(config, 1, 0).notes if "ticker_cost_bps" in note] == [
        "data.ticker_cost_bps names tickers that are not in the data: T9"
    ]


def test_groups_of_a_table_pay_their_own_cost(tmp_path):
    rng, n = np.random.default_rng(0), 200
    frame = pd.DataFrame({"x": rng.normal(size=2 * n), "y": rng.integers(0, 2, 2 * n), "r": rng.normal(0, 0.01, 2 * n)})
    frame = frame.assign(g=np.repeat([1, 2], n), t=np.tile(pd.bdate_range("2020-01-01", periods=n), 2))
    frame.to_csv(tmp_path / "t.csv", index=False)
    named = {"label_column": "y", "time_column": "t", "group_column": "g", "forward_return_column": "r"}
    config = DataConfig(
        source="table", path=str(tmp_path / "t.csv"), label="column", **named, ticker_cost_bps={2: 30.0}
    )
    development = load_development(config, 1, 0)
    assert development.feature_names == ("x",)
    bars = SimulatedTrading.of(development, development.rows, config.trading).simulator.bars
    np.testing.assert_allclose(bars.cost, np.where(development.ticker == 1, 30e-4, 5e-4))


@pytest.mark.parametrize("fill", ["next_open", "close_to_close"])
def test_a_trade_costs_what_a_column_says_of_the_bar_that_fills_it(tmp_path, fill):
    frame = market_file(tmp_path / "a.csv", ending=620)
    frame["Spread"] = np.random.default_rng(3).uniform(0, 80, len(frame))
    frame.to_csv(tmp_path / "a.csv", index=False)
    sealed = sealed_of(tmp_path / "a.csv", cost_bps_column="spread", fill=fill)
    assert "spread" not in {name.lower() for name in sealed.feature_names}
    trading = SimulatedTrading.of(sealed, sealed.predictable, DataConfig().trading)
    position = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], len(sealed.predictable))
    decided = dict(zip(sealed.predictable.tolist(), position, strict=True))
    alone = trading.simulator.run_each_ticker(position)
    for code, name in enumerate(sealed.tickers):
        own, rows = frame[frame["ticker"] == name], np.flatnonzero(sealed.ticker == code)
        held = [decided.get(int(row), 0.0) for row in rows]
        cash, shares, delay = 1.0, 0.0, int(fill == "next_open")
        price, cost = own["open" if delay else "close"].tolist(), (own["Spread"] * 1e-4).tolist()
        for k in range(delay, len(rows)):
            target = held[k - delay] * (cash + shares * price[k]) / price[k]
            if k == len(rows) - 1 and not delay:
                target = 0.0
            cash -= (target - shares) * price[k] + cost[k] * abs(target - shares) * price[k]
            shares = target
        if delay:
            last = own["close"].iloc[-1]
            cash += shares * last - cost[-1] * abs(shares) * last
        assert np.prod(1 + alone[code].net) == pytest.approx(cash, rel=1e-12)


@pytest.mark.parametrize("source", ["market", "table"])
@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("", "the cost is missing"),
        ("-1", "the cost -1 is out of range"),
        ("inf", "inf"),
        ("2e4", "2000"),
        ("x", "'x'"),
    ],
)
def test_a_cost_that_is_missing_or_impossible_is_refused_with_its_line(tmp_path, source, cell, says):
    frame = market_file(tmp_path / "a.csv").assign(c="2.5", y=np.resize([0, 1, 1], 3 * N_BARS))
    frame.iloc[7, frame.columns.get_loc("c")] = cell
    frame.to_csv(tmp_path / "a.csv", index=False)
    table = {"label": "column", "label_column": "y", "time_column": "date", "group_column": "ticker"}
    keys = (table | {"forward_return_column": "low"}) if source == "table" else {}
    config = DataConfig(source=source, path=str(tmp_path / "a.csv"), cost_bps_column="c", **keys)
    with pytest.raises(InputError, match=says) as caught:
        load_development(config, 1, 0)
    assert "line 9" in str(caught.value)


def test_rows_of_a_table_pay_what_its_column_says_and_new_rows_need_no_costs(tmp_path):
    rng, n = np.random.default_rng(0), 400
    frame = pd.DataFrame({"x": rng.normal(size=n), "y": rng.integers(0, 2, n), "r": rng.normal(0, 0.01, n)})
    frame = frame.assign(t=pd.bdate_range("2020-01-01", periods=n), c=rng.uniform(0, 50, n))
    frame.to_csv(tmp_path / "t.csv", index=False)
    named = {"label_column": "y", "time_column": "t", "forward_return_column": "r", "cost_bps_column": "c"}
    config = DataConfig(source="table", path=str(tmp_path / "t.csv"), label="column", **named)
    development = load_development(config, 1, 0)
    assert development.feature_names == ("x",)
    trading = SimulatedTrading.of(development, development.rows, config.trading)
    np.testing.assert_allclose(trading.simulator.bars.cost, frame["c"][: len(development.y)] * 1e-4)
    schema = Schema(config, development.feature_names, {}, (), 1)
    for columns in (["x", "t"], ["x", "t", "c"]):
        (part,) = table_rows(iter([frame_table(frame[columns], schema.required)]), schema)
        assert len(part.rows) == n
