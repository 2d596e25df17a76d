"""Simulated returns agree with the reference cases, and with a plain loop on ragged panels."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.config import DataConfig
from scripts.data.features import index_bars
from scripts.data.labels import market_labels
from scripts.evaluation.returns import (
    ReturnSeries,
    ReturnSimulator,
    ReturnSummary,
    TradingRules,
    drawdown,
    equity_curve,
    positions,
    returns_by_label,
    returns_by_ticker,
    rule_positions,
    summarise,
    total_return,
)
from tests.reference_cases import assert_agrees, reference_cases

CASES = reference_cases("returns")
PANEL = next(case["inputs"] for case in CASES if case["name"] == "simulated_returns_3x12")


def panel_rows(values: dict[str, list[float | None]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Days from 1, tickers and values of the rows that exist."""
    rows = [
        (day, ticker, value)
        for ticker, series in enumerate(values.values())
        for day, value in enumerate(series, 1)
        if value is not None
    ]
    day, ticker, value = zip(*rows, strict=True)
    return np.array(day), np.array(ticker), np.array(value, dtype=float)


def simulator(cost_bps: float = PANEL["cost_bps"]) -> ReturnSimulator:
    day, ticker, forward = panel_rows(PANEL["forward_return_bp"])
    return ReturnSimulator(day, ticker, forward * 1e-4, TradingRules(cost_bps))


def summary_fields(summary: ReturnSummary, gross_sharpe: float | None) -> dict[str, Any]:
    return {
        "days": summary.n_dates,
        "cumulative_net_return": summary.net,
        "mean_net_return": summary.mean_net,
        "annualised_sharpe": summary.sharpe,
        "annualised_sharpe_gross": gross_sharpe,
        "max_drawdown": summary.max_drawdown,
        "turnover_per_day": summary.turnover,
        "hit_rate": summary.hit_rate,
        "active_share": summary.exposure,
        "break_even_cost_bps": summary.break_even_cost_bps,
    }


def summarised(position: np.ndarray) -> dict[str, Any]:
    free = summarise(simulator(0.0).run(position), PANEL["periods_per_year"])
    return summary_fields(summarise(simulator().run(position), PANEL["periods_per_year"]), free.sharpe)


def both(p_up: Any) -> np.ndarray:
    up = np.asarray(p_up, dtype=float)
    return np.column_stack([1 - up, up])


def positions_from_probabilities(inputs: dict[str, Any]) -> dict[str, Any]:
    return {
        "two": positions(both(inputs["p_up"]), (-1, 1), TradingRules(margin=inputs["margin"])).tolist(),
        # The case states its margin for two classes alone; with three, a shared maximum decides.
        "three": positions(np.array(inputs["p_three"]), (-1, 0, 1), TradingRules()).tolist(),
    }


def forward_returns(inputs: dict[str, Any]) -> dict[str, Any]:
    """Through the labels of the data part: the simulator takes forward returns as given."""
    calendar = pd.bdate_range("2020-01-01", periods=9)
    rows = [
        {"date": calendar[int(day)], "ticker": t, "open": float(o), "close": float(inputs["close"][t][day]), "day": day}
        for t, opens in inputs["open"].items()
        for day, o in opens.items()
    ]
    frame = pd.DataFrame(rows)
    found: dict[str, Any] = {}
    for fill in ("next_open", "close_to_close"):
        config = DataConfig(source="market", path="prices.csv", fill=fill)
        earned = market_labels(frame.drop(columns="day"), index_bars(frame), config).forward_return
        found[fill] = {t: {} for t in inputs["open"]}
        for ticker, day, value in zip(frame["ticker"], frame["day"], earned, strict=True):
            found[fill][ticker][day] = None if math.isnan(value) else value
    return found


def simulated_3x12(inputs: dict[str, Any]) -> dict[str, Any]:
    _, ticker, p_up = panel_rows(inputs["p_up"])
    position = positions(both(p_up), (-1, 1), TradingRules(margin=inputs["margin"]))
    series = simulator().run(position)
    columns = [series.dates, series.rows, series.gross, series.turnover, series.net]
    curves = [equity_curve(series.net), drawdown(series.net)]
    held = {name: position[ticker == k].tolist() for k, name in enumerate(inputs["p_up"])}
    held["B"].insert(5, None)
    return {
        "positions": held,
        "daily_day_tickers_gross_turnover_net_equity_drawdown": np.column_stack([*columns, *curves]).tolist(),
        "summary": summarised(position),
    }


