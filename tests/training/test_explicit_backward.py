"""Explicit backward passes: gradients of autograd, steps of the framework's optimisers, one state for both paths."""

import copy
import dataclasses

import pytest
import torch

from scripts.config.search_space import Hyperparameters
from scripts.storage.artifacts import pack_tensors, unpack_tensors
from scripts.training.engines.autograd import AutogradEngine
from scripts.training.engines.explicit import ExplicitEngine
from scripts.training.engines.explicit_backward import ExplicitBackward
from scripts.training.engines.flat_parameters import FlatParameters
from scripts.training.engines.joint_optimiser import StackedOptimizers
from scripts.training.models.layers import dropout_layers
from scripts.training.models.mlp import MLP
from scripts.training.models.registry import build_model
from scripts.training.optimisation import clipped_step, loss_factors, loss_sum, make_optimiser
from scripts.training.run import TrainingRun
from tests.training.test_training import DATA, finished, spec

ROWS, FEATURES, CLASSES = 37, 5, 3


def own_mlp(hyperparameters, n_features, n_classes, window):
    """A user's factory whose model is a class of its own, and so goes through autograd."""

    class Own(MLP):
        pass

    return Own(hyperparameters, n_features, n_classes)


@pytest.fixture
def double_precision():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def written_out(*hyperparameters):
    """Models, their buffers and their explicit backward passes."""
    torch.manual_seed(1)
    models = [build_model(values, FEATURES, CLASSES, {}) for values in hyperparameters]
    with torch.no_grad():  # norms begin at one and zero, where some mistakes would not show
        for parameter in (p for model in models for p in model.parameters()):
            parameter.add_(0.1 * torch.randn_like(parameter))
    parameters = [list(model.parameters()) for model in models]
    optimisers = [make_optimiser(own, values) for own, values in zip(parameters, hyperparameters, strict=True)]
    flat = FlatParameters(parameters, optimisers, [[] for _ in models], [0.0 for _ in models])
    return models, flat, ExplicitBackward(models, flat.stacked(slice(0, len(models))))


def redraw_dropout(models):
    for seed, model in enumerate(models):
        generator = torch.Generator().manual_seed(seed)
        for layer in dropout_layers(model):
            layer.redraw(generator)


