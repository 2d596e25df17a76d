"""Simulated returns from logits on fixed rows of a data set, during and after training."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from scripts.data.dataset import Dataset
from scripts.statistics.bars import Bars
from scripts.statistics.returns import ReturnSeries, TradingRules
from scripts.statistics.trading_simulator import ReturnSimulator


@dataclass(frozen=True)
class SimulatedTrading:
    """Trades the predictions of any model on the same rows.

    Attributes
    ----------
    class_positions : tuple of float
        Position of each class.
    """

    simulator: ReturnSimulator
    class_positions: tuple[float, ...]

    @classmethod
    def of(cls, dataset: Dataset, rows: np.ndarray, rules: TradingRules) -> SimulatedTrading | None:
        """Trading on `rows`; None where no return is known, or the classes of the data set have no positions."""
        if dataset.class_positions is None or not np.isfinite(dataset.forward_return[rows]).any():
            return None
        bars, decided, source = _bars(dataset, rows)
        fee = 0.0 if dataset.periods is None else rules.borrow_bps * 1e-4 / dataset.periods.value
        costs = dataset.cost_bps
        if costs is None:
            costs = rules.costs_bps(dataset.tickers)[dataset.ticker]
        bars = replace(bars.at_cost(costs[source]), fee=fee)
        simulator = ReturnSimulator(bars, rules, decided)
        return cls(simulator, dataset.class_positions)

    def at_cost(self, cost_bps: float, paid_bps: float) -> ReturnSimulator:
        """The simulator at another mean cost of one unit of turnover.

        Parameters
        ----------
        paid_bps : float
            Present mean cost. Costs that differ between tickers or rows keep their ratios.
        """
        simulator, cost = self.simulator, self.simulator.bars.cost
        scaled = cost * 1e4 * (cost_bps / paid_bps) if paid_bps > 0 and np.ptp(cost) > 0 else cost_bps
        return ReturnSimulator(simulator.bars.at_cost(scaled), simulator.rules, simulator.decided)

    def returns(self, logits: torch.Tensor) -> ReturnSeries:
        """Returns of trading the class probabilities of `logits`, shape (n_rows, n_classes) on the CPU."""
        probabilities = logits.softmax(dim=1).numpy()
        return self.simulator.run(self.simulator.positions(probabilities, self.class_positions))


def _bars(dataset: Dataset, rows: np.ndarray) -> tuple[Bars, np.ndarray, np.ndarray]:
    """Return the bars of positions, the places of the decisions of `rows` in them, and the data set row of each.

    Rows of a table without consecutive times are separate positions: one after the other without time,
    and with time those of one date side by side, each bought and sold.
    """
    if dataset.bars is not None:
        return dataset.bars, rows, np.arange(len(dataset.y))
    earned, span = dataset.forward_return, dataset.forward_return_rows
    if dataset.has_time and dataset.ordered:
        return Bars.of_returns(dataset.date, dataset.ticker, earned, rows=span), rows, np.arange(len(earned))
    ticker = rows if dataset.has_time else np.zeros(len(rows), dtype=np.int64)
    return (
        Bars.of_returns(dataset.date[rows], ticker, earned[rows], rows=span),
        np.arange(len(rows)),
        rows,
    )
