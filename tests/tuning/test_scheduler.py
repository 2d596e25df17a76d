"""Rungs with pause and promotion: every decision follows from the journal alone, and nothing is paid for twice."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy import integrate, stats
from scipy.optimize import check_grad

from scripts.config.search_space import Choices, FloatRange, IntRange
from scripts.tuning.acquisition import Posterior, log_expected_improvement
from scripts.tuning.curve_model import CurveModel, Observations, _Objective, default_parameters, fit_parameters
from scripts.tuning.decisions import Continue, Entry, Replicate, Result, Start, Stop
from scripts.tuning.encoding import UnitCube
from scripts.tuning.scheduler import RungConfig, Scheduler, next_action

SPACE = {
    "family": Choices(choices=("mlp", "gru")),
    "learning_rate": FloatRange(low=1e-4, high=1e-1, log=True),
    "width": IntRange(low=8, high=64, log=True),
    "window": IntRange(low=2, high=5, when={"family": ("gru",)}),
    "depth": 1,
}
CONFIG = RungConfig(rungs=(2, 4, 8), n_initial=4, replicate_epochs=4, n_splits=3, max_epochs=90)


def curve(values, split, epochs):
    """Recorded accuracies of a configuration on a split, best at a learning rate of 0.01."""
    distance = abs(np.log10(values["learning_rate"]) + 2.0)
    noise = np.random.default_rng([split, values["width"]]).normal(0.0, 0.005, epochs)
    return 0.8 - 0.1 * distance - 0.2 / (1.0 + np.arange(epochs)) + noise


class Player:
    """Carries decisions out on recorded curves."""

    def __init__(self, last_rung):
        self.values, self.epochs, self.last_rung = {}, {}, last_rung

    def play(self, action):
        """The result of a decision."""
        if isinstance(action, Start):
            self.values[action.trial] = action.values
        before = self.epochs.get((action.trial, action.split), 0)
        self.epochs[action.trial, action.split] = action.epochs
        scores = curve(self.values[action.trial], action.split, action.epochs)[before:]
        return Result(tuple(scores), ended=action.epochs >= self.last_rung)


def searched(config, seed=3, portfolio=()):
    """Journal of a search with one worker, and why it stopped."""
    scheduler, player, journal = Scheduler(SPACE, config, seed, portfolio), Player(config.rungs[-1]), []
    while not isinstance(action := scheduler.next_action(), Stop):
        result = player.play(action)
        scheduler.record(len(journal), result)
        journal.append(Entry(action, result))
    return journal, action.reason


@pytest.fixture(scope="module")
def journal():
    return searched(CONFIG)[0]


def test_every_decision_follows_from_the_journal_alone(journal):
    for number, entry in enumerate(journal):
        assert next_action(journal[:number], SPACE, CONFIG, 3) == entry.action


def test_decisions_that_are_made_many_at_a_time_follow_from_the_journal_alone():
    # Beyond 300 trials the model proposes two at a time. No run is promoted, and the first trials need no model.
    config = replace(CONFIG, n_initial=310, reduction=1000, random_share=0.0, max_epochs=2 * 314)
    long, _ = searched(config)
    assert [entry.action.stage == "random" for entry in long] == [True] * 310 + [False] * 4
    for number in range(310, 314):
        assert next_action(long[:number], SPACE, config, 3) == long[number].action


def test_the_search_finds_the_better_configurations(journal):
    late = [e.action for e in journal if isinstance(e.action, Start) and e.action.stage != "random"][4:]
    assert late
    assert np.median([abs(np.log10(a.values["learning_rate"]) + 2.0) for a in late]) < 0.5


@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_workers_up_to_the_lag_makes_the_same_search(workers):
    config = replace(CONFIG, lag=3)
    alone = [entry.action for entry in searched(config)[0]]
    scheduler, player, running = Scheduler(SPACE, config, 3), Player(8), []
    generator = np.random.default_rng(workers)
    while True:
        action = scheduler.next_action() if len(running) < workers else None
        if action is not None and not isinstance(action, Stop):
            running.append((len(scheduler.actions) - 1, action))
        elif running:
            # Whichever of the running ones is ready first.
            number, action = running.pop(int(generator.integers(len(running))))
            scheduler.record(number, player.play(action))
        else:
            break
    assert scheduler.actions == alone


def test_a_paused_run_goes_on_and_is_never_paid_for_twice(journal):
    reached = {}
    for entry in journal:
        action = entry.action
        key = (action.trial, action.split)
        assert isinstance(action, Continue) == (key in reached)
        new = action.epochs - reached.get(key, 0)
        assert new == len(entry.result.scores) > 0
        reached[key] = action.epochs
    assert sum(reached.values()) == sum(len(e.result.scores) for e in journal)


def test_runs_climb_one_rung_at_a_time(journal):
    targets = {}
    for entry in journal:
        if entry.action.split == 0:
            targets.setdefault(entry.action.trial, []).append(entry.action.epochs)
    for climbed in targets.values():
        assert tuple(climbed) == CONFIG.rungs[: len(climbed)]
    reached = [sum(r in climbed for climbed in targets.values()) for r in CONFIG.rungs]
    for lower, upper in itertools.pairwise(reached):
        assert upper <= lower / CONFIG.reduction + 1


def test_leaders_are_repeated_on_other_splits(journal):
    repeated = [e.action for e in journal if isinstance(e.action, Replicate)]
    assert repeated
    assert all(0 < action.split < CONFIG.n_splits for action in repeated)
    assert len({(a.trial, a.split) for a in repeated}) == len(repeated)


@pytest.mark.parametrize("budget", [1, 17, 60])
def test_the_budget_is_kept(budget):
    journal, reason = searched(replace(CONFIG, max_epochs=budget))
    spent = sum(len(e.result.scores) for e in journal)
    assert budget <= spent < budget + CONFIG.rungs[-1]
    assert f"{budget} epochs" in reason


def test_the_last_trials_are_followed_by_promotions():
    journal, reason = searched(replace(CONFIG, max_trials=6))
    assert sum(isinstance(e.action, Start) for e in journal) == 6
    assert "6 trials" in reason


def test_a_portfolio_is_tried_first():
    portfolio = [{"family": "mlp", "learning_rate": 0.01 * (1 + k), "width": 16, "depth": 1} for k in range(3)]
    journal, _ = searched(CONFIG, portfolio=portfolio)
    assert [e.action.values for e in journal[:3]] == portfolio


def test_failed_runs_are_neither_promoted_nor_leaders():
    scheduler, player = Scheduler(SPACE, CONFIG, 3), Player(8)
    failed = set()
    while not isinstance(action := scheduler.next_action(), Stop):
        result = player.play(action)
        if isinstance(action, Start) and action.trial % 3 == 0:
            failed.add(action.trial)
            result = replace(result, ended=True, failed=True)
        assert isinstance(action, Start) or action.trial not in failed
        scheduler.record(len(scheduler.actions) - 1, result)
    assert scheduler.ranking()[0] not in failed


def test_a_search_stops_by_itself_where_nothing_is_to_be_gained():
    """All configurations are equal but for the noise."""
    config = replace(CONFIG, stop_auto=True, max_epochs=600)
    scheduler, epochs = Scheduler(SPACE, config, 5), {}
    while not isinstance(action := scheduler.next_action(), Stop):
        new = action.epochs - epochs.get((action.trial, action.split), 0)
        epochs[action.trial, action.split] = action.epochs
        noise = np.random.default_rng([action.trial, action.split, action.epochs]).normal(0.0, 0.01, new)
        scheduler.record(len(scheduler.actions) - 1, Result(tuple(0.5 + noise), ended=action.epochs >= 8))
    assert "promised less" in action.reason


def observations(seed, n=40):
    generator = np.random.default_rng(seed)
    configuration = generator.integers(10, size=n)
    split = generator.integers(3, size=n)
    return Observations(
        inputs=generator.uniform(size=(10, 4)),
        column_of=np.array([0, 1, 1, 2]),
        log_epochs=np.log([4, 8, 16, 50]) / np.log(50),
        configuration=configuration,
        rung=generator.integers(4, size=n),
        run=configuration * 3 + split,
        split=split,
        n_epochs=generator.integers(1, 9, size=n).astype(float),
        scores=generator.normal(size=n),
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_gradient_of_the_fit_is_that_of_finite_differences(seed):
    objective = _Objective(observations(seed))
    at = objective.prior_mean + np.random.default_rng(seed).normal(size=len(objective.prior_mean)) * 0.5
    error = check_grad(lambda q: objective(q)[0], lambda q: objective(q)[1], at)
    assert error < 1e-4 * np.linalg.norm(objective(at)[1])


def test_what_is_believed_moves_no_mean_and_lowers_the_uncertainty():
    data = observations(4)
    model = CurveModel(data, fit_parameters(data))
    before, after = model.posterior(data.inputs), model.fantasized(np.unique(data.run)[:5]).posterior(data.inputs)
    np.testing.assert_allclose(after[0], before[0], atol=1e-6)
    assert (after[1] <= before[1] + 1e-9).all()
    assert (after[1] < before[1] - 1e-3).any()


def test_the_posterior_is_that_of_the_scores_themselves():
    """Equations 2.25 and 2.26 of Rasmussen and Williams (2006), one pair of scores at a time."""
    data = observations(6, n=12)
    model = CurveModel(data, fit_parameters(data))
    p = model.parameters

    def matern(distance):
        s = np.sqrt(5.0) * distance
        return (1.0 + s + s * s / 3.0) * np.exp(-s)

    def covariance(x, t, y, u):
        near = matern(np.linalg.norm((x - y) * p.inverse_lengths))
        course = matern(abs(t - u) / p.length_epochs)
        return near * (p.f + p.g * course + p.b * (1.0 - t) * (1.0 - u)) + p.h * course

    x, t = data.inputs[data.configuration], data.log_epochs[data.rung]
    pairs = [[covariance(x[i], t[i], x[j], t[j]) for j in range(12)] for i in range(12)]
    own = p.v * np.equal.outer(data.run, data.run)
    own = own + p.u * (np.equal.outer(data.split, data.split) & (data.split > 0)[:, None])
    inverse = np.linalg.inv(np.array(pairs) + own + np.diag(p.e / data.n_epochs + 1e-6))
    scores = (data.scores - data.scores.mean()) / data.scores.std()
    new = np.random.default_rng(0).uniform(size=4)
    cross = np.array([covariance(new, 1.0, x[i], t[i]) for i in range(12)])
    mean, sd = model.posterior(new[None])
    assert mean[0] == pytest.approx(cross @ inverse @ scores, abs=1e-6)
    assert model.expected(new[None])[0] == mean[0]
    assert sd[0] ** 2 == pytest.approx(p.f + p.g + p.h - cross @ inverse @ cross, abs=1e-6)


def test_of_paused_trials_the_one_that_may_yet_win_goes_on_and_not_the_one_known_to_lose():
    data = Observations(
        inputs=np.array([[0.0], [0.5], [4.0]]),
        column_of=np.array([0]),
        log_epochs=np.log([4, 8, 16, 50]) / np.log(50),
        configuration=np.array([0, 0, 0, 0, 1, 1, 1, 2]),
        rung=np.array([0, 1, 2, 3, 0, 1, 2, 0]),
        run=np.array([0, 0, 0, 0, 1, 1, 1, 2]),
        split=np.zeros(8, dtype=int),
        n_epochs=np.array([2, 4, 8, 18, 2, 4, 8, 2], dtype=float),
        scores=np.array([-0.9, -0.4, -0.2, 0.0, -1.3, -0.9, -0.8, -1.3]),
    )
    model = CurveModel(data, default_parameters(data))
    knowledge = Posterior(model, np.array([3, 5, 8]), model.expected(data.inputs))
    assert knowledge.best_first.tolist() == [3, 5, 8]
    assert knowledge.most_promising({5, 8, 9}) == 8
    assert knowledge.most_promising({9}) is None


def test_nothing_is_to_be_gained_over_the_incumbent_itself():
    data = observations(5)
    model = CurveModel(data, fit_parameters(data))
    lead, sd = model.gain(data.inputs, data.inputs[3])
    assert abs(lead[3]) < 1e-9
    assert sd[3] < 1e-4
    assert (np.delete(sd, 3) > 1e-2).all()


@given(st.floats(-4.0, 4.0), st.floats(0.05, 3.0))
def test_expected_improvement_is_its_integral(lead, sd):
    expected, _ = integrate.quad(lambda x: x * stats.norm.pdf(x, lead, sd), 0.0, max(0.0, lead) + 12.0 * sd)
    value = np.exp(log_expected_improvement(np.array([lead]), np.array([sd])))[0]
    assert value == pytest.approx(expected, rel=0.15, abs=1e-6)


@hypothesis_settings(max_examples=50)
@given(st.lists(st.floats(0.0, 1.0), min_size=4, max_size=4))
def test_a_snapped_point_is_the_configuration_it_stands_for(coordinates):
    cube = UnitCube(SPACE)
    snapped = cube.snapped(np.array([coordinates]))[0]
    values = cube.values(snapped)
    assert values["depth"] == 1
    assert ("window" in values) == (values["family"] == "gru")
    again = cube.point(values)
    active = [k for k, name in enumerate(cube.dimensions) if name in values]
    np.testing.assert_allclose(again[active], snapped[active], atol=1e-9)
