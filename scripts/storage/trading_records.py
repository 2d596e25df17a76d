"""Typed records of simulated returns and of decisions, parts of `score_records`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from scripts.storage.record_base import Count, IfGiven, Pair, Record
from scripts.storage.result_records import DecisionRule


class ReturnPart(Record):
    """Simulated returns of a ticker or of a year."""

    gross: float
    net: float
    sharpe: float | None
    turnover: float | None
    hit_rate: float | None
    exposure: float | None
    n_dates: Count


class Book(Record):
    """Simulated returns of a strategy that the model is compared with."""

    gross: float
    net: float
    volatility: float | None
    sharpe: float | None
    sharpe_se: float | None
    max_drawdown: float
    turnover: float | None


class NetAtCost(Record):
    """Total net return at a cost of turnover."""

    cost_bps: float
    net: float


class ReturnFigures(Record):
    """Simulated returns of the model and of other strategies, with the assumptions."""

    gross: float
    net: float
    mean_net: float | None = None
    volatility: float | None = None
    sharpe: float | None = None
    sharpe_se: float | None = None
    max_drawdown: float
    turnover: float | None
    break_even_cost_bps: float | None
    hit_rate: float | None
    exposure: float | None
    n_dates: Count
    probabilistic_sharpe: float | None = None
    buy_and_hold: float
    equal_weight_rebalanced: float | None = None
    naive: float | None = None
    foresight_hit_rate: float | None = None
    cost_bps: float
    ticker_cost_bps: Annotated[dict[str, float] | None, IfGiven] = None
    cost_bps_column: Annotated[str | None, IfGiven] = None
    borrow_bps: float = 0.0
    fill: str | None = None
    holding: str | None = None
    n_unlabelled: Count = 0
    periods_per_year: float | None = None
    periods_per_year_from: str = ""


class ReturnIntervals(Record):
    """Intervals of simulated returns by blocks of dates; empty for a single date."""

    net_ci95: Annotated[Pair | None, IfGiven] = None
    mean_excess: Annotated[float | None, IfGiven] = None
    mean_net_ci95: Annotated[list[float | None] | None, IfGiven] = None
    mean_excess_ci95: Annotated[list[float | None] | None, IfGiven] = None


class Returns(ReturnIntervals, ReturnFigures):
    """Simulated returns, with those of other strategies, other costs and parts."""

    beside: dict[str, Book] = Field({})
    by_cost: list[NetAtCost] = Field([])
    by_group: dict[str, ReturnPart] = Field({})
    by_year: Annotated[dict[str, ReturnPart], IfGiven] = Field({})


class Costs(Record):
    """Mean cost per row of three decision rules, and the savings of the cheapest over the best constant."""

    most_probable: float
    cheapest: float
    best_constant: float
    constant_class: str
    saved: float
    saved_ci95: Pair


class CoveragePoint(Record):
    """Coverage, accuracy and return above one margin; as `statistics.decisions.CoveragePoint`."""

    margin: float
    coverage: float
    coverage_se: float | None
    accuracy: float | None
    accuracy_se: float | None
    accuracy_ci95: Pair | None
    mean_net: float | None
    mean_net_se: float | None
    mean_net_ci95: Pair | None


class DecisionScores(DecisionRule):
    """Decision rule on the test rows, and the coverage curve."""

    coverage: float
    accuracy: float | None
    net: float | None
    curve: list[CoveragePoint]


class AgeBin(Record):
    """Skill of rows of similar age, in dates since training."""

    first_age: int
    last_age: int
    n_rows: Count
    skill: float
    skill_ci95: Pair


class Decay(Record):
    """Skill against the age of the model."""

    bins: list[AgeBin]
    slope_per_100_dates: float | None
    slope_ci95: Pair | None
    retrain_after: int | None
    advice: str
