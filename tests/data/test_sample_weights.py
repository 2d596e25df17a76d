"""Sample weights: worked panels, a brute-force count, and that training uses them as a weighted loss."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scripts.config.search_space import Hyperparameters
from scripts.config.yaml_files import load_experiment
from scripts.data.sample_weights import average_uniqueness, effective_labels, recency_weights, training_weights
from scripts.errors import InputError
from scripts.storage.artifacts import pack_tensors, unpack_tensors
from scripts.training.run import TrainingRun
from tests.conftest import ROOT
from tests.training.test_training import DATA, finished, spec


def labels(*spans):
    """Dates, ends and tickers of (ticker, date, end)."""
    ticker, date, end = np.array(spans, dtype=np.int64).T
    return date, end, ticker


def counted(date, end, ticker):
    """Average uniqueness step by step, as the definition reads."""
    spans = [(who, set(range(t, max(e, t + 1)))) for t, e, who in zip(date, end, ticker, strict=True)]
    concurrent = {}
    for who, steps in spans:
        for step in steps:
            concurrent[who, step] = concurrent.get((who, step), 0) + 1
    return [sum(1 / concurrent[who, step] for step in steps) / len(steps) for who, steps in spans]


def test_labels_of_three_bars_on_every_date_share_their_steps():
    # Steps 0 to 5 are spanned by 1, 2, 3, 3, 2 and 1 of the four labels.
    panel = labels((0, 0, 3), (0, 1, 4), (0, 2, 5), (0, 3, 6))
    assert average_uniqueness(*panel) == pytest.approx([11 / 18, 7 / 18, 7 / 18, 11 / 18])
    assert effective_labels(*panel) == pytest.approx(2.0)  # six steps in labels of three


def test_ragged_tickers_are_counted_each_by_itself():
    # Ticker 1 misses dates: its steps 2 and 5 are spanned twice. Ticker 0 lies across all of them.
    panel = labels((1, 0, 3), (0, 1, 4), (1, 2, 6), (1, 5, 7))
    assert average_uniqueness(*panel) == pytest.approx([5 / 6, 1.0, 3 / 4, 3 / 4])


def test_labels_of_the_next_bar_are_all_unique():
    date = np.arange(50)
    assert average_uniqueness(date, date + 1, np.zeros(50, np.int64)) == pytest.approx(np.ones(50))


def test_two_labels_on_the_same_span_are_half_each():
    assert average_uniqueness(*labels((0, 2, 2), (0, 2, 2), (0, 9, 12), (0, 9, 12))) == pytest.approx([0.5] * 4)


def test_no_rows_have_no_effective_labels():
    nothing = np.empty(0, np.int64)
    assert effective_labels(nothing, nothing, nothing) == 0.0


SPANS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 30), st.integers(0, 12)).map(lambda s: (s[0], s[1], s[1] + s[2])),
    min_size=1,
    max_size=60,
)


@given(SPANS, st.integers(0, 10**9))
def test_uniqueness_is_what_counting_step_by_step_gives(spans, later):
    date, end, ticker = labels(*spans)
    found = average_uniqueness(date, end, ticker)
    assert found == pytest.approx(counted(date, end, ticker))
    assert ((found > 0) & (found <= 1 + 1e-12)).all()
    assert average_uniqueness(date + later, end + later, ticker) == pytest.approx(found)


@given(SPANS)
def test_effective_labels_are_never_more_than_the_rows_and_grow_with_them(spans):
    panel = labels(*spans)
    whole = effective_labels(*panel)
    assert whole <= len(spans) + 1e-9
    # One more label far away is one more effective label.
    more = labels(*spans, (0, 1000, 1003))
    assert effective_labels(*more) == pytest.approx(whole + 1)


def test_recency_halves_with_every_half_life_and_has_mean_one():
    weights = recency_weights(np.array([0, 10, 20, 20]), 10.0)
    assert weights / weights[-1] == pytest.approx([0.25, 0.5, 1.0, 1.0])
    assert weights.mean() == pytest.approx(1.0)


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=50), st.floats(0, 1e6, exclude_min=True))
def test_recency_is_finite_and_never_falls_with_the_date_whatever_the_half_life(dates, half_life):
    weights = recency_weights(np.sort(dates), half_life)
    assert np.isfinite(weights).all()
    assert (np.diff(weights) >= 0).all()
    assert weights.mean() == pytest.approx(1.0)


def overlapping(horizon=4):
    """The training data with labels that look `horizon` dates ahead."""
    return dataclasses.replace(DATA, label_end=np.minimum(DATA.date + horizon, len(DATA.date) - 1))


def test_weights_have_mean_one_and_both_kinds_multiply():
    data, rows = overlapping(), np.r_[20:60, 90:93, 400:401]
    unique = training_weights(data, rows, "uniqueness", 0.0)
    recent = training_weights(data, rows, "none", 50.0)
    both = training_weights(data, rows, "uniqueness", 50.0)
    for weights in (unique, recent, both):
        assert weights.mean() == pytest.approx(1.0)
    product = unique * recent
    assert both == pytest.approx(product / product.mean())
    assert unique[-1] == unique.max()  # the only row that overlaps with none
    assert training_weights(data, rows, "none", 0.0) is None


def test_weights_depend_on_the_training_rows_alone():
    data, rows = overlapping(), np.arange(20, 200)
    other = np.ones(len(data.date), bool)
    other[rows] = False
    changed = dataclasses.replace(data, label_end=np.where(other, data.date + 100, data.label_end))
    assert np.array_equal(
        training_weights(data, rows, "uniqueness", 30.0), training_weights(changed, rows, "uniqueness", 30.0)
    )


def test_a_half_life_without_time_is_refused():
    table = dataclasses.replace(DATA, dates=None)
    with pytest.raises(InputError, match=r"search_space.recency_half_life: .* needs time"):
        TrainingRun(spec(hyperparameters={"recency_half_life": 5.0}), table)


WEIGHTED = {"sample_weights": "uniqueness", "recency_half_life": 80.0}


@pytest.mark.parametrize("engine", ["explicit", "autograd", "autograd in micro-batches"])
@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_a_step_follows_the_gradient_of_the_weighted_loss_written_out(class_weights, engine):
    smoothing, data = 0.1, overlapping()
    values = {"label_smoothing": smoothing, "class_weights": class_weights, "dropout": 0.0} | WEIGHTED
    # One step of SGD with Nesterov momentum 0.9 goes 1.9 times the gradient.
    values |= {"optimizer": "sgd", "learning_rate": 1.0, "weight_decay": 0.0, "gradient_clip": 0.0, "batch_size": 9999}
    own = {"own": "tests.training.test_explicit_backward:own_mlp"}
    values["family"] = "mlp" if engine == "explicit" else "own"
    run = TrainingRun(spec(hyperparameters=values, factories={} if engine == "explicit" else own), data)
    if engine == "autograd in micro-batches":
        run.micro_batch = 7
    before = [p.detach().clone() for p in run.parameters]
    n = len(run.targets)
    of_class = torch.ones(2) if class_weights == "none" else run.class_weights
    surprise = -run.model(run.gather(run.train_rows)).log_softmax(1) * of_class
    rows = (1 - smoothing) * surprise[torch.arange(n), run.targets] + smoothing * surprise.mean(1)
    expected = (run.sample_weights * rows).sum() / of_class[run.targets].sum()
    gradients = torch.autograd.grad(expected, run.parameters)
    report = run.advance()
    assert report.train_loss == pytest.approx(float(expected.detach()), rel=1e-5)
    for start, parameter, gradient in zip(before, run.parameters, gradients, strict=True):
        assert torch.allclose((start - parameter.detach()) / 1.9, gradient, atol=1e-6)


def test_rows_of_no_weight_train_as_if_they_were_dropped():
    # All recent rows are of one date, far after the others: the others weigh 2 to the power of -1000.
    train = DATA.rows[:400]
    date = np.where(np.arange(len(DATA.date)) < train[250], 0, 1000)
    data = dataclasses.replace(DATA, date=date, class_positions=None)  # nothing can be traded on two dates
    base = {"batch_size": 400, "dropout": 0.0, "optimizer": "sgd", "learning_rate": 0.1}
    weighted = TrainingRun(spec(hyperparameters=base | {"recency_half_life": 1.0}, train_rows=train), data)
    dropped = TrainingRun(spec(hyperparameters=base, train_rows=train[250:]), data, weighted.preprocessor)
    everything = TrainingRun(spec(hyperparameters=base, train_rows=train), data, weighted.preprocessor)
    for run in (weighted, dropped, everything):
        finished(run)
    assert torch.allclose(weighted.validation_logits, dropped.validation_logits, atol=1e-5)
    assert not torch.allclose(weighted.validation_logits, everything.validation_logits, atol=1e-2)
    assert weighted.outcome.train_loss == pytest.approx(dropped.outcome.train_loss, rel=1e-4)


@pytest.mark.parametrize("family", ["mlp", "gru"])
def test_a_weighted_run_resumes_to_the_same_bits(family):
    settings = spec(hyperparameters={"family": family, "window": 3} | WEIGHTED)
    straight = finished(TrainingRun(settings, overlapping()))
    first = TrainingRun(settings, overlapping())
    first.advance(2)
    second = TrainingRun(settings, overlapping())
    second.load_state_dict(unpack_tensors(pack_tensors(first.state_dict())))
    finished(second)
    assert torch.equal(second.validation_logits, straight.validation_logits)
    assert [r.train_loss for r in second.history] == [r.train_loss for r in straight.history]


def test_weights_are_off_by_default_and_can_be_searched_as_the_data_page_shows(tmp_path):
    assert Hyperparameters().sample_weights == "none"
    assert Hyperparameters().recency_half_life == 0.0
    page = (ROOT / "docs" / "data.md").read_text()
    (snippet,) = (found for found in re.findall(r"```yaml\n(.*?)```", page, re.S) if "sample_weights" in found)
    path = tmp_path / "weights.yaml"
    path.write_text(snippet)
    space = load_experiment(path, []).search_space
    assert "learning_rate" in space
    assert space["sample_weights"].choices == ("none", "uniqueness")
    assert (space["recency_half_life"].low, space["recency_half_life"].high) == (250, 2500)
