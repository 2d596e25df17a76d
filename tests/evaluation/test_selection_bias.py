"""Corrections for having tried many: luck is called luck, a real lead stays; placebos hold nothing to find."""

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter
from scipy.stats import binom

from scripts.commands.placebo import summary
from scripts.config.experiment import DataConfig, SyntheticConfig
from scripts.data.loading import load_development, load_sealed
from scripts.evaluation.selection_bias import assess_choice, assess_search, comparable, in_words, stability
from scripts.statistics.intervals import student_quantile
from scripts.statistics.long_run_variance import joint_errors, mean_variance
from scripts.statistics.model_tests import model_confidence_set
from scripts.statistics.winners_curse import corrected_winner
from scripts.storage.evaluation_record import Evaluation
from scripts.storage.extended_record import Configuration, Extended, FoldResult
from scripts.storage.records import Trial, Trials


def ledger(skills, n_dates=300, n_rows=20, seed=0):
    """Independent trials of given accuracies, as phase 1 records them."""
    generator = np.random.default_rng(seed)
    frames = []
    for trial, skill in enumerate(skills):
        hits = generator.binomial(n_rows, skill, n_dates)
        net = 0.001 * (hits / n_rows - 0.5) + 0.001 * generator.standard_normal(n_dates)
        columns = {"trial": trial, "date": np.arange(n_dates), "n_rows": n_rows, "hits": hits, "net_return": net}
        columns |= {"log_loss": 20 * 0.7 - 0.4 * hits, "auc": hits + 0.1 * generator.standard_normal(n_dates)}
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def test_the_best_of_many_equal_trials_is_corrected_to_their_mean():
    searches = [assess_search(ledger([0.52] * 40, seed=seed), 1, 0) for seed in range(8)]
    accuracy, loss, area = ([j.scores[name] for j in searches] for name in ("accuracy", "log_loss", "auc"))
    assert np.mean([a.observed for a in accuracy]) > 0.53
    assert np.mean([a.expected for a in accuracy]) == pytest.approx(0.52, abs=0.003)
    assert np.mean([a.expected for a in area]) == pytest.approx(0.52, abs=0.003)
    assert min(a.effective_trials for a in accuracy) > 30
    # The log loss of these trials follows from their hits; lower is better.
    assert [a.observed for a in loss] == pytest.approx([0.7 - 0.4 * a.observed for a in accuracy])
    assert all(a.expected > a.observed for a in loss)
    overfitting = [search.pbo for search in searches]
    assert np.mean(overfitting) == pytest.approx(0.5, abs=0.15)  # one half for trials of equal skill


def test_a_real_lead_is_kept():
    tested = assess_search(ledger([0.50] * 30 + [0.60]), 1, 0)
    assert tested.scores["accuracy"].expected > 0.58
    assert tested.pbo < 0.05
    assert tested.deflated_sharpe is not None


def test_copies_of_one_trial_count_as_one():
    one = ledger([0.53])
    copies = pd.concat([one.assign(trial=k) for k in range(20)], ignore_index=True)
    assert assess_search(copies, 1, 0).scores["accuracy"].effective_trials == pytest.approx(1.0, abs=0.01)


def trials_json(epochs, states=None, rungs=(4, 8, 16)):
    states = states or ["complete"] * len(epochs)
    numbered = enumerate(zip(epochs, states, strict=True))
    trials = [Trial.model_construct(number=k, epochs=e, state=s) for k, (e, s) in numbered]
    return Trials.model_construct(rungs=list(rungs), trials=trials)


def test_trials_that_were_given_up_early_are_no_rivals_of_the_winner():
    epochs = [16] * 3 + [8] * 9 + [4] * 10
    numbers = list(range(len(epochs)))
    assert comparable(0, numbers, trials_json(epochs)) == numbers[:12]  # the last rung has three trials alone
    assert comparable(0, numbers, trials_json([16] * 10 + [4] * 12)) == numbers[:10]
    assert comparable(0, numbers, trials_json([4] * 22)) == numbers
    own = ["complete"] * 9 + ["stopped"] + ["complete"] * 12  # early stopping by its own patience is no giving up
    assert comparable(0, numbers, trials_json([16] * 9 + [6] + [4] * 12, own)) == numbers[:10]
    assert comparable(0, numbers, None) == numbers


