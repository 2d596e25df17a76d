"""Cells of Arrow columns: which types may be there, and what they are as text."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from scripts.errors import InputError


def check_types(schema: pa.Schema, names: Sequence[str], where: str) -> None:
    """Raise InputError for cells that are neither numbers, dates nor text."""
    for name in names:
        kind = schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            raise InputError(f"has cells of type {kind}", f"{where}, column {name}", "give numbers, dates or text")


def decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column as the values that a dictionary stands for, if it has one."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Cells as text, so that both kinds of file pass the same checks; text shows a float64 exactly."""
    column = decoded(column)
    if pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
        column = column.cast(pa.float64(), safe=False)
    return column.cast(pa.large_string()).fill_null("")
