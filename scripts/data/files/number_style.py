"""Style of the numbers in text: decimal mark and thousands separator, decided by whole columns and never guessed."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute

from scripts.errors import InputError

SEPARATORS = (",", ".", " ", "'")  # of thousands; narrow and fixed blanks and curly apostrophes are read as these
_POWERS = {"K": 3, "M": 6, "MN": 6, "B": 9, "BN": 9, "T": 12}  # of ten
_CURRENCY = r"(?:[$€£¥₹]|USD|EUR|GBP|JPY|CHF)?"
_BEFORE = rf"\s*(?P<open>\(?)\s*(?P<sign>[-+]?)\s*{_CURRENCY}\s*(?P<inner>[-+]?)"
_AFTER = rf"(?P<power>(?:[eE][-+]?\d+)?)\s*(?P<unit>%|[kKmMbBtT]|[mMbB][nN]|)\s*{_CURRENCY}\s*(?P<close>\)?)\s*"
_LOOK_ALIKE = {"\u2212": "-", "\u00a0": " ", "\u202f": " ", "\u2009": " ", "\u2019": "'"}
_ASCII = {ord(other): mark for other, mark in _LOOK_ALIKE.items()}
_JUMP = 300.0  # factor between neighbouring prices that no market shows, but a misread separator does


@dataclass(frozen=True)
class NumberStyle:
    """How numbers are written.

    Attributes
    ----------
    decimal : str
        Decimal mark, "." or ",".
    thousands : str
        Separator of groups of three digits, one of `SEPARATORS`; "" if there is none.
    """

    decimal: str = "."
    thousands: str = ""

    @cached_property
    def _written(self) -> re.Pattern[str]:
        return re.compile(self.pattern, re.ASCII)

    @property
    def pattern(self) -> str:
        """Regular expression of a number with sign, currency, unit or parentheses."""
        return _BEFORE + rf"(?P<whole>{self.grouped}|\d*)(?P<rest>(?:{re.escape(self.decimal)}\d*)?)" + _AFTER

    @property
    def grouped(self) -> str:
        """Regular expression of a whole number with separators; also with Indian groups of two digits."""
        if not self.thousands:
            return r"\d+"
        mark = re.escape(self.thousands)
        return rf"[1-9]\d{{0,2}}(?:{mark}\d{{3}})+|[1-9]\d?(?:{mark}\d\d)+{mark}\d{{3}}"

    def value(self, cell: str) -> float:
        """Return the number that a cell has in this style, NaN if it has none.

        A percentage is a fraction, parentheses mean a negative number, and K, M, B and T are powers of 1,000.
        """
        found = self._written.fullmatch(cell.translate(_ASCII))
        if found is None or not any(character.isdigit() for character in found["whole"] + found["rest"]):
            return float("nan")
        if bool(found["open"]) != bool(found["close"]) or (found["sign"] and found["inner"]):
            return float("nan")
        whole = found["whole"].replace(self.thousands, "") if self.thousands else found["whole"]
        # "1.23M" is the decimal number 1230000, not the product of two binary ones.
        power = _POWERS.get(found["unit"].upper())
        number = float(f"{whole or 0}.{found['rest'][1:] or 0}" + (found["power"] if power is None else f"e{power}"))
        if found["unit"] == "%":
            number *= 0.01
        return -number if found["open"] or "-" in (found["sign"], found["inner"]) else number

    def in_words(self) -> str:
        """Return a description for notes."""
        mark = {" ": "blank", "'": "apostrophe"}.get(self.thousands, repr(self.thousands))
        return f"decimal mark {self.decimal!r}" + (f", thousands separator {mark}" if self.thousands else "")


PLAIN = NumberStyle()
_STYLES = tuple(NumberStyle(decimal, mark) for decimal in ".," for mark in ("", *SEPARATORS) if mark != decimal)
_NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
_SIGNED = r"^\s*[+-]?"


def find_style(
    columns: Mapping[str, pa.ChunkedArray],
    where: str,
    decimal: str | None = None,
    thousands: str | None = None,
    missing: Iterable[str] = (),
    delimiter: str = ",",
    series: Sequence[str] = (),
    counts: Sequence[str] = (),
) -> NumberStyle:
    """Find the one style in which the numbers of a file can be read.

    Parameters
    ----------
    columns : mapping of str to ChunkedArray of text
        Columns that have numbers or may have them; those without are left out of the decision.
    where : str
        The file, for messages.
    decimal, thousands : str, optional
        As declared.
    missing : iterable of str
        Words of missing cells.
    delimiter : str
        Of the file; dots group digits in files of commas nowhere.
    series : sequence of str
        Columns of prices in order of time: a reading in which neighbours differ by a factor of 300 is wrong.
    counts : sequence of str
        Columns of volumes, which are mostly whole numbers: none may have groups of three digits after its mark alone.

    Raises
    ------
    InputError
        Two styles give different numbers; both are shown.
    """
    absent = pa.array(["", *missing], pa.large_string())
    cells = {name: _there(column, absent) for name, column in columns.items()}
    if decimal is None and thousands is None and _is_plainly_plain(list(cells.values())):
        _refuse_grouped({name: found for name, found in cells.items() if name in counts}, PLAIN, where)
        return PLAIN
    cells = {name: found for name, found in cells.items() if _is_numeric(found)}
    styles = [style for style in _STYLES if decimal in (None, style.decimal) and thousands in (None, style.thousands)]
    bad = {style: sum(_n_unlike(found, style.pattern) for found in cells.values()) for style in styles}
    fewest = min(bad.values(), default=0)
    readings = _distinct_readings([style for style in styles if bad[style] == fewest], list(cells.values()))
    if len(readings) > 1 and series:
        readings = _smooth(readings, {name: columns[name] for name in series if name in cells})
    if len(readings) > 1 and delimiter == "," and PLAIN in readings and any(map(_has_long_numbers, cells.values())):
        readings = [PLAIN]
    if len(readings) > 1:
        raise _ambiguous(readings, cells, where)
    style = readings[0] if readings else NumberStyle(decimal or ".", thousands or "")
    if decimal is None and thousands is None:
        _refuse_grouped({name: found for name, found in cells.items() if name in counts}, style, where)
    return style


def _refuse_grouped(columns: Mapping[str, pa.Array], style: NumberStyle, where: str) -> None:
    """Raise InputError for a column of which every decimal mark may separate thousands, unlike those of others."""
    grouped = NumberStyle("," if style.decimal == "." else ".", style.decimal)
    for name, cells in columns.items():
        n_marks = _count(cells, re.escape(style.decimal))
        plain = style.thousands == "" and not _has_long_numbers(cells)
        if n_marks > 1 and plain and not _n_unlike(cells, grouped.pattern):
            what = f"the marks of all numbers, such as {_first_with(cells, style.decimal)!a}, may separate thousands"
            flag = _flag(NumberStyle(style.decimal))
            remedy = f"write them without separators, or add {flag} if they are decimal marks"
            raise InputError(what, f"{where}, column {name}", remedy)


def _first_with(cells: pa.Array, mark: str) -> str:
    return next(cell for cell in cells.to_pylist() if mark in cell)


def _there(column: pa.ChunkedArray, absent: pa.Array) -> pa.Array:
    """Distinct cells that are not missing, with the marks of ASCII."""
    text = pa.compute.unique(pa.compute.utf8_trim_whitespace(column.cast(pa.large_string()).drop_null()))
    for other, mark in _LOOK_ALIKE.items():
        text = pa.compute.replace_substring(text, other, mark)
    return text.filter(pa.compute.invert(pa.compute.is_in(text, absent)))


def _count(cells: pa.Array, pattern: str) -> int:
    return pa.compute.sum(pa.compute.match_substring_regex(cells, pattern)).as_py() or 0


def _n_unlike(cells: pa.Array, pattern: str) -> int:
    return len(cells) - _count(cells, f"^(?:{pattern})$")


def _is_plainly_plain(columns: list[pa.Array]) -> bool:
    """Return True if all numbers are plain and some cell shows that their dots do not separate thousands."""
    shown = False
    for cells in columns:
        plain = _count(cells, _NUMBER)
        if 2 * plain < len(cells) and not _is_numeric(cells):
            continue
        if plain < len(cells):
            return False
        grouped = _count(cells, _SIGNED + r"([1-9]\d{0,2}(\.\d{3})+|\d{1,3})\s*$")
        shown = shown or grouped < len(cells)
        if grouped == len(cells) and _count(cells, r"\."):
            return False
    return True


def _is_numeric(cells: pa.Array) -> bool:
    """Return True if most cells are numbers in some style."""
    return len(cells) > 0 and any(2 * _n_unlike(cells, style.pattern) < len(cells) for style in _STYLES)


def _has_long_numbers(cells: pa.Array) -> bool:
    """Return True if numbers of four digits and more are written without separators."""
    return _count(cells, _SIGNED + r"\d{4,}([.,]\d*)?\s*$") > 0


def _distinct_readings(styles: list[NumberStyle], columns: list[pa.Array]) -> list[NumberStyle]:
    """Styles that give different numbers: those whose marks do occur."""
    different: dict[tuple[str, str], NumberStyle] = {}
    for style in styles:
        simple = NumberStyle(style.decimal)
        grouped = style.thousands != "" and any(
            _n_unlike(cells, simple.pattern) > _n_unlike(cells, style.pattern) for cells in columns
        )
        if style.thousands and not grouped:
            continue
        used = any(_count(cells, re.escape(style.decimal)) for cells in columns)
        # Without a decimal mark in any cell, the mark of a style makes no difference.
        different.setdefault((style.decimal if used else "", style.thousands), style)
    return list(different.values())


def _smooth(readings: list[NumberStyle], series: Mapping[str, pa.ChunkedArray]) -> list[NumberStyle]:
    """Return the readings in which prices do not jump, unless they do in all of them."""
    jumps = []
    for style in readings:
        count = 0
        for column in series.values():
            values = np.array([style.value(cell or "") for cell in column.to_pylist()])
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = np.abs(np.log(values[1:] / values[:-1]))
            count += int((ratio > np.log(_JUMP)).sum())
        jumps.append(count)
    return [style for style, count in zip(readings, jumps, strict=True) if 10 * count <= max(jumps)] or readings


def _ambiguous(readings: list[NumberStyle], cells: Mapping[str, pa.Array], where: str) -> InputError:
    """Return the error for cells with two readings, and the flag that names each."""
    for name, column in cells.items():
        for cell in column.to_pylist():
            values = [style.value(cell) for style in readings]
            if len(set(values)) > 1 and not any(map(np.isnan, values)):
                shown = " or ".join(f"{value:.12g}" for value in values[:2])
                flags = ", ".join(
                    f"for {value:.12g} add {_flag(style)}" for value, style in zip(values[:2], readings, strict=False)
                )
                what = f"{cell!a} can be read as {shown}, and so can all numbers of the file"
                return InputError(what, f"{where}, column {name}", flags)
    raise AssertionError(readings)  # pragma: no cover - distinct readings differ in some cell


def _flag(style: NumberStyle) -> str:
    """Return the flag that declares a style; the value is quoted for YAML and the whole for the shell."""
    key, mark = ("thousands", style.thousands) if style.thousands else ("decimal", style.decimal)
    return f"--set {shlex.quote(f'data.{key}={json.dumps(mark)}')}"
