"""Column names: checks, matching in any case, and the nearest name to a missing one."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence

from scripts.errors import InputError

MAX_COLUMNS = 10_000


def missing_column(name: str, names: Sequence[str], where: str, hint: str = "") -> InputError:
    """The error for a column that is not there, with the nearest name."""
    nearest = nearest_name(name, names)
    remedy = hint or (f"did you mean {nearest!r}? rename it" if nearest else f"add a column named {name!r}")
    return InputError(f"column {name!r} is missing; there are {first_names(names)}", where, remedy)


def first_names(names: Sequence[str]) -> str:
    """Return the first names for a message."""
    return ", ".join(map(repr, names[:8])) + (", ..." if len(names) > 8 else "")


def nearest_name(name: str, names: Sequence[str]) -> str | None:
    """Return the name most similar to `name`, ignoring case."""
    by_lower = {other.lower(): other for other in reversed(names)}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.7)
    return by_lower[found[0]] if found else None


def as_wanted(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Return the names; a wanted but missing one replaces the only one that differs from it in case."""
    # Only if it is the only one: `Close` and `CLOSE` in one file are two columns, and a choice would be a guess.
    alike = Counter(name.lower() for name in names)
    spelling = {name.lower(): name for name in wanted if name not in names and alike[name.lower()] == 1}
    return [spelling.get(name.lower(), name) for name in names]


def check_names(names: Sequence[str], where: str) -> None:
    """Raise InputError for too many columns, a name that is there twice, or none."""
    if len(names) > MAX_COLUMNS:
        raise InputError(f"{len(names)} columns are more than {MAX_COLUMNS}", where, "give fewer columns")
    repeated = [name for name, count in Counter(names).items() if count > 1 and name]
    if repeated:
        positions = [str(k + 1) for k, name in enumerate(names) if name == repeated[0]]
        what = f"column {repeated[0]!r} is there {len(positions)} times, at positions {', '.join(positions)}"
        raise InputError(what, where, "remove or rename one of them")
    if "" in names:
        remedy = "name it, or write the file without its index"
        raise InputError(f"column {list(names).index('') + 1} has no name", where, remedy)


def checked_names(names: Sequence[str], required: Sequence[str], where: str) -> list[str]:
    """Return checked names, of which the required ones are in their own spelling; errors name the column."""
    check_names(names, where)
    names = as_wanted(names, required)
    for name in required:
        if name not in names:
            raise missing_column(name, names, where)
    return names
