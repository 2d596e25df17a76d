"""Transfer of a configuration from another search space to this one, with a list of the changes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeGuard

from scripts.config.search_space import (
    Choices,
    FloatRange,
    Hyperparameters,
    IntRange,
    Range,
    Scalar,
    SearchSpace,
    Values,
)
from scripts.storage.printable import listed

Kind = Literal["ignored", "fixed", "default", "middle", "clipped", "replaced"]
_IN_WORDS: dict[Kind, str] = {
    "ignored": "not in this search space, so ignored",
    "fixed": "fixed in this search space",
    "default": "missing, so with the default of Hyperparameters",
    "middle": "missing, so in the middle of the range (the first of the choices)",
    "clipped": "outside of the range, so moved to the nearest value in it",
    "replaced": "no choice here, so replaced",
}
_MAX_SHOWN = 6  # changes of one kind


@dataclass(frozen=True)
class Change:
    """Transfer of one hyperparameter; `old` is None if it was missing, `new` if it was ignored."""

    kind: Kind
    name: str
    old: Scalar | None
    new: Scalar | None

    def __str__(self) -> str:
        before, after = (None if v is None else _shown(v) for v in (self.old, self.new))
        if after is None:
            return _shown(self.name)
        return f"{_shown(self.name)} {after}" if before is None else f"{_shown(self.name)} {before} -> {after}"


def translate(values: Values, space: SearchSpace) -> tuple[dict[str, Scalar], list[Change]]:
    """The nearest configuration of `space`, and each hyperparameter that is not as it was.

    Parameters
    ----------
    values : mapping
        Hyperparameters of a run in any search space.
    space : SearchSpace
        Hyperparameters whose `when` does not apply are omitted, as in any configuration of the space.

    Returns
    -------
    tuple
        A missing hyperparameter takes the default of `Hyperparameters`, which is what the earlier run was trained with,
        or the middle of its range (on its own scale; the first choice) where it has no default inside. Numbers outside
        are moved to the nearest value inside; of choices the nearest number, the default or the first is taken.
    """
    kept: dict[str, Scalar] = {}
    changes = [Change("ignored", name, value, None) for name, value in values.items() if name not in space]
    for name, dimension in space.items():
        if isinstance(dimension, Range) and not dimension.applies(kept):
            continue
        old = values.get(name)
        kept[name], kind = _placed(name, dimension, old)
        if kind is not None:
            changes.append(Change(kind, name, old, kept[name]))
    return kept, changes


def in_words(changes: Iterable[Change]) -> list[str]:
    """Return one line for each kind of change; a change of several configurations is reported once."""
    by_kind: dict[Kind, dict[str, None]] = {kind: {} for kind in _IN_WORDS}
    for change in changes:
        by_kind[change.kind][str(change)] = None
    lines = []
    for kind, described in by_kind.items():
        if described:
            lines.append(f"{_IN_WORDS[kind]}: {listed(list(described), _MAX_SHOWN)}")
    return lines


def _placed(name: str, dimension: Range | Scalar, old: Scalar | None) -> tuple[Scalar, Kind | None]:
    """Value of one hyperparameter in its dimension, and what kind of change that is, None where there is none."""
    if not isinstance(dimension, Range):
        return dimension, None if old is None or _same(old, dimension) else "fixed"
    if old is None:
        default = _default(name, dimension)
        return (_middle(dimension), "middle") if default is None else (default, "default")
    inside = _inside(dimension, old)
    if inside is not None:
        return inside, None
    nearest = _nearest(dimension, old)
    if nearest is not None:
        return nearest, "replaced" if isinstance(dimension, Choices) else "clipped"
    default = _default(name, dimension)
    return _middle(dimension) if default is None else default, "replaced"


def _inside(dimension: Range, value: Scalar) -> Scalar | None:
    """Return the value in the type of the dimension; None if it is not valid."""
    if isinstance(dimension, Choices):
        return next((choice for choice in dimension.choices if _same(choice, value)), None)
    if isinstance(dimension, FloatRange | IntRange) and _is_number(value) and dimension.low <= value <= dimension.high:
        if isinstance(dimension, FloatRange):
            return float(value)
        return int(value) if value == int(value) else None
    return None


def _nearest(dimension: Range, value: Scalar) -> Scalar | None:
    """The value of the dimension that is nearest to a number; None if there is none."""
    if not _is_number(value):
        return None
    if isinstance(dimension, FloatRange | IntRange):
        clipped = min(max(value, dimension.low), dimension.high)
        return float(clipped) if isinstance(dimension, FloatRange) else round(clipped)
    numbers = [c for c in dimension.choices if _is_number(c)] if isinstance(dimension, Choices) else []
    if not numbers:
        return None
    # Clipped first: a file may contain integers that are too large to be subtracted from a float.
    clipped = min(max(value, min(numbers)), max(numbers))
    return min(numbers, key=lambda choice: abs(choice - clipped))


def _default(name: str, dimension: Range) -> Scalar | None:
    """Return the default of `Hyperparameters` if it is in the dimension."""
    if name not in Hyperparameters.model_fields:
        return None
    return _inside(dimension, Hyperparameters.model_fields[name].default)


def _middle(dimension: Range) -> Scalar:
    if isinstance(dimension, Choices):
        return dimension.choices[0]
    if not isinstance(dimension, FloatRange | IntRange):
        raise TypeError(type(dimension))
    low, high = dimension.low, dimension.high
    middle = math.sqrt(low) * math.sqrt(high) if dimension.log else low + (high - low) / 2
    middle = min(max(middle, low), high)
    return round(middle) if isinstance(dimension, IntRange) else float(middle)


def _same(a: Scalar, b: Scalar) -> bool:
    """Return True for equal values of one type: 1, 1.0 and True are equal in Python."""
    return a == b and (type(a) is type(b) or (_is_number(a) and _is_number(b)))


def _is_number(value: Scalar) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Scalar) -> str:
    """Return a printable value; text of a file is escaped."""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return text if len(text) <= 40 and text.isascii() and text.isprintable() else ascii(text)[:40]
