"""Suggested search space of the next run: narrowed, widened at edges, or fixed, by the best trials."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from scripts.config.search_space import (
    Choices,
    FloatRange,
    Hyperparameters,
    IntRange,
    Range,
    Scalar,
    SearchSpace,
    Values,
    narrow,
)

_EDGE = 0.05  # share of a range that counts as its edge
_WIDEN = 0.25  # share of a range by which an edge moves out, and by which narrowed bounds keep away from the best
_UNIMPORTANT = 0.02  # importance below which a hyperparameter is fixed

Suggestion = tuple[Range | Scalar, str]


def suggested_space(
    space: SearchSpace, best: Sequence[Values], importance: Mapping[str, float]
) -> dict[str, Suggestion]:
    """Dimension and reason for each hyperparameter.

    Parameters
    ----------
    space : SearchSpace
        That of the run that has ended.
    best : sequence of mappings
        Hyperparameters of its best trials, the best one first. Of a hyperparameter that does not exist for one of them
        (`when`) its value there counts for nothing.
    importance : mapping
        Share of the variance of the score that each hyperparameter explains; none where it is not known.
    """
    suggestions: dict[str, Suggestion] = {}
    for name, dimension in space.items():
        if not isinstance(dimension, Range):
            suggestions[name] = (dimension, "fixed as before")
            continue
        left = _choices_left(suggestions)
        if any(other in left and not left[other] & set(allowed) for other, allowed in dimension.when.items()):
            default = Hyperparameters.model_fields[name].default if name in Hyperparameters.model_fields else 0
            suggestions[name] = (default, "fixed: exists for no configuration of this space any more")
            continue
        values = [v[name] for v in best if name in v and dimension.applies(v)]
        suggestions[name] = _suggestion(name, dimension, values, importance.get(name))
    return suggestions


def to_yaml(suggestions: Mapping[str, tuple[Range | Scalar, str]]) -> str:
    """A config file with the suggestions under `search_space`, each with its reason as a comment."""
    lines = ["# Search space for the next run: pass it with --config", "search_space:"]
    for name, (dimension, reason) in suggestions.items():
        plain = dimension.model_dump(mode="json", exclude_defaults=True) if isinstance(dimension, Range) else dimension
        if isinstance(dimension, Range) and isinstance(plain, dict):
            plain = {"type": dimension.type} | plain
        # JSON in one line is YAML, and needs no further quoting rules.
        lines.append(f"  {name}: {json.dumps(plain)}  # {reason}")
    return "\n".join(lines) + "\n"


def edge_of(value: float, low: float, high: float, *, log: bool = False) -> str | None:
    """Return the edge of the range from `low` to `high` ("lower" or "upper") that `value` is on, or None."""
    to = math.log if log and low > 0 else float
    edge = _EDGE * (to(high) - to(low))
    if low == high or (value <= 0 and log):
        return None
    if to(value) <= to(low) + edge:
        return "lower"
    return "upper" if to(value) >= to(high) - edge else None


def _choices_left(suggestions: Mapping[str, Suggestion]) -> dict[str, set[Scalar]]:
    """The values that each hyperparameter without a range can still have."""
    return {
        name: set(dimension.choices) if isinstance(dimension, Choices) else {dimension}
        for name, (dimension, _) in suggestions.items()
        if isinstance(dimension, Choices) or not isinstance(dimension, Range)
    }


def _suggestion(name: str, dimension: Range, values: Sequence[Any], importance: float | None) -> Suggestion:
    if not values:
        return dimension, "as before: none of the best has it"
    # A hyperparameter that applies only to some configurations cannot be fixed for these only.
    if importance is not None and importance < _UNIMPORTANT and not dimension.when:
        return values[0], f"fixed at the best value: explains {importance:.1%} of the differences"
    if isinstance(dimension, FloatRange | IntRange):
        return _numeric(name, dimension, values)
    if not isinstance(dimension, Choices):
        raise TypeError(type(dimension))
    return _categorical(name, dimension, values)


def _numeric(name: str, old: FloatRange | IntRange, values: Sequence[float]) -> Suggestion:
    to, back = (math.log, math.exp) if old.log else (float, float)
    low, high = to(old.low), to(old.high)
    margin, side = _WIDEN * (high - low), edge_of(values[0], old.low, old.high, log=old.log)
    at_low, at_high = side == "lower", side == "upper"
    if side is None:
        narrowed = narrow({name: old}, [{name: value} for value in values], _WIDEN)[name]
        if isinstance(narrowed, FloatRange):
            rounded = {bound: _rounded(getattr(narrowed, bound)) for bound in ("low", "high")}
            narrowed = narrowed.model_copy(update=rounded)
        spanned = f"the best are in [{min(values):.3g}, {max(values):.3g}]"
        return narrowed, f"{'as before' if narrowed == old else 'narrowed'}: {spanned}"
    bounds = [back(low - margin) if at_low else old.low, back(high + margin) if at_high else old.high]
    if isinstance(old, IntRange):
        bounds = [min(old.low - at_low, round(bounds[0])), max(old.high + at_high, round(bounds[1]))]
    else:
        bounds = [_rounded(bound) for bound in bounds]
    min_value, max_value = _limits(name, old)
    bounds = [max(bounds[0], min_value), min(bounds[1], max_value)]
    edge_words = f"the best value {values[0]:.3g} is on the {side} edge"
    if bounds == [old.low, old.high]:
        return old, f"as before: {edge_words}, beyond which there is nothing"
    return old.model_copy(update=dict(zip(("low", "high"), bounds, strict=True))), f"widened: {edge_words}"


def _rounded(bound: float) -> float:
    """Return a rounded bound."""
    return float(f"{bound:.4g}")


def _limits(name: str, old: FloatRange | IntRange) -> tuple[float, float]:
    """Return the minimum and maximum of a hyperparameter.

    What is not negative in the old space does not become so, nor what is counted 0: own models may not expect it.
    """
    whole = isinstance(old, IntRange)
    min_value, max_value = (min(old.low, 1 if whole else 0) if old.low >= 0 else -math.inf), math.inf
    field = Hyperparameters.model_fields.get(name)
    for bound in field.metadata if field else ():
        min_value, max_value = (
            max(min_value, getattr(bound, "ge", min_value)),
            min(max_value, getattr(bound, "le", max_value)),
        )
        # A bound that may not be reached itself is approached by half the way.
        min_value = max(min_value, (bound.gt + old.low) / 2) if hasattr(bound, "gt") else min_value
        max_value = min(max_value, (bound.lt + old.high) / 2) if hasattr(bound, "lt") else max_value
    return min_value, max_value


def _categorical(name: str, old: Choices, values: Sequence[Scalar]) -> Suggestion:
    narrowed = old.narrowed(values, _WIDEN)
    dropped = [str(c) for c in old.choices if c not in narrowed.choices]
    reason = f"dropped, as none of the best has it: {', '.join(dropped)}" if dropped else "all are among the best"
    beyond = _beyond(name, old, values[0])
    if beyond is None:
        return narrowed, reason
    choices = tuple(sorted((*(c for c in narrowed.choices if _is_number(c)), beyond)))
    return narrowed.model_copy(update={"choices": choices}), (
        f"widened by {beyond}: the best value {values[0]} is on the edge" + (f"; {reason}" if dropped else "")
    )


def _beyond(name: str, old: Choices, best: Scalar) -> Scalar | None:
    """The number that follows the best one, where that is the least or greatest of choices that are whole numbers.

    By the ratio of the two next to that edge; None where there is none, or where it may not be.
    """
    numbers = sorted(int(c) for c in old.choices if isinstance(c, int) and not isinstance(c, bool) and c > 0)
    if len(numbers) < max(2, len(old.choices)) or best not in (numbers[0], numbers[-1]):
        return None
    edge, inner = (numbers[-1], numbers[-2]) if best == numbers[-1] else (numbers[0], numbers[1])
    beyond = round(edge * edge / inner)
    min_value, max_value = _limits(name, IntRange(low=numbers[0], high=numbers[-1]))
    return beyond if min_value <= beyond <= max_value and beyond not in numbers else None


def _is_number(value: Scalar) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
