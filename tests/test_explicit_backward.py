"""Explicit backward passes: gradients of autograd, steps of the framework's optimisers, one state for both paths."""

import copy
import dataclasses

import pytest
import torch

from scripts.artifacts import pack_tensors, unpack_tensors
from scripts.models.layers import redraw_dropout
from scripts.models.mlp import MLP
from scripts.models.registry import build_model
from scripts.search_space import Hyperparameters
from scripts.training.explicit_backward import ExplicitBackward
from scripts.training.flat_parameters import FlatParameters
from scripts.training.optimisation import clipped_step, loss_sum, make_optimiser
from scripts.training.run import TrainingRun
from tests.test_training import DATA, finished, spec

ROWS, FEATURES, CLASSES = 37, 5, 3


def own_mlp(hyperparameters, n_features, n_classes, window):
    """A user's factory whose model is a class of its own, and so goes through autograd."""

    class Own(MLP):
        pass

    return Own(hyperparameters, n_features, n_classes)


def written_out(hyperparameters, class_weights=None, dtype=torch.float64):
    torch.manual_seed(1)
    model = build_model(hyperparameters, FEATURES, CLASSES, {}).to(dtype)
    with torch.no_grad():  # norms begin at one and zero, where some mistakes would not show
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    optimiser = make_optimiser(model.parameters(), hyperparameters)
    explicit = ExplicitBackward.of(model, optimiser, class_weights, hyperparameters.label_smoothing)
    return model, explicit


@pytest.mark.parametrize("family", ["mlp", "resnet"])
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("class_weighted", [False, True])
@pytest.mark.parametrize("sample_weighted", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_gradients_are_those_of_autograd(
    family, activation, depth, smoothing, class_weighted, sample_weighted, dropout
):
    hyperparameters = Hyperparameters(
        family=family, activation=activation, depth=depth, width=7, dropout=dropout, label_smoothing=smoothing
    )
    class_weights = torch.tensor([0.5, 1.0, 2.5], dtype=torch.float64) if class_weighted else None
    model, explicit = written_out(hyperparameters, class_weights)
    inputs, targets = torch.randn(ROWS, FEATURES, dtype=torch.float64), torch.randint(CLASSES, (ROWS,))
    sample_weights = torch.rand(ROWS, dtype=torch.float64) + 0.5 if sample_weighted else None
    mass = class_weights[targets].sum() if class_weighted else ROWS
    model.train()
    redraw_dropout(model)
    torch.manual_seed(2)
    loss = explicit.loss(inputs, targets, sample_weights, mass)
    found = [p.grad.clone() for p in model.parameters()]

    redraw_dropout(model)
    torch.manual_seed(2)  # the same masks
    expected = loss_sum(model(inputs), targets, class_weights, smoothing, sample_weights) / mass
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-12)
    for gradient, mine in zip(torch.autograd.grad(expected, list(model.parameters())), found, strict=True):
        assert gradient.abs().max() > 0
        assert torch.allclose(mine, gradient, rtol=1e-10, atol=1e-14)


