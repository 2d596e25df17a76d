"""Simulated returns of a model on test rows, compared with naive strategies and perfect predictions."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import numpy as np

from scripts.config.experiment import DataConfig
from scripts.data.dataset import Dataset
from scripts.evaluation.tested_rows import EvaluatedRows
from scripts.statistics.intervals import mean_intervals
from scripts.statistics.periods_per_year import infer_periods_per_year
from scripts.statistics.returns import (
    ReturnSeries,
    equity_curve,
    returns_by_label,
    rule_positions,
    summarise,
    total_return,
)
from scripts.statistics.trading_simulator import ReturnSimulator
from scripts.storage.trading_records import Book, NetAtCost, ReturnIntervals, ReturnPart, Returns
from scripts.training.trading import SimulatedTrading

_PARTS = 500  # tickers beyond which returns by ticker are left out
_COSTS, _DEAREST_BPS = 25, 200.0  # points of the curve over costs, and where it ends at the latest


@dataclass(frozen=True)
class TradingScores:
    """Simulated returns: the record, the position of each test row, equity curves by name on `dates`."""

    returns: Returns | None
    position: np.ndarray | None = None
    dates: list[str] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class TradedRows:
    """Rows with a decision, tested or not, and their class probabilities.

    Attributes
    ----------
    rows : ndarray of int64, shape (n,)
        Rows of the data set, ascending; including the test rows.
    probabilities : ndarray, shape (n, n_classes)
    """

    rows: np.ndarray
    probabilities: np.ndarray

    def tested(self, dataset: Dataset) -> np.ndarray:
        """Return the positions of the test rows, shape (n_tested,)."""
        return np.searchsorted(self.rows, dataset.rows)


def trading_scores(
    tested: EvaluatedRows, trading: SimulatedTrading | None, traded: TradedRows, config: DataConfig
) -> TradingScores:
    """Returns of trading the predictions, and of what they are measured against; no record without returns."""
    if trading is None:
        return TradingScores(None)
    simulator, held, dataset = trading.simulator, trading.class_positions, tested.dataset
    year = dataset.periods.value if dataset.periods else config.periods_per_year
    usual = config.cost_bps if dataset.cost_bps is None else 1e4 * float(simulator.bars.cost.mean())
    position = simulator.positions(traded.probabilities, held)
    series = simulator.run(position)
    books = {
        "buy_and_hold": simulator.buy_and_hold(),
        "equal_weight_rebalanced": simulator.equal_weight(),
        "naive": simulator.run(rule_positions(tested.naive_on(traded.rows), held)),
    }
    beside = {name: summarise(book, year) for name, book in books.items()}
    whole = summarise(series, year)
    dates = None if dataset.dates is None else dataset.dates[series.dates]
    returns = Returns(
        **asdict(whole),
        probabilistic_sharpe=_probability_above_zero(whole.sharpe, whole.sharpe_se),
        buy_and_hold=beside["buy_and_hold"].net,
        equal_weight_rebalanced=beside["equal_weight_rebalanced"].net,
        naive=beside["naive"].net,
        foresight_hit_rate=foresight_hit_rate(tested, simulator, held, traded),
        cost_bps=_mean_cost(series, usual),
        ticker_cost_bps=config.ticker_cost_bps,
        cost_bps_column=config.cost_bps_column,
        borrow_bps=config.borrow_bps,
        fill=dataset.fill,
        holding=config.holding if dataset.bars is not None else None,
        n_unlabelled=len(traded.rows) - len(dataset.rows),
        periods_per_year=year,
        periods_per_year_from=dataset.periods.how if dataset.periods else "data.periods_per_year",
        **dict(_return_intervals(tested, series, books["buy_and_hold"])),
        beside={name: Book.from_object(book) for name, book in beside.items()},
        by_cost=_by_cost(trading, position, series, usual),
        by_group=_by_ticker(simulator, position, dataset, year),
        by_year={} if dates is None else _by_year(series, dates, year),
    )
    shown = position[traded.tested(dataset)]
    if dates is None:
        return TradingScores(returns, shown)
    curves = {
        "model after costs": series,
        "best naive rule": books["naive"],
        "buy and hold": books["buy_and_hold"],
        "equal weight": books["equal_weight_rebalanced"],
    }
    return TradingScores(
        returns,
        shown,
        [str(date)[:10] for date in dates],
        {name: equity_curve(own.net).tolist() for name, own in curves.items()},
    )


def foresight_hit_rate(
    tested: EvaluatedRows, simulator: ReturnSimulator, class_positions: tuple[float, ...], traded: TradedRows
) -> float | None:
    """Share of positions that earn when every label is known, of those that earn or lose; None where there are none.

    Below 1, what is traded is not what is predicted: the best possible model still loses in the other cases.
    """
    place = traded.tested(tested.dataset)
    earned = rule_positions(tested.y, class_positions) * simulator.earned[place]
    won, lost = int((earned > 0).sum()), int((earned < 0).sum())
    return won / (won + lost) if won + lost else None


def _probability_above_zero(sharpe: float | None, error: float | None) -> float | None:
    """Probability that the true Sharpe ratio is above 0, by its standard error."""
    from scipy.special import ndtr

    return None if sharpe is None or not error else float(ndtr(sharpe / error))


def _mean_cost(series: ReturnSeries, cost_bps: float) -> float:
    """Cost of one unit of turnover that was paid on average, in basis points."""
    total = float(series.turnover.sum())
    return 1e4 * float(series.costs.sum()) / total if total > 0 else cost_bps


def _return_intervals(tested: EvaluatedRows, series: ReturnSeries, hold: ReturnSeries) -> ReturnIntervals:
    """Return the mean net return per date, its excess over buy and hold, and the total; empty for one date."""
    n = len(series.dates)
    if n < 2:
        return ReturnIntervals()
    growth = np.log1p(np.maximum(series.net, -1.0 + 1e-12))
    values = {"mean_net": series.net, "mean_excess": series.net - hold.net, "growth": growth}
    means = mean_intervals(values, series.dates, tested.dataset.horizon)
    net, excess, total = (means[name].at(tested.confidence) for name in values)
    return ReturnIntervals(
        net_ci95=[float(np.expm1(n * bound)) for bound in (total.low, total.high)],
        mean_excess=excess.estimate,
        mean_net_ci95=[net.low, net.high],
        mean_excess_ci95=[excess.low, excess.high],
    )


def _by_cost(trading: SimulatedTrading, position: np.ndarray, series: ReturnSeries, cost_bps: float) -> list[NetAtCost]:
    """Total net return against the cost of turnover, from none to twice the configured cost or well past break-even."""
    paid = _mean_cost(series, cost_bps)
    break_even = 1e4 * series.gross.sum() / series.turnover.sum() if series.turnover.sum() > 0 else 0.0
    max_bps = max(10.0, 2 * paid, min(1.5 * break_even, _DEAREST_BPS))
    costs = np.linspace(0.0, max_bps, _COSTS).round(2).tolist()
    nets = [total_return(trading.at_cost(cost, paid).run(position).net) for cost in costs]
    return [NetAtCost(cost_bps=cost, net=net) for cost, net in zip(costs, nets, strict=True)]


def _by_ticker(
    simulator: ReturnSimulator, position: np.ndarray, dataset: Dataset, year: float | None
) -> dict[str, ReturnPart]:
    """Return the figures of each ticker on its own account, on the dates with bars."""
    if not 1 < len(dataset.tickers) <= _PARTS or not (dataset.has_time and dataset.ordered):
        return {}
    parts = {}
    for ticker, series in simulator.run_each_ticker(position).items():
        own = None if dataset.dates is None else infer_periods_per_year(dataset.dates[series.dates])
        parts[dataset.tickers[ticker]] = ReturnPart.from_object(summarise(series, own.value if own else year))
    return parts


def _by_year(series: ReturnSeries, dates: np.ndarray, year: float | None) -> dict[str, ReturnPart]:
    parts = returns_by_label(series, dates.astype("datetime64[Y]"), year)
    return {name: ReturnPart.from_object(summary) for name, summary in parts.items()}
