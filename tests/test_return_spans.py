"""Forward returns that span several rows are told from those of one row, and never compounded row by row."""

import numpy as np
import pandas as pd
import pytest

from scripts.config import DataConfig
from scripts.data.loading import load_development
from scripts.errors import InputError
from scripts.evaluation.overlap import find_overlap
from scripts.evaluation.returns import TradingRules, total_return
from scripts.evaluation.simulator import Bars, ReturnSimulator


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
