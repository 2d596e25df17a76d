"""CSV text cells that spreadsheets do not interpret as formulas."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def escape_formulas(cells: Iterable[object]) -> list[str]:
    """Return text cells with a leading quote if they begin like a formula (OWASP ASVS 1.2.10)."""
    return [f"'{cell}" if str(cell).startswith(_FORMULA) else str(cell) for cell in cells]


def class_cells(classes: Sequence[str], index: np.ndarray) -> list[str]:
    """Return the names of classes as cells; if all classes are numbers, the column remains numeric.

    Parameters
    ----------
    index : ndarray of int64, shape (n,)
        Indices of `classes`; -1 gives an empty cell.
    """
    numeric = all(_is_number(name) for name in classes)
    names = list(classes) if numeric else escape_formulas(classes)
    return list(np.array([*names, ""], dtype=object)[index])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