def always_long(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"summary": summarised(np.ones(len(panel_rows(PANEL["p_up"])[0])))}


def drawdown_from_one(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"max_drawdown": drawdown(np.array(inputs["net_returns"])).max()}


CHECKS = {
    "positions_from_probabilities": positions_from_probabilities,
    "forward_returns": forward_returns,
    "simulated_returns_3x12": simulated_3x12,
    "simulated_returns_always_long": always_long,
    "drawdown_starts_at_one": drawdown_from_one,
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_reference_case(case: dict[str, Any]) -> None:
    assert_agrees(CHECKS[case["name"]](case["inputs"]), case["expected"], case["tolerance"])


def plain_loop(
    date: np.ndarray, ticker: np.ndarray, forward: np.ndarray, position: np.ndarray, cost_bps: float
) -> tuple[list[float], list[float], list[float]]:
    """Date by date as the definition reads."""
    held: dict[int, float] = {}
    gross, turnover = [], []
    for day in sorted({int(d) for d, f in zip(date, forward, strict=True) if not math.isnan(f)}):
        rows = [i for i in range(len(date)) if date[i] == day and not math.isnan(forward[i])]
        gross.append(sum(position[i] * forward[i] for i in rows) / len(rows))
        turnover.append(sum(abs(position[i] - held.get(int(ticker[i]), 0.0)) for i in rows) / len(rows))
        held |= {int(ticker[i]): position[i] for i in rows}
    return gross, turnover, [g - cost_bps * 1e-4 * u for g, u in zip(gross, turnover, strict=True)]


def random_panel(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A ragged panel in random order with unknown forward returns: date, ticker, forward return, position."""
    rng = np.random.default_rng(seed)
    cells = np.flatnonzero(rng.random(60) < 0.7)
    rng.shuffle(cells)
    forward = np.where(rng.random(len(cells)) < 0.2, np.nan, rng.normal(size=len(cells)) * 0.02)
    return cells // 4, cells % 4 - 1, forward, rng.choice([-1.0, 0.0, 1.0], size=len(cells))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_simulator_equals_a_plain_loop_on_ragged_panels_in_any_order(seed: int) -> None:
    date, ticker, forward, position = random_panel(seed)
    series = ReturnSimulator(date, ticker, forward, TradingRules(7.0)).run(position)
    gross, turnover, net = plain_loop(date, ticker, forward, position, 7.0)
    np.testing.assert_allclose(series.gross, gross, atol=1e-15)
    np.testing.assert_allclose(series.turnover, turnover, atol=1e-15)
    np.testing.assert_allclose(series.net, net, atol=1e-15)
    assert series.rows.sum() == np.isfinite(forward).sum()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_at_the_break_even_cost_nothing_is_left(seed: int) -> None:
    date, ticker, forward, position = random_panel(seed)
    cost = summarise(ReturnSimulator(date, ticker, forward, TradingRules()).run(position), 252).break_even_cost_bps
    if cost is None:
        assert not position[np.isfinite(forward)].any()
    else:
        series = ReturnSimulator(date, ticker, forward, TradingRules(cost)).run(position)
        assert series.net.sum() == pytest.approx(0, abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=30))
def test_equity_and_drawdown_follow_the_returns(returns: list[float]) -> None:
    net = np.array(returns)
    assert equity_curve(net)[-1] - 1 == pytest.approx(total_return(net), abs=1e-12)
    worst = max(1 - after / before for before, after in pairs([1.0, *equity_curve(net)]))
    assert drawdown(net).max() == pytest.approx(worst, abs=1e-12)
    assert (drawdown(net) >= 0).all()


def pairs(values: list[float]) -> list[tuple[float, float]]:
    return [(values[i], values[j]) for i in range(len(values)) for j in range(i, len(values))]


def test_never_holding_anything_leaves_ratios_undefined() -> None:
    summary = summarise(simulator().run(np.zeros(35)), 252)
    assert (summary.net, summary.max_drawdown, summary.exposure) == (0.0, 0.0, 0.0)
    assert (summary.sharpe, summary.sharpe_se, summary.break_even_cost_bps, summary.hit_rate) == (None,) * 4


def test_rows_without_any_known_return_give_an_empty_series() -> None:
    unknown = np.full(3, np.nan)
    empty = ReturnSimulator(np.arange(3), np.zeros(3, dtype=int), unknown, TradingRules(5.0)).run(np.ones(3))
    summary = summarise(empty, 252)
    assert (summary.n_dates, summary.net, summary.mean_net, summary.turnover) == (0, 0.0, None, None)


def test_standard_error_of_a_yearly_sharpe_ratio_is_that_of_the_daily_one_scaled() -> None:
    rng = np.random.default_rng(4)
    net = rng.normal(0.001, 0.01, size=4000)
    zero, one = np.zeros(4000), np.ones(4000, dtype=int)
    summary = summarise(ReturnSeries(np.arange(4000), net, net, zero, one, one, one), 252)
    # For independent normal returns with a small Sharpe ratio the standard error is about sqrt(1 / n) per day.
    assert summary.sharpe_se == pytest.approx(math.sqrt(252 / 4000), rel=0.03)


def test_a_tie_is_no_position() -> None:
    rules = TradingRules()
    assert positions(np.array([[0.5, 0.5], [0.4, 0.6]]), (-1, 1), rules).tolist() == [0, 1]
    assert positions(np.array([[0.4, 0.2, 0.4], [0.1, 0.2, 0.7]]), (-1, 0, 1), rules).tolist() == [0, 1]


def test_with_more_classes_the_margin_is_the_lead_over_the_next_class() -> None:
    probabilities = np.array([[0.1, 0.42, 0.48], [0.1, 0.35, 0.55], [0.5, 0.1, 0.4]])
    assert positions(probabilities, (-1, 0, 1), TradingRules(margin=0.15)).tolist() == [0, 1, 0]


def test_proportional_positions_are_the_mean_of_the_class_positions() -> None:
    rules = TradingRules(position="proportional")
    two = positions(both([0.5, 0.75, 0.125]), (-1, 1), rules)
    three = positions(np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]]), (-1, 0, 1), rules)
    assert two.tolist() == [0, 0.5, -0.75]
    assert three.tolist() == pytest.approx([0.3, -0.5])


def test_proportional_positions_below_the_margin_are_none() -> None:
    rules = TradingRules(position="proportional", margin=0.2)
    assert positions(both([0.59, 0.75, 0.375]), (-1, 1), rules).tolist() == [0, 0.5, -0.25]


def test_no_ticker_takes_more_than_its_share_of_the_capital() -> None:
    # Day 1 has two tickers, day 2 one, day 3 one whose return is unknown; a share of at most 0.4.
    date, ticker = np.array([1, 1, 2, 3]), np.array([0, 1, 0, 0])
    forward = np.array([0.01, -0.02, 0.03, np.nan])
    trading = ReturnSimulator(date, ticker, forward, TradingRules(10.0, max_weight=0.4))
    wished = np.array([1.0, -0.5, 1.0, -1.0])
    assert trading.limited(wished).tolist() == [0.8, -0.5, 0.4, -0.4]
    series = trading.run(wished)
    assert series.gross.tolist() == pytest.approx([(0.8 * 0.01 + 0.5 * 0.02) / 2, 0.4 * 0.03])
    assert series.turnover.tolist() == pytest.approx([(0.8 + 0.5) / 2, 0.4])
    assert series.net.tolist() == pytest.approx([0.009 - 0.00065, 0.012 - 0.0004])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 100_000), max_weight=st.floats(0.01, 1.0))
def test_the_limit_holds_on_every_date_and_leaves_smaller_positions_alone(seed: int, max_weight: float) -> None:
    date, ticker, forward, position = random_panel(seed)
    position = position * np.random.default_rng(seed).random(len(position))
    limited = ReturnSimulator(date, ticker, forward, TradingRules(max_weight=max_weight)).limited(position)
    known = np.isfinite(forward)
    for day in np.unique(date[known]):
        rows = known & (date == day)
        share = position[rows] / rows.sum()
        np.testing.assert_allclose(limited[rows] / rows.sum(), np.clip(share, -max_weight, max_weight), atol=1e-15)


def test_the_config_makes_the_trading_rules() -> None:
    config = DataConfig(cost_bps=2.0, margin=0.1, position="proportional", max_weight=0.25)
    assert config.trading == TradingRules(2.0, 0.1, "proportional", 0.25)


def panel_positions() -> np.ndarray:
    return positions(both(panel_rows(PANEL["p_up"])[2]), (-1, 1), TradingRules(margin=PANEL["margin"]))


def test_parts_by_label_of_date_agree_with_the_table_worked_by_hand() -> None:
    label = np.where(np.arange(1, 13) <= 5, 2019, 2020)
    parts = returns_by_label(simulator().run(panel_positions()), label, 252)
    first, second = parts["2019"], parts["2020"]
    assert list(parts) == ["2019", "2020"]
    assert (first.n_dates, second.n_dates) == (5, 7)
    assert (1 + first.net, 1 + second.net) == pytest.approx((1.0024866674, 1.01410048796 / 1.0024866674))
    assert 1 + first.gross == pytest.approx(1.002 * 1.003 * 1.002 * 1.001 * 0.996)
    assert (first.turnover, second.turnover) == pytest.approx((3 / 5, (4.5 + 1 / 3) / 7))
    assert (first.hit_rate, second.hit_rate) == pytest.approx((8 / 14, 9 / 17))
    # Net returns in basis points: 16 2/3, 28 1/3, 16 2/3, 6 2/3, -43 1/3, so mean 5 and variance 28400 / 9 / 4.
    assert first.sharpe == pytest.approx(5 / math.sqrt(28400 / 36) * math.sqrt(252))
    assert (first.max_drawdown, second.max_drawdown) == pytest.approx((0.00433333333333, 0.00466591666667))


def test_a_ticker_by_itself_agrees_with_its_row_of_the_table_worked_by_hand() -> None:
    alone = returns_by_ticker(simulator(), panel_positions(), 252)
    assert list(alone) == [0, 1, 2]
    gross_bp = np.array([-30, 90, 60, 60, -120, 90, -30, -60, 90, 120, -45])
    turnover = np.array([1, 0, 2, 0, 0, 0, 2, 0, 0, 2, 0])
    net = (gross_bp - 5 * turnover) * 1e-4
    b = alone[1]
    assert (b.n_dates, b.hit_rate, b.exposure) == (11, 6 / 11, 1.0)
    assert (b.turnover, b.break_even_cost_bps) == pytest.approx((7 / 11, 225 / 7))
    assert (b.gross, b.net) == pytest.approx((np.prod(1 + gross_bp * 1e-4) - 1, np.prod(1 + net) - 1))
    # Net returns sum to 190 basis points, their squares to 65350.
    assert b.sharpe == pytest.approx((190 / 11) / math.sqrt((65350 - 190**2 / 11) / 10) * math.sqrt(252))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_parts_make_up_the_whole(seed: int) -> None:
    date, ticker, forward, position = random_panel(seed)
    trading = ReturnSimulator(date, ticker, forward, TradingRules(7.0, max_weight=0.3))
    series = trading.run(position)
    years = returns_by_label(series, series.dates // 5, 252)
    assert math.prod(1 + part.net for part in years.values()) == pytest.approx(1 + summarise(series, 252).net)
    each = trading.run_each_ticker(position)
    net = np.zeros(len(series.dates))
    for alone in each.values():
        net[np.searchsorted(series.dates, alone.dates)] += alone.net
    np.testing.assert_allclose(net / series.rows, series.net, atol=1e-15)
    assert sum(alone.hits.sum() for alone in each.values()) == series.hits.sum()


def test_a_rule_holds_the_position_of_the_class_it_says_and_nothing_where_it_says_none() -> None:
    assert rule_positions(np.array([0, 2, -1, 1]), (-1.0, 0.5, 1.0)).tolist() == [-1.0, 1.0, 0.0, 0.5]
