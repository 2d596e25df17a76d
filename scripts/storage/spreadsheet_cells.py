"""Text as cells of a CSV that no spreadsheet takes for a formula."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def inert(cells: Iterable[object]) -> list[str]:
    """Text cells that begin like a formula get a leading quote (OWASP ASVS 1.2.10)."""
    return [f"'{cell}" if str(cell).startswith(_FORMULA) else str(cell) for cell in cells]


def class_cells(classes: Sequence[str], index: np.ndarray) -> list[str]:
    """Names of classes as cells; where all classes are numbers, the column holds numbers and stays as it is.

    Parameters
    ----------
    classes : sequence of str
    index : ndarray of int64, shape (n,)
        Positions in `classes`; -1 gives an empty cell.
    """
    numeric = all(_is_number(name) for name in classes)
    names = list(classes) if numeric else inert(classes)
    return list(np.array([*names, ""], dtype=object)[index])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
