"""Trading simulation in one portfolio: every decision is filled, held for some bars, and closed.

A decision holds a slice of 1 / `slices` of its ticker's share of the capital over `bars` periods of the ticker: a
ladder of overlapping slices where decisions look further ahead than one bar (Jegadeesh and Titman 1993). Slices of one
ticker are netted: its target at a fill is the sum of the slices held then, divided by the number of listed tickers.
A slice may be closed within its last period at another price, such as a barrier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scripts.statistics.bars import Bars
from scripts.statistics.book import Holdings, Steps, settle
from scripts.statistics.returns import ReturnSeries, TradingRules, limited, positions

_ROUNDING = 1e-12  # rounding error of sums that are 0


class ReturnSimulator:
    """Simulated returns of decisions on fixed rows, with everything that does not depend on positions computed once.

    Parameters
    ----------
    decided : ndarray of int64, shape (n,), optional
        Rows of `bars` with a decision; by default all rows in their order.
    """

    def __init__(self, bars: Bars, rules: TradingRules, decided: np.ndarray | None = None) -> None:
        self.rules, self.bars = rules, bars
        self.decided = np.arange(len(bars.step)) if decided is None else np.asarray(decided)
        self._place()

    def _place(self) -> None:
        """Find the periods between the first fill and the last exit, and which of them each decision covers."""
        bars = self.bars
        known = np.flatnonzero(np.isfinite(bars.step))
        order = known[np.lexsort((bars.filled[known], bars.ticker[known]))]
        place = np.full(len(bars.step), -1)
        place[order] = np.arange(len(order))
        ticker_end = np.searchsorted(bars.ticker[order], bars.ticker[order], side="right")
        self._traded = np.flatnonzero((place[self.decided] >= 0) & (bars.bars[self.decided] > 0))
        rows = self.decided[self._traded]
        start = place[rows]
        stop = np.minimum(start + bars.bars[rows], ticker_end[start])
        inside = np.zeros(len(order), dtype=bool)
        if len(rows):
            filled, until = bars.filled[order], bars.until[order]
            self._span = filled[start].min(), until[stop - 1].max()
            inside = (filled >= self._span[0]) & (filled < self._span[1])
        shift = np.cumsum(inside) - 1
        self._start, self._stop = shift[start], shift[stop - 1] + 1
        self._order = order[inside]
        self._leaving = np.flatnonzero(np.isfinite(bars.leave[rows]))
        self._leave = bars.leave[rows][self._leaving]
        self._set_steps()
        self._set_outcomes()

    def _set_steps(self) -> None:
        bars, order = self.bars, self._order
        self._end_cost = self._cost_of_next()[order]
        filled, until = bars.filled[order], bars.until[order]
        marks = np.unique(np.concatenate([filled, until[until < self._span[1]]])) if len(order) else filled
        self.dates = marks.astype(np.int64)
        last = np.searchsorted(
            marks, until
        )  # an end at or after the end of the portfolio has the mark after the last one
        opens = np.ones(len(order), dtype=bool)
        opens[1:] = bars.ticker[order][1:] != bars.ticker[order][:-1]
        ends = np.append(opens[1:], True) if len(order) else opens
        self._steps = Steps(
            first=np.searchsorted(marks, filled),
            last=last,
            opens=opens,
            ends=ends | (last == len(marks)),
            cost=bars.cost[order],
            fee=bars.fee * (until - filled),
            n_marks=len(marks),
        )
        self._step, self._listed = bars.step[order], bars.listed[order].astype(np.float64)
        # Everything is sold before a period that exceeds the end of the portfolio.
        self._open = until <= self._span[1] if len(order) else opens

    def _cost_of_next(self) -> np.ndarray:
        """Cost at the end of each period: that of the ticker's next fill, or for its last one the same again."""
        bars, cost = self.bars, self.bars.cost.copy()
        order = np.lexsort((bars.filled, bars.ticker))
        now, after = order[:-1], order[1:]
        cost[now] = np.where(bars.ticker[now] == bars.ticker[after], bars.cost[after], bars.cost[now])
        return cost

    def _set_outcomes(self) -> None:
        """Set the return of +1 for each traded decision, and the mark of its fill."""
        total = np.concatenate([[0.0], np.cumsum(np.log(np.maximum(1.0 + self._step, _ROUNDING)))])
        grown = np.exp(total[self._stop] - total[self._start])
        last = self._stop[self._leaving] - 1
        grown[self._leaving] *= (1.0 + self._leave) / np.maximum(1.0 + self._step[last], _ROUNDING)
        earned = grown - 1.0
        self.earned = np.full(len(self.decided), np.nan)
        self.earned[self._traded] = np.where(np.abs(earned) < _ROUNDING, 0.0, earned)
        self._mark = self._steps.first[self._start]

    @property
    def last_date(self) -> int | None:
        """Date on which the last position is sold; None without trades."""
        return int(self._span[1]) if len(self.dates) else None

    def positions(self, probabilities: np.ndarray, class_positions: Sequence[float]) -> np.ndarray:
        """Position of each decision by the rules, with the limit, shape (n,); arguments as `returns.positions`."""
        return self.limited(positions(probabilities, class_positions, self.rules))

    def limited(self, position: np.ndarray) -> np.ndarray:
        """Return `position`, shape (n,), clipped to at most `max_weight` of the capital per ticker."""
        return limited(position, self.bars.listed[self.decided], self.rules.max_weight)

    def run(self, position: np.ndarray) -> ReturnSeries:
        """Return the returns of holding `position`, shape (n,), in the order of the decisions, after the limit."""
        wished = self.limited(position)[self._traded]
        account = settle(self._steps, self._holdings(wished / self.bars.slices))
        earned = wished * self.earned[self._traded]
        return ReturnSeries(
            dates=self.dates,
            **vars(account),
            rows=self._count(np.ones(len(wished), dtype=bool)),
            active=self._count(wished != 0.0),
            hits=self._count(earned > 0.0),
            misses=self._count(earned < 0.0),
            overlap=1 if self.bars.inside else self.bars.slices,
        )

    def run_each_ticker(self, position: np.ndarray) -> dict[int, ReturnSeries]:
        """Return `run` for each ticker on its own account, ascending by ticker; tickers without a fill are absent.

        Positions are limited as in the common portfolio.
        """
        limited, bars, series = self.limited(position), self.bars, {}
        of_rows, of_decisions = bars.ticker, bars.ticker[self.decided]
        for ticker in np.unique(of_decisions[self._traded]).tolist():
            rows, chosen = np.flatnonzero(of_rows == ticker), np.flatnonzero(of_decisions == ticker)
            alone = replace(bars.take(rows), listed=np.ones(len(rows), dtype=np.int64))
            decided = np.searchsorted(rows, self.decided[chosen])
            simulator = ReturnSimulator(alone, replace(self.rules, max_weight=1.0), decided)
            series[int(ticker)] = simulator.run(limited[chosen])
        return series

    def equal_weight(self) -> ReturnSeries:
        """Return the returns of +1 in every listed ticker on the same dates, rebalanced to equal weights at each fill.

        It pays for this, and for its first and last trades. If returns span several rows, it is the ladder of decisions
        of +1.
        """
        if not len(self.dates):
            return self.run(np.zeros(len(self.decided)))
        if self._spans_rows:
            unlimited = ReturnSimulator(self.bars, replace(self.rules, max_weight=1.0), self.decided)
            return unlimited.run(np.ones(len(self.decided)))
        bars = self.bars.held_one_bar()
        known = np.isfinite(bars.step)
        rows = np.flatnonzero(known & (bars.filled >= self._span[0]) & (bars.until <= self._span[1]))
        simulator = ReturnSimulator(bars, replace(self.rules, max_weight=1.0), rows)
        return simulator.run(np.ones(len(rows))).on(self.dates)

    def buy_and_hold(self) -> ReturnSeries:
        """Return the returns of buying equal shares of all tickers listed at the first date and holding them.

        Each is bought at its first fill. A ticker that ends is sold, and the proceeds remain cash. Costs are paid from
        cash. If returns span h rows, those of rows 0, h, 2h and so on of each ticker are chained.
        """
        steps, n = self._steps, len(self.dates)
        bars, first = self.bars, np.flatnonzero(self._steps.opens)
        nothing = np.zeros(n)
        if not n:
            return self.run(np.zeros(len(self.decided)))
        known = np.isfinite(bars.step)
        listed = np.isin(bars.ticker[self._order], bars.ticker[known & (bars.filled <= self._span[0])])
        group = np.cumsum(steps.opens) - 1
        step = self._chained(first[group]) if self._spans_rows else self._step
        total = np.concatenate([[0.0], np.cumsum(np.log(np.maximum(1.0 + step, _ROUNDING)))])[:-1]
        value = np.exp(total - total[first][group]) * listed / max(1, int(listed[first].sum()))
        gain, held = value * step * self._open, value * (1.0 + step * self._open)
        sold, bought = np.where(steps.ends, held, 0.0), np.where(steps.opens, value, 0.0)
        traded = np.bincount(steps.first, bought, n) + np.bincount(steps.last - 1, sold, n)
        end_cost = np.where(self._open, self._end_cost, steps.cost)
        costs = np.bincount(steps.first, steps.cost * bought, n) + np.bincount(steps.last - 1, end_cost * sold, n)
        gains = np.bincount(steps.last - 1, gain, n)
        before = np.concatenate([[1.0], 1.0 + np.cumsum(gains - costs)[:-1]])
        rows = np.bincount(steps.first, minlength=n)
        gross, turnover, costs = gains / before, traded / before, costs / before
        return ReturnSeries(self.dates, gross, gross - costs, turnover, costs, nothing, rows, rows, rows * 0, rows * 0)

    @property
    def _spans_rows(self) -> bool:
        """Return True if returns span several rows, so that the path between two rows is unknown."""
        return self.bars.slices > 1 and not self.bars.inside

    def _chained(self, first: np.ndarray) -> np.ndarray:
        """Return the return of +1 over each period by chained returns, booked at their end.

        `first` is the index of the first period of its ticker, shape (n,). An unknown return counts as 0.
        """
        span, row = self.bars.slices, np.arange(len(first)) - first
        first_row = np.arange(len(first)) - row % span
        return np.where(row % span == span - 1, np.nan_to_num(self.bars.leave[self._order][first_row]), 0.0)

    def _holdings(self, size: np.ndarray) -> Holdings:
        """Return the slices of the traded decisions, netted by ticker and period."""
        n, bars = len(self._step), self.bars
        held = np.bincount(self._start, size, n + 1) - np.bincount(self._stop, size, n + 1)
        held = np.cumsum(held)[:n]
        held[np.abs(held) < _ROUNDING] = 0.0
        gain, kept, sold = held * self._step, held * (1.0 + self._step), np.zeros(n)
        if len(self._leaving):
            out, last = size[self._leaving], self._stop[self._leaving] - 1
            left = np.bincount(last, out, n)
            value = np.bincount(last, out * (1.0 + self._leave), n)
            gain += value - left - left * self._step
            kept -= left * (1.0 + self._step)
            if bars.inside:
                sold += np.bincount(last, np.abs(out) * (1.0 + self._leave), n)
            else:
                kept += value
        weight, gain, kept, sold = (part / self._listed * self._open for part in (held, gain, kept, sold))
        ends = self._steps.ends
        last = np.where(ends, np.abs(kept), 0.0)
        costs = self._steps.cost * sold + self._end_cost * last
        return Holdings(weight, gain, np.where(ends, 0.0, kept), sold + last, costs)

    def _count(self, chosen: np.ndarray) -> np.ndarray:
        return np.bincount(self._mark[chosen], minlength=len(self.dates))
