"""Positions, simulated returns and their figures agree with the reference cases and with what is worked by hand."""

import dataclasses
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from scripts.config.experiment import DataConfig
from scripts.data.features import index_bars
from scripts.data.labels import market_labels
from scripts.statistics.bars import Bars
from scripts.statistics.returns import (
    ReturnSeries,
    ReturnSummary,
    TradingRules,
    drawdown,
    equity_curve,
    net_by_date,
    positions,
    returns_by_label,
    rule_positions,
    summarise,
    total_return,
)
from scripts.statistics.sharpe import sharpe_with_error
from scripts.statistics.trading_simulator import ReturnSimulator
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
    return trading(day, ticker, forward * 1e-4, cost_bps)


def trading(
    date: np.ndarray, ticker: np.ndarray, forward: np.ndarray, cost_bps: float = 0.0, **rules: Any
) -> ReturnSimulator:
    return ReturnSimulator(Bars.of_returns(date, ticker, forward, cost_bps), TradingRules(cost_bps, **rules))


def summary_fields(summary: ReturnSummary) -> dict[str, Any]:
    return {
        "days": summary.n_dates,
        "cumulative_net_return": summary.net,
        "mean_net_return": summary.mean_net,
        "annualised_sharpe": summary.sharpe,
        "max_drawdown": summary.max_drawdown,
        "turnover_per_day": summary.turnover,
        "hit_rate": summary.hit_rate,
        "active_share": summary.exposure,
        "break_even_cost_bps": summary.break_even_cost_bps,
    }


def summarised(position: np.ndarray) -> dict[str, Any]:
    return summary_fields(summarise(simulator().run(position), PANEL["periods_per_year"]))


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


