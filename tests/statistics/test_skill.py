"""Skill over naive rules: the choice of the rival, what probabilities tell beyond naive answers, and the verdict."""

import numpy as np
import pytest
from scipy.stats import norm

from scripts.random_keys import numpy_generator
from scripts.statistics.intervals import Interval
from scripts.statistics.naive_rules import helps
from scripts.statistics.skill import (
    MIN_DATES,
    EncompassingTest,
    Skill,
    encompassing_test,
    skill_over,
    verdict,
)

NOTHING = EncompassingTest(0.3, 50, 0.76)
PASSED = EncompassingTest(3.0, 50, 0.004)


def over(*differences, n_dates=300, freedom=40):
    """Skill with these estimates over as many rules, each with a standard error of 0.01."""
    return Skill({str(k): Interval.of(d, 0.01, n_dates, freedom) for k, d in enumerate(differences)})


def panel(name, n_dates=250, n_tickers=6, share=0.5):
    """Labels with a common factor and a share of ones, dates of the rows, and the generator."""
    generator = numpy_generator(0, name)
    common = generator.standard_normal((n_dates, 1))
    own = (common + generator.standard_normal((n_dates, n_tickers))) / np.sqrt(2)
    return (own > norm.ppf(1 - share)).astype(int).ravel(), np.repeat(np.arange(n_dates), n_tickers), generator


def two(up):
    return np.column_stack([1 - up, up])


@pytest.mark.parametrize(
    ("skill", "primary", "expected"),
    [
        (over(0.05, 0.06), NOTHING, "skill"),  # by accuracy alone
        (over(0.01, 0.02), PASSED, "skill"),  # by the probabilities, where the accuracy is not below
        (over(-0.001, 0.02), PASSED, "no skill"),
        (over(0.01, 0.02), NOTHING, "no skill"),
        (over(0.01, 0.02), EncompassingTest(-3.0, 50, 0.004), "no skill"),
        (over(0.01), EncompassingTest(None, 50, None), "no skill"),
        (over(-0.05, 0.02), PASSED, "worse than naive"),
        (over(-0.022), NOTHING, "worse than naive"),
        (over(-0.022, 0.0, 0.0), NOTHING, "no skill"),  # the worst of three, as chance may have it
        (over(0.05, n_dates=MIN_DATES - 1), PASSED, "no skill"),
    ],
)
def test_the_verdict_follows_the_interval_and_the_primary_test(skill, primary, expected):
    assert verdict(skill, primary) == expected


def test_further_looks_need_more():
    assert verdict(over(0.022), NOTHING) == "skill"
    assert verdict(over(0.022), NOTHING, level=0.05 / 3) == "no skill"
    assert verdict(over(0.01), PASSED, level=0.05 / 20) == "no skill"
    assert verdict(over(-0.022), NOTHING, level=0.05 / 3) == "no skill"


def test_bounds_and_p_value_allow_for_the_choice_of_the_rival():
    alone, among = over(-0.02), over(-0.02, 0.03, 0.04)
    assert alone.bounds() == [alone.rival.low, alone.rival.high]
    assert among.bounds()[0] == alone.bounds()[0]
    assert among.bounds()[1] > alone.bounds()[1]
    assert among.p_value == pytest.approx(3 * alone.p_value)
    # To have skill is to be ahead of every rule: nothing to correct, and the nearest rule decides.
    assert over(0.02, 0.05).p_value == pytest.approx(over(0.02).p_value)
    for confidence in (0.95, 0.99):
        assert (among.bounds(confidence)[1] < 0) == (among.p_value < 1 - confidence)


def test_a_model_that_knows_nothing_is_hardly_ever_called_worse_than_the_best_of_three_rules():
    worse = 0
    for seed in range(300):
        y, date, generator = panel(f"nothing {seed}", 100, 1)
        answers = {name: generator.integers(2, size=len(y)) for name in "ab"}
        hits = {name: said == y for name, said in answers.items()} | {"1": y == 1, "0": y == 0}
        skill = skill_over(generator.integers(2, size=len(y)) == y, hits, date, 1)
        worse += verdict(skill, NOTHING) == "worse than naive"
    assert worse <= 15  # at most 2.5% are expected; 5% and more without the correction


