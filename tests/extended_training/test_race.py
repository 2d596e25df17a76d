"""The race of phase 2: how often it errs, what it saves, where that goes, and that nothing but results decides."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from scripts.config.experiment import Experiment
from scripts.data.loading import load_development
from scripts.evaluation.selection_bias import assess_choice
from scripts.execution.driver import RunMonitor
from scripts.execution.executor import PopulationRunner, WorkerLoad
from scripts.execution.progress import Progress
from scripts.execution.serial import SerialExecutor
from scripts.execution.tensorboard import TensorBoardLog
from scripts.extended_training import ExtendedTrainer
from scripts.extended_training.cross_validation import CrossValidation
from scripts.extended_training.race import Finished, Network, Race
from scripts.extended_training.records import spread_of_single_networks
from scripts.extended_training.selection import pareto_set, rank
from scripts.reporting.analysis_page import AnalysisReport, analysis_page
from scripts.reporting.sections.candidates import race_state, racing_in_words
from scripts.statistics.sequential_tests import p_values_of_being_best, run_noise, spent_level
from scripts.storage.artifacts import write_record
from scripts.storage.checkpoints import Checkpoints
from scripts.storage.record_base import Made
from scripts.storage.records import Trial, Trials
from scripts.storage.result_records import Selection
from scripts.storage.run_dir import RunDir
from tests.conftest import without_times
from tests.extended_training.test_selection import candidate
from tests.reporting.sample_reports import sample_analysis

N_FOLDS, N_DATES, N_TICKERS = 3, 150, 8


def panel(generator, skills, network_noise):
    """Hits (rows x configurations), date and fold of each row: skills that drift over dates, networks of unequal luck.

    Every configuration has its own autocorrelated course over the dates and its own luck in each fold; on most rows all
    answer alike, as models of the same data do.
    """
    drift = np.zeros((N_DATES, len(skills)))
    for date in range(1, N_DATES):
        drift[date] = 0.8 * drift[date - 1] + 0.6 * generator.normal(0, 0.03, len(skills))
    fold = np.arange(N_DATES) * N_FOLDS // N_DATES
    luck = generator.normal(0, network_noise, (N_FOLDS, len(skills)))
    right = np.repeat(np.asarray(skills) + drift + luck[fold], N_TICKERS, axis=0)
    n = len(right)
    drawn = np.where(generator.random((n, 1)) < 0.7, generator.random((n, 1)), generator.random((n, len(skills))))
    return drawn < right, np.repeat(np.arange(N_DATES), N_TICKERS), np.repeat(fold, N_TICKERS)


def finished_race(hits, date, fold, error_rate=0.05, max_seeds=1, epochs=15):
    """The race over these hits, and its trainings."""
    dates = [date[fold == k] for k in range(N_FOLDS)]
    race = Race(range(hits.shape[1]), dates, True, 1, error_rate, max_seeds, seed=0)
    done = {}
    while round_ := race.next_round(done):
        done |= {network: Finished(hits[fold == network.fold, network.trial], epochs) for network in round_}
    return race, done


def at_most(share, n):
    """Most errors in `n` that a true share of `share` shows in 999 of 1,000 cases."""
    return binom.ppf(0.999, n, share)


@pytest.mark.parametrize("noise", [0.005, 0.03, [0.03, 0.01, 0.01, 0.01, 0.01]])
def test_the_best_is_told_from_the_others_no_more_often_than_stated(noise):
    """All are equally good, so that any of them is a best one; the first is watched, in the last case the luckiest."""
    generator, n = np.random.default_rng(1), 150
    told = 0
    for _ in range(n):
        race, _ = finished_race(*panel(generator, [0.55] * 5, noise))
        told += any(0 in look.behind for look in race.looks)
    assert told <= at_most(0.05, n)


def test_a_rule_that_knew_only_of_dates_would_err_more_often_than_stated():
    """The simulation can tell: without the luck of single networks the bound does not hold."""
    generator, n = np.random.default_rng(2), 60
    told = 0
    for k in range(n):
        hits, date, fold = panel(generator, [0.55] * 5, 0.03)
        p_values = p_values_of_being_best(hits, fold, date, 1, (0.0, 1000), 4, np.random.default_rng(k))
        told += p_values[0] < 0.05
    assert told > at_most(0.05, n)


def test_a_clear_loser_is_stopped_and_pays_for_nobody_s_error():
    generator, n = np.random.default_rng(3), 40
    stopped = wrong = 0
    for _ in range(n):
        race, _ = finished_race(*panel(generator, [0.58, 0.58, 0.58, 0.58, 0.48], 0.005))
        stopped += race.stopped_after == {4: 2}
        wrong += any(set(look.behind) & {0, 1, 2, 3} for look in race.looks)
    assert stopped > 0.8 * n
    assert wrong <= at_most(0.05, n)


def test_what_may_be_spent_grows_from_nothing_to_the_stated_error():
    levels = [spent_level(0.05, share) for share in np.linspace(0, 1, 11)]
    assert levels[0] == 0.0 and levels[-1] == pytest.approx(0.05)
    assert all(a < b for a, b in itertools.pairwise(levels))


def test_the_noise_of_networks_is_the_residual_of_a_two_way_analysis_of_variance():
    scores = np.random.default_rng(0).normal(0.55, 0.01, (5, 3))
    residual = scores - scores.mean(axis=0) - scores.mean(axis=1, keepdims=True) + scores.mean()
    assert run_noise(scores) == (pytest.approx((residual**2).sum() / 8), 8)
    assert run_noise(scores[:, :1]) == (np.inf, 0)
    scores[2:, 2] = np.nan  # three were stopped: 12 values for 5 + 3 - 1 parameters
    assert run_noise(scores)[1] == 5


def test_p_values_depend_on_no_order_and_equal_answers_are_never_told_apart():
    hits, date, fold = panel(np.random.default_rng(4), [0.60, 0.52, 0.55], 0.0)
    arguments = (fold, date, 1, (1e-6, 4), 2)
    found = p_values_of_being_best(hits, *arguments, np.random.default_rng(0))
    other = p_values_of_being_best(hits[:, [2, 0, 1]], *arguments, np.random.default_rng(0))
    assert other == pytest.approx(found[[2, 0, 1]])
    assert found[1] < 0.01 < found[0] == 1.0
    same = np.repeat(hits[:, :1], 3, axis=1)
    assert p_values_of_being_best(same, *arguments, np.random.default_rng(0)).tolist() == [1.0, 1.0, 1.0]
    few = p_values_of_being_best(hits[:40], fold[:40], date[:40], 1, (1e-6, 4), 2, np.random.default_rng(0))
    assert few.tolist() == [1.0, 1.0, 1.0]  # five dates are too few


def test_dates_that_several_folds_test_make_it_harder_to_tell():
    hits, date, fold = panel(np.random.default_rng(5), [0.58, 0.54], 0.0)
    noise = (0.02**2, 8)
    once = p_values_of_being_best(hits, fold, date, 1, noise, 1, np.random.default_rng(0))
    again = p_values_of_being_best(hits, fold, date % 100, 1, noise, 1, np.random.default_rng(0))
    assert once[1] < again[1]


def test_what_was_spared_goes_to_those_that_cannot_be_told_apart_in_equal_parts():
    hits, date, fold = panel(np.random.default_rng(6), [0.62, 0.62, 0.40, 0.40, 0.40], 0.001)
    race, done = finished_race(hits, date, fold, max_seeds=3)
    assert race.stopped_after == {2: 2, 3: 2, 4: 2}
    further = [network for network in done if network.seed > 0]
    # Three trainings were spared: one fold's further seed for both, and one training is left over.
    assert further == [Network(0, 0, 1), Network(1, 0, 1)]
    assert len(done) <= 5 * N_FOLDS
    assert not any(network.seed for network in finished_race(hits, date, fold, max_seeds=1)[1])


def test_further_seeds_do_not_cost_more_epochs_than_were_spared():
    hits, date, fold = panel(np.random.default_rng(6), [0.62, 0.62, 0.40, 0.40, 0.40], 0.001)
    dates = [date[fold == k] for k in range(N_FOLDS)]
    race, done = Race(range(5), dates, True, 1, 0.05, 3, seed=0), {}
    while round_ := race.next_round(done):
        # The leaders train ten times as long as those that were stopped.
        done |= {n: Finished(hits[fold == n.fold, n.trial], 50 if n.trial < 2 else 5) for n in round_}
    assert race.stopped_after == {2: 2, 3: 2, 4: 2}
    assert not any(network.seed for network in done)


@settings(max_examples=40)
@given(
    st.integers(0, 2**32),
    st.lists(st.sampled_from([0.4, 0.6]), min_size=2, max_size=5),
    st.sets(st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(0, 1)), max_size=2),
)
def test_a_race_keeps_its_plan_and_decides_by_results_alone(key, skills, failing):
    """Whatever fails, and in whatever order trainings end."""
    hits, date, fold = panel(np.random.default_rng(key), skills, 0.002)
    dates = [date[fold == k] for k in range(N_FOLDS)]
    logs = []
    for order in (1, -1):
        race, done, log = Race(range(len(skills)), dates, True, 1, 0.3, 3, seed=0), {}, []
        while round_ := race.next_round(done):
            log.append(round_)
            assert not {n.trial for n in round_} & set(race.stopped_after)
            for network in round_[::order]:
                right = None if network in failing else hits[fold == network.fold, network.trial]
                done[network] = Finished(right, 10 + network.trial)
        assert len(done) == sum(map(len, log)) <= len(skills) * N_FOLDS
        failed = {network.trial for network in done if network in failing}
        left = set(range(len(skills))) - failed - set(race.stopped_after)
        assert left or failed
        assert all(Network(trial, k) in done for trial in left for k in range(N_FOLDS))
        logs.append((log, [look.body() for look in race.looks]))
    assert logs[0] == logs[1]


def test_the_spread_is_that_of_single_networks():
    accuracies = [[0.55, 0.58], [0.52], [0.57, 0.50, 0.54]]
    drawn = [np.var(values, ddof=1) for values in itertools.product(*accuracies)]
    assert spread_of_single_networks(accuracies) == pytest.approx(np.sqrt(np.mean(drawn)))
    assert spread_of_single_networks([[0.5], [0.6]]) == pytest.approx(np.std([0.5, 0.6], ddof=1))


def test_what_was_stopped_is_never_chosen_however_good_it_looks():
    folds = {"folds": [{}, {}]}
    lucky = candidate(1, 0.60, -0.05, state="stopped", inference_us_per_row=0.1, **folds)
    good, tied = (candidate(k, 0.55, inference_us_per_row=1.0, state="complete") for k in (2, 3))
    earlier = candidate(4, 0.61, -0.06, state="stopped", inference_us_per_row=0.1, folds=[{}])
    ranked, reason = rank([lucky, good, tied, earlier])
    assert [c.trial_number for c in ranked] == [2, 3, 1, 4]
    assert [c.tied for c in ranked] == [True, True, False, False]
    assert "racing had stopped trials 1, 4" in reason
    assert pareto_set([lucky, good, tied, earlier]) == [2, 3]


# --- phase 2 as a whole ----------------------------------------------------------------------------------------------

COMMON = {"width": 8, "depth": 1, "batch_size": 64}
RATES = {0: 0.02, 1: 1e-6, 2: 0.01}  # the second hardly moves from where it starts
TRIALS = [
    Trial(number=n, state="complete", epochs=4, val_accuracy=0.55, hyperparameters=COMMON | {"learning_rate": rate})
    for n, rate in RATES.items()
]
ORIGIN = Made(config_hash="c" * 64, data_fingerprint="d" * 64, sealed_fingerprint="e" * 64, inputs={})
EXPERIMENT = Experiment.model_validate(
    {
        "data": {"synthetic": {"n_tickers": 8, "n_days": 500, "rho": 0.6}},
        "extended": {
            "top_n": 3,
            "cross_validation_folds": 4,
            "extended_epochs": 4,
            "evaluation_frequency": 2,
            "racing_error_rate": 0.2,
        },
        "search_space": COMMON,
    }
)


class Interrupted(SerialExecutor):
    """Ends like a Ctrl-C after so many epochs."""

    def __init__(self, dataset, epochs):
        super().__init__(dataset)
        self.epochs = epochs

    def next_update(self):
        if self.epochs == 0:
            raise KeyboardInterrupt
        self.epochs -= 1
        return super().next_update()


class Interleaved:
    """Three runs side by side, an epoch of the latest first: they end in another order than they began."""

    capacity, reserve, n_ready, load = 3, 0, 0, WorkerLoad(1, 1, 0)

    def __init__(self, dataset):
        self.dataset, self.carriers = dataset, []

    def submit(self, *tasks):
        self.carriers.insert(0, PopulationRunner(tasks, self.dataset))

    def next_update(self):
        (update,) = self.carriers[0].advance()
        if update.outcome:
            self.carriers.pop(0)
        return update


class Recorded(SerialExecutor):
    """Notes how many runs are handed over together, and of how many configurations."""

    def __init__(self, dataset):
        super().__init__(dataset)
        self.handed = []

    def submit(self, *tasks):
        self.handed.append((len(tasks), len({task.spec.hyperparameters.learning_rate for task in tasks})))
        super().submit(*tasks)


@pytest.fixture(scope="module")
def market():
    return load_development(EXPERIMENT.data, 1, 0)


def phase_2(market, folder, executor, **changes):
    """Results of phase 2 over the three trials."""
    extended = EXPERIMENT.extended.model_copy(update=changes)
    experiment = EXPERIMENT.model_copy(update={"extended": extended})
    run_dir = RunDir(folder)
    trials = Trials(**ORIGIN.as_fields(), epochs_spent=0, data_passes=0.0, files={}, trials=TRIALS)
    write_record(run_dir.trials, trials)
    work = CrossValidation(experiment, market, TRIALS, "cpu")
    watch = RunMonitor(Progress("", 0, enabled=False), TensorBoardLog(folder / "logs"), print)
    return ExtendedTrainer(folder).run(work, executor, watch, None, ORIGIN)


@pytest.fixture(scope="module")
def raced(market, tmp_path_factory):
    folder = tmp_path_factory.mktemp("raced")
    return folder, phase_2(market, folder, SerialExecutor(market))


def test_phase_2_stops_a_loser_and_gives_its_epochs_to_the_others(raced, market, tmp_path):
    results = raced[1]
    by_number = {c.trial_number: c for c in results.configurations}
    loser = by_number[1]
    assert (loser.state, loser.stopped_after_folds, loser.seeds) == ("stopped", 2, [1, 1])
    assert loser.racing_p_value < results.racing.looks[0].level
    assert loser.decision is None and loser.rank == 3
    assert results.racing.n_trainings_spared == results.racing.n_further_seeds == 2
    assert by_number[0].seeds == by_number[2].seeds == [2, 1, 1, 1]
    for c in (by_number[0], by_number[2]):
        first = c.folds[0]
        assert first.accuracy == pytest.approx(np.mean(first.accuracies_by_seed))
        assert first.accuracies_by_seed[0] != first.accuracies_by_seed[1]
        assert c.avg_accuracy == pytest.approx(np.mean([f.accuracy for f in c.folds]))
    everything = phase_2(market, tmp_path, SerialExecutor(market), racing=False)
    assert everything.racing is None
    assert results.epochs_spent <= everything.epochs_spent == 3 * 4 * 4
    assert sum(f.epochs for c in results.configurations for f in c.folds) == results.epochs_spent
    for c in everything.configurations:
        assert (c.state, c.seeds, c.racing_p_value) == ("complete", [1, 1, 1, 1], None)
        raced_folds = by_number[c.trial_number].folds
        alone = [f.accuracies_by_seed[0] for f in raced_folds]
        assert alone == [f.accuracy for f in c.folds][: len(raced_folds)]


@pytest.mark.parametrize("epochs", [[3, 9, 20], [26, 24]])
def test_an_interrupted_race_decides_the_same(raced, market, tmp_path, epochs):
    for n in epochs:
        with pytest.raises(KeyboardInterrupt):
            phase_2(market, tmp_path, Interrupted(market, n))
    results = phase_2(market, tmp_path, SerialExecutor(market))
    assert without_times(results.body()) == without_times(raced[1].body())
    read = [pd.read_parquet(RunDir(folder).out_of_fold) for folder in (tmp_path, raced[0])]
    pd.testing.assert_frame_equal(*read)


def test_runs_that_end_in_another_order_decide_the_same(raced, market, tmp_path):
    assert without_times(phase_2(market, tmp_path, Interleaved(market)).body()) == without_times(raced[1].body())


@pytest.mark.parametrize("racing", [True, False])
def test_folds_of_a_configuration_train_together_and_decide_the_same_as_alone(raced, market, tmp_path, racing):
    one_worker = Recorded(market)
    grouped = phase_2(market, tmp_path / "together", one_worker, racing=racing)
    assert one_worker.handed == ([(2, 1)] * 3 + [(1, 1)] * 6 if racing else [(4, 1)] * 3)
    alone = phase_2(market, tmp_path / "alone", Interleaved(market), racing=racing)  # takes single runs only
    assert without_times(grouped.body()) == without_times(alone.body())
    read = [pd.read_parquet(RunDir(tmp_path / name).out_of_fold) for name in ("together", "alone")]
    pd.testing.assert_frame_equal(*read)


@pytest.mark.parametrize(("workers", "n_trials", "expected"), [(1, 1, 4), (2, 3, 1), (2, 11, 1), (2, 12, 4)])
def test_folds_train_together_only_where_no_worker_is_left_idle(market, workers, n_trials, expected):
    trials = [TRIALS[0].model_copy(update={"number": number}) for number in range(n_trials)]
    assert CrossValidation(EXPERIMENT, market, trials, "cpu").group_size(workers) == expected


def test_every_network_s_predictions_are_kept_and_judged_as_single_ones(raced, market):
    folder, results = raced
    table = pd.read_parquet(RunDir(folder).out_of_fold)
    assert table[table["trial_number"] == 1]["fold"].unique().tolist() == [0, 1]
    own = table[(table["trial_number"] == 0) & (table["fold"] == 0)]
    hits = own[["probability_down", "probability_up"]].to_numpy().argmax(axis=1) == own["label"]
    by_seed = hits.groupby(own["seed"]).mean()
    found = next(c for c in results.configurations if c.trial_number == 0).folds[0]
    assert by_seed.tolist() == pytest.approx(found.accuracies_by_seed)
    choice = assess_choice(table, results, 1, 0)
    assert choice.avg_accuracy == pytest.approx(results.chosen.avg_accuracy)
    assert 1 not in choice.confidence_set
    assert len(Checkpoints(RunDir(folder).extended / "checkpoints").load("extended_0000_fold_0_seed_1")[0]) > 0


def test_the_race_is_told_in_words_and_in_the_report(raced):
    results = raced[1]
    words = " ".join(racing_in_words(results.racing, results.n_folds))
    assert "After 2 of 4 folds, racing stopped trial 1 (p = " in words
    assert "2 trainings of folds were saved; 2 trainings (8 epochs) were given" in words
    assert "at most 20%" in words
    assert racing_in_words(None, 4) == ()
    states = {c.trial_number: race_state(c) for c in results.configurations}
    assert states == {0: "complete, 5 networks", 1: "stopped after 2", 2: "complete, 5 networks"}
    selection = Selection(trial_number=0, reason="the best")
    sample = sample_analysis()
    best = sample.best.model_copy(update={"selection": selection})
    page = analysis_page(AnalysisReport(sample.trials, results, best))
    assert any("racing stopped trial 1" in text for section in page.sections for text in section.paragraphs)
    tables = [table for section in page.sections for table in section.tables]
    table = next(t for t in tables if "lead" in [column.name for column in t.columns])
    assert table.rows[2].cells[[column.name for column in table.columns].index("lead")].text == "-"