def test_losers_that_were_given_up_leave_the_correction_and_pbo_as_they_were():
    equal, losers = [0.52] * 30, [0.44, 0.46, 0.48] * 10
    found = [
        (
            assess_search(ledger(equal, seed=seed), 1, 0),
            assess_search(ledger(equal + losers, seed=seed), 1, 0, trials_json([16] * 30 + [4] * 30)),
        )
        for seed in range(4)
    ]
    for alone, among in found:
        assert among.n_trials == 60 and among.n_comparable == 30
        assert among.pbo == pytest.approx(alone.pbo)
        expected = [tested.scores["accuracy"].expected for tested in (alone, among)]
        assert expected[1] == pytest.approx(expected[0], abs=2e-4)
    assert np.mean([among.scores["accuracy"].expected for _, among in found]) == pytest.approx(0.52, abs=0.003)


@pytest.mark.parametrize(
    "truths",
    [
        lambda rng: np.full(58, 0.55),
        lambda rng: rng.normal(0.55, 0.0045, 58),
        lambda rng: np.r_[rng.normal(0.556, 0.001, 28), rng.normal(0.540, 0.008, 30)],
        lambda rng: np.r_[np.full(10, 0.5), 0.5 - np.abs(rng.normal(0.01, 0.02, 48))],
    ],
    ids=["equal", "normal", "two kinds", "a few at chance, the others below"],
)
def test_less_than_a_fifth_of_the_winners_curse_is_left(truths):
    """Without knowing which trials were given up; scores share a part of their error that no comparison sees."""
    rng, error = np.random.default_rng(0), 0.0038
    inflation, left = [], []
    for _ in range(300):
        truth = truths(rng)
        observed = truth + error * rng.standard_normal(len(truth))
        best = observed.argmax()
        inflation.append(observed[best] - truth[best])
        left.append(corrected_winner(observed, error) - truth[best])
    assert abs(np.mean(left)) < 0.2 * np.mean(inflation)


def test_the_interval_of_the_folds_is_left_out_where_their_spread_decided():
    choice = assess_choice(*out_of_fold([0.55, 0.55, 0.55]), 1, 0, by_spread=True)
    assert choice.nadeau_bengio_ci95 is None
    assert not any("interval of the mean" in sentence for sentence in in_words(None, choice))
    choice = assess_choice(*out_of_fold([0.55, 0.55, 0.55]), 1, 0)
    assert any("interval of the mean" in sentence for sentence in in_words(None, choice))


def test_too_few_trials_are_not_judged():
    assert assess_search(ledger([0.5] * 5), 1, 0) is None


