"""Training, choice and evaluation see what they may and nothing else: change the rest, and nothing changes."""

import dataclasses

import numpy as np
import pytest
import torch

from scripts.config.experiment import Experiment
from scripts.config.search_space import Hyperparameters
from scripts.data.loading import load_development, load_sealed
from scripts.evaluation.reference_models import tuned_references
from scripts.evaluation.scores import Predictions, score
from scripts.execution.driver import RunMonitor
from scripts.execution.progress import Progress
from scripts.execution.serial import SerialExecutor
from scripts.execution.tensorboard import TensorBoardLog
from scripts.extended_training.cross_validation import CrossValidation
from scripts.final_training.members import chosen_alone
from scripts.final_training.training import FinalTraining, run_final_training
from scripts.statistics.intervals import accuracy_interval, difference_interval
from scripts.statistics.temperature_scaling import fit_calibration
from scripts.storage.artifacts import read_tensors
from scripts.storage.event_log import EventLog
from scripts.storage.record_base import Made
from scripts.storage.records import Trial
from scripts.storage.result_records import DecisionRule, Selection
from scripts.storage.run_dir import RunDir
from scripts.training.run import TrainingRun
from scripts.training.spec import RunSpec
from scripts.tuning.search import Search
from scripts.tuning.search_context import SearchContext
from scripts.tuning.study import TrialStudy

HYPERPARAMETERS = {"width": 8, "depth": 1, "batch_size": 64, "class_weights": "balanced"}
EXPERIMENT = Experiment.model_validate(
    {
        "data": {"synthetic": {"n_tickers": 3, "n_days": 300, "rho": 0.3}},
        "tuning": {"scheduler": "guide", "n_random_trials": 2, "n_bayesian_trials": 0, "n_fine_tune_trials": 0},
        "final": {"epochs": 4},
        "search_space": HYPERPARAMETERS,
    }
)


@pytest.fixture(scope="module")
def data():
    return load_development(EXPERIMENT.data, 1, 0)


@pytest.fixture(scope="module")
def sealed(data):
    return load_sealed(EXPERIMENT.data, 1, data, 0)


def trained(data, train, validation, **values):
    hyperparameters = Hyperparameters(**(HYPERPARAMETERS | values))
    run = TrainingRun(RunSpec("run", (0, "run"), hyperparameters, train, validation, epochs=2), data)
    run.advance(2)
    return run


def changed_outside(data, rows):
    """The data set with other inputs, labels and returns in all rows but `rows`."""
    others = np.setdiff1d(np.arange(len(data.y)), rows)
    x, y, forward_return = data.x.copy(), data.y.copy(), data.forward_return.copy()
    x[others] = 3.0 - x[others]
    y[others] = np.where(y[others] < 0, 0, 1 - y[others])
    forward_return[others] *= -1
    return dataclasses.replace(data, x=x, y=y, forward_return=forward_return)


def assert_apart(data, train, test, embargo):
    """No date of a test row is trained on, and no label of an earlier training row reaches the test rows."""
    assert len(train) and len(test)
    assert not set(data.date[train]) & set(data.date[test])
    earlier = train[data.date[train] < data.date[test].min()]
    assert (data.label_end[earlier] + embargo < data.date[test].min()).all()


def test_what_is_learned_depends_on_the_training_rows_alone(data):
    train, validation = data.tail_split(0.3, 0)
    runs = [trained(d, train, validation) for d in (data, changed_outside(data, train))]
    assert runs[0].history[-1].train_loss == runs[1].history[-1].train_loss
    for name, weight in runs[0].preprocessor.state_dict().items():
        assert torch.equal(weight, runs[1].preprocessor.state_dict()[name])
    for first, second in zip(*(run.parameters for run in runs), strict=True):
        assert torch.equal(first, second)


def test_predictions_do_not_depend_on_the_labels_of_the_rows_they_are_for(data):
    train, validation = data.tail_split(0.3, 0)
    y = data.y.copy()
    y[validation] = 1 - y[validation]
    runs = [trained(d, train, validation) for d in (data, dataclasses.replace(data, y=y))]
    assert torch.equal(*(run.predict(validation) for run in runs))


def test_categories_and_gaps_that_training_rows_lack_do_not_reach_the_network(data):
    train, validation = data.tail_split(0.3, 0)
    x = data.x.copy()
    x[:, 0] = np.arange(len(x)) % 2
    other = x.copy()
    other[validation, 0], other[validation[:5], 1] = 2, np.nan
    categorical = data.categorical.copy()
    categorical[0] = True
    runs = [trained(dataclasses.replace(data, x=v, categorical=categorical), train, validation) for v in (x, other)]
    assert runs[0].preprocessor.n_outputs == runs[1].preprocessor.n_outputs


def test_every_trial_is_validated_on_later_rows_that_it_was_not_trained_on(data, tmp_path):
    study = TrialStudy(tmp_path / "study.db", {})
    search = Search(SearchContext(EXPERIMENT, data, EXPERIMENT.search_space, "cpu", None), study, EventLog())
    specs = [search.next_spec(), search.next_spec()]
    study.close()
    for spec in specs:
        assert_apart(data, spec.train_rows, spec.validation_rows, data.embargo)
        assert data.date[spec.train_rows].max() < data.date[spec.validation_rows].min()


