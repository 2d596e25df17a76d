"""Records of a CSV file as columns of text, each with as many fields as the header."""

from __future__ import annotations

import csv
import itertools
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from scripts.config.experiment import DataConfig
from scripts.data.files.column_names import MAX_COLUMNS, as_wanted, check_names, missing_column
from scripts.data.files.raw_bytes import check_text, open_text
from scripts.errors import InputError

DELIMITERS = ",;\t|"
_DATA_CELL = re.compile(r"[+-]?\d[\d.,:/T-]*", re.ASCII)


def csv_records(
    path: Path, config: DataConfig, required: Sequence[str], max_rows: int, blank: list[int]
) -> Iterator[tuple[np.ndarray, dict[str, pa.ChunkedArray]]]:
    """Yield the line at which each record starts, and columns of text, in parts of at most `max_rows` records.

    The lines of blank records are added to `blank`. Parameters and errors as `raw_tables.read_table`.
    """
    if config.delimiter in '"\r\n':
        raise InputError(f"{config.delimiter!r} cannot part fields", "data.delimiter", "use one such as ',' or ';'")
    check_text(path)
    with open_text(path) as file:
        # Strict, because otherwise damaged quotes silently join fields or records.
        reader = csv.reader(file, delimiter=config.delimiter, strict=True)
        try:
            # Blank lines before the header would be a header without fields.
            header = next((record for record in reader if record), [])
            names = _header(header, reader.line_num, path, config, required)
            records = _records(reader, len(names), path, blank)
            while chunk := list(itertools.islice(records, max_rows)):
                lines, rows = zip(*chunk, strict=True)
                cells = [pa.chunked_array([column], type=pa.large_string()) for column in zip(*rows, strict=True)]
                yield np.array(lines, dtype=np.int64), dict(zip(names, cells, strict=True))
        except csv.Error as error:
            remedy = "correct the quotes or line ends of this record"
            raise InputError(f"is not a valid CSV ({error})", f"{path}, line {reader.line_num}", remedy) from None


def _header(
    header: Sequence[str], line: int, path: Path, config: DataConfig, required: Sequence[str]
) -> tuple[str, ...]:
    """Checked names of the columns of a CSV."""
    where = f"{path}, line {line}"
    names = tuple(as_wanted([name.strip() for name in header], required))
    if not any(names):
        raise InputError("no header found", where, f"start the file with the names {', '.join(required)}, ...")
    if len(names) <= MAX_COLUMNS:
        for name in required:
            if name not in names:
                raise missing_column(name, names, where, _header_hint(header, config.delimiter, required))
    check_names(names, where)
    return names


def _header_hint(header: Sequence[str], delimiter: str, required: Sequence[str]) -> str:
    """Return the fix for a header without the required names, if its form shows it."""
    expected = f"expected columns {', '.join(required)}, ..."
    line = delimiter.join(header)
    if header[0] == "Price" and "Close" in header:
        return "yfinance wrote three lines of names: download with multi_level_index=False and write it again"
    if line.startswith("sep="):
        return f"{expected}; remove the line {line.rstrip(delimiter)!r}, which is only for Excel"
    other = max(DELIMITERS, key=line.count)
    if other != delimiter and line.count(other) > line.count(delimiter):
        mark = shlex.quote(f"data.delimiter={other}") if other != "\t" else "data.delimiter=$'\\t'"
        return f"{expected}; the delimiter looks like {other!r}: add --set {mark}"
    if any(_DATA_CELL.fullmatch(cell.strip()) for cell in header):
        return f"{expected}; this line looks like data: put a line with the column names before it"
    return ""


def _records(reader: Iterator[list[str]], width: int, path: Path, blank: list[int]) -> Iterator[tuple[int, list[str]]]:
    """Records with the line each starts at; the lines of blank ones are added to `blank`."""
    line = reader.line_num + 1  # type: ignore[attr-defined]
    for record in reader:
        if len(record) == width:
            yield line, record
        elif record:
            what = f"has {len(record)} fields where the header has {width}"
            shown = ascii(" ".join(record)[:40])
            raise InputError(
                what, f"{path}, line {line}, {shown}", "correct this line, or remove it if it is a comment"
            )
        else:
            blank.append(line)
        line = reader.line_num + 1  # type: ignore[attr-defined]
