"""Tables in files that are not CSV: Parquet, Feather, ORC, Excel, JSON, SQLite and DuckDB; none can run code."""

from __future__ import annotations

import csv
import datetime
import io
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.ipc

from scripts.data.files.raw_bytes import open_text, text_encoding
from scripts.errors import InputError

MAX_JSON = 2**31  # bytes of text
_LISTS = ("data", "results", "values", "candles", "prices", "records", "historical", "quotes", "bars", "rows")


def read_container(path: Path, kind: str, table: str | None) -> pa.Table | str:
    """Read a table from a file.

    Parameters
    ----------
    kind : str
        As `raw_bytes.container_of`, neither text nor Parquet.
    table : str, optional
        Name of the table of a database or the sheet of a workbook.

    Returns
    -------
    pa.Table or str
        Typed columns; or text in the form of CSV, for files whose header has to be found.

    Raises
    ------
    InputError
        The file is damaged, has several tables and none is named, or a library is not installed.
    """
    if table is not None and kind not in ("sqlite", "duckdb", "excel"):
        raise InputError("has no tables with names", str(path), "remove data.table")
    if kind == "feather":
        with _faults(path, "Feather"):
            return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    if kind == "orc":
        from pyarrow.orc import ORCFile

        with _faults(path, "ORC"):
            return ORCFile(str(path)).read()
    if kind == "json":
        return _from_json(path)
    if kind == "sqlite":
        return _from_sqlite(path, table)
    if kind == "duckdb":
        return _from_duckdb(path, table)
    return _from_excel(path, table)


@contextmanager
def _faults(path: Path, name: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"is not a valid {name} file ({first})", str(path), "write or download it again") from None


# -----------------------------------------------------------------------------
# Databases


def _chosen(names: Sequence[str], table: str | None, path: Path, what: str) -> str:
    if table is not None:
        if table not in names:
            shown = ", ".join(map(repr, names[:8])) or "none"
            raise InputError(f"has no {what} {table!r}; there are {shown}", str(path), "correct data.table")
        return table
    if len(names) != 1:
        shown = ", ".join(map(repr, names[:8])) or "none"
        flag = f"add --set 'data.table={names[0]}', or another" if names else "give another file"
        raise InputError(f"has {len(names)} {what}s: {shown}", str(path), flag)
    return names[0]


def _from_sqlite(path: Path, table: str | None) -> pa.Table:
    try:
        connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro&immutable=1", uri=True)
        try:
            listing = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
            names = [name for (name,) in connection.execute(listing)]
            chosen = _chosen(names, table, path, "table").replace('"', '""')
            cursor = connection.execute(f'SELECT * FROM "{chosen}"')
            columns = [name for name, *_ in cursor.description]
            return _of_rows(columns, cursor.fetchall(), path)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise InputError(f"is not a valid SQLite file ({error})", str(path), "write it again") from None


def _from_duckdb(path: Path, table: str | None) -> pa.Table:
    try:
        import duckdb
    except ImportError:
        what = "is a DuckDB database, and the library duckdb is not installed"
        raise InputError(what, str(path), "run .venv/bin/python -m pip install duckdb") from None
    try:
        with duckdb.connect(str(path), read_only=True, config={"enable_external_access": "false"}) as connection:
            names = [
                row[0] for row in connection.execute("SELECT table_name FROM information_schema.tables").fetchall()
            ]
            chosen = _chosen(names, table, path, "table").replace('"', '""')
            result = connection.execute(f'SELECT * FROM "{chosen}"')
            return result.to_arrow_table()
    except duckdb.Error as error:
        first = str(error).splitlines()[0]
        raise InputError(f"is not a DuckDB database that can be read ({first})", str(path), "write it again") from None


def _of_rows(names: Sequence[str], rows: Sequence[Sequence[Any]], path: Path) -> pa.Table:
    columns = [_column([row[k] for row in rows], f"{path}, column {name}") for k, name in enumerate(names)]
    return pa.table(columns, names=list(names))


