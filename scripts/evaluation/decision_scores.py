"""Scores of the decisions of a model on test rows: costs, abstention and skill decay."""

from __future__ import annotations

import numpy as np

from scripts.config.experiment import DataConfig
from scripts.data.dataset import Dataset
from scripts.evaluation.tested_rows import EvaluatedRows
from scripts.evaluation.trading_scores import TradedRows
from scripts.statistics.decision_costs import decision_costs
from scripts.statistics.decisions import ABSTAINS, DecisionPolicy, NetReturns, answer_positions, coverage_curve
from scripts.statistics.returns import total_return
from scripts.statistics.skill_decay import decay_report
from scripts.storage.result_records import DecisionRule
from scripts.storage.trading_records import AgeBin, Costs, CoveragePoint, Decay, DecisionScores
from scripts.training.trading import SimulatedTrading


def cost_scores(tested: EvaluatedRows, probabilities: np.ndarray, config: DataConfig) -> Costs | None:
    """Return the mean cost per row of three ways to decide; None without a cost matrix.

    `saved` is what the cheapest decision under the probabilities saves on the best constant one, with its interval.
    """
    if config.cost_matrix is None:
        return None
    costs = decision_costs(tested.y, probabilities, np.array(config.cost_matrix))
    saved = tested.interval(costs.best_constant - costs.cheapest)
    return Costs(
        **costs.means(),
        constant_class=tested.dataset.classes[costs.constant_class],
        saved=saved.estimate,
        saved_ci95=[saved.low, saved.high],
    )


def likeliest_class(dataset: Dataset, config: DataConfig) -> DecisionRule:
    """Return the decision rule of a model whose file has none."""
    policy = DecisionPolicy.default(dataset.n_classes, config.margin)
    return DecisionRule(threshold=policy.threshold, margin=policy.margin, reason="the most probable class")


def policy_scores(
    tested: EvaluatedRows,
    trading: SimulatedTrading | None,
    traded: TradedRows,
    decision: DecisionRule,
) -> DecisionScores:
    """Score the policy that was chosen out of fold on the test rows, with the coverage curve.

    Parameters
    ----------
    trading : SimulatedTrading or None
        Of the traded rows.
    """
    policy = DecisionPolicy(decision.threshold, decision.margin)
    positions = traded.tested(tested.dataset)
    probabilities = traded.probabilities[positions]
    answers = policy.answers(probabilities)
    answered = answers != ABSTAINS
    right = answers == tested.y
    curve = coverage_curve(
        tested.y,
        probabilities,
        tested.date,
        tested.dataset.horizon,
        threshold=policy.threshold,
        net_returns=None
        if trading is None
        else _net_of_tested(trading, policy.answers(traded.probabilities), positions),
    )
    net = None
    if trading is not None:
        held = answer_positions(policy.answers(traded.probabilities), trading.class_positions)
        net = total_return(trading.simulator.run(held).net)
    return DecisionScores(
        **decision.body(),
        coverage=float(answered.mean()),
        accuracy=float(right[answered].mean()) if answered.any() else None,
        net=net,
        curve=[CoveragePoint.from_object(point) for point in curve],
    )


def _net_of_tested(trading: SimulatedTrading, answers: np.ndarray, positions: np.ndarray) -> NetReturns:
    """Return the net return per date of given predictions on the test rows; other traded rows are unchanged."""

    def net(tested: np.ndarray) -> np.ndarray:
        whole = answers.copy()
        whole[positions] = tested
        return trading.simulator.run(answer_positions(whole, trading.class_positions)).net

    return net


def decay_scores(tested: EvaluatedRows, development: Dataset) -> Decay | None:
    """Return skill against dates since training; None without time, or if rows are before its end."""
    if tested.dataset.dates is None or development.dates is None or tested.date is None:
        return None
    age = tested.date - int(np.searchsorted(tested.dataset.dates, development.dates[-1], "right")) + 1
    if age.min() < 1:
        return None
    found = decay_report(tested.hits, tested.naive_hits, age, tested.date, tested.dataset.horizon)
    slope = found.slope
    return Decay(
        bins=[
            AgeBin(
                first_age=part.first_age,
                last_age=part.last_age,
                n_rows=part.n_rows,
                skill=part.skill.estimate,
                skill_ci95=[part.skill.low, part.skill.high],
            )
            for part in found.bins
        ],
        slope_per_100_dates=None if slope is None else slope.estimate,
        slope_ci95=None if slope is None else [slope.low, slope.high],
        retrain_after=found.retrain_after,
        advice=found.advice,
    )
