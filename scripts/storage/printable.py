"""Text for people: escaping, so that no character can move a cursor, hide or reorder text; lists and durations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

# Control characters (C0, DEL, C1), invisible ones, line separators, direction marks and overrides, surrogates.
_HIDDEN = "\\x00-\\x1f\\x7f-\\x9f\\xad\\u061c\\u180e\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ud800-\\udfff"
_HIDDEN += "\\ufff9-\\ufffb\\U000e0000-\\U000e007f"
_UNSAFE, _UNSAFE_IN_LINES = re.compile(f"[{_HIDDEN}]"), re.compile(f"(?!\n)[{_HIDDEN}]")


def printable(text: str, lines: bool = False) -> str:
    """Escape characters that a terminal or browser interprets, as Python writes them.

    Parameters
    ----------
    lines : bool
        Keep line ends.
    """
    return (_UNSAFE_IN_LINES if lines else _UNSAFE).sub(lambda match: ascii(match[0])[1:-1], text)


def duration_in_words(seconds: float) -> str:
    """Return seconds, minutes, or hours and minutes."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def and_more(count: int) -> str:
    """Return the number of cases like the first of `count`; empty for one."""
    return f" ({count - 1} more like it)" if count > 1 else ""


def listed(items: Sequence[str], max_shown: int = 5) -> str:
    """Return the first items and the number of further ones."""
    return ", ".join(items[:max_shown]) + (f" and {len(items) - max_shown} more" if len(items) > max_shown else "")


def printable_values(value: Any) -> Any:
    """Apply `printable` to every text in mappings and sequences, including keys."""
    if isinstance(value, str):
        return printable(value, lines=True)
    if isinstance(value, Mapping):
        return {printable_values(key): printable_values(part) for key, part in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [printable_values(part) for part in value]
    return value