def random_panel(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A ragged panel in random order with unknown forward returns: date, ticker, forward return, position."""
    rng = np.random.default_rng(seed)
    cells = np.flatnonzero(rng.random(60) < 0.7)
    rng.shuffle(cells)
    forward = np.where(rng.random(len(cells)) < 0.2, np.nan, rng.normal(size=len(cells)) * 0.02)
    return cells // 4, cells % 4 - 1, forward, rng.choice([-1.0, 0.0, 1.0], size=len(cells))


def test_the_break_even_cost_is_what_the_turnover_could_have_paid() -> None:
    series = simulator().run(panel_positions())
    cost = summarise(series, 252).break_even_cost_bps
    assert cost is not None
    assert (series.gross - cost * 1e-4 * series.turnover).sum() == pytest.approx(0, abs=1e-12)
    assert total_return(simulator(cost).run(panel_positions()).net) == pytest.approx(0, abs=2e-4)


def test_capital_that_is_lost_stays_lost() -> None:
    assert total_return(np.array([-1.5, -1.5])) == -1.0
    assert equity_curve(np.array([0.5, -1.0, 3.0])).tolist() == [1.5, 0.0, 0.0]
    assert drawdown(np.array([-1.5, 1.0])).tolist() == [1.0, 1.0]


def test_a_short_position_that_more_than_doubles_ruins_the_book() -> None:
    forward = np.array([1.5, -0.5, 0.2])
    series = trading(np.arange(3), np.zeros(3, dtype=int), forward).run(np.array([-1.0, 1.0, 1.0]))
    assert series.net.tolist() == [-1.0, 0.0, 0.0]
    assert series.turnover[1:].tolist() == [0.0, 0.0]


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
    empty = trading(np.arange(3), np.zeros(3, dtype=int), unknown, 5.0).run(np.ones(3))
    summary = summarise(empty, 252)
    assert (summary.n_dates, summary.net, summary.mean_net, summary.turnover) == (0, 0.0, None, None)


def series_of(net: np.ndarray, overlap: int = 1) -> ReturnSeries:
    zero, one = np.zeros(len(net)), np.ones(len(net), dtype=int)
    return ReturnSeries(np.arange(len(net)), net, net, zero, zero, zero, one, one, one, one, overlap)


def test_standard_error_of_a_yearly_sharpe_ratio_is_that_of_the_daily_one_scaled() -> None:
    net = np.random.default_rng(4).normal(0.001, 0.01, size=4000)
    summary = summarise(series_of(net), 252)
    # For independent normal returns with a small Sharpe ratio the standard error is about sqrt(1 / n) per day.
    assert summary.sharpe_se == pytest.approx(math.sqrt(252 / 4000), rel=0.1)
    assert summary.volatility == pytest.approx(0.01 * math.sqrt(252), rel=0.03)


def test_yearly_figures_are_unknown_without_a_number_of_periods() -> None:
    summary = summarise(series_of(np.array([0.01, -0.02, 0.03])), None)
    assert (summary.sharpe, summary.sharpe_se, summary.volatility) == (None, None, None)


def test_overlapping_returns_do_not_raise_the_sharpe_ratio() -> None:
    moves = np.random.default_rng(1).normal(0.0005, 0.01, size=20_004)
    spread = np.convolve(moves, np.full(5, 0.2), "valid")
    plain = summarise(series_of(moves), 252).sharpe
    assert plain is not None
    assert summarise(series_of(spread, 5), 252).sharpe == pytest.approx(plain, rel=0.05)
    assert summarise(series_of(spread), 252).sharpe == pytest.approx(plain * math.sqrt(5), rel=0.05)


def test_what_is_earned_after_the_last_date_counts_on_it() -> None:
    net = np.array([0.1, 0.2, 0.5, -0.5])
    moved = dataclasses.replace(series_of(net), dates=np.array([3, 4, 6, 9]))
    assert net_by_date(moved, np.array([2, 4, 5])).tolist() == pytest.approx([0.1, 0.2, 1.5 * 0.5 - 1])


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
    book = trading(date, ticker, forward, 10.0, max_weight=0.4)
    wished = np.array([1.0, -0.5, 1.0, -1.0])
    # Ticker 1 is listed on day 1 alone.
    assert book.limited(wished).tolist() == [0.8, -0.5, 0.4, -0.4]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 100_000), max_weight=st.floats(0.01, 1.0))
def test_the_limit_holds_on_every_date_and_leaves_smaller_positions_alone(seed: int, max_weight: float) -> None:
    date, ticker, forward, position = random_panel(seed)
    position = position * np.random.default_rng(seed).random(len(position))
    limited = trading(date, ticker, forward, max_weight=max_weight).limited(position)
    for day in np.unique(date):
        rows = date == day
        listed = sum(date[ticker == name].min() <= day <= date[ticker == name].max() for name in np.unique(ticker))
        np.testing.assert_allclose(
            limited[rows] / listed, np.clip(position[rows] / listed, -max_weight, max_weight), atol=1e-15
        )


def test_the_config_makes_the_trading_rules() -> None:
    config = DataConfig(cost_bps=2.0, margin=0.1, position="proportional", max_weight=0.25)
    assert config.trading == TradingRules(2.0, 0.1, "proportional", 0.25)


def panel_positions() -> np.ndarray:
    return positions(both(panel_rows(PANEL["p_up"])[2]), (-1, 1), TradingRules(margin=PANEL["margin"]))


def test_parts_by_label_of_date_agree_with_the_table_worked_by_hand() -> None:
    label = np.where(np.arange(1, 13) <= 5, 2019, 2020)
    parts = returns_by_label(simulator().run(panel_positions()), label, 252)
    first, second = parts["2019"], parts["2020"]
    whole = summarise(simulator().run(panel_positions()), 252)
    assert list(parts) == ["2019", "2020"]
    assert (first.n_dates, second.n_dates) == (5, 7)
    assert (1 + first.net) * (1 + second.net) == pytest.approx(1 + whole.net)
    assert (1 + first.gross) * (1 + second.gross) == pytest.approx(1 + whole.gross)
    assert 5 * first.turnover + 7 * second.turnover == pytest.approx(12 * whole.turnover)
    # 8 of 14 positions won on the first five days; later, one of 17 earned exactly 0.
    assert (first.hit_rate, second.hit_rate) == pytest.approx((8 / 14, 9 / 16))


def test_a_ticker_by_itself_agrees_with_its_row_of_the_table_worked_by_hand() -> None:
    alone = simulator().run_each_ticker(panel_positions())
    assert list(alone) == [0, 1, 2]
    gross = np.array([-30, 90, 60, 60, -120, 90, -30, -60, 90, 120, -45]) * 1e-4
    held = [-1, -1, 1, 1, 1, 1, -1, -1, -1, 1, 1]
    capital, drifted = [1.0], 0.0
    for k, earned in enumerate(gross):
        traded = abs(held[k] - drifted)
        last = abs(held[k] * (1 + held[k] * earned)) if k == 10 else 0.0
        capital.append(capital[-1] * (1 + earned - 5e-4 * (traded + last)))
        drifted = (held[k] + earned) / (1 + earned - 5e-4 * traded)
    # Absent on day 6, it keeps its position, and earns on the date before its next bar.
    own = alone[1]
    assert own.dates.tolist() == [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12]
    assert equity_curve(own.net).tolist() == pytest.approx(capital[1:])


def test_a_rule_holds_the_position_of_the_class_it_says_and_nothing_where_it_says_none() -> None:
    assert rule_positions(np.array([0, 2, -1, 1]), (-1.0, 0.5, 1.0)).tolist() == [-1.0, 1.0, 0.0, 0.5]


def test_the_error_of_a_sharpe_ratio_equals_that_of_statsmodels():
    """Numbers by statsmodels 0.15.0, `S_hac_simple(u, nlags=16)` with Bartlett weights.

    u holds d = r - mean(r) and d^2 - mean(d^2); g = (1 / s, -mean(r) / (2 s^3)) with s = std(r, ddof=1) is the gradient
    of the Sharpe ratio; the error is sqrt(g' S g) / n. 16 is the optimal block length, rounded.
    """
    k = np.arange(1, 61)
    returns = 0.01 * np.sin(0.7 * k) + 0.004 * np.cos(0.3 * k**2) + 0.0015
    found = sharpe_with_error(returns)
    assert found.sharpe == pytest.approx(0.28397239570475513, rel=1e-12)
    assert found.standard_error == pytest.approx(0.06070032047834564, rel=1e-12)


@pytest.mark.parametrize(("sharpe", "published"), [(0.5, 0.137), (1.0, 0.158), (1.5, 0.188)])
def test_the_error_of_a_sharpe_ratio_of_independent_returns_is_that_of_lo(sharpe, published):
    """Lo (2002), asymptotic errors of independent normal returns, 60 of them: sqrt((1 + S^2 / 2) / 60)."""
    n = 20_000
    normal = norm.ppf((np.arange(n) + 0.5) / n)
    returns = sharpe + np.random.default_rng(1).permutation(normal)
    error = sharpe_with_error(returns).standard_error * math.sqrt(n / 60)
    assert error == pytest.approx(published, rel=0.02)
