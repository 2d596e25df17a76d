"""A search space for the next run: narrowed where the best agree, widened where they lie on an edge, with reasons."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from scripts.search_space import Choices, FloatRange, IntRange, Range, Scalar, SearchSpace, Values, narrow

_EDGE = 0.05  # share of a range that counts as its edge
_WIDEN = 0.25  # share of a range by which an edge moves out, and by which narrowed bounds keep away from the best
_UNIMPORTANT = 0.02  # importance below which a categorical is fixed


def suggested_space(
    space: SearchSpace, best: Sequence[Values], importance: Mapping[str, float]
) -> dict[str, tuple[Range | Scalar, str]]:
    """Dimension and reason for each hyperparameter.

    Parameters
    ----------
    space : SearchSpace
        That of the run that has ended.
    best : sequence of mappings
        Hyperparameters of its best trials, the best one first.
    importance : mapping
        Share of the variance of the score that each hyperparameter explains.
    """
    narrowed = narrow(space, best, _WIDEN)
    suggestions: dict[str, tuple[Range | Scalar, str]] = {}
    for name, dimension in space.items():
        values = [v[name] for v in best if name in v]
        if isinstance(dimension, FloatRange | IntRange) and values:
            suggestions[name] = _numeric(dimension, narrowed[name], [float(v) for v in values])
        elif isinstance(dimension, Choices) and values:
            suggestions[name] = _categorical(dimension, narrowed[name], values, importance.get(name))
        else:
            suggestions[name] = (dimension, "as before")
    return suggestions


def to_yaml(suggestions: Mapping[str, tuple[Range | Scalar, str]]) -> str:
    """A config file with the suggestions under `search_space`, each with its reason as a comment."""
    lines = ["# Search space for the next run: pass it with --config", "search_space:"]
    for name, (dimension, reason) in suggestions.items():
        plain = dimension.model_dump(mode="json", exclude_defaults=True) if isinstance(dimension, Range) else dimension
        if isinstance(dimension, Range) and isinstance(plain, dict):
            plain = {"type": dimension.type} | plain
        # JSON in one line is YAML, and needs no quoting rules of our own.
        lines.append(f"  {name}: {json.dumps(plain)}  # {reason}")
    return "\n".join(lines) + "\n"


def _numeric(
    old: FloatRange | IntRange, narrowed: Range | Scalar, values: Sequence[float]
) -> tuple[Range | Scalar, str]:
    to, back = (math.log, math.exp) if old.log else (float, float)
    low, high = to(old.low), to(old.high)
    margin, edge = _WIDEN * (high - low), _EDGE * (high - low)
    shown = f"the best lie in [{min(values):.3g}, {max(values):.3g}]"
    at_low, at_high = to(values[0]) <= low + edge, to(values[0]) >= high - edge
    if low == high or not (at_low or at_high):
        return narrowed, f"narrowed: {shown}"
    bounds = {"low": back(low - margin) if at_low else old.low, "high": back(high + margin) if at_high else old.high}
    if old.low >= 0:
        bounds["low"] = max(bounds["low"], min(old.low, 0.0 if isinstance(old, FloatRange) else 1.0))
    if isinstance(old, IntRange):
        bounds = {"low": round(bounds["low"]), "high": max(old.high + at_high, round(bounds["high"]))}
    side = "lower" if at_low else "upper"
    return old.model_copy(update=bounds), f"widened: the best value {values[0]:.3g} lies on the {side} edge"


def _categorical(
    old: Choices, narrowed: Range | Scalar, values: Sequence[Scalar], importance: float | None
) -> tuple[Range | Scalar, str]:
    if importance is not None and importance < _UNIMPORTANT and not old.when:
        return values[0], f"fixed: explains {importance:.1%} of the differences"
    kept = narrowed.choices if isinstance(narrowed, Choices) else old.choices
    dropped = [str(c) for c in old.choices if c not in kept]
    return narrowed, f"dropped, as none of the best has it: {', '.join(dropped)}" if dropped else "all among the best"
