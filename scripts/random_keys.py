"""Keyed randomness: every draw has an address, so no generator state lives on and no interruption can change one."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def key(*parts: int | str) -> int:
    """63-bit seed that depends on every part of the address, such as (seed, trial, fold, epoch, purpose)."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def torch_generator(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Generator for the draws at this address; each kind of device draws other numbers."""
    return torch.Generator(device).manual_seed(key(*parts))


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """NumPy generator for the draws at this address."""
    return np.random.default_rng(key(*parts))