def test_every_fold_is_judged_on_rows_that_it_was_not_trained_on(data):
    trials = [Trial(number=4, state="complete", epochs=4, val_accuracy=0.5, hyperparameters=HYPERPARAMETERS)]
    work = CrossValidation(EXPERIMENT, data, trials, "cpu")
    specs = [work.next_spec() for _ in work.folds]
    for spec in specs:
        assert_apart(data, spec.train_rows, spec.validation_rows, data.embargo)
    judged = np.concatenate([spec.validation_rows for spec in specs])
    assert sorted(judged) == data.rows.tolist()


ORIGIN = Made(config_hash="", data_fingerprint="", sealed_fingerprint="", inputs={})


def test_the_length_of_the_final_training_comes_from_rows_that_are_held_out(data):
    work = FinalTraining(EXPERIMENT, chosen_alone(HYPERPARAMETERS), data, "cpu")
    spec = work.next_spec()
    assert_apart(data, spec.train_rows, spec.validation_rows, data.embargo)
    assert data.date[spec.validation_rows].max() == data.date[data.rows].max()
    assert set(spec.validation_rows) <= set(data.rows)


@pytest.fixture(scope="module")
def final(data, tmp_path_factory):
    """What phase 3 makes of the development data: its work and the content of final_model.pkl."""
    folder = tmp_path_factory.mktemp("final")
    work, run_dir = FinalTraining(EXPERIMENT, chosen_alone(HYPERPARAMETERS), data, "cpu"), RunDir(folder)
    run_dir.final.mkdir(parents=True)
    with Progress("final", 1, enabled=False) as progress:
        watch = RunMonitor(progress, TensorBoardLog(run_dir.tensorboard), print)
        selection, spent = Selection(reason="the only one"), {"tuning": 1, "extended": 1}
        run_final_training(work, selection, spent, SerialExecutor(data), run_dir, watch, None, ORIGIN)
    return work, read_tensors(run_dir.final_model, "run_final_training.py", kind="final_model")


def test_the_calibration_of_the_final_model_comes_from_rows_that_are_held_out(data, final):
    work, content = final
    again, logits = FinalTraining(EXPERIMENT, chosen_alone(HYPERPARAMETERS), data, "cpu"), []
    for _ in range(EXPERIMENT.final.n_seeds):
        run = TrainingRun(again.next_spec(), data)
        while not run.finished:
            run.advance()
        logits.append(run.predict(work.holdout).double().numpy())
    expected = fit_calibration(np.mean(logits, axis=0), data.y[work.holdout])
    assert content["members"][0]["temperature"] == pytest.approx(expected.temperature)
    assert content["members"][0]["bias"] == pytest.approx(expected.bias.tolist())


def test_the_final_model_gets_its_inputs_as_it_was_trained_on_them(data, final):
    _, content = final
    values = data.x[data.rows].astype(np.float64)
    assert content["preprocessor"]["mean"].numpy() == pytest.approx(values.mean(axis=0), abs=1e-5)
    assert content["preprocessor"]["scale"].numpy() == pytest.approx(values.std(axis=0), rel=1e-5)


def test_reference_models_do_not_see_the_rows_they_are_judged_on(data, sealed):
    first = sealed.rows[:1]
    other = changed_outside(sealed, first)
    said = [tuned_references(data, d, EXPERIMENT) for d in (sealed, other)]
    for name, model in said[0].items():
        assert model.probabilities[0].tolist() == said[1][name].probabilities[0].tolist()
        assert model.record == said[1][name].record


def test_the_majority_class_is_that_of_the_development_rows(data, sealed):
    mostly_down, mostly_up = data.y.copy(), sealed.y.copy()
    mostly_down[data.rows] = np.arange(len(data.rows)) % 3 == 0
    mostly_up[sealed.rows] = np.arange(len(sealed.rows)) % 3 != 0
    development, test = dataclasses.replace(data, y=mostly_down), dataclasses.replace(sealed, y=mostly_up)
    up = np.random.default_rng(0).uniform(0.3, 0.7, len(test.rows))
    probabilities = np.column_stack([1 - up, up])
    predictions = Predictions(probabilities, [probabilities], {"reference": probabilities})
    decision = DecisionRule(threshold=0.5, margin=0.0, reason="")
    promised = Selection(reason="", skill=0.0, skill_se=0.01, decision=decision)
    figures = score(development, test, predictions, promised, EXPERIMENT).figures
    share = (test.y[test.rows] == 1).mean()
    assert figures.naive["majority"] == pytest.approx(1 - share)
    assert figures.naive["best_constant"] == pytest.approx(share)
    best = max(figures.naive.values())
    assert figures.skill == pytest.approx(figures.accuracy - best)


def test_intervals_take_blocks_as_long_as_labels_look_ahead_and_whole_dates():
    rng = np.random.default_rng(0)
    date = np.repeat(np.arange(200), 5)
    hits, other = (rng.integers(0, 2, 1000).astype(float) for _ in range(2))
    for interval in (accuracy_interval(hits, date, 15), difference_interval(hits, other, date, 15)):
        assert interval.block_length >= 15
        assert interval.n_dates == 200


def test_placebo_labels_of_development_rows_come_from_development_rows(data, sealed):
    config = EXPERIMENT.data.model_copy(update={"placebo": 3})
    null = load_sealed(config, 1, load_development(config, 1, 0), 0)
    early, known = null.date < data.n_dates, np.isfinite(null.forward_return)
    assert (early & known).any()
    assert set(null.forward_return[early & known]) <= set(sealed.forward_return[sealed.date < data.n_dates])
