"""Experiments as artifacts record them: hash, differences, and the data section of earlier versions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from scripts.config.search_space import PlainValues

# Behaviour of runs that were recorded without these keys.
_BEFORE = {"ties": "down"}
_BEFORE_OF_MARKETS = {"prices": "raw", "repair": "strict"}
_MARKS = {"delimiter": ",", "decimal": "."}


def recorded_data(data: Mapping[str, object]) -> PlainValues:
    """Return the recorded section `data` of a run, with the keys that an earlier version did not have.

    Its 252 periods per year were an unchecked default: they are inferred from the dates instead.
    """
    if "columns" not in data:  # marks of text were stated, and are now found
        data = {**data, **{name: None for name, mark in _MARKS.items() if data.get(name) == mark}}
    before = _BEFORE | (_BEFORE_OF_MARKETS if data.get("source") == "market" else {})
    if "holding" in data:
        return {**before, **data}
    inferred = {"periods_per_year": None} if data.get("periods_per_year") == 252 else {}
    return {**before, "holding": "bar", **data, **inferred}


def config_hash(values: Any) -> str:
    """Return the SHA-256 of plain values, independent of the order of keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def differing_keys(a: Any, b: Any, prefix: str = "") -> list[str]:
    """Return the dotted keys at which two nested plain values differ, each with both values."""
    if isinstance(a, dict) and isinstance(b, dict):
        keys = sorted(a.keys() | b.keys())
        return [d for k in keys for d in differing_keys(a.get(k), b.get(k), f"{prefix}.{k}" if prefix else k)]
    return [] if a == b else [f"{prefix} ({a} -> {b})"]
