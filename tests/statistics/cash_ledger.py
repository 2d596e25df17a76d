"""An account kept trade by trade: cash, shares and prices in plain loops, written without the simulator."""

from dataclasses import dataclass, field
from itertools import pairwise


@dataclass
class Ledger:
    """Cash, shares, and the price at which each ticker was last seen."""

    cash: float = 1.0
    shares: dict = field(default_factory=dict)
    prices: dict = field(default_factory=dict)
    traded: float = 0.0

    def capital(self):
        """Cash and the value of all shares."""
        return self.cash + sum(count * self.prices[name] for name, count in self.shares.items())

    def buy(self, name, count, price, cost):
        """Buy so many shares, or sell if negative, and pay for it."""
        self.cash -= count * price + cost * abs(count * price)
        self.shares[name] = self.shares.get(name, 0.0) + count
        self.traded += abs(count * price)


@dataclass(frozen=True)
class Bar:
    """A fill: the day and the price, and the day and price of the ticker's next one.

    `cost` is that of a traded value of 1 from this fill to before the next one, `next_cost` that of a sale at the end.
    """

    day: int
    price: float
    next_day: int
    next_price: float
    cost: float = 0.0
    next_cost: float = 0.0


@dataclass(frozen=True)
class Decision:
    """Position from a bar on, for so many bars; `leave_price` is that of a sale within the last of them."""

    position: float
    n_bars: int
    leave_price: float | None = None


def capital_by_day(bars, decisions, n_listed, slices, fee=0.0):
    """Capital on each day before that day's trades, and traded value from that day to the next.

    Parameters
    ----------
    bars : dict
        Ticker -> its bars in order.
    decisions : dict
        Ticker -> a Decision for each bar.
    n_listed : callable
        Day -> tickers that share the capital.
    fee : float
        Of a short value of 1, each day.
    """
    days = sorted({day for own in bars.values() for bar in own for day in (bar.day, bar.next_day)})
    book, capital, traded, orders, short = Ledger(), [], [], [], {}
    for day in days:
        for name, count, price, cost in [order[1:] for order in orders if order[0] == day]:
            book.buy(name, -count, price, cost)
        orders = [order for order in orders if order[0] > day]
        for name, own in bars.items():
            for bar in own:
                if bar.next_day == day:
                    book.cash -= fee * (bar.next_day - bar.day) * short.get((name, bar.day), 0.0)
                    book.prices[name] = bar.next_price
                    if bar is own[-1] and book.shares.get(name):
                        book.buy(name, -book.shares[name], bar.next_price, bar.next_cost)
        capital.append(book.capital())
        traded.append(book.traded)
        if capital[-1] <= 0.0:
            break
        worth = capital[-1]
        for name, own in bars.items():
            for k, bar in enumerate(own):
                if bar.day != day:
                    continue
                book.prices[name] = bar.price
                target = 0.0
                for j, decision in enumerate(decisions[name][: k + 1]):
                    if j + decision.n_bars <= k:
                        continue
                    value = worth * decision.position / slices / n_listed(day)
                    target += value
                    if decision.leave_price is not None and k == min(j + decision.n_bars, len(own)) - 1:
                        orders.append((bar.next_day, name, value / bar.price, decision.leave_price, bar.cost))
                book.buy(name, target / bar.price - book.shares.get(name, 0.0), bar.price, bar.cost)
                short[name, day] = max(0.0, -target)
    return days, capital, [after - before for before, after in pairwise(traded)]
