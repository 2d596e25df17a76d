"""Forward returns that span several rows are told from those of one row, and never compounded row by row."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.recompute_returns import table_returns
from scripts.config.experiment import DataConfig
from scripts.data.loading import load_development, load_sealed
from scripts.errors import InputError
from scripts.statistics.bars import Bars
from scripts.statistics.overlapping_returns import find_overlap
from scripts.statistics.returns import TradingRules, summarise, total_return
from scripts.statistics.trading_simulator import ReturnSimulator
from scripts.training.trading import SimulatedTrading


def panel(rng, n_groups, n_dates, spans=1, common=0.5):
    """Returns over `spans` rows of groups that move together, with fat tails and changing volatility."""
    n = n_dates + spans - 1
    volatility = 0.01 * np.exp(np.cumsum(0.05 * rng.standard_normal(n)))
    shared, own = rng.standard_t(4, n), rng.standard_t(4, (n_groups, n))
    growth = np.log1p(np.clip(volatility * (np.sqrt(common) * shared + np.sqrt(1 - common) * own), -0.5, 0.5))
    total = np.concatenate([np.zeros((n_groups, 1)), growth.cumsum(axis=1)], axis=1)
    return np.exp(total[:, spans:] - total[:, :-spans]) - 1


def overlap(returns):
    n_groups, n_dates = returns.shape
    return find_overlap(returns.ravel(), np.repeat(np.arange(n_groups), n_dates), np.tile(np.arange(n_dates), n_groups))


@pytest.mark.parametrize(("n_groups", "n_dates"), [(1, 100), (1, 400), (5, 300)])
def test_returns_of_one_row_are_taken_for_overlapping_in_one_case_of_a_hundred_at_most(n_groups, n_dates):
    rng = np.random.default_rng(1)
    assert sum(overlap(panel(rng, n_groups, n_dates)) is not None for _ in range(300)) <= 6


@pytest.mark.parametrize(("spans", "least", "most"), [(2, 2, 2), (3, 2, 4), (5, 3, 8), (20, 10, 40)])
def test_overlapping_returns_are_found_in_a_few_hundred_rows_with_the_rows_they_span(spans, least, most):
    rng = np.random.default_rng(2)
    found = [overlap(panel(rng, 1, 400, spans)) for _ in range(60)]
    rows = [one.rows for one in found if one is not None]
    assert len(rows) >= 57 and least <= np.median(rows) <= most


def test_rows_of_unknown_return_and_other_groups_are_no_neighbours():
    rng = np.random.default_rng(3)
    returns = np.repeat(rng.standard_normal(200), 2)  # equal neighbours, each a group of its own
    group, date = np.tile([0, 1], 200), np.repeat(np.arange(200), 2)
    order = np.lexsort((date, group))
    assert find_overlap(returns[order], group[order], date[order]) is None
    alternating = np.where(np.arange(400) % 2 == 0, returns, np.nan)
    assert find_overlap(alternating, np.zeros(400, dtype=int), np.arange(400)) is None
    assert find_overlap(np.ones(400), np.zeros(400, dtype=int), np.arange(400)) is None


def write_table(path, spans, n_groups=1, named=True):
    rng = np.random.default_rng(4)
    returns, n = panel(rng, n_groups, 400, spans), 400 * n_groups
    frame = pd.DataFrame(
        {
            "time": np.tile(pd.bdate_range("2018-01-01", periods=400).strftime("%Y-%m-%d"), n_groups),
            "x": rng.standard_normal(n),
            "ret": returns.ravel(),
            "y": rng.integers(0, 2, n),
        }
    )
    if named:
        frame["who"] = np.repeat(np.arange(n_groups), 400)
    frame.to_csv(path, index=False)
    group = {"group_column": "who"} if named else {}
    return {"path": str(path), "time_column": "time", "forward_return_column": "ret"} | group


def load(values, **others):
    return load_development(DataConfig(source="table", label="column", label_column="y", **values, **others), 1, 0)


@pytest.mark.parametrize(("n_groups", "named"), [(1, True), (3, True), (3, False)])
def test_a_table_with_returns_over_several_rows_is_refused_unless_it_says_so(tmp_path, n_groups, named):
    values = write_table(tmp_path / "a.csv", 5, n_groups, named)
    with pytest.raises(InputError, match=r"column ret: has an autocorrelation of 0\.[78].*over about [3-8] rows each"):
        load(values)
    assert load(values, forward_return_rows=1).forward_return.shape == (320 * n_groups,)
    assert load(write_table(tmp_path / "b.csv", 1, n_groups, named)).notes


def test_the_rows_that_a_return_spans_need_returns():
    with pytest.raises(ValueError, match="forward_return_rows needs `forward_return_column`"):
        DataConfig(source="table", path="a.csv", label="column", label_column="y", forward_return_rows=5)


def test_books_beside_a_ladder_earn_what_the_rows_earn():
    """Two groups that gain 3 % over any 3 rows: 13 rows hold four returns that follow each other."""
    date, ticker = np.tile(np.arange(13), 2), np.repeat([0, 1], 13)
    bars = Bars.of_returns(date, ticker, np.full(26, 0.03), rows=3)
    simulator = ReturnSimulator(bars, TradingRules())
    assert total_return(simulator.buy_and_hold().net) == pytest.approx(1.03**4 - 1.0, abs=1e-12)
    always = simulator.run(np.ones(26))
    np.testing.assert_allclose(simulator.equal_weight().net, always.net, atol=1e-12)
    assert total_return(always.net) > 0.1


def ladder_by_hand(positions, returns, span, cost):
    """Net return of each row of a book that holds every decision for `span` rows; lists by group, then by row."""
    n_groups, n_rows = len(returns), len(returns[0])
    bought = np.where(np.isfinite(returns), positions, 0.0).tolist()
    cash, value, net = 1.0, [0.0] * n_groups, []
    for row in range(n_rows):
        capital, traded = cash + sum(value), 0.0
        for g in range(n_groups):
            target = sum(bought[g][max(0, row - span + 1) : row + 1]) / span * capital / n_groups
            traded += abs(target - value[g])
            cash, value[g] = cash - (target - value[g]), target
        for g in range(n_groups):
            ended = row - span + 1
            if ended >= 0 and bought[g][ended]:
                value[g] += bought[g][ended] * returns[g][ended] / span * capital / n_groups
            if row == n_rows - 1:
                traded, cash, value[g] = traded + abs(value[g]), cash + value[g], 0.0
        cash -= cost * traded
        net.append((cash + sum(value)) / capital - 1)
    return net


@pytest.mark.parametrize("cost_bps", [0.0, 30.0])
def test_a_decision_is_held_for_its_rows_also_over_those_without_a_known_return(cost_bps):
    rng, n, span = np.random.default_rng(5), 15, 3
    returns, positions = rng.normal(0, 0.05, (2, n)), rng.choice([-1.0, 0.0, 1.0], (2, n))
    returns[:, n - span :] = np.nan  # nobody knows the return over three rows from the last three on
    returns[0, 6] = np.nan
    positions[:, [0, n - span - 1]] = 1.0
    date, ticker = np.tile(np.arange(n), 2), np.repeat([0, 1], n)
    decided = np.flatnonzero(date < n - span)
    simulator = ReturnSimulator(
        Bars.of_returns(date, ticker, returns.ravel(), cost_bps, rows=span), TradingRules(), decided
    )
    positions[:, n - span :] = 0.0
    series = simulator.run(positions.ravel()[decided])
    # The last decision, in row 11, is sold in row 14, which has no fill after it.
    by_hand = ladder_by_hand(positions[:, :-1].tolist(), returns[:, :-1].tolist(), span, cost_bps * 1e-4)
    np.testing.assert_allclose(series.net, by_hand, atol=1e-12)
    assert len(series.net) == n - 1


@pytest.mark.parametrize("rows", [1, 3])
def test_recomputed_returns_of_a_table_agree_where_rows_are_missing_and_groups_end(tmp_path, rows):
    values = write_table(tmp_path / "a.csv", rows, n_groups=3) | {
        "forward_return_rows": rows,
        "horizon": rows,
        "cost_bps_column": "c",
    }
    frame, rng = pd.read_csv(tmp_path / "a.csv"), np.random.default_rng(6)
    frame.loc[rng.choice(1200, 60, replace=False), "ret"] = np.nan
    frame["c"] = rng.uniform(0, 90, len(frame))
    frame = frame[(frame["who"] != 1) | (frame["time"] < "2019-06-20")].drop(index=[390, 391])
    frame["y"] = frame["y"].astype(object).where(rng.random(len(frame)) > 0.05, "")
    frame.to_csv(tmp_path / "a.csv", index=False)
    config = DataConfig(source="table", label="column", label_column="y", **values)
    sealed = load_sealed(config, 1, load_development(config, 1, 0), 0)
    trading = SimulatedTrading.of(sealed, sealed.rows, config.trading)
    position = rng.choice([-1.0, 1.0], len(sealed.rows))
    predictions = pd.DataFrame(
        {
            "date": sealed.dates[sealed.date[sealed.rows]],
            "ticker": [sealed.tickers[k] for k in sealed.ticker[sealed.rows]],
            "position": position,
        }
    )
    reported = {"periods_per_year": 252.0}
    found = {name: value for name, value, _ in table_returns(tmp_path, config, reported, predictions)}
    summary = vars(summarise(trading.simulator.run(position), 252.0))
    assert {name: summary[name] for name in found if name in summary} == pytest.approx(
        {name: value for name, value in found.items() if name in summary}, abs=1e-10
    )
    assert {"net", "gross", "sharpe", "turnover", "n_dates"} <= found.keys()
