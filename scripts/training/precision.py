"""Precision of the matrix products of a training on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_backends: Any = torch.backends
_KINDS = _backends.cuda.matmul, _backends.cudnn.conv, _backends.cudnn.rnn


@contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Let products of float32 matrices round their factors to the ten bits of TensorFloat-32, or not.

    PyTorch rounds those of convolutions and recurrent layers by default. On the CPU nothing changes.

    Parameters
    ----------
    precision : {"float32", "tf32", "bfloat16"}
        With bfloat16 the float32 products that are left stay exact.
    """
    before = [kind.fp32_precision for kind in _KINDS]
    for kind in _KINDS:
        kind.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    try:
        yield
    finally:
        for kind, earlier in zip(_KINDS, before, strict=True):
            kind.fp32_precision = earlier
