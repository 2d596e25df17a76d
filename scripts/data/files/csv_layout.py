"""Layout of a text file: delimiter, encoding, lines before the header, levels of the header, or no header at all."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from scripts.config.experiment import DataConfig
from scripts.data.files.date_style import looks_like_date
from scripts.data.files.market_names import KNOWN, LEVEL, is_header, is_price_name, plain_name
from scripts.data.files.raw_bytes import OLD_ENCODINGS, open_text, text_encoding
from scripts.errors import InputError

if TYPE_CHECKING:
    import _csv

DELIMITERS = (",", ";", "\t", "|")
BLANKS = " "  # columns set by blanks, any number of them
_LOOKED_AT, _MAX_PREAMBLE = 200, 60  # lines
_TIME = re.compile(r"([01]?\d|2[0-4]):[0-5]\d(:[0-5]\d)?|([01]\d|2[0-3])[0-5]\d[0-5]\d", re.ASCII)
_NUMBER = re.compile(r"\s*[-+(]?[$€£¥]?\d[\d.,' ]*(?:[eE][-+]?\d+)?[%KMB]?\)?\s*", re.ASCII)


@dataclass(frozen=True)
class Text:
    """Text of a file, or made from the cells of one.

    Attributes
    ----------
    path : Path
    content : str or None
        The text, if it is not that of the file itself.
    encoding : str
    notes : tuple of str
    """

    path: Path
    content: str | None = None
    encoding: str = "utf-8-sig"
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, path: Path, config: DataConfig) -> Text:
        """Return the text of a file once its encoding is known.

        Raises
        ------
        InputError
            The file is not text, or a table's text is not Unicode.
        """
        encoding = text_encoding(path)
        if encoding is not None:
            return cls(path, None, encoding)
        if config.source == "table":
            remedy = f"convert it: iconv -f WINDOWS-1252 -t UTF-8 {path.name} > converted.csv"
            raise InputError("the text is not UTF-8", str(path), remedy)
        encoding = _old_encoding(path)
        return cls(path, None, encoding, (f"{path}: the text is not UTF-8; read as {encoding}",))

    @property
    def is_unicode(self) -> bool:
        """Return True unless the encoding was taken from known names only."""
        return self.encoding not in OLD_ENCODINGS

    def open(self) -> TextIO:
        """Open the text from its beginning."""
        if self.content is not None:
            return io.StringIO(self.content)
        return open_text(self.path, self.encoding, "strict" if self.is_unicode else "replace")


@dataclass(frozen=True)
class Layout:
    """How the records of a text are found.

    Attributes
    ----------
    delimiter : str
        `BLANKS` if columns are set by blanks.
    n_lines : int
        Lines before the first record of data.
    names : tuple of str
        Names of all columns; "" for one without. Several levels are joined by `LEVEL`.
    header_line : int
        Line of the names, from 1.
    notes : tuple of str
    """

    delimiter: str
    n_lines: int
    names: tuple[str, ...]
    header_line: int
    notes: tuple[str, ...] = ()

    def reader(self, file: TextIO) -> _csv.Reader:
        """Return a reader of records from where the file is."""
        lines = (" ".join(line.split()) + "\n" for line in file) if self.delimiter == BLANKS else file
        # Strict, because otherwise damaged quotes silently join fields or records.
        return csv.reader(lines, delimiter=self.delimiter, strict=True)


def find_layout(text: Text, config: DataConfig, required: Sequence[str] = ()) -> Layout:
    """Find the layout of a text.

    Parameters
    ----------
    config : DataConfig
        Its `delimiter` and `header` are used if they are declared; its source decides how a header is recognised.
    required : sequence of str
        Columns of a table.

    Raises
    ------
    InputError
        The delimiter is not allowed, or no line can be the header.
    """
    with text.open() as file:
        head = list(itertools.islice(file, _LOOKED_AT))
    skipped, declared = 0, config.delimiter
    if head and (found := re.fullmatch(r'"?sep=(.)"?\s*', head[0])):
        skipped, declared = 1, declared or found[1]
    if declared is not None and declared in '"\r\n':
        raise InputError(f"{declared!r} cannot part fields", "data.delimiter", "use one such as ',' or ';'")
    layouts = []
    for delimiter in (declared,) if declared else (*DELIMITERS, BLANKS):
        rows = _parsed(head, skipped, delimiter)
        if rows and (own := _layout(rows, delimiter, config, required)) is not None:
            layouts.append(own)
    if not layouts:
        raise InputError("no header found", f"{text.path}, line 1", "start the file with the names of its columns")
    best = max(layouts, key=lambda own: own[0])[1]
    notes = (f"{text.path}: {note}" for note in best.notes)
    return replace(best, notes=(*text.notes, *notes))


def _parsed(head: Sequence[str], skipped: int, delimiter: str) -> list[tuple[int, list[str]]]:
    """Records of the first lines with the line on which each ends."""
    lines = [" ".join(line.split()) for line in head] if delimiter == BLANKS else head
    reader = csv.reader(iter(lines), delimiter=delimiter)
    rows = []
    try:
        for row in reader:
            if row and reader.line_num > skipped:
                rows.append((reader.line_num, [cell.strip() for cell in row]))
    except csv.Error:
        pass  # the reader of the whole file names the line
    return rows


def _layout(
    rows: Sequence[tuple[int, list[str]]], delimiter: str, config: DataConfig, required: Sequence[str]
) -> tuple[tuple[float, ...], Layout] | None:
    """A layout by one delimiter, with a score: the header is known, the share of records of its width, that width."""
    if config.header:
        line, first = rows[0]
        n_lines = line - 1 if len(rows) == 1 or not _is_named(first, config.header) else line
        found = Layout(delimiter, n_lines, tuple(config.header), line)
        position, known = 0 if n_lines < line else 1, 2
    else:
        found, position, known = _header(rows, delimiter, config, required)
    body = [row for _, row in rows[position:]]
    width = len(found.names)
    if width < 2 and (delimiter != "," or not known) and config.delimiter is None:
        return None
    same = sum(len(row) == width for row in body) / len(body) if body else 0.0
    if delimiter == BLANKS and same < 1.0:
        return None
    order = -DELIMITERS.index(delimiter) if delimiter in DELIMITERS else -len(DELIMITERS)
    return (known, delimiter != BLANKS, round(same, 1), width if same > 0.5 else 0, order), found


def _is_named(row: Sequence[str], names: Sequence[str]) -> bool:
    return [cell.lower() for cell in row] == [name.lower() for name in names]


def _header(
    rows: Sequence[tuple[int, list[str]]], delimiter: str, config: DataConfig, required: Sequence[str]
) -> tuple[Layout, int, int]:
    """The names, the position of the first record of data among `rows`, and how sure the header is."""
    if config.source == "table":
        position = next((k for k, (_, row) in enumerate(rows) if not row[0].startswith("#")), 0)
        lower = {cell.lower() for cell in rows[position][1]}
        known = int(all(name.lower() in lower for name in required))
        return _named(rows, position, delimiter, ()), position + 1, known
    for position, (_, row) in enumerate(rows[:_MAX_PREAMBLE]):
        if (levels := _levels(rows[position:])) is not None:
            joined, n_rows = levels
            line = rows[position][0]
            return Layout(delimiter, rows[position + n_rows - 1][0], joined, line), position + n_rows, 3
        if is_header(row) and not _follows_data(rows[:position], row):
            skipped = [" ".join(own).strip()[:40] for _, own in rows[:position]]
            skips = (f"{position} lines before the header skipped, the first is {skipped[0]!a}",) if position else ()
            return _named(rows, position, delimiter, skips), position + 1, 3
    first = rows[0][1]
    if (names := _without_header(rows)) is not None:
        note = f"no header: columns taken as {', '.join(name for name in names if name)}"
        return Layout(delimiter, rows[0][0] - 1, names, rows[0][0], (note,)), 0, 2
    dated = plain_name(first[0]) in KNOWN["date"] or (
        first[0] == "" and len(rows) > 1 and looks_like_date(rows[1][1][0])
    )
    return _named(rows, 0, delimiter, ()), 1, int(dated)


def _follows_data(before: Sequence[tuple[int, list[str]]], header: Sequence[str]) -> bool:
    """Return True if a line before a header is a record of the same columns."""
    dated = [k for k, name in enumerate(header) if plain_name(name) in KNOWN["date"]]
    return any(len(row) == len(header) and any(looks_like_date(row[k]) for k in dated) for _, row in before)


def _named(rows: Sequence[tuple[int, list[str]]], position: int, delimiter: str, notes: tuple[str, ...]) -> Layout:
    line, row = rows[position]
    if row[0].startswith("#"):  # a remark sign before the names, with or without a blank
        first = row[0].lstrip("#").strip()
        row = row[1:] if row[0] == "#" else [first, *row[1:]]
    return Layout(delimiter, line, tuple(row), line, notes)


def _levels(rows: Sequence[tuple[int, list[str]]]) -> tuple[tuple[str, ...], int] | None:
    """Names of two levels, price and ticker in either order, as pandas writes them; and how many records they take."""
    if len(rows) < 3:
        return None
    top, below = rows[0][1], rows[1][1]
    if len(top) != len(below) or len(top) < 2 or plain_name(top[0]) in KNOWN["date"]:
        return None
    kinds = [sum(map(is_price_name, row[1:])) for row in (top, below)]
    width = len(top) - 1
    if kinds[0] == width and kinds[1] == 0:
        prices, tickers = top, below
    elif kinds[1] == width and kinds[0] == 0:
        prices, tickers = below, top
    else:
        return None
    if any(cell == "" or looks_like_date(cell) for cell in tickers[1:]):
        return None
    third = rows[2][1]
    named = third[0] != "" and not any(third[1:]) and not looks_like_date(third[0])
    names = [third[0] if named else "date"]
    names += [f"{price}{LEVEL}{ticker}" for price, ticker in zip(prices[1:], tickers[1:], strict=True)]
    return tuple(names), 3 if named else 2


def _without_header(rows: Sequence[tuple[int, list[str]]]) -> tuple[str, ...] | None:
    """Names of a file that begins with a bar: date, perhaps a time, open, high, low, close, perhaps volume and others.

    Which columns are the high and the low is checked against all of the first records; opens are nearer to the closes
    before them than closes to the opens before them.
    """
    cells = [row for _, row in rows if len(row) == len(rows[0][1])]
    first = rows[0][1]
    if len(cells) < 3 or len(first) < 5 or not looks_like_date(first[0]):
        return None
    timed = ":" not in first[0] and all(_TIME.fullmatch(row[1]) for row in cells)
    n_dates = 2 if timed else 1
    values = [row[n_dates : n_dates + 4] for row in cells]
    if not all(len(row) == 4 and all(_NUMBER.fullmatch(cell) for cell in row) for row in values):
        return None
    try:
        numbers = [[float(cell.replace(",", ".")) for cell in row] for row in values]
    except ValueError:
        return None
    if not all(low <= min(a, b) and max(a, b) <= high for a, high, low, b in numbers):
        return None
    in_order = sum(abs(b[0] - a[3]) for a, b in itertools.pairwise(numbers))
    reverse = sum(abs(b[3] - a[0]) for a, b in itertools.pairwise(numbers))
    names = ["open", "high", "low", "close"]
    if reverse < in_order:
        newest_first = [row[0] for row in cells] == sorted((row[0] for row in cells), reverse=True)
        names = names if newest_first else ["close", "high", "low", "open"]
    dates = ["date", "time"][:n_dates]
    rest = len(first) - n_dates - 4
    has_volume = rest and all(_NUMBER.fullmatch(row[n_dates + 4]) for row in cells)
    others = [f"column {k + 1}" for k in range(n_dates + 4, len(first))]
    if has_volume:
        others[0] = "volume"
    return (*dates, *names, *others)


def _old_encoding(path: Path) -> str:
    """The encoding of a text that is not UTF-8: the one in which its first lines have the most known names."""
    known = {name for names in KNOWN.values() for name in names}
    found = {}
    for encoding in OLD_ENCODINGS:
        with open_text(path, encoding, errors="replace") as file:
            words = re.split(r"[,;\t|\n]", "".join(itertools.islice(file, _MAX_PREAMBLE)))
        found[encoding] = sum(plain_name(word) in known for word in words)
    return max(OLD_ENCODINGS, key=lambda encoding: found[encoding])
