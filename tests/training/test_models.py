"""The families as functions: ensembles that share matrices, windows that see no future and no row twice."""

import pytest
import torch
from torch.nn import functional as F

from scripts.config.search_space import Hyperparameters
from scripts.training.models.registry import ROW_FAMILIES, WINDOW_FAMILIES, build_model
from scripts.training.optimisation import loss_sum


def model(family, **values):
    torch.manual_seed(0)
    values = {"width": 32, "depth": 2, "window": 6, "n_members": 4} | values
    return build_model(Hyperparameters(family=family, **values), 5, 3, {}).train(False)


@pytest.mark.parametrize("family", ROW_FAMILIES | WINDOW_FAMILIES)
def test_a_prediction_depends_on_its_own_row_or_window_alone(family):
    network = model(family)
    x = torch.randn(8, 5) if family in ROW_FAMILIES else torch.randn(8, 6, 5)
    together = network(x)
    assert together.shape == (8, 3)
    alone = torch.cat([network(row[None]) for row in x])
    torch.testing.assert_close(together, alone)


def test_the_members_of_a_tabm_are_perceptrons_that_differ():
    network, x = model("tabm", n_members=4, activation="relu", dropout=0.0).train(True), torch.randn(7, 5)
    logits = network(x)
    assert logits.shape == (7, 4, 3)
    for k in range(4):  # each as a perceptron of its own
        h = x
        for layer in (network.layers[0], network.layers[3]):
            weight = layer.scale_out[k][:, None] * layer.weight * layer.scale_in[k]
            h = torch.relu(F.linear(h, weight, layer.bias[k]))
        torch.testing.assert_close(logits[:, k], h @ network.layers[6].weight[k] + network.layers[6].bias[k])
    assert not torch.allclose(logits[:, 0], logits[:, 1], atol=1e-3)


def test_a_tabm_predicts_the_mean_of_its_members_probabilities():
    network, x = model("tabm", dropout=0.0), torch.randn(7, 5)
    expected = network.train(True)(x).softmax(dim=2).mean(dim=1)
    torch.testing.assert_close(network.train(False)(x).softmax(dim=1), expected)


def test_the_loss_of_several_members_is_the_mean_of_theirs():
    logits, targets = torch.randn(9, 4, 3), torch.randint(0, 3, (9,))
    weights, rows = torch.rand(3), torch.rand(9)
    own = [loss_sum(logits[:, k], targets, weights, 0.1, rows) for k in range(4)]
    torch.testing.assert_close(loss_sum(logits, targets, weights, 0.1, rows), torch.stack(own).mean())


@pytest.mark.parametrize(("window", "patch_length", "n_patches"), [(6, 4, 2), (6, 3, 2), (2, 4, 1), (5, 1, 5)])
def test_a_transformer_reads_the_whole_window_in_patches(window, patch_length, n_patches):
    network = model("transformer", window=window, patch_length=patch_length)
    assert len(network.position) == n_patches
    x = torch.randn(1, window, 5, requires_grad=True)
    network(x).sum().backward()
    assert (x.grad.abs().sum(dim=2) > 0).all()