def test_gradients_of_a_step_forget_the_step_before():
    model, explicit = written_out(Hyperparameters(width=7, dropout=0.0))
    batches = [(torch.randn(n, FEATURES, dtype=torch.float64), torch.randint(CLASSES, (n,))) for n in (40, 9, 41, 9)]
    alone = []
    for inputs, targets in batches:
        fresh, its = written_out(Hyperparameters(width=7, dropout=0.0))
        its.loss(inputs, targets, None, len(targets))
        alone.append([p.grad for p in fresh.parameters()])
    for (inputs, targets), gradients in zip(batches, alone, strict=True):
        explicit.loss(inputs, targets, None, len(targets))
        assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), gradients, strict=True))


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("largest_norm", [0.0, 0.5, 1e3])
def test_steps_on_buffers_are_those_of_the_optimiser(optimizer, largest_norm):
    hyperparameters = Hyperparameters(optimizer=optimizer, width=7, learning_rate=0.01, weight_decay=0.1)
    plain = build_model(hyperparameters, FEATURES, CLASSES, {}).double()
    model = copy.deepcopy(plain)
    ours, theirs = (make_optimiser(m.parameters(), hyperparameters) for m in (model, plain))
    flat = FlatParameters(list(model.parameters()), ours)
    for step in range(5):
        for mine, other in zip(model.parameters(), plain.parameters(), strict=True):
            other.grad = torch.randn_like(other)
            mine.grad.copy_(other.grad)
        for optimiser in (ours, theirs):
            optimiser.param_groups[0]["lr"] = 0.01 / (step + 1)
        flat.step(largest_norm)
        clipped_step(theirs, list(plain.parameters()), largest_norm)
        for mine, other in zip(model.parameters(), plain.parameters(), strict=True):
            assert torch.allclose(mine, other, rtol=1e-12, atol=1e-14)
    state, expected = ours.state_dict(), theirs.state_dict()
    assert state["param_groups"] == expected["param_groups"]
    for k, values in expected["state"].items():
        assert {n: v.shape for n, v in state["state"][k].items()} == {n: v.shape for n, v in values.items()}
        assert all(torch.allclose(state["state"][k][n], v, atol=1e-14) for n, v in values.items())


def test_a_tensor_is_trained_alike_wherever_it_lies_in_the_buffer():
    ends = []
    for before in ([], [3], [40, 1]):
        parameters = [torch.nn.Parameter(torch.linspace(-1, 1, n)) for n in (*before, 21)]
        flat = FlatParameters(parameters, make_optimiser(parameters, Hyperparameters(learning_rate=0.01)))
        for step in range(20):
            for parameter in parameters:
                parameter.grad.copy_(parameter.detach() * step + 0.3)
            flat.step(0.0)
        ends.append(parameters[-1])
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2])


VALUES = {"dropout": 0.3, "schedule": "cosine", "label_smoothing": 0.1, "class_weights": "balanced"}


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_a_run_by_autograd_ends_where_the_explicit_one_does(optimizer):
    values = VALUES | {"optimizer": optimizer, "learning_rate": 1e-3}
    settings = spec(hyperparameters=values, ema_decay=0.9, warmup_epochs=1)
    explicit = finished(TrainingRun(settings, DATA))
    theirs = dataclasses.replace(
        settings,
        hyperparameters=settings.hyperparameters.model_copy(update={"family": "own"}),
        factories={"own": f"{__name__}:own_mlp"},
    )
    by_autograd = finished(TrainingRun(theirs, DATA))
    assert explicit.explicit is not None
    assert by_autograd.explicit is None
    assert torch.allclose(explicit.validation_logits, by_autograd.validation_logits, atol=1e-4)
    assert explicit.outcome.train_loss == pytest.approx(by_autograd.outcome.train_loss, abs=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_either_path_goes_on_from_the_state_of_the_other(optimizer):
    """A run that began on another device has its state by tensor."""
    settings = spec(hyperparameters=VALUES | {"optimizer": optimizer, "learning_rate": 1e-3})
    theirs = dataclasses.replace(
        settings,
        hyperparameters=settings.hyperparameters.model_copy(update={"family": "own"}),
        factories={"own": f"{__name__}:own_mlp"},
    )
    straight = finished(TrainingRun(settings, DATA))
    for first, second in ((settings, theirs), (theirs, settings)):
        begun, resumed = TrainingRun(first, DATA), TrainingRun(second, DATA)
        begun.advance(3)
        resumed.load_state_dict(unpack_tensors(pack_tensors(begun.state_dict())))
        finished(resumed)
        assert torch.allclose(resumed.validation_logits, straight.validation_logits, atol=1e-4)


def test_micro_batches_go_through_autograd_and_into_the_same_buffers():
    settings = spec(hyperparameters=VALUES | {"dropout": 0.0, "learning_rate": 1e-3})
    whole, split = TrainingRun(settings, DATA), TrainingRun(settings, DATA)
    split.micro_batch = 10
    for run in (whole, split):
        finished(run)
    assert torch.allclose(split.validation_logits, whole.validation_logits, atol=1e-4)
