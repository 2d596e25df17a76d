"""The book of simulated returns agrees with a ledger of cash and shares that is kept trade by trade."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scripts.statistics.bars import Bars
from scripts.statistics.returns import TradingRules, equity_curve
from scripts.statistics.trading_simulator import ReturnSimulator
from tests.statistics.cash_ledger import Bar, Decision, Ledger, capital_by_day

N_DAYS = 24


class RandomMarket:
    """Tickers with listings, endings, halts and absent days, and decisions of all kinds, in plain lists."""

    def __init__(self, seed, calm=False):
        rng = np.random.default_rng(seed)
        self.slices = int(rng.integers(1, 4))
        self.bars, self.decisions, self.listing = {}, {}, {}
        for name in range(int(rng.integers(1, 5))):
            begin = int(rng.integers(0, 12)) if rng.random() < 0.5 else 0
            end = int(rng.integers(begin + 2, N_DAYS + 1)) if rng.random() < 0.5 else N_DAYS
            days = [d for d in range(begin, end) if rng.random() > 0.3 and not begin + 4 < d < begin + 9 * (name == 1)]
            if len(days) < 2:
                days = [begin, begin + 1]
            prices = 100 * np.exp(np.cumsum(rng.normal(0, 0.02 if calm else 0.3, len(days))))
            cost = rng.choice([0.0, 0.0005, 0.03, 0.4], len(days) if rng.random() < 0.5 else 1)
            cost = np.resize(cost, len(days) - 1).tolist()
            own = [
                Bar(days[k], prices[k], days[k + 1], prices[k + 1], *np.append(cost, cost[-1])[k : k + 2].tolist())
                for k in range(len(cost))
            ]
            self.bars[name], self.listing[name] = own, (days[0], days[-1])
            self.decisions[name] = [
                Decision(
                    float(rng.choice([-1.0, 0.0, 0.37, 1.0])),
                    int(rng.integers(0, self.slices + 1)),
                    float(bar.price * np.exp(rng.normal(0, 0.2))) if rng.random() < 0.3 else None,
                )
                for bar in own
            ]
        self.fee = float(rng.choice([0.0, 0.001]))

    def n_listed(self, day):
        return max(1, sum(first <= day <= last for first, last in self.listing.values()))

    def simulator(self):
        """The same market as arrays in any order, and the position of each row."""
        rows = [(name, k) for name, own in self.bars.items() for k in range(len(own))]
        np.random.default_rng(len(rows)).shuffle(rows)
        bars = [self.bars[name][k] for name, k in rows]
        decisions = [self.decisions[name][k] for name, k in rows]
        leave = []
        for (name, k), decision in zip(rows, decisions, strict=True):
            last = self.bars[name][min(k + max(1, decision.n_bars), len(self.bars[name])) - 1]
            leave.append(np.nan if decision.leave_price is None else decision.leave_price / last.price - 1)
        arrays = Bars(
            ticker=np.array([name for name, _ in rows]),
            filled=np.array([bar.day for bar in bars]),
            until=np.array([bar.next_day for bar in bars]),
            step=np.array([bar.next_price / bar.price - 1 for bar in bars]),
            listed=np.array([self.n_listed(bar.day) for bar in bars]),
            bars=np.array([d.n_bars for d in decisions]),
            leave=np.array(leave),
            cost=np.array([bar.cost for bar in bars]),
            slices=self.slices,
            fee=self.fee,
        )
        return ReturnSimulator(arrays, TradingRules()), np.array([d.position for d in decisions])


@settings(max_examples=250)
@given(seed=st.integers(0, 10**6), calm=st.booleans())
def test_capital_equals_that_of_a_ledger_of_cash_and_shares(seed, calm):
    market = RandomMarket(seed, calm)
    days, capital, traded = capital_by_day(market.bars, market.decisions, market.n_listed, market.slices, market.fee)
    simulator, position = market.simulator()
    series = simulator.run(position)
    if not len(series.dates):
        assert capital == [1.0] * len(capital)
        return
    at = dict(zip(days, capital, strict=False))
    at[simulator.last_date] = capital[-1]  # the last sales are booked on the date before
    ends = [*series.dates[1:].tolist(), simulator.last_date]
    found = equity_curve(series.net)
    for end, value in zip(ends, found, strict=True):
        known = at.get(end, 0.0)
        assert value == pytest.approx(max(0.0, known), abs=1e-9, rel=1e-9)
        if known <= 0.0:
            break
    if min(capital) > 0:
        flow = dict(zip(days, traded, strict=False))
        flow[series.dates[-1]] += sum(value for day, value in flow.items() if day > series.dates[-1])
        before = [1.0, *found[:-1]]
        for day, value, turnover in zip(series.dates.tolist(), before, series.turnover, strict=True):
            assert turnover * value == pytest.approx(flow[day], abs=1e-9, rel=1e-9)
    np.testing.assert_allclose(series.net, np.maximum(-1, series.gross - series.costs - series.fees), atol=1e-12)


@settings(max_examples=150)
@example(seed=1198)  # a period goes on when the book is closed, with another cost at its end
@given(seed=st.integers(0, 10**6))
def test_buying_and_holding_equals_a_ledger_that_buys_once(seed):
    market = RandomMarket(seed, calm=True)
    simulator, _ = market.simulator()
    if not len(simulator.dates):
        return
    series = simulator.buy_and_hold()
    first, last = int(simulator.dates[0]), simulator.last_date
    own = {n: [b for b in bars if b.day >= first and b.next_day <= last] for n, bars in market.bars.items()}
    bought = [n for n, bars in own.items() if bars and market.bars[n][0].day <= first]
    book = Ledger()
    for name in bought:
        book.buy(name, 1 / len(bought) / own[name][0].price, own[name][0].price, own[name][0].cost)
        book.buy(name, -book.shares[name], own[name][-1].next_price, own[name][-1].next_cost)
    assert equity_curve(series.net)[-1] == pytest.approx(book.cash, rel=1e-9)


@settings(max_examples=150)
@given(seed=st.integers(0, 10**6))
def test_the_equal_weight_book_pays_for_keeping_its_weights(seed):
    market = RandomMarket(seed, calm=True)
    simulator, _ = market.simulator()
    if not len(simulator.dates):
        return
    first, last = int(simulator.dates[0]), simulator.last_date
    own = {n: [b for b in bars if first <= b.day < last] for n, bars in market.bars.items()}
    own = {n: bars for n, bars in own.items() if bars}
    always = {n: [Decision(float(b.next_day <= last), 1) for b in bars] for n, bars in own.items()}
    _, capital, _ = capital_by_day(own, always, market.n_listed, 1)
    found = equity_curve(simulator.equal_weight().net)[-1]
    assert found == pytest.approx(max(0.0, capital[-1]), rel=1e-9)
