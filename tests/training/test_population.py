"""Populations: every member ends in the bits that it reaches alone, in any company, also as others leave or resume."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.storage.artifacts import pack_tensors, unpack_tensors
from scripts.training.engines.population import Population
from scripts.training.run import TrainingRun
from tests.training.test_training import DATA, finished, spec

N_TRAIN = len(spec().train_rows)
SHAPES = [
    {"family": family, "activation": activation, "depth": depth, "width": width, "batch_size": batch_size}
    for family, activation, depth, width, batch_size in [
        ("mlp", "relu", 2, 16, 64),
        ("mlp", "gelu", 1, 7, 33),
        ("mlp", "silu", 3, 24, 500),
        ("mlp", "relu", 1, 1, 1),
        ("resnet", "relu", 1, 16, 64),
        ("resnet", "gelu", 2, 5, 50),
    ]
]
SHAPES.append(SHAPES[0] | {"precision": "bfloat16"})


@st.composite
def member_specs(draw, shape):
    """A run of a shape in which everything else may differ."""
    own = {
        "learning_rate": draw(st.sampled_from([1e-3, 5e-3, 3e-2])),
        "weight_decay": draw(st.sampled_from([0.0, 0.1])),
        "dropout": draw(st.sampled_from([0.0, 0.2, 0.5])),
        "label_smoothing": draw(st.sampled_from([0.0, 0.1])),
        "optimizer": draw(st.sampled_from(["adamw", "adam", "sgd"])),
        "schedule": draw(st.sampled_from(["constant", "cosine"])),
        "gradient_clip": draw(st.sampled_from([0.0, 0.3])),
        "class_weights": draw(st.sampled_from(["none", "balanced"])),
        "recency_half_life": draw(st.sampled_from([0.0, 100.0])),
    }
    few = 40 if shape["batch_size"] < 10 else N_TRAIN
    first, n = draw(st.integers(0, 30)), draw(st.one_of(st.just(few - 31), st.integers(2, few - 31)))
    return spec(
        hyperparameters=shape | own,
        random_key=(draw(st.integers(0, 2)), "member"),
        train_rows=DATA.rows[first : first + n],
        epochs=draw(st.sampled_from([2, 4])),
        patience=draw(st.sampled_from([1, 100])),
        evaluation_frequency=draw(st.sampled_from([1, 2])),
        warmup_epochs=draw(st.integers(0, 1)),
        ema_decay=draw(st.sampled_from([0.0, 0.9])),
    )


def result(run):
    """All that a run came to, without its times."""
    history = [dataclasses.replace(report, duration_s=0, examples_per_s=0) for report in run.history]
    outcome = dataclasses.replace(run.outcome, duration_s=0, inference_us_per_row=None)
    weights = {name: weight.tolist() for name, weight in run.best_weights.items()}
    return history, outcome, weights, run.validation_logits.tolist()


def carried_to_the_end(population):
    while not population.finished:
        population.advance()
    return population


@pytest.mark.slow
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_members_end_in_the_bits_that_they_reach_alone(data):
    shape = data.draw(st.sampled_from(SHAPES))
    specs = data.draw(st.lists(member_specs(shape), min_size=1, max_size=5))
    alone = [result(finished(TrainingRun(one, DATA))) for one in specs]
    assert [result(run) for run in carried_to_the_end(Population([TrainingRun(s, DATA) for s in specs])).runs] == alone


@pytest.mark.parametrize("n", [1, 2, 7, 16])
@pytest.mark.parametrize("family", ["mlp", "resnet"])
def test_neither_size_nor_order_of_a_population_changes_a_member(family, n):
    specs = [spec(hyperparameters={"family": family}, random_key=(k,), epochs=2) for k in range(n)]
    alone = [result(finished(TrainingRun(one, DATA))) for one in specs]
    for order in (range(n), np.random.default_rng(0).permutation(n)):
        runs = [TrainingRun(specs[k], DATA) for k in order]
        carried_to_the_end(Population(runs))
        assert [result(run) for run in runs] == [alone[k] for k in order]


def test_members_that_finish_leave_and_change_nothing_for_the_others():
    specs = [spec(random_key=(k,), epochs=epochs, ema_decay=0.9) for k, epochs in enumerate((5, 1, 3))]
    alone = [result(finished(TrainingRun(one, DATA))) for one in specs]
    population = Population([TrainingRun(one, DATA) for one in specs])
    together = []
    while not population.finished:
        together.append([len(group) for group in population.groups()])
        reports = population.advance()
        assert [report is not None for report in reports] == [len(together) <= one.epochs for one in specs]
    assert together == [[3], [2], [2], [1], [1]]
    assert [result(run) for run in population.runs] == alone


def test_a_member_that_diverges_fails_alone():
    values = {"optimizer": "sgd", "learning_rate": 10.0, "gradient_clip": 0.0, "depth": 6}
    specs = [spec(random_key=(k,), hyperparameters=values | own) for k, own in enumerate(({}, {"learning_rate": 1e-3}))]
    diverged, sound = carried_to_the_end(Population([TrainingRun(one, DATA) for one in specs])).runs
    assert diverged.outcome.failure.startswith("diverged in epoch")
    assert result(sound) == result(finished(TrainingRun(specs[1], DATA)))


def test_members_resume_from_different_epochs_and_in_other_company():
    specs = [spec(random_key=(k,), hyperparameters={"dropout": 0.3}, ema_decay=0.9, warmup_epochs=1) for k in range(4)]
    alone = [result(finished(TrainingRun(one, DATA))) for one in specs]
    first = Population([TrainingRun(one, DATA) for one in specs])
    states = []
    for run in first.runs:
        first.advance()
        states.append(unpack_tensors(pack_tensors(run.state_dict())))  # of member k after k + 1 epochs
    torch.rand(17)  # other random work in between must not matter
    again = [TrainingRun(one, DATA) for one in specs]
    for run, state in zip(again, states, strict=True):
        run.load_state_dict(state)
    again[0].advance()  # alone, between two companies
    carried_to_the_end(Population(again[:2]))
    carried_to_the_end(Population(again[2:]))
    assert [result(run) for run in again] == alone


def test_the_state_of_a_member_is_as_large_as_that_of_a_run_alone():
    alone, population = (
        TrainingRun(spec(), DATA),
        Population([TrainingRun(spec(random_key=(k,)), DATA) for k in range(8)]),
    )
    alone.advance()
    population.advance()
    assert len(pack_tensors(population.runs[3].state_dict())) == len(pack_tensors(alone.state_dict()))


def test_runs_that_share_no_shape_train_one_after_the_other():
    values = [{}, {"width": 24}, {"family": "gru", "window": 3}, {}, {"family": "gru", "window": 3}]
    specs = [spec(random_key=(k,), hyperparameters=own, epochs=2) for k, own in enumerate(values)]
    specs.append(spec(random_key=("limited",), epochs=2, max_duration_s=100.0))
    alone = [result(finished(TrainingRun(one, DATA))) for one in specs]
    population = Population([TrainingRun(one, DATA) for one in specs])
    assert sorted(len(group) for group in population.groups()) == [1, 1, 1, 1, 2]
    assert [result(run) for run in carried_to_the_end(population).runs] == alone


def test_more_runs_than_a_step_holds_are_spread_evenly():
    population = Population([TrainingRun(spec(random_key=(k,)), DATA) for k in range(9)])
    assert sorted(len(group) for group in population.groups()) == [4, 5]
