"""Records of a text file as columns of text: as many fields in each as in the header."""

from __future__ import annotations

import csv
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from scripts.data.files.column_names import MAX_COLUMNS, as_wanted, check_names, missing_column
from scripts.data.files.csv_layout import LEVEL, Layout, Text
from scripts.errors import InputError

if TYPE_CHECKING:
    import _csv

MAX_FOOTER = 5  # lines after the last record


class CsvRecords:
    """Records of a text file.

    Attributes
    ----------
    layout : Layout
    names : tuple of str
        Of the columns that are read.
    blank : list of int
        Lines of blank records between others, once they have been passed.
    notes : list of str
        What was left out, once the end has been reached.
    """

    def __init__(self, text: Text, layout: Layout, required: Sequence[str]) -> None:
        self.path, self.layout, self._text = text.path, layout, text
        self.blank, self.notes = list[int](), list(layout.notes)
        self._own = as_wanted(layout.names, required)
        self._unnamed = [k for k, name in enumerate(self._own) if not name]
        self.names = _checked(self._own, self._unnamed, self.path, layout, required)
        self._read = [k for k in range(len(self._own)) if k not in self._unnamed]

    def chunks(self, max_rows: int) -> Iterator[tuple[np.ndarray, dict[str, pa.ChunkedArray]]]:
        """Yield the line at which each record starts, and columns of text, in parts of at most `max_rows` records.

        Raises
        ------
        InputError
            A record is not valid, has another number of fields, or has a value in a column without a name.
        """
        with self._text.open() as file:
            for _ in range(self.layout.n_lines):
                file.readline()
            reader = self.layout.reader(file)
            records = self._records(reader)
            try:
                while chunk := list(itertools.islice(records, max_rows)):
                    lines, rows = zip(*chunk, strict=True)
                    columns = list(zip(*rows, strict=True))
                    cells = [pa.chunked_array([columns[k]], type=pa.large_string()) for k in self._read]
                    self._check_unnamed(columns, lines)
                    yield np.array(lines, dtype=np.int64), dict(zip(self.names, cells, strict=True))
            except csv.Error as error:
                place = f"{self.path}, line {self.layout.n_lines + reader.line_num}"
                remedy = "correct the quotes or line ends of this record"
                raise InputError(f"is not a valid CSV ({error})", place, remedy) from None
            except UnicodeDecodeError as error:
                what = f"the text is not {self._text.encoding} ({error.reason})"
                raise InputError(what, str(self.path), "save the file as UTF-8 text") from None

    def _records(self, reader: _csv.Reader) -> Iterator[tuple[int, list[str]]]:
        """Records with the line each starts at; other lines are allowed at the end of the file only."""
        width, first = len(self._own), self.layout.n_lines
        line, odd = first + reader.line_num + 1, list[tuple[int, list[str]]]()
        for record in reader:
            if len(record) > width and not any(record[width:]):
                record = record[:width]
            if not record:
                self.blank.append(line)
            elif len(record) != width:
                odd.append((line, record))
                # A sentence is a remark; anything else may be a record that was cut off.
                words = [cell.strip() for cell in record if cell.strip()]
                if len(odd) > MAX_FOOTER or len(words) != 1 or " " not in words[0]:
                    raise self._uneven(*odd[0])
            elif odd:
                raise self._uneven(*odd[0])
            else:
                yield line, record
            line = first + reader.line_num + 1
        if odd:
            shown = ascii(" ".join(odd[0][1])[:40])
            self.notes.append(f"{self.path}: {len(odd)} lines after the last record left out, the first is {shown}")

    def _uneven(self, line: int, record: list[str]) -> InputError:
        what = f"has {len(record)} fields where the header has {len(self._own)}"
        place = f"{self.path}, line {line}, {' '.join(record)[:40]!a}"
        return InputError(what, place, "correct this line, or remove it if it is a comment")

    def _check_unnamed(self, columns: Sequence[Sequence[str]], lines: Sequence[int]) -> None:
        """Raise InputError for a value in a column without a name, unless the column counts the rows."""
        for k in self._unnamed:
            values = columns[k]
            if k == 0 and all(value.strip().isdecimal() for value in values):
                continue
            bad = next((line for line, value in zip(lines, values, strict=True) if value.strip()), None)
            if bad is not None:
                remedy = "name it, or write the file without its index"
                raise InputError(f"column {k + 1} has no name", f"{self.path}, line {bad}", remedy)


def _checked(
    own: Sequence[str], unnamed: Sequence[int], path: Path, layout: Layout, required: Sequence[str]
) -> tuple[str, ...]:
    """Checked names of the columns that are read."""
    where = f"{path}, line {layout.header_line}"
    if len(own) > MAX_COLUMNS:
        raise InputError(f"{len(own)} columns are more than {MAX_COLUMNS}", where, "give fewer columns")
    names = [name for k, name in enumerate(own) if k not in unnamed]
    if not names:
        raise InputError("no header found", where, f"start the file with the names {', '.join(required)}, ...")
    for name in required:
        if name not in names:
            raise missing_column(name, names, where)
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated and LEVEL in repeated[0]:
        price, _, ticker = repeated[0].partition(LEVEL)
        raise InputError(f"column {price} of {ticker} is there twice", where, "remove one of them")
    check_names(names, where)
    return tuple(names)
