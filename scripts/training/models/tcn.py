"""Temporal convolutional network (Bai, Kolter and Koltun 2018): dilated causal convolutions on a window of rows."""

from __future__ import annotations

import torch
from torch import nn

from scripts.config.search_space import Hyperparameters
from scripts.training.models.layers import ACTIVATIONS, PooledDropout

_KERNEL = 3


class CausalBlock(nn.Module):
    """x + dropout(activation(convolution of x and its past)), dilation doubling from block to block."""

    def __init__(self, n_in: int, width: int, dilation: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.pad = (_KERNEL - 1) * dilation
        self.convolution = nn.Conv1d(n_in, width, _KERNEL, dilation=dilation)
        self.skip = nn.Conv1d(n_in, width, 1) if n_in != width else nn.Identity()
        self.activation = ACTIVATIONS[activation]()
        self.dropout = PooledDropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Hidden states (batch, channels, window)."""
        past = nn.functional.pad(x, (self.pad, 0))
        return self.skip(x) + self.dropout(self.activation(self.convolution(past)))


class TCN(nn.Module):
    """`depth` causal blocks of `width` channels; the last position decides."""

    def __init__(self, hyperparameters: Hyperparameters, n_features: int, n_classes: int) -> None:
        super().__init__()
        hp = hyperparameters
        widths = [n_features, *[hp.width] * hp.depth]
        self.blocks = nn.Sequential(
            *(CausalBlock(a, hp.width, 2**k, hp.activation, hp.dropout) for k, a in enumerate(widths[:-1]))
        )
        self.head = nn.Linear(hp.width, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (batch, n_classes) of windows (batch, window, n_features)."""
        return self.head(self.blocks(x.transpose(1, 2))[:, :, -1])
