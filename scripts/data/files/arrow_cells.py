"""Arrow columns: allowed types, memory bounds, and conversion to text."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Sequence
from datetime import UTC, timedelta, timezone, tzinfo

import pyarrow as pa
import pyarrow.compute

from scripts.errors import InputError

MAX_CELL = 131_072  # bytes of one cell of text; that of the CSV reader, too
MAX_TEXT = 2 * 10**9  # bytes of the cells of a column, each counted as often as it is there
_OFFSET = re.compile(r"([+-])(\d\d):?(\d\d)", re.ASCII)


def check_types(schema: pa.Schema, names: Sequence[str], where: str) -> None:
    """Raise InputError for cells that are neither numbers, booleans, dates nor text."""
    for name in names:
        kind, place = schema.field(name).type, f"{where}, column {name}"
        inner = plain_type(kind)
        if not is_readable(inner):
            raise InputError(f"has cells of type {_short(kind)}", place, "give numbers, booleans, dates or text")
        if pa.types.is_timestamp(inner) and inner.tz is not None:
            zone(inner.tz, place)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values that a dictionary, runs or stored booleans encode."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    return pa.bool_() if isinstance(kind, pa.Bool8Type) else kind


def is_readable(kind: pa.DataType) -> bool:
    """Return whether cells of a plain type are read."""
    types = pa.types
    return (
        any(is_kind(kind) for is_kind in (types.is_null, types.is_boolean, types.is_date, types.is_time))
        or is_number(kind)
        or is_text(kind)
        or types.is_timestamp(kind)
    )


def is_number(kind: pa.DataType) -> bool:
    """Return whether a plain type is that of numbers."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def is_text(kind: pa.DataType) -> bool:
    """Return whether a plain type is that of text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_dated(kind: pa.DataType) -> bool:
    """Return whether a type is that of dates or times."""
    return bool(pa.types.is_temporal(plain_type(kind)))


def zone(name: str, where: str) -> tzinfo:
    """Return a time zone by its name or its offset, such as +05:30.

    Raises
    ------
    InputError
        This machine does not know it.
    """
    if (offset := _OFFSET.fullmatch(name)) is not None:
        sign = -1 if offset[1] == "-" else 1
        return timezone(sign * timedelta(hours=int(offset[2]), minutes=int(offset[3])))
    if name.upper() in ("UTC", "Z", "GMT", "ETC/UTC"):
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        what = f"has times of the zone {name[:40]!a}, which this machine does not know"
        raise InputError(what, where, "write the times in UTC") from None


def check_sizes(column: pa.ChunkedArray, where: str) -> None:
    """Raise InputError if cells of text are too long, or too long together, before any is repeated in memory."""
    if not is_text(plain_type(column.type)):
        return
    total = 0
    for chunk in column.chunks:
        indices = None
        if pa.types.is_dictionary(chunk.type):
            chunk, indices = chunk.dictionary, chunk.indices
        elif pa.types.is_run_end_encoded(chunk.type):
            chunk, indices = chunk.values, None
        # Added up before decoding: a dictionary stores a long text once, and decoding repeats it in every row.
        sizes = pa.compute.binary_length(
            chunk.cast(pa.large_string()) if pa.types.is_string_view(chunk.type) else chunk
        )
        longest = pa.compute.max(sizes).as_py() or 0
        if longest > MAX_CELL:
            what = f"has a cell of {longest:,} bytes, more than {MAX_CELL:,}"
            raise InputError(what, where, "remove the column, or write shorter text")
        total += pa.compute.sum(sizes if indices is None else sizes.take(indices)).as_py() or 0
        if total > MAX_TEXT:
            raise InputError(f"has more than {MAX_TEXT:,} bytes of text", where, "remove the column")


def decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as the values that a dictionary, runs or stored booleans encode."""
    kind = column.type
    if isinstance(kind, pa.Bool8Type):
        return column.cast(pa.bool_())
    if pa.types.is_run_end_encoded(kind):
        chunks = [pa.compute.run_end_decode(chunk) for chunk in column.chunks]
        return decoded(pa.chunked_array(chunks, type=kind.value_type))
    return decoded(column.cast(kind.value_type)) if pa.types.is_dictionary(kind) else column


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return cells as text, so that all kinds of file pass the same checks; text shows a number exactly.

    Times of a zone are in UTC and end in Z. Missing cells, NaN among them, are empty.
    """
    column = decoded(column)
    # As text, decimals would keep trailing zeros, which other kinds of file do not have.
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64(), safe=False)
    if pa.types.is_floating(column.type):
        missing = pa.compute.is_nan(column)
        text = pa.compute.if_else(missing, pa.scalar(None, pa.large_string()), column.cast(pa.large_string()))
    elif pa.types.is_timestamp(column.type) and column.type.tz is not None:
        utc = column.cast(pa.timestamp(column.type.unit)).cast(pa.large_string())
        text = pa.compute.binary_join_element_wise(utc, *(pa.scalar(end, pa.large_string()) for end in ("Z", "")))
    else:
        text = column.cast(pa.large_string())
    return text.fill_null("")


def _short(kind: pa.DataType) -> str:
    """Return the name of a type on one line of sane length."""
    text = " ".join(str(kind).split())
    return ascii(text if len(text) <= 60 else text[:57] + "...")[1:-1]