def _column(values: Sequence[Any], where: str) -> pa.Array:
    """A column of values of Python: numbers, text, or text if both are there."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int}:
        try:
            return pa.array(values, pa.int64())
        except (pa.ArrowException, OverflowError):
            kinds = {float}
    if kinds <= {int, float} and kinds:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if kinds & {dict, list, bytes}:
        raise InputError("has cells that are lists or objects", where, "give numbers, dates or text")
    if (kinds <= {str, int, float} and len(kinds) > 1) or kinds <= {str}:
        return pa.array([None if value is None else _as_text(value) for value in values], pa.large_string())
    try:
        return pa.array(values)
    except (pa.ArrowException, ValueError, OverflowError):
        return pa.array([None if value is None else str(value) for value in values], pa.large_string())


def _as_text(value: object) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return str(value)


# -----------------------------------------------------------------------------
# Excel


def _from_excel(path: Path, table: str | None) -> str:
    try:
        import python_calamine
    except ImportError:
        what = "is a workbook, and the library python-calamine is not installed"
        raise InputError(what, str(path), "run .venv/bin/python -m pip install python-calamine") from None
    try:
        workbook = python_calamine.CalamineWorkbook.from_path(str(path))
        names = list(workbook.sheet_names)
        full = [name for name in names if workbook.get_sheet_by_name(name).total_height > 0]
        rows = workbook.get_sheet_by_name(_chosen(full if table is None else names, table, path, "sheet")).to_python()
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"is not a workbook that can be read ({error})", str(path), "write it as CSV") from None
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[_cell(value) for value in row] for row in rows])
    return text.getvalue()


def _cell(value: object) -> str:
    if isinstance(value, datetime.datetime):
        return str(value.date()) if value.time() == datetime.time() else value.isoformat(sep=" ")
    return _as_text(value)


# -----------------------------------------------------------------------------
# JSON


def _from_json(path: Path) -> pa.Table | str:
    encoding = text_encoding(path)
    if encoding is None:
        raise InputError("JSON is not UTF-8", str(path), "save it as UTF-8")
    with open_text(path, encoding) as file:
        text = file.read(MAX_JSON)
    try:
        content = _parsed(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"is not valid JSON ({error})", str(path), "write or download it again") from None
    return _table_of(content, path)


def _parsed(text: str) -> Any:
    """JSON, or one JSON value a line."""
    try:
        return json.loads(text)
    except ValueError:
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) < 2:
            raise
        return [json.loads(line) for line in lines]


def _table_of(content: Any, path: Path) -> pa.Table | str:
    if isinstance(content, Mapping):
        if isinstance(content.get("columns"), list) and isinstance(content.get("data"), list):  # pandas, "split"
            index = content.get("index")
            rows, names = content["data"], [str(name) for name in content["columns"]]
            if isinstance(index, list) and len(index) == len(rows) and not any(n.lower() == "date" for n in names):
                return _of_rows(["date", *names], [[key, *row] for key, row in zip(index, rows, strict=True)], path)
            return _of_rows(names, rows, path)
        for name in _LISTS:
            if isinstance(content.get(name), list) and content[name]:
                return _table_of(content[name], path)
        parts = [part for part in content.values() if isinstance(part, Mapping) and len(part) > 2]
        if len(parts) == 1 and len(content) <= 3 and all(isinstance(v, Mapping) for v in parts[0].values()):
            return _table_of(parts[0], path)  # metadata and the series, as Alpha Vantage writes it
        if content and all(isinstance(part, list) for part in content.values()):
            lengths = {len(part) for part in content.values()}
            if len(lengths) == 1:
                names = list(map(str, content))
                return _of_rows(names, list(zip(*content.values(), strict=True)), path)
        if content and all(isinstance(part, Mapping) for part in content.values()):
            return _of_mappings(content, path)
    if isinstance(content, list) and content:
        if all(isinstance(row, Mapping) for row in content):
            names = list(dict.fromkeys(str(name) for row in content for name in row))
            return _of_rows(names, [[row.get(name) for name in names] for row in content], path)
        if all(isinstance(row, list) for row in content):
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows(
                [["" if value is None else _as_text(value) for value in row] for row in content]
            )
            return text.getvalue()
    remedy = "in pandas: df.to_json(FILE, orient='records')"
    raise InputError("is JSON without a table of records", str(path), remedy)


def _of_mappings(content: Mapping[str, Mapping[str, Any]], path: Path) -> pa.Table:
    """Records by date, or columns by name whose cells have the date as key."""
    keys = list(content)
    inner = list(next(iter(content.values())))
    by_date = all(key[:1].isdecimal() for key in keys)
    if by_date:
        names = list(dict.fromkeys(str(name) for row in content.values() for name in row))
        return _of_rows(["date", *names], [[key, *(row.get(n) for n in names)] for key, row in content.items()], path)
    rows = [[key, *(content[name].get(key) for name in keys)] for key in inner]
    if any(str(name).lower() == "date" for name in keys):
        return _of_rows(keys, [row[1:] for row in rows], path)
    return _of_rows(["date", *keys], rows, path)
