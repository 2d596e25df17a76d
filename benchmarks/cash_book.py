"""Portfolio of cash and shares in plain Python, made from docs/evaluation.md alone, with statistics of its returns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import mul
from statistics import fmean
from typing import NamedTuple


class Bar(NamedTuple):
    """A bar: place of its date in the calendar, its prices, and the cost of a traded value of 1."""

    date: int
    open: float
    high: float
    low: float
    close: float
    cost: float = 0.0


class Slice(NamedTuple):
    """A decision as it is traded: weight, first and last fill, and the price at which it is left after the last."""

    weight: float
    first: int
    last: int
    leave_price: float | None = None


class Fill(NamedTuple):
    """A fill of a ticker: price, slices held from it on, date of the next one, and the close of a last bar.

    `cost` is that of a traded value of 1 at the fill and before the next one, `last_cost` that of a sale at the end.
    """

    price: float
    held: tuple[float, ...]
    left: tuple[tuple[float, float], ...]  # weight and price of what is left before the next fill
    until: int
    last_close: float | None
    cost: float
    last_cost: float


@dataclass
class Account:
    """Cash, shares of each ticker, and the price at which each was last filled."""

    cash: float = 1.0
    shares: dict[str, float] = field(default_factory=dict)
    prices: dict[str, float] = field(default_factory=dict)
    traded: float = 0.0
    costs: float = 0.0

    def capital(self) -> float:
        """Return cash plus the value of all shares."""
        return self.cash + sum(count * self.prices[name] for name, count in self.shares.items())

    def trade(self, name: str, count: float, price: float, cost: float) -> None:
        """Buy so many shares, or sell if negative, and pay the cost of it."""
        self.costs += cost * abs(count * price)
        self.cash -= count * price + cost * abs(count * price)
        self.shares[name] = self.shares.get(name, 0.0) + count
        self.traded += abs(count * price)


class Order(NamedTuple):
    """What happens before the next fill of a ticker: shares that are left at a price and cost, and a borrowing fee."""

    due: int
    name: str
    shares: float
    price: float
    cost: float
    fee: float


class Book(NamedTuple):
    """Returns by date of fills after and before costs and fees, and traded value and costs as shares of the capital."""

    net: list[float]
    gross: list[float]
    turnover: list[float]
    costs: list[float]


Fills = Mapping[int, Mapping[str, Fill]]


def fills_of(bars: Sequence[Bar], slices: Sequence[Slice], at_open: bool) -> dict[int, Fill]:
    """Fill the slices of one ticker: date -> fill.

    Parameters
    ----------
    bars : sequence of Bar
    slices : sequence of Slice
        Fills are counted by bars.
    at_open : bool
        Fill at the open of a bar; otherwise at its close.
    """
    first = min((part.first for part in slices), default=len(bars))
    found = {}
    for k in range(first, len(bars) - (not at_open)):
        held = [part for part in slices if part.first <= k <= part.last]
        last = k + 1 == len(bars) - (not at_open)
        found[bars[k].date] = Fill(
            price=bars[k].open if at_open else bars[k].close,
            held=tuple(part.weight for part in held),
            left=tuple((s.weight, s.leave_price) for s in held if s.last == k and s.leave_price is not None),
            until=bars[k].date + 1 if k + 1 == len(bars) else bars[k + 1].date,
            last_close=bars[-1].close if last else None,
            cost=bars[k].cost,
            last_cost=bars[-1].cost,
        )
    return found


def run_book(
    fills: Fills, n_listed: Mapping[int, int], fee: float = 0.0, hold: bool = False, free: bool = False
) -> Book:
    """Trade all fills, date by date.

    Parameters
    ----------
    fills : mapping
        Date -> ticker -> fill.
    n_listed : mapping
        Date -> number of tickers that share the capital.
    fee : float
        Of a short value of 1, each date of the calendar.
    hold : bool
        Buy at the first fill of each ticker for a share of the starting capital and hold; otherwise trade at all fills.
    free : bool
        Trade without costs.
    """
    account, book, dates = Account(), Book([], [], [], []), sorted(fills)
    orders: list[Order] = []
    sales: dict[str, tuple[int, float, float]] = {}
    for place, date in enumerate(dates):
        after = dates[place + 1] if place + 1 < len(dates) else date + 1
        for name, fill in fills[date].items():
            account.prices[name] = fill.price
        capital, account.traded, account.costs = account.capital(), 0.0, 0.0
        today = {name: fill._replace(cost=0.0, last_cost=0.0) if free else fill for name, fill in fills[date].items()}
        for name, fill in today.items():
            worth = (1.0 if hold else capital) / n_listed[dates[0] if hold else date]
            orders += _trade(account, date, name, fill, worth, fee, hold)
        fees = 0.0
        for order in [order for order in orders if order.due <= after]:
            account.trade(order.name, -order.shares, order.price, order.cost)
            account.cash, fees = account.cash - order.fee, fees + order.fee
        orders = [order for order in orders if order.due > after]
        sales |= {
            name: (fill.until, fill.last_close, fill.last_cost) for name, fill in today.items() if fill.last_close
        }
        for name in [name for name, sale in sales.items() if sale[0] <= after]:
            account.trade(name, -account.shares[name], *sales.pop(name)[1:])
        account.prices |= {name: fill.price for name, fill in fills.get(after, {}).items()}
        net = account.capital() / capital - 1
        book.net.append(max(net, -1.0))
        book.turnover.append(account.traded / capital)
        book.costs.append(account.costs / capital)
        book.gross.append(net + (account.costs + fees) / capital)
        if net <= -1.0:
            break
    return book


def _trade(account: Account, date: int, name: str, fill: Fill, worth: float, fee: float, hold: bool) -> Iterator[Order]:
    before = account.shares.get(name, 0.0)
    target = sum(fill.held) * worth / fill.price
    if hold and before and fill.held:
        target = before
    account.trade(name, target - before, fill.price, fill.cost)
    for weight, price in fill.left:
        yield Order(fill.until, name, weight * worth / fill.price, price, fill.cost, 0.0)
    if fee and target < 0.0:
        yield Order(fill.until, name, 0.0, fill.price, 0.0, -target * fill.price * fee * (fill.until - date))


def total(returns: Sequence[float]) -> float:
    """Compound returns."""
    return math.prod(1 + one for one in returns) - 1


def max_drawdown(returns: Sequence[float]) -> float:
    """Return the largest loss from a peak, as a fraction of it; the start is a peak."""
    worth = peak = 1.0
    worst = 0.0
    for one in returns:
        worth *= 1 + one
        peak = max(peak, worth)
        worst = max(worst, 1 - worth / peak)
    return worst


def deviation(returns: Sequence[float], overlap: int = 1) -> float:
    """Return the standard deviation (ddof 1); for `overlap` above 1 that of Hansen and Hodrick (1980)."""
    mean, n = fmean(returns), len(returns)
    centred = [one - mean for one in returns]
    flat = long_run_variance(centred, [1.0] * overlap)
    if flat <= 0.0:
        flat = long_run_variance(centred, bartlett(2 * overlap))
    return math.sqrt(flat * n / (n - 1))


def bartlett(lags: int) -> list[float]:
    """Return the weights of Newey and West (1987) for the lags 0 to `lags`."""
    return [1 - lag / (lags + 1) for lag in range(lags + 1)]


def long_run_variance(centred: Sequence[float], weights: Sequence[float]) -> float:
    """Return the weighted sum of the autocovariances of both signs, divisor n."""
    n = len(centred)
    products = [sum(map(mul, centred[lag:], centred)) / n for lag in range(min(n, len(weights)))]
    return sum((2 if lag else 1) * weights[lag] * product for lag, product in enumerate(products))


def sharpe(returns: Sequence[float], periods: float, overlap: int = 1) -> tuple[float, float]:
    """Return a yearly Sharpe ratio and its standard error for dependent returns (Lo 2002, appendix)."""
    mean, spread, n = fmean(returns), deviation(returns, overlap), len(returns)
    z = [(one - mean) / spread for one in returns]
    ratio, square = mean / spread, fmean(one * one for one in z)
    influence = [one - ratio / 2 * (one * one - square) for one in z]
    lags = min(n - 1, max(int(4 * (n / 100) ** (2 / 9)), overlap - 1, optimal_block(influence)))
    error = math.sqrt(max(0.0, long_run_variance(influence, bartlett(lags))) / n)
    return ratio * math.sqrt(periods), error * math.sqrt(periods)


def optimal_block(values: Sequence[float]) -> int:
    """Return the block length of the circular bootstrap of a mean (Politis and White 2004; Patton and others 2009)."""
    n, mean = len(values), fmean(values)
    centred = [one - mean for one in values]
    enough = max(5, math.ceil(math.log10(n)))
    longest = math.ceil(math.sqrt(n)) + enough
    covariance = [sum(map(mul, centred[lag:], centred)) / n for lag in range(min(n, longest + 1))]
    bound = 2 * math.sqrt(math.log10(n) / n)
    small = [abs(one / covariance[0]) < bound for one in covariance]
    quiet = [lag for lag in range(1, longest - enough + 2) if all(small[lag : lag + enough])]
    bandwidth = min(2 * quiet[0], longest) if quiet else longest
    weights = [min(1.0, 2 * (1 - lag / bandwidth)) for lag in range(bandwidth + 1)]
    spectrum = covariance[0] + 2 * sum(w * c for w, c in zip(weights[1:], covariance[1:], strict=False))
    slope = 2 * sum(w * lag * c for lag, (w, c) in enumerate(zip(weights, covariance, strict=False)))
    length = min((2 * slope**2 / (4 / 3 * spectrum**2) * n) ** (1 / 3), math.ceil(min(3 * math.sqrt(n), n / 3)))
    return max(1, min(math.ceil(length), math.ceil(n / 2)))
