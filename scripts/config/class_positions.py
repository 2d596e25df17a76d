"""Positions of predicted classes in simulated returns, from the config or from the class names."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field

from scripts.errors import InputError


def with_text_keys(values: Any) -> Any:
    """Return a mapping with text keys: a number or boolean in YAML is the name of a class or ticker."""
    if not isinstance(values, dict):
        return values
    return {str(int(k)) if isinstance(k, float) and k.is_integer() else str(k): v for k, v in values.items()}


ClassPositions = Annotated[
    dict[str, Annotated[float, Field(ge=-1, le=1)]], Field(min_length=2), BeforeValidator(with_text_keys)
]
KEY = "data.class_positions"
_NEUTRAL = ("hold", "flat", "neutral", "none", "cash", "wait", "unchanged", "same", "sideways", "timeout")
_ADVICE = {"strong buy": 1.0, "buy": 0.5, "sell": -0.5, "strong sell": -1.0}
# Words for a long and a short position. Classes are known if one pair and the neutral words contain all of them.
_PAIRS = (
    ("buy", "sell"), ("long", "short"), ("up", "down"), ("upward", "downward"), ("rise", "fall"), ("rising", "falling"),
    ("higher", "lower"), ("increase", "decrease"), ("bull", "bear"), ("bullish", "bearish"), ("positive", "negative"),
    ("gain", "loss"), ("profit", "loss"), ("win", "loss"), ("overweight", "underweight"),
    ("outperform", "underperform"),
)  # fmt: skip
_ANSWERS = (("yes", "no"), ("true", "false"))  # without a neutral word
_FAMILIES: tuple[dict[str, float], ...] = (
    *({long: 1.0, short: -1.0} | dict.fromkeys(_NEUTRAL, 0.0) for long, short in _PAIRS),
    _ADVICE | dict.fromkeys(_NEUTRAL, 0.0),
    *({yes: 1.0, no: -1.0} for yes, no in _ANSWERS),
)
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_ -]*[A-Za-z0-9]|[A-Za-z]")
_WORDS_OF_YAML = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
_SHOWN = 12  # maximum number of classes in a line to paste
_LOSES = 3.0  # standard errors below zero at which a warning about the positions is given


def positions_of(classes: Sequence[str], stated: Mapping[str, float] | None) -> tuple[float, ...]:
    """Return the position for each predicted class, from -1 (short with the whole capital) to +1 (long).

    By default, numbers are used by value. If one is negative they are unchanged, or divided by the largest magnitude if
    it is above 1. Otherwise they are a rating, spread by value from -1 for the smallest to +1 for the largest. Words
    are known if all classes belong to one family, such as buy, hold and sell, in any case.

    Parameters
    ----------
    stated : mapping of str to float, or None
        `data.class_positions`; a key matches a class by its text, by its number or in another case.

    Raises
    ------
    InputError
        The config names other classes, or the meaning of the classes is unknown.
    """
    if stated is not None:
        return _stated(classes, stated)
    found = _of_numbers(classes) or _of_words(classes)
    if found is None or len(set(found)) < 2:
        raise InputError(
            f"unknown positions for the classes {_joined(classes)}",
            KEY,
            f"set them, from -1 (short) to 1 (long), for example {pasted(classes)}",
        )
    return found


def check_stated(stated: Mapping[str, float] | None, has_returns: bool) -> None:
    """Raise ValueError if positions are given without returns, or are all equal."""
    if stated is not None and not has_returns:
        raise ValueError("class_positions needs `forward_return_column`; a table without it has no returns")
    if stated is not None and len(set(stated.values())) == 1:
        raise ValueError("class_positions are all equal; predictions would have no effect")


def in_words(classes: Sequence[str], positions: Sequence[float]) -> str:
    """Return classes with their positions as text: "sell -1, hold 0, buy +1"."""
    return ", ".join(f"{name} {'0' if p == 0 else f'{p:+.3g}'}" for name, p in zip(classes, positions, strict=True))


def differing(classes: Sequence[str], held: Sequence[float]) -> bool:
    """Return True if the class names imply other positions than these; False if they imply none."""
    known = _of_numbers(classes) or _of_words(classes)
    return known is not None and not np.allclose(known, held)


def pasted(classes: Sequence[str]) -> str:
    """Return a flag to paste and edit, with the first class short and the last one long."""
    spread = np.linspace(-1.0, 1.0, len(classes)).round(2).tolist()
    pairs = [f"{_as_key(name)}: {p:g}" for name, p in zip(classes, spread, strict=True)]
    more = ", ..." if len(pairs) > _SHOWN else ""
    mapping = "{" + ", ".join(pairs[:_SHOWN]) + more + "}"
    return f"--set {shlex.quote(f'{KEY}={mapping}')}"


def losing_positions(positions: Sequence[float], y: np.ndarray, earned: np.ndarray, date: np.ndarray) -> float | None:
    """Return the mean return per row of perfect predictions if it is significantly negative, else None.

    Parameters
    ----------
    positions : sequence of float
        Position of each class.
    y, date : ndarray of int64, shape (n,)
        Class and date of each row.
    earned : ndarray of float64, shape (n,)
        Forward return; NaN where unknown.
    """
    known = np.isfinite(earned) & (y >= 0)
    if not known.any():
        return None
    made = np.asarray(positions)[y[known]] * earned[known]
    _, index = np.unique(date[known], return_inverse=True)
    by_date = np.bincount(index, made) / np.bincount(index)
    if len(by_date) < 2:
        return None
    error = float(by_date.std(ddof=1)) / math.sqrt(len(by_date))
    return float(made.mean()) if by_date.mean() < -_LOSES * error else None


def _stated(classes: Sequence[str], stated: Mapping[str, float]) -> tuple[float, ...]:
    found: dict[str, float] = {}
    for key, position in stated.items():
        name = _class_of(key, classes)
        if name is None or name in found:
            problem = "is not a class" if name is None else f"repeats the class {name!r}"
            raise InputError(f"{key!r} {problem}", KEY, f"the classes are {_joined(classes)}")
        found[name] = position
    if missing := [name for name in classes if name not in found]:
        raise InputError(
            f"has no position for {_joined(missing)}", KEY, f"list every class, for example {pasted(classes)}"
        )
    return tuple(float(found[name]) for name in classes)


def _class_of(key: str, classes: Sequence[str]) -> str | None:
    """Return the class that matches a key of the config."""
    if key in classes:
        return key
    same_number = [name for name in classes if (value := _number(name)) is not None and value == _number(key)]
    same_word = [name for name in classes if _word(name) == _word(key)]
    return next((found[0] for found in (same_number, same_word) if len(found) == 1), None)


def _of_numbers(classes: Sequence[str]) -> tuple[float, ...] | None:
    values = [value for name in classes if (value := _number(name)) is not None]
    if len(values) < len(classes):
        return None
    low, high = min(values), max(values)
    if low < 0:
        scale = max(1.0, -low, high)
        return tuple(value / scale for value in values)
    return tuple(2.0 * (value - low) / (high - low) - 1.0 for value in values) if high > low else None


def _of_words(classes: Sequence[str]) -> tuple[float, ...] | None:
    words = [_word(name) for name in classes]
    return next((tuple(known[w] for w in words) for known in _FAMILIES if known.keys() >= set(words)), None)


def _number(name: str) -> float | None:
    try:
        value = float(name)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _word(name: str) -> str:
    return " ".join(re.sub(r"[\W_]+", " ", name).casefold().split())


def _as_key(name: str) -> str:
    """Return a class name as a YAML key."""
    plain = _PLAIN.fullmatch(name) and name.casefold() not in _WORDS_OF_YAML
    return name if plain or _number(name) is not None else json.dumps(name)


def _joined(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