def test_constant_probabilities_and_functions_of_a_naive_answer_tell_nothing():
    y, date, generator = panel("constant", share=0.6)
    rule = np.where(generator.random(len(y)) < 0.8, y, 1 - y)
    for up in (np.full(len(y), 0.6), np.full(len(y), 0.9), np.where(rule == 1, 0.75, 0.1)):
        found = encompassing_test(y, two(up), [rule], date, 1)
        assert (found.statistic, found.p_value) == (None, None)


def test_noise_is_found_to_tell_something_at_the_nominal_rate():
    found = []
    for seed in range(300):
        y, date, generator = panel(f"noise {seed}", 100, 4, share=0.6)
        up = 0.6 + 0.05 * generator.standard_normal(len(y))
        found.append(encompassing_test(y, two(up), [], date, 1))
    assert np.mean([test.p_value <= 0.05 and test.statistic > 0 for test in found]) <= 0.05  # 0.025 are expected
    assert 0.02 <= np.mean([test.p_value <= 0.05 for test in found]) <= 0.085


def test_what_probabilities_tell_is_found_where_accuracy_does_not_show_it():
    found, by_accuracy = [], []
    for seed in range(40):
        generator = numpy_generator(seed, "weak")
        truth = 0.53 + 0.05 * generator.standard_normal(1500)
        y, date = (generator.random(1500) < truth).astype(int), np.repeat(np.arange(300), 5)
        test = encompassing_test(y, two(truth), [], date, 1)
        skill = skill_over((truth > 0.5) == y, {"up": y == 1, "down": y == 0}, date, 1)
        found.append(verdict(skill, test) == "skill")
        by_accuracy.append(verdict(skill, NOTHING) == "skill")
    assert np.mean(found) > 0.6
    assert np.mean(by_accuracy) < 0.4


def test_only_what_a_model_adds_to_a_naive_rule_counts():
    y, date, generator = panel("rule")
    rule = np.where(generator.random(len(y)) < 0.7, y, 1 - y)
    copied = np.where(rule == 1, 0.65, 0.35) + 0.01 * generator.standard_normal(len(y))
    assert encompassing_test(y, two(copied), [], date, 1).p_value < 1e-6
    assert encompassing_test(y, two(copied), [rule], date, 1).p_value > 0.01
    better = np.where(generator.random(len(y)) < 0.3, y, 0.5)
    added = encompassing_test(y, two(0.5 * copied + 0.5 * better), [rule], date, 1)
    assert added.statistic > 0
    assert added.p_value < 1e-6


def test_several_classes_and_their_order_make_no_difference():
    generator = numpy_generator(0, "classes")
    y, date = generator.integers(3, size=900), np.repeat(np.arange(150), 6)
    p = generator.dirichlet(np.ones(3), 900) * 0.7 + 0.3 * np.eye(3)[y]
    rule = np.where(generator.random(900) < 0.5, y, generator.integers(3, size=900))
    order = np.array([2, 0, 1])
    back = np.argsort(order)
    first = encompassing_test(y, p, [rule], date, 1)
    second = encompassing_test(back[y], p[:, order], [back[rule]], date, 1)
    assert first.statistic == pytest.approx(second.statistic)
    assert first.p_value < 0.001


def test_a_rule_helps_where_it_is_right_more_often_than_by_chance():
    y = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    assert helps(y, np.array([0, 0, 1, 1, 1, 1, 1, 0]))
    assert not helps(y, 1 - y)
    assert not helps(y, np.ones(8, dtype=int))  # a constant is right as often as chance has it
    assert not helps(y, np.full(8, -1))
    assert helps(y, np.array([0, -1, -1, 1, -1, -1, -1, -1]))
