"""Decisions: answers agree with the simulated positions, coverage falls with the margin, and noise changes nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.signal import lfilter

from scripts.errors import InputError
from scripts.random_keys import numpy_generator
from scripts.statistics.bars import Bars
from scripts.statistics.decision_tuning import choose_policy
from scripts.statistics.decisions import (
    DecisionPolicy,
    answer_positions,
    coverage_curve,
    margin_grid,
    simulated_net,
)
from scripts.statistics.intervals import difference_interval
from scripts.statistics.returns import TradingRules, positions
from scripts.statistics.trading_simulator import ReturnSimulator


def both(p):
    return np.column_stack([1 - p, p])


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


class Market:
    """Rows of 8 tickers on each date: probabilities with or without signal, labels, and returns of their direction."""

    def __init__(self, seed, signal, shift=0.0, cost_bps=0.0, n_dates=250):
        generator = numpy_generator(seed, "test market")
        self.date, ticker = np.repeat(np.arange(n_dates), 8), np.tile(np.arange(8), n_dates)
        z = generator.standard_normal(len(ticker))
        self.y = (generator.random(len(z)) < sigmoid(signal * z)).astype(np.int64)
        self.probabilities = both(sigmoid((signal or 1.0) * z + shift))
        forward = np.where(self.y == 1, 0.01, -0.01) * np.abs(generator.standard_normal(len(z)))
        self.simulator = ReturnSimulator(Bars.of_returns(self.date, ticker, forward, cost_bps), TradingRules(cost_bps))
        self.rng = numpy_generator(seed, "test resamples")

    def rows(self):
        return self.y, self.probabilities, self.date, 1, self.rng

    def choose(self, **options):
        net = simulated_net(self.simulator, (-1.0, 1.0))
        return choose_policy(*self.rows(), **({"net_returns": net, "n_draws": 300} | options))


# --- answers --------------------------------------------------------------------------------------------------------


@given(
    arrays(np.float32, st.integers(1, 30), elements=st.floats(0, 1, width=32)),
    st.floats(0, 0.999),
    st.sampled_from([np.float32, np.float64]),
)
def test_at_a_threshold_of_a_half_the_answers_are_the_simulated_positions(p, margin, dtype):
    probabilities = both(p).astype(dtype)
    answers = DecisionPolicy(0.5, margin).answers(probabilities)
    assert np.array_equal(
        answer_positions(answers, (-1.0, 1.0)), positions(probabilities, (-1.0, 1.0), TradingRules(margin=margin))
    )


@given(arrays(np.float64, (20, 3), elements=st.floats(0.015625, 1, width=16)))
def test_without_a_margin_three_classes_are_answered_as_the_simulated_positions(weights):
    probabilities = weights / weights.sum(axis=1, keepdims=True)
    answers = DecisionPolicy.default(3).answers(probabilities)
    held = (-1.0, 0.5, 1.0)
    assert np.array_equal(answer_positions(answers, held), positions(probabilities, held, TradingRules()))


def test_class_1_is_answered_above_the_threshold_and_the_margin_is_twice_the_distance():
    probabilities = both(np.array([0.55, 0.69, 0.71, 0.80, 0.97]))
    assert DecisionPolicy(0.7).answers(probabilities).tolist() == [0, 0, 1, 1, 1]
    assert DecisionPolicy(0.7, 0.1).answers(probabilities).tolist() == [0, -1, -1, 1, 1]
    assert DecisionPolicy(0.7, 0.4).answers(probabilities).tolist() == [-1, -1, -1, -1, 1]


def test_among_three_classes_the_lead_is_that_over_the_second():
    probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.44, 0.46], [0.2, 0.2, 0.6]])
    policy = DecisionPolicy.default(3, margin=0.1)
    predicted, lead = policy.decide(probabilities)
    assert predicted.tolist() == [0, 2, 2]
    assert lead == pytest.approx([0.2, 0.02, 0.4])
    assert policy.answers(probabilities).tolist() == [0, -1, 2]


@pytest.mark.parametrize("values", [(0.0, 0.0), (1.0, 0.0), (0.5, -0.1), (0.5, 2.0), (float("nan"), 0.0)])
def test_a_policy_out_of_range_is_refused(values):
    with pytest.raises(InputError, match="give a number"):
        DecisionPolicy(*values)


@pytest.mark.parametrize(("threshold", "n_classes"), [(0.5, 3), (None, 2)])
def test_a_threshold_fits_two_classes_alone(threshold, n_classes):
    with pytest.raises(InputError, match=f"does not fit {n_classes} classes"):
        DecisionPolicy(threshold).answers(np.full((4, n_classes), 1 / n_classes))


# --- the curve ------------------------------------------------------------------------------------------------------


def test_a_worked_curve():
    y = np.array([1, 1, 0, 0])
    probabilities = both(np.array([0.9, 0.6, 0.3, 0.8]))  # leads 0.8, 0.2, 0.4, 0.6; the last is wrong
    date, ticker = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    simulator = ReturnSimulator(Bars.of_returns(date, ticker, np.array([0.02, 0.01, -0.03, -0.05])), TradingRules())
    curve = coverage_curve(
        y,
        probabilities,
        date,
        1,
        margins=np.array([0.0, 0.3, 0.5, 0.9]),
        net_returns=simulated_net(simulator, (-1.0, 1.0)),
    )
    assert [point.coverage for point in curve] == [1.0, 0.75, 0.5, 0.0]
    assert [point.accuracy for point in curve] == [0.75, pytest.approx(2 / 3), 0.5, None]
    # Date 0 earns (0.02 + 0.01) / 2, date 1 (0.03 - 0.05) / 2; abstentions earn nothing.
    expected = [(0.015 - 0.01) / 2, (0.01 - 0.01) / 2, (0.01 - 0.025) / 2, 0.0]
    assert [point.mean_net for point in curve] == pytest.approx(expected)
    assert curve[-1].accuracy_se is curve[-1].accuracy_ci95 is None
    assert curve[2].accuracy_ci95[0] < 0.5 < curve[2].accuracy_ci95[1]
    assert curve[-1].mean_net_se == 0.0
    assert curve[-1].mean_net_ci95 == [0.0, 0.0]


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.floats(0.1, 0.9), st.integers(1, 25))
def test_coverage_falls_as_the_margin_rises(seed, threshold, n_margins):
    generator = numpy_generator(seed, "rows")
    probabilities = both(generator.random(60).round(generator.integers(1, 6)))
    _, lead = DecisionPolicy(threshold).decide(probabilities)
    curve = coverage_curve(
        generator.integers(0, 2, 60),
        probabilities,
        None,
        1,
        threshold=threshold,
        margins=margin_grid(lead, n_margins),
    )
    margins, coverage = [point.margin for point in curve], [point.coverage for point in curve]
    assert margins[0] == 0.0
    assert len(margins) <= n_margins
    assert (np.diff(margins) > 0).all()
    assert (np.diff(coverage) <= 0).all()
    assert all(point.accuracy is None or 0 <= point.accuracy <= 1 for point in curve)


def test_the_grid_answers_even_shares_where_no_leads_are_equal():
    lead = numpy_generator(0, "leads").permutation(np.arange(1, 1001)) / 1000
    shares = [(lead > margin).mean() for margin in margin_grid(lead)]
    assert shares == pytest.approx(1 - np.arange(20) / 20)


def test_standard_errors_are_those_of_independent_rows_where_rows_are_independent():
    market = Market(0, signal=1.0, n_dates=500)
    for point in coverage_curve(*market.rows()[:4], margins=np.array([0.0, 0.4])):
        answered = point.coverage * len(market.y)
        independent = (point.accuracy * (1 - point.accuracy) / answered) ** 0.5
        assert point.accuracy_se == pytest.approx(independent, rel=0.2)


def test_standard_errors_grow_where_the_rows_of_a_date_share_their_fate():
    generator = numpy_generator(0, "shared")
    date = np.repeat(np.arange(200), 25)
    y = np.repeat(generator.integers(0, 2, 200), 25)
    (point,) = coverage_curve(y, both(np.full(5000, 0.8)), date, 1, margins=np.array([0.0]))
    assert point.accuracy_se == pytest.approx(0.5 / 200**0.5, rel=0.25)


def persistent(generator, n, phi=0.9):
    """A stationary AR(1) process of variance 1, shape (n,)."""
    noise = generator.standard_normal(n + 100) * (1 - phi**2) ** 0.5
    return lfilter([1.0], [1.0, -phi], noise)[100:]


def test_the_curve_s_intervals_hold_the_truth_where_hits_are_autocorrelated():
    generator, n, covered = numpy_generator(0, "persistent"), 100, 0
    for _ in range(n):
        up, y = 0.5 + 0.1 * np.tanh(persistent(generator, 200)), (persistent(generator, 200) > 0).astype(np.int64)
        margin = np.median(np.abs(2 * up - 1))
        (point,) = coverage_curve(y, both(up), np.arange(200), 1, margins=np.array([margin]))
        low, high = point.accuracy_ci95
        covered += low <= 0.5 <= high
    assert covered >= 88  # with blocks of dates and a normal quantile: 79 to 84


# --- the choice -----------------------------------------------------------------------------------------------------


def test_the_threshold_of_shifted_probabilities_is_found():
    found = [Market(seed, signal=1.0, shift=0.8, n_dates=400).choose() for seed in range(20)]
    thresholds = np.array([choice.policy.threshold for choice in found])
    assert (thresholds != 0.5).sum() >= 19
    assert np.median(thresholds) == pytest.approx(sigmoid(0.8), abs=0.03)
    assert all(choice.reason.startswith("threshold 0.") for choice in found if choice.policy.threshold != 0.5)


@pytest.mark.slow
def test_noise_changes_neither_threshold_nor_margin_in_nearly_all_cases():
    found = [Market(seed, signal=0.0).choose() for seed in range(100)]
    # Both tests are held at 5 %.
    assert sum(choice.policy.threshold != 0.5 for choice in found) <= 10
    assert sum(choice.policy.margin != 0.0 for choice in found) <= 10
    # One standard error alone would have changed the threshold in most of them.
    assert sum(choice.threshold.gain > choice.threshold.gain_se for choice in found) >= 40
    kept = next(choice for choice in found if choice.policy == DecisionPolicy())
    assert "threshold kept at 0.5" in kept.reason
    assert "margin kept at 0" in kept.reason


def test_where_confidence_is_informative_and_trading_costs_a_margin_is_chosen():
    for seed in range(5):
        market = Market(seed, signal=1.0, cost_bps=60.0, n_dates=500)
        choice = market.choose()
        assert choice.policy.threshold == 0.5
        assert choice.policy.margin > 0.1
        assert f"margin {choice.policy.margin:.3g} instead of 0" in choice.reason
        curve = coverage_curve(*market.rows()[:4], net_returns=simulated_net(market.simulator, (-1.0, 1.0)))
        every, half, few = curve[0], curve[len(curve) // 2], curve[-3]
        assert every.coverage > half.coverage > few.coverage
        assert every.accuracy < half.accuracy < few.accuracy
        at_choice = next(point for point in curve if point.margin == choice.policy.margin)
        assert at_choice.mean_net - every.mean_net == pytest.approx(choice.margin.gain)


@pytest.mark.parametrize("min_coverage", [0.1, 0.33, 0.8])
def test_where_every_trade_loses_the_margin_goes_to_the_minimum_coverage_and_no_further(min_coverage):
    market = Market(0, signal=0.3, cost_bps=1000.0)
    choice = market.choose(min_coverage=min_coverage)
    answered = (choice.policy.answers(market.probabilities) >= 0).mean()
    assert min_coverage <= answered < min_coverage + 0.05  # the candidates lie 5 % of the rows apart


def test_without_returns_the_configured_margin_stays():
    choice = Market(0, signal=1.0).choose(net_returns=None, margin=0.25)
    assert choice.policy == DecisionPolicy(0.5, 0.25)
    assert choice.margin is None
    assert "margin kept at 0.25: the value of abstaining is unknown without returns" in choice.reason


def test_three_classes_have_no_threshold_but_may_have_a_margin():
    generator = numpy_generator(0, "three")
    probabilities = generator.dirichlet([2.0, 2.0, 2.0], 3000)
    y = np.array([generator.choice(3, p=p) for p in probabilities])
    date = np.repeat(np.arange(300), 10)
    bars = Bars.of_returns(date, np.tile(np.arange(10), 300), 0.01 * (y - 1.0), 60.0)
    simulator = ReturnSimulator(bars, TradingRules(60.0))
    net = simulated_net(simulator, (-1.0, 0.0, 1.0))
    choice = choose_policy(y, probabilities, date, 1, generator, net_returns=net)
    assert (choice.policy.threshold, choice.threshold) == (None, None)
    assert choice.policy.margin > 0
    assert choice.reason.startswith("of 3 classes the most probable one is predicted; margin 0.")


def test_the_gain_of_a_threshold_is_as_unsure_as_any_difference_where_labels_are_autocorrelated():
    generator, ratios = numpy_generator(1, "persistent"), []
    for _ in range(10):
        up, y = 0.5 + 0.1 * np.tanh(persistent(generator, 600)), (persistent(generator, 600) > 0).astype(np.int64)
        found = choose_policy(y, both(up), np.arange(600), 1, generator, n_draws=50).threshold
        other, usual = ((up > value).astype(np.int64) == y for value in (found.value, 0.5))
        ratios.append(found.gain_se / difference_interval(other, usual, np.arange(600), 1).se)
    assert np.median(ratios) == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("n_dates", [1, 2, 3, 9])
def test_a_handful_of_dates_changes_nothing(n_dates):
    for seed in range(10):
        choice = Market(seed, signal=1.0, shift=1.0, cost_bps=20.0, n_dates=n_dates).choose()
        assert choice.policy == DecisionPolicy()


def test_equal_probabilities_leave_nothing_to_choose():
    market = Market(0, signal=1.0)
    market.probabilities = both(np.full(len(market.y), 0.6))
    choice = market.choose()
    assert choice.policy == DecisionPolicy()
    assert "no alternative" in choice.reason
