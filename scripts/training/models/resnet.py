"""Residual multilayer perceptron for tables (Gorishniy et al. 2021), with layer norm instead of batch norm."""

from __future__ import annotations

import torch
from torch import nn

from scripts.config.search_space import Hyperparameters
from scripts.training.models.layers import ACTIVATIONS, PooledDropout


class ResidualBlock(nn.Module):
    """x + Linear(dropout(activation(Linear(norm(x)))))."""

    def __init__(self, width: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, width),
            ACTIVATIONS[activation](),
            PooledDropout(dropout),
            nn.Linear(width, width),
        )

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Hidden states (batch, width)."""
        return h + self.branch(h)


class ResNet(nn.Module):
    """A linear stem, `depth` residual blocks of `width` units, norm, activation and head."""

    def __init__(self, hyperparameters: Hyperparameters, n_features: int, n_classes: int) -> None:
        super().__init__()
        hp = hyperparameters
        self.layers = nn.Sequential(
            nn.Linear(n_features, hp.width),
            *(ResidualBlock(hp.width, hp.activation, hp.dropout) for _ in range(hp.depth)),
            nn.LayerNorm(hp.width),
            ACTIVATIONS[hp.activation](),
            nn.Linear(hp.width, n_classes),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (batch, n_classes) of rows (batch, n_features)."""
        return self.layers(x)
