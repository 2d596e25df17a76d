"""TabM (Gorishniy, Kotelnikov and Babenko 2025): an ensemble of perceptrons that share their weight matrices."""

from __future__ import annotations

import math

import torch
from torch import nn

from scripts.config.search_space import Hyperparameters
from scripts.training.models.layers import ACTIVATIONS, PooledDropout


class SharedLinear(nn.Module):
    """One matrix for all heads; each scales inputs and outputs and shifts them by its own vectors.

    As in batch ensembles (Wen, Tran and Ba 2020). `first`: the input scales are random signs, so that heads differ
    from the start; elsewhere they are ones.
    """

    def __init__(self, n_in: int, n_out: int, n_heads: int, first: bool) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(n_in)
        self.weight = nn.Parameter(torch.empty(n_out, n_in).uniform_(-bound, bound))
        signs = torch.randint(0, 2, (n_heads, n_in)).float() * 2 - 1
        self.scale_in = nn.Parameter(signs if first else torch.ones(n_heads, n_in))
        self.scale_out = nn.Parameter(torch.ones(n_heads, n_out))
        self.bias = nn.Parameter(torch.empty(n_heads, n_out).uniform_(-bound, bound))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs (n_heads, batch, n_out) of inputs (n_heads, batch, n_in), or (1, batch, n_in) for all alike."""
        scaled = nn.functional.linear(x * self.scale_in[:, None], self.weight) * self.scale_out[:, None]
        return scaled + self.bias[:, None]


class PerHeadLinear(nn.Module):
    """A linear layer for each head."""

    def __init__(self, n_in: int, n_out: int, n_heads: int) -> None:
        super().__init__()
        bound = 1.0 / math.sqrt(n_in)
        self.weight = nn.Parameter(torch.empty(n_heads, n_in, n_out).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(n_heads, n_out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs (n_heads, batch, n_out) of inputs (n_heads, batch, n_in)."""
        return torch.baddbmm(self.bias[:, None], x, self.weight)


class TabM(nn.Module):
    """`depth` hidden layers of `width` units and one output layer for each of `n_members` heads."""

    def __init__(self, hyperparameters: Hyperparameters, n_features: int, n_classes: int) -> None:
        super().__init__()
        hp = hyperparameters
        layers: list[nn.Module] = []
        width = n_features
        for k in range(hp.depth):
            layers.append(SharedLinear(width, hp.width, hp.n_members, first=k == 0))
            layers += [ACTIVATIONS[hp.activation](), PooledDropout(hp.dropout)]
            width = hp.width
        self.layers = nn.Sequential(*layers, PerHeadLinear(width, n_classes, hp.n_members))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits of rows (batch, n_features).

        Returns
        -------
        Tensor
            In training (batch, n_heads, n_classes): each head learns on its own. Otherwise (batch, n_classes), the
            logarithm of the mean of the heads' probabilities.
        """
        logits = self.layers(x[None])
        if self.training:
            return logits.transpose(0, 1)
        return logits.log_softmax(dim=2).logsumexp(dim=0) - math.log(len(logits))
