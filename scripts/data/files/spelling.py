"""Canonical spelling of cells, so that equal rows are equal text in CSV, Parquet and data frames."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

# Words that pandas.read_csv reads as missing cells, so that a frame does not show whether the file had them.
READ_AS_MISSING = frozenset(
    [
        "#N/A",
        "#N/A N/A",
        "#NA",
        "-1.#IND",
        "-1.#QNAN",
        "-NaN",
        "-nan",
        "1.#IND",
        "1.#QNAN",
        "<NA>",
        "N/A",
        "NA",
        "NULL",
        "NaN",
        "None",
        "n/a",
        "nan",
        "null",
    ]
)
MISSING = frozenset({"", "NA", "NaN", "nan", "null"})  # words that no text can have as a value
MISSING_NUMBERS = READ_AS_MISSING | MISSING | {"-", "--", ".", "none", "#VALUE!", "#DIV/0!", "#REF!"}
_BOOLEANS = {"true": "True", "false": "False"}
_NUMBER_OF = {"False": "0", "True": "1"}
_WHOLE = re.compile(r"(-?)(0|[1-9]\d*)\.0+", re.ASCII)
_TIME = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)[T ](?P<minute>\d\d:\d\d)(:(?P<second>\d\d)(\.(?P<fraction>\d{1,9}))?)?"
    r"(?P<zone>Z|[+-]\d\d(:?\d\d)?)?|(?P<clock>\d\d:\d\d:\d\d)\.(?P<part>\d{1,9})",
    re.ASCII,
)


def spelled(cell: str) -> str:
    """Return the one spelling of a cell of text.

    Booleans become True and False. Whole numbers lose their `.0`. ISO 8601 times have a blank before the time of day,
    seconds, no needless digits, and lose midnight; those with a zone are in UTC. Other text stays as it is, leading
    zeros and exponents included.
    """
    if (word := _BOOLEANS.get(cell.lower())) is not None:
        return word
    if (number := _WHOLE.fullmatch(cell)) is not None:
        return number[2] if number[2] == "0" else number[1] + number[2]
    time = _TIME.fullmatch(cell)
    return cell if time is None else _spelled_time(cell, time)


def _spelled_time(cell: str, time: re.Match[str]) -> str:
    if time["clock"]:
        fraction = time["part"].rstrip("0")
        return f"{time['clock']}.{fraction}" if fraction else time["clock"]
    if time["zone"]:
        moment = pd.to_datetime(cell, format="ISO8601", errors="coerce", utc=True)
        if not isinstance(moment, pd.Timestamp):
            return cell
        return _spelled_moment(moment.tz_localize(None).isoformat(sep=" ")) + " UTC"
    return _spelled_moment(f"{time['day']} {time['minute']}:{time['second'] or '00'}.{time['fraction'] or '0'}")


def _spelled_moment(moment: str) -> str:
    """Return a date with time without needless digits."""
    whole, _, fraction = moment.partition(".")
    fraction = fraction.rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole.removesuffix(" 00:00:00")


def positions_of(cells: Iterable[str], known: Sequence[str]) -> np.ndarray:
    """Return the position of each cell among the known words, int64 of shape (n,), -1 where there is none.

    A word that is there as it is comes first. Else cell and word are compared in their one spelling, unless that is
    the spelling of several words. Where the known words are only booleans, 1 and 0 mean them, and the reverse.
    """
    # The same table as CSV, Parquet or frame gives `1`, `1.0` or `True` for one cell, and a model must know it again.
    exact = {word: k for k, word in enumerate(known)}
    alike: dict[str, int] = {}
    for word, k in exact.items():
        alike[spelled(word)] = -1 if spelled(word) in alike else k
    if alike.keys() <= _NUMBER_OF.keys():
        alike |= {_NUMBER_OF[word]: k for word, k in alike.items()}
    elif alike.keys() <= set(_NUMBER_OF.values()):
        alike |= {word: alike[number] for word, number in _NUMBER_OF.items() if number in alike}
    return np.array([exact[c] if c in exact else alike.get(spelled(c), -1) for c in cells], dtype=np.int64)
