"""Gated recurrent network on a window of rows; the last state decides."""

from __future__ import annotations

import itertools

import torch
from torch import nn

from scripts.config.search_space import Hyperparameters
from scripts.training.models.layers import PooledDropout


class GRU(nn.Module):
    """`depth` recurrent layers of `width` units with dropout between them and before the head."""

    def __init__(self, hyperparameters: Hyperparameters, n_features: int, n_classes: int) -> None:
        super().__init__()
        hp = hyperparameters
        widths = [n_features, *[hp.width] * hp.depth]
        self.layers = nn.ModuleList(nn.GRU(a, b, batch_first=True) for a, b in itertools.pairwise(widths))
        self.dropout = PooledDropout(hp.dropout)
        self.head = nn.Linear(hp.width, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (batch, n_classes) of windows (batch, window, n_features)."""
        for number, layer in enumerate(self.layers):
            x, _ = layer(self.dropout(x) if number else x)
        return self.head(self.dropout(x[:, -1]))
