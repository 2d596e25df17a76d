"""What the decisions of a model bring on judged rows: simulated returns, costs, abstention, and how skill decays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from scripts.config import DataConfig
from scripts.data.dataset import Dataset
from scripts.evaluation.costs import decision_costs
from scripts.evaluation.decay import decay_report
from scripts.evaluation.decisions import ABSTAINS, DecisionPolicy, answer_positions, coverage_curve, simulated_net
from scripts.evaluation.returns import (
    ReturnSeries,
    ReturnSimulator,
    equity_curve,
    net_by_cost,
    returns_by_label,
    returns_by_ticker,
    rule_positions,
    summarise,
)
from scripts.evaluation.sharpe import probabilistic_sharpe_ratio, sharpe_moments
from scripts.evaluation.statistics import mean_intervals
from scripts.judging.judged_rows import JudgedRows
from scripts.training.simulated_trading import SimulatedTrading

_PARTS = 500  # tickers beyond which returns by ticker are left out
_COSTS, _DEAREST_BPS = 25, 200.0  # points of the curve over costs, and where it ends at the latest
_SHOWN = ("gross", "net", "sharpe", "turnover", "hit_rate", "exposure", "n_dates")  # of a part


@dataclass(frozen=True)
class TradingScores:
    """Simulated returns: fields of the results, the position of each row, equity curves by name on `dates`."""

    fields: dict[str, Any] | None
    position: np.ndarray | None = None
    dates: list[str] = field(default_factory=list)
    curves: dict[str, list[float]] = field(default_factory=dict)


def trading_scores(
    judged: JudgedRows, trading: SimulatedTrading | None, probabilities: np.ndarray, config: DataConfig
) -> TradingScores:
    """Returns of trading the predictions, beside buy-and-hold and the best naive rule; no fields without returns."""
    if trading is None:
        return TradingScores(None)
    simulator, held = trading.simulator, trading.class_positions
    position = simulator.positions(probabilities, held)
    series = simulator.run(position)
    naive = simulator.run(rule_positions(judged.naive_predicted, held))
    hold = simulator.run(np.ones(len(position)))
    moments = sharpe_moments(series.net)
    fields = asdict(summarise(series, config.periods_per_year)) | {
        "probabilistic_sharpe": None if moments is None else probabilistic_sharpe_ratio(moments),
        "buy_and_hold": summarise(hold, config.periods_per_year).net,
        "naive": summarise(naive, config.periods_per_year).net,
        "cost_bps": config.cost_bps,
        **_return_intervals(judged, series, hold),
        "by_cost": _by_cost(series, config.cost_bps),
        "by_group": _by_ticker(simulator, position, judged.dataset, config),
    }
    if judged.dataset.dates is None:
        return TradingScores(fields, position)
    dates = judged.dataset.dates[series.dates]
    years = returns_by_label(series, dates.astype("datetime64[Y]"), config.periods_per_year)
    fields["by_year"] = {name: _shown(asdict(part)) for name, part in years.items()}
    curves = {"model after costs": series, "best naive rule": naive, "buy and hold": hold}
    return TradingScores(
        fields,
        position,
        [str(date)[:10] for date in dates],
        {name: _curve(own) for name, own in curves.items()},
    )


def _return_intervals(judged: JudgedRows, series: ReturnSeries, hold: ReturnSeries) -> dict[str, Any]:
    """Mean net return per date, and what it lies above buy-and-hold, by blocks of dates; empty for a single date."""
    if len(series.dates) < 2:
        return {}
    values = {"mean_net": series.net, "mean_excess": series.net - hold.net}
    found = mean_intervals(values, series.dates, judged.dataset.horizon)
    return {
        "mean_excess": found["mean_excess"].estimate,
        **{f"{name}_ci95": [interval.low, interval.high] for name, interval in found.items()},
    }


def _by_cost(series: ReturnSeries, cost_bps: float) -> list[dict[str, float]]:
    """Total net return against the cost of turnover, from none to twice the configured cost or well past break-even."""
    break_even = 1e4 * series.gross.sum() / series.turnover.sum() if series.turnover.sum() > 0 else 0.0
    most = max(10.0, 2 * cost_bps, min(1.5 * break_even, _DEAREST_BPS))
    costs = np.linspace(0.0, most, _COSTS).round(2).tolist()
    return [{"cost_bps": c, "net": net} for c, net in zip(costs, net_by_cost(series, costs), strict=True)]


def cost_fields(judged: JudgedRows, probabilities: np.ndarray, config: DataConfig) -> dict[str, Any] | None:
    """Mean cost per row of three ways to decide; None without a cost matrix.

    `saved` is what the cheapest decision under the probabilities saves on the best constant one, with its interval.
    """
    if config.cost_matrix is None:
        return None
    costs = decision_costs(judged.y, probabilities, np.array(config.cost_matrix))
    saved = judged.interval(costs.best_constant - costs.cheapest)
    return costs.means() | {
        "constant_class": judged.dataset.classes[costs.constant_class],
        "saved": saved.estimate,
        "saved_ci95": [saved.low, saved.high],
    }


def policy_fields(
    judged: JudgedRows,
    trading: SimulatedTrading | None,
    probabilities: np.ndarray,
    decision: Mapping[str, Any],
    periods_per_year: int,
) -> dict[str, Any]:
    """What the policy that was chosen out of fold does on the judged rows, and the curve of coverage.

    Parameters
    ----------
    decision : mapping
        `threshold`, `margin` and `reason`.
    """
    policy = DecisionPolicy(decision["threshold"], decision["margin"])
    answers = policy.answers(probabilities)
    answered = answers != ABSTAINS
    right = answers == judged.y
    curve = coverage_curve(
        judged.y,
        probabilities,
        judged.date,
        judged.dataset.horizon,
        judged.generator("coverage"),
        threshold=policy.threshold,
        net_returns=None if trading is None else simulated_net(trading.simulator, trading.class_positions),
    )
    fields = dict(decision) | {
        "coverage": float(answered.mean()),
        "accuracy": float(right[answered].mean()) if answered.any() else None,
        "net": None,
        "curve": [asdict(point) for point in curve],
    }
    if trading is not None:
        series = trading.simulator.run(answer_positions(answers, trading.class_positions))
        fields["net"] = summarise(series, periods_per_year).net
    return fields


def decay_fields(judged: JudgedRows, development: Dataset) -> dict[str, Any] | None:
    """Skill against dates since training; None without time, or where rows lie before its end."""
    if judged.dataset.dates is None or development.dates is None or judged.date is None:
        return None
    age = judged.date - int(np.searchsorted(judged.dataset.dates, development.dates[-1], "right")) + 1
    if age.min() < 1:
        return None
    found = decay_report(judged.hits, judged.naive_hits, age, judged.date, judged.dataset.horizon)
    slope = found.slope
    return {
        "bins": [
            {
                "first_age": part.first_age,
                "last_age": part.last_age,
                "n_rows": part.n_rows,
                "skill": part.skill.estimate,
                "skill_ci95": [part.skill.low, part.skill.high],
            }
            for part in found.bins
        ],
        "slope_per_100_dates": None if slope is None else slope.estimate,
        "slope_ci95": None if slope is None else [slope.low, slope.high],
        "retrain_after": found.retrain_after,
        "advice": found.advice,
    }


def _by_ticker(
    simulator: ReturnSimulator, position: np.ndarray, dataset: Dataset, config: DataConfig
) -> dict[str, dict[str, Any]]:
    if not 1 < len(dataset.tickers) <= _PARTS:
        return {}
    parts = returns_by_ticker(simulator, position, config.periods_per_year)
    return {dataset.tickers[ticker]: _shown(asdict(part)) for ticker, part in parts.items()}


def _shown(summary: dict[str, Any]) -> dict[str, Any]:
    return {name: summary[name] for name in _SHOWN}


def _curve(series: ReturnSeries) -> list[float]:
    curve: list[float] = equity_curve(series.net).tolist()
    return curve