@pytest.mark.parametrize("family", ["mlp", "resnet", "tabm"])
@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("class_weighted", [False, True])
@pytest.mark.parametrize("sample_weighted", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.usefixtures("double_precision")
def test_gradients_of_models_together_are_those_of_autograd(
    family, activation, depth, smoothing, class_weighted, sample_weighted, dropout
):
    values = Hyperparameters(family=family, activation=activation, depth=depth, width=7, dropout=dropout)
    models, flat, explicit = written_out(values, values.model_copy(update={"dropout": dropout / 2}))
    class_weights = torch.tensor([0.5, 1.0, 2.5]) if class_weighted else None
    inputs, targets = torch.randn(2, ROWS, FEATURES), torch.randint(CLASSES, (2, ROWS))
    sample_weights = torch.rand(2, ROWS) + 0.5 if sample_weighted else None
    masses = class_weights[targets].sum(1) if class_weighted else torch.tensor([ROWS, ROWS])
    factors = loss_factors(CLASSES, class_weights, smoothing)[targets] / masses[:, None, None]
    if sample_weights is not None:
        factors *= sample_weights[:, :, None]
    redraw_dropout(models)
    losses = explicit.losses(inputs, factors, explicit.masks(0, ROWS))

    redraw_dropout(models)
    for k, model in enumerate(models):
        model.train()
        weights = None if sample_weights is None else sample_weights[k]
        expected = loss_sum(model(inputs[k]), targets[k], class_weights, smoothing, weights) / masses[k]
        assert float(losses[k]) == pytest.approx(float(expected.detach()), rel=1e-12)
        gradients = torch.autograd.grad(expected, list(model.parameters()))
        for gradient, (_, mine) in zip(gradients, flat.stacked(slice(0, 2)), strict=True):
            assert gradient.abs().max() > 0
            assert torch.allclose(mine[k], gradient, rtol=1e-10, atol=1e-14)


@pytest.mark.usefixtures("double_precision")
def test_gradients_of_a_step_forget_the_step_before():
    values = Hyperparameters(width=7, dropout=0.0)
    _, flat, explicit = written_out(values)
    batches = [(torch.randn(1, n, FEATURES), torch.randn(1, n, CLASSES)) for n in (40, 9, 41, 9)]
    for batch in batches:
        _, other, fresh = written_out(values)
        explicit.losses(*batch, [])
        fresh.losses(*batch, [])
        assert torch.equal(flat.gradients, other.gradients)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("largest_norm", [0.0, 0.5, 1e3])
@pytest.mark.usefixtures("double_precision")
def test_steps_on_buffers_are_those_of_the_optimiser(optimizer, largest_norm):
    hyperparameters = Hyperparameters(optimizer=optimizer, width=7, learning_rate=0.01, weight_decay=0.1)
    plain = build_model(hyperparameters, FEATURES, CLASSES, {})
    models = [copy.deepcopy(plain), build_model(hyperparameters, FEATURES, CLASSES, {})]
    ours, others, theirs = (make_optimiser(m.parameters(), hyperparameters) for m in (*models, plain))
    flat = FlatParameters([list(m.parameters()) for m in models], [ours, others], [[], []], [largest_norm, 1.0])
    for step in range(5):
        for other, (_, mine) in zip(plain.parameters(), flat.stacked(slice(0, 2)), strict=True):
            other.grad = torch.randn_like(other)
            mine[0], mine[1] = other.grad, 1e6
        theirs.param_groups[0]["lr"] = rate = 0.01 / (step + 1)
        flat.step(slice(0, 2), torch.tensor([[rate, 0.01], [0.0, 0.0]]))
        clipped_step(theirs, list(plain.parameters()), largest_norm)
        for mine, other in zip(models[0].parameters(), plain.parameters(), strict=True):
            assert torch.allclose(mine, other, rtol=1e-12, atol=1e-14)
    state, expected = ours.state_dict(), theirs.state_dict()
    for k, values in expected["state"].items():
        assert {n: v.shape for n, v in state["state"][k].items()} == {n: v.shape for n, v in values.items()}
        assert all(torch.allclose(state["state"][k][n], v.to(state["state"][k][n])) for n, v in values.items())


@pytest.mark.usefixtures("double_precision")
def test_joint_steps_are_those_of_the_optimiser_of_each_model():
    torch.manual_seed(0)
    settings = [
        Hyperparameters(optimizer=optimizer, weight_decay=weight_decay)
        for optimizer in ("adamw", "adam", "sgd")
        for weight_decay in (0.0, 0.1)
    ]
    plain = [torch.nn.Parameter(torch.randn(9)) for _ in settings]
    optimisers = [make_optimiser([p], values) for p, values in zip(plain, settings, strict=True)]
    values = torch.stack([p.detach() for p in plain])
    gradients, first, second = (torch.zeros_like(values) for _ in range(3))
    averages, counts = values.clone(), torch.zeros(len(settings), 1)
    joint = StackedOptimizers(optimisers, values, gradients, first, second, averages)
    for step, members in enumerate([slice(0, 6), slice(1, 5), slice(0, 6), slice(3, 4), slice(2, 6)]):
        counts[members] += 1
        for k, optimiser in enumerate(optimisers):
            plain[k].grad = torch.randn(9)
            optimiser.param_groups[0]["lr"] = 0.01 / (1 + step + k)
        rates = torch.tensor([optimiser.param_groups[0]["lr"] for optimiser in optimisers])
        weights = torch.tensor([0.0, 0.5, 0.1, 0.0, 1.0, 0.3])
        before, earlier = values.clone(), averages.clone()
        gradients[:] = torch.stack([p.grad for p in plain])
        joint.step(members, counts[members], torch.stack([rates, weights])[:, members])
        for k in range(len(settings))[members]:
            optimisers[k].step()
            assert torch.allclose(values[k], plain[k], rtol=1e-12, atol=1e-14)
            assert (values[k] - before[k]).abs().min() > 0
            assert torch.allclose(averages[k], earlier[k] + weights[k] * (values[k] - earlier[k]), rtol=1e-12)
        others = [k for k in range(len(settings)) if k not in range(len(settings))[members]]
        assert torch.equal(values[others], before[others])
        assert torch.equal(averages[others], earlier[others])


@pytest.mark.parametrize("largest_norm", [0.0, 1.0])
def test_clipping_leaves_a_member_alone_whose_norm_is_not_to_be_clipped(largest_norm):
    parameters = [[torch.nn.Parameter(torch.zeros(3))] for _ in range(2)]
    optimisers = [make_optimiser(own, Hyperparameters(optimizer="sgd", weight_decay=0.0)) for own in parameters]
    flat = FlatParameters(parameters, optimisers, [[], []], [largest_norm, 0.0])
    flat.gradients[:, :3] = torch.tensor([[3.0, 0.0, 4.0], [3.0, torch.inf, 4.0]])
    flat.step(slice(0, 2), torch.zeros(2, 2))
    clipped = 0.2 if largest_norm else 1.0
    assert torch.allclose(flat.gradients[0, :3], clipped * torch.tensor([3.0, 0.0, 4.0]))
    assert flat.gradients[1, :3].tolist() == [3.0, torch.inf, 4.0]


def test_a_tensor_is_trained_alike_wherever_it_lies_in_the_buffer():
    ends = []
    for before in ([], [3], [40, 1]):
        parameters = [torch.nn.Parameter(torch.linspace(-1, 1, n)) for n in (*before, 21)]
        optimiser = make_optimiser(parameters, Hyperparameters(learning_rate=0.01))
        flat = FlatParameters([parameters], [optimiser], [[]], [0.0])
        for step in range(20):
            for value, gradient in flat.stacked(slice(0, 1)):
                gradient.copy_(value * step + 0.3)
            flat.step(slice(0, 1), torch.tensor([[0.01], [0.0]]))
        ends.append(parameters[-1])
    assert torch.equal(ends[0], ends[1])
    assert torch.equal(ends[0], ends[2])


VALUES = {"dropout": 0.3, "schedule": "cosine", "label_smoothing": 0.1, "class_weights": "balanced"}


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_a_run_by_autograd_ends_where_the_explicit_one_does(optimizer):
    values = VALUES | {"optimizer": optimizer, "learning_rate": 1e-3}
    settings = spec(hyperparameters=values, ema_decay=0.9, warmup_epochs=1)
    explicit = TrainingRun(settings, DATA)
    explicit.advance()
    assert isinstance(explicit.engine, ExplicitEngine)
    finished(explicit)
    theirs = dataclasses.replace(
        settings,
        hyperparameters=settings.hyperparameters.model_copy(update={"family": "own"}),
        factories={"own": f"{__name__}:own_mlp"},
    )
    by_autograd = TrainingRun(theirs, DATA)
    by_autograd.advance()
    assert isinstance(by_autograd.engine, AutogradEngine)
    finished(by_autograd)
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
        state = begun.state_dict() | {"made_for": resumed.state_dict()["made_for"]}  # a model under another name
        resumed.load_state_dict(unpack_tensors(pack_tensors(state)))
        finished(resumed)
        assert torch.allclose(resumed.validation_logits, straight.validation_logits, atol=1e-4)
