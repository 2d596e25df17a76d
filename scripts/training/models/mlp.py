"""Multilayer perceptron on the features of one row."""

from __future__ import annotations

import torch
from torch import nn

from scripts.config.search_space import Hyperparameters
from scripts.training.models.layers import ACTIVATIONS, PooledDropout


class MLP(nn.Module):
    """`depth` hidden layers of `width` units, each followed by activation and dropout."""

    def __init__(self, hyperparameters: Hyperparameters, n_features: int, n_classes: int) -> None:
        super().__init__()
        hp = hyperparameters
        layers: list[nn.Module] = []
        width = n_features
        for _ in range(hp.depth):
            layers += [nn.Linear(width, hp.width), ACTIVATIONS[hp.activation](), PooledDropout(hp.dropout)]
            width = hp.width
        self.layers = nn.Sequential(*layers, nn.Linear(width, n_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (batch, n_classes) of rows (batch, n_features)."""
        return self.layers(x)