def out_of_fold(skills, n_dates=400, n_tickers=5, seed=0):
    """Predictions of models that are right with a given probability, and the results that belong to them."""
    generator = np.random.default_rng(seed)
    n = n_dates * n_tickers
    label = generator.integers(0, 2, n)
    date, fold = np.repeat(np.arange(n_dates), n_tickers), np.repeat([0, 1, 2], [n // 3, n // 3, n - 2 * (n // 3)])
    frames, configurations = [], []
    for number, skill in enumerate(skills):
        right = generator.random(n) < skill
        up = np.where(right == (label == 1), 0.6, 0.4)
        columns = {"trial_number": number, "fold": fold, "row": np.arange(n), "date": date, "label": label}
        frames.append(pd.DataFrame(columns | {"probability_down": 1 - up, "probability_up": up}))
        folds = [FoldResult(fold=k, accuracy=float(right[fold == k].mean())) for k in range(3)]
        configurations.append(Configuration.model_construct(trial_number=number, folds=folds))
    return pd.concat(frames, ignore_index=True), Extended.model_construct(configurations=configurations)


def test_a_clear_winner_stands_alone_and_equals_stay_together():
    clear = assess_choice(*out_of_fold([0.60, 0.50, 0.51]), 1, 0)
    assert clear.confidence_set == [0]
    assert clear.skill_ci95[0] > 0
    assert clear.stability > 0.99
    equal = assess_choice(*out_of_fold([0.55, 0.55, 0.55]), 1, 0)
    assert len(equal.confidence_set) >= 2
    assert equal.expected_accuracy <= equal.avg_accuracy
    assert all(sentence.endswith(".") for sentence in in_words(None, equal))


def persistent(generator, n, columns, phi=0.9):
    """Stationary AR(1) processes of variance 1, shape (n, columns)."""
    noise = generator.standard_normal((n + 100, columns)) * (1 - phi**2) ** 0.5
    return lfilter([1.0], [1.0, -phi], noise, axis=0)[100:]


def test_equally_good_models_stay_in_the_set_where_losses_are_autocorrelated():
    generator, n, excluded = np.random.default_rng(0), 60, 0
    for _ in range(n):
        losses = persistent(generator, 100, 4)
        excluded += len(model_confidence_set(losses, 0.1, 1, generator, n_draws=200).included) < 4
    assert excluded <= binom.ppf(0.999, n, 0.1)  # with blocks of the length that the mean loss asks for: 71%


def test_of_two_equally_good_configurations_none_is_called_stable_more_often_than_by_chance():
    generator, n, stable = np.random.default_rng(1), 60, 0
    for _ in range(n):
        hits = (persistent(generator, 100, 2) > 0).astype(float)
        hits = hits[:, np.argsort(-hits.mean(axis=0))]
        stable += stability(hits, np.arange(100), 1, generator, n_draws=200) >= 0.95
    assert stable <= binom.ppf(0.999, n, 0.1)  # with dates drawn one by one: 69%


@pytest.mark.parametrize("phi", [0.0, 0.9])
def test_joint_errors_are_those_of_each_series_by_itself_and_follow_students_law(phi):
    series = persistent(np.random.default_rng(2), 200, 1, phi)
    deviations = np.column_stack([series, -2 * series, np.zeros(200)])
    deviations -= deviations.mean(axis=0)
    found, alone = joint_errors(deviations, 1, 4000, np.random.default_rng(0)), mean_variance(deviations[:, 0])
    assert found.se == pytest.approx(alone.variance**0.5 * np.array([1, 2, 0]))
    assert found.degrees_of_freedom == alone.degrees_of_freedom
    assert found.draws[:, 1] == pytest.approx(-found.draws[:, 0])
    assert not found.draws[:, 2].any()
    expected = student_quantile(alone.degrees_of_freedom, 0.9)
    assert np.quantile(np.abs(found.draws[:, 0]), 0.9) == pytest.approx(expected, rel=0.07)


def test_placebo_labels_are_real_labels_elsewhere_and_never_cross_the_seal():
    config = DataConfig(synthetic=SyntheticConfig(n_tickers=6, n_days=800))
    real, null = (load_development(c, 1, 0) for c in (config, config.model_copy(update={"placebo": 1})))
    assert np.array_equal(null.x, real.x, equal_nan=True)
    assert null.truth is None
    rows = null.rows
    assert (null.y[rows] == real.y[rows]).mean() == pytest.approx(0.5, abs=0.05)
    assert null.y[rows].mean() == pytest.approx(real.y[rows].mean(), abs=0.02)
    # Every block of dates keeps its labels together: returns that belong to a label moved with it.
    assert ((null.forward_return[rows] > 0) == (null.y[rows] == 1)).mean() > 0.6
    other = load_development(config.model_copy(update={"placebo": 2}), 1, 0)
    assert not np.array_equal(other.y, null.y)
    pairs = ((config, real), (config.model_copy(update={"placebo": 1}), null))
    sealed, sealed_null = (load_sealed(c, 1, development, 0) for c, development in pairs)
    last = real.n_dates
    assert sorted(sealed_null.y[sealed_null.date >= last]) == sorted(sealed.y[sealed.date >= last])


def test_the_p_value_counts_the_real_run():
    real = Evaluation.model_construct(skill=0.03, config_hash="", data_fingerprint="")
    skills = (0.01, 0.03, -0.02, 0.0)
    placebos = [Evaluation.model_construct(skill=skill, verdict="no skill") for skill in skills]
    assert summary(real, placebos).p_value == pytest.approx(2 / 5)
