"""Keyed random numbers: every draw has a key, so no generator state is stored and interruptions change nothing."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def key(*parts: int | str) -> int:
    """Return a 63-bit seed that depends on every part, such as (seed, trial, fold, epoch, purpose)."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def torch_generator(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the PyTorch generator of this key; each kind of device draws other numbers."""
    return torch.Generator(device).manual_seed(key(*parts))


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """Return the NumPy generator of this key."""
    return np.random.default_rng(key(*parts))
