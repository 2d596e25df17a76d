"""Limits of parsed content: depth of nesting, size of tensors."""

from __future__ import annotations

import json
from typing import Any

import torch

MAX_DEPTH = 50
# Memory of a value and of a mapping or list around values, in bytes; content below the bound is always accepted.
_VALUE, _LIST, _MAPPING, _ALWAYS_FINE = 64, 72, 256, 2**29


def parsed_json(content: bytes) -> Any:
    """Parse JSON from an untrusted file or object.

    Raises
    ------
    ValueError
        It is not JSON, contains a number that is not finite, or is too large or too deeply nested once parsed.
    """
    check_text(content)
    try:
        body = json.loads(content, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels") from error
    check_nesting(body, len(content))
    return body


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def check_text(content: bytes) -> None:
    """Raise ValueError if JSON text would take far more memory than its size once parsed, such as empty lists."""
    estimate = _VALUE * content.count(b",") + _LIST * content.count(b"[") + _MAPPING * content.count(b"{")
    if estimate > max(_ALWAYS_FINE, 10 * len(content)):
        raise ValueError("it would take far more memory than its size")


def check_nesting(content: Any, max_items: int) -> None:
    """Raise ValueError if lists and mappings are nested too deeply, or a tensor is larger than its data.

    A pickle can contain one list many times in another, and that one many times in a third: small on disk, but endless
    to traverse. A valid one has at most one part for each of its `max_items` bytes. A tensor without strides can have
    any size over a single number.
    """
    level, depth, seen = [content], 0, 0
    while level:
        depth, seen = depth + 1, seen + len(level)
        if depth > MAX_DEPTH or seen > max_items:
            raise ValueError(f"nested deeper than {MAX_DEPTH} levels, or larger than its file")
        below: list[Any] = []
        for part in level:
            if isinstance(part, torch.Tensor):
                if part.layout != torch.strided or part.numel() * part.element_size() > part.untyped_storage().nbytes():
                    raise ValueError("a tensor is larger than its data")
            elif isinstance(part, dict):
                below += part.values()
            elif isinstance(part, list | tuple | set | frozenset):
                below += part
            if len(below) > max_items:
                raise ValueError("larger than its file")
        level = below
