"""A small transformer over patches of a window of rows (after PatchTST, Nie, Nguyen, Sinthong and Kalagnanam 2023)."""

from __future__ import annotations

import torch
from torch import nn

from scripts.config.search_space import Hyperparameters
from scripts.training.models.layers import ACTIVATIONS, PooledDropout

_MIN_HEAD = 16  # units of an attention head


class EncoderBlock(nn.Module):
    """Attention among patches, then a perceptron on each, both residual with the normalisation in front."""

    def __init__(self, width: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.n_heads = next(n for n in (8, 4, 2, 1) if width % n == 0 and (width // n >= _MIN_HEAD or n == 1))
        self.norm_attention, self.norm_rows = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.rows = nn.Sequential(
            nn.Linear(width, 2 * width), ACTIVATIONS[activation](), PooledDropout(dropout), nn.Linear(2 * width, width)
        )
        self.dropout = PooledDropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Hidden states (batch, patches, width)."""
        x = x + self.dropout(self._attention(self.norm_attention(x)))
        return x + self.dropout(self.rows(self.norm_rows(x)))

    def _attention(self, x: torch.Tensor) -> torch.Tensor:
        batch, patches, width = x.shape
        parts = self.query_key_value(x).view(batch, patches, 3, self.n_heads, width // self.n_heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).reshape(batch, patches, width))


class PatchTransformer(nn.Module):
    """`depth` blocks of `width` units over patches of `patch_length` rows; the last patch, the newest, decides.

    If a window is not a multiple of the patch, its oldest row is repeated in front.
    """

    def __init__(self, hyperparameters: Hyperparameters, n_features: int, n_classes: int) -> None:
        super().__init__()
        hp = hyperparameters
        self.patch = min(hp.patch_length, hp.window)
        n_patches = -(-hp.window // self.patch)
        self.n_padded = n_patches * self.patch - hp.window
        self.embedding = nn.Linear(self.patch * n_features, hp.width)
        self.position = nn.Parameter(torch.randn(n_patches, hp.width) * 0.02)
        self.blocks = nn.Sequential(*(EncoderBlock(hp.width, hp.activation, hp.dropout) for _ in range(hp.depth)))
        self.norm = nn.LayerNorm(hp.width)
        self.head = nn.Linear(hp.width, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (batch, n_classes) of windows (batch, window, n_features)."""
        padded = torch.cat([x[:, :1].expand(-1, self.n_padded, -1), x], dim=1)
        patches = padded.reshape(x.shape[0], len(self.position), -1)
        return self.head(self.norm(self.blocks(self.embedding(patches) + self.position)[:, -1]))
