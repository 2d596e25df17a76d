"""Bounds of Parquet files: sizes of footer and pages are added up before memory is allocated.

The sizes in a footer may differ from those in the page headers, which readers use for allocation.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
from pathlib import Path
from typing import BinaryIO

import pyarrow.parquet

from scripts.errors import InputError

MAX_RATIO, MAX_INFLATED = 200, 10**9  # a file beyond both is refused
_STRUCT_BYTES = 1_000  # memory of the smallest part of a footer, which takes three bytes of the file
PARQUET_MAGIC = b"PAR1"
MAX_PAGE = 2**27  # maximum bytes of a page, if also above ten times the file
_UNPACKED_SIZE, _PACKED_SIZE = 2, 3  # fields of PageHeader (parquet.thrift of apache/parquet-format)
# Types of the compact protocol of Apache Thrift, the format of footers and headers.
_BOOLEANS, _BYTE, _NUMBERS, _DOUBLE, _BINARY, _LISTS, _STRUCT = (1, 2), 3, (4, 5, 6), 7, 8, (9, 10), 12
_SIZED = (_BYTE, _DOUBLE, _BINARY)
_DEPTH = 4


def check_footer(file: BinaryIO, where: str) -> None:
    """Raise InputError if the footer of a Parquet file would take over 1 GB and ten times the file's size in memory.

    A reader builds the whole footer before it knows the number of columns. The parts are counted here by the rules of
    the Thrift compact protocol, without building any. A damaged footer is left to the reader.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 8))
    n_bytes, magic = struct.unpack("<I4s", file.read(8).rjust(8, b"\0"))
    max_structs = max(MAX_INFLATED, 10 * size) // _STRUCT_BYTES
    if magic != PARQUET_MAGIC or n_bytes > size - 8 or n_bytes // 3 <= max_structs:
        return
    file.seek(size - 8 - n_bytes)
    if n_structs(file.read(n_bytes), max_structs) > max_structs:
        raise InputError("its footer would take far more memory than its size", where, "write the file again")


def n_structs(footer: bytes, max_structs: int) -> int:
    """Count the structs of a message in Thrift's compact protocol, until there are more than `max_structs`.

    A truncated message is counted up to its end.
    """
    file, found = io.BytesIO(footer), 0

    def skip(kind: int) -> None:
        nonlocal found
        if kind in _LISTS:
            head = _byte(file)
            n_elements = head >> 4 if head < 0xF0 else _varint(file)
            element = _BYTE if head & 15 in _BOOLEANS else head & 15  # in a list, a boolean takes a byte
            for _ in range(n_elements):
                if file.tell() >= len(footer) or found > max_structs:
                    break
                skip(element)
        elif kind == _STRUCT:
            found += 1
            while found <= max_structs and (head := _byte(file)):
                if head < 16:
                    _varint(file)
                skip(head & 15)
        elif kind in _NUMBERS:
            _varint(file)
        elif kind in _SIZED:
            _skip(file, kind)

    with contextlib.suppress(ValueError, RecursionError):  # a reader also builds everything before the damage
        skip(_STRUCT)
    return found


def check_inflation(metadata: pyarrow.parquet.FileMetaData, path: Path) -> None:
    """Raise InputError if a file of data, or one of its pages, unpacks to far more than its size."""
    size = path.stat().st_size
    inflated = sum(metadata.row_group(k).total_byte_size for k in range(metadata.num_row_groups))
    with path.open("rb") as file:
        largest, unpacked = unpacked_sizes(file, metadata)
    # A repeated number takes 8 bytes a row.
    inflated = max(inflated, unpacked, 8 * metadata.num_rows)
    if largest > max(MAX_PAGE, 10 * size):
        raise InputError(f"{size} bytes unpack to a page of {largest}", str(path), "write it again in smaller pages")
    if inflated > MAX_INFLATED and inflated > MAX_RATIO * size:
        raise InputError(f"{size} bytes unpack to {inflated}", str(path), "write it again without compression")


def unpacked_sizes(file: BinaryIO, metadata: pyarrow.parquet.FileMetaData) -> tuple[int, int]:
    """Return the unpacked size of the largest compressed page of a file, and of all its columns together, in bytes.

    Raises
    ------
    ValueError
        The header of a page is damaged.
    """
    largest, total = 0, 0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            if column.compression == "UNCOMPRESSED":  # its pages have their stored size
                total += column.total_compressed_size
                continue
            offset = column.data_page_offset
            if column.has_dictionary_page and 0 < column.dictionary_page_offset < offset:
                offset = column.dictionary_page_offset
            end = offset + column.total_compressed_size
            while offset < end:
                file.seek(offset)
                header = _struct(file, _DEPTH)
                unpacked, packed = header.get(_UNPACKED_SIZE, -1), header.get(_PACKED_SIZE, -1)
                if min(unpacked, packed) < 0:
                    raise ValueError("a page has no size")
                largest, total = max(largest, unpacked), total + unpacked
                offset = file.tell() + packed
    return largest, total


def _struct(file: BinaryIO, depth: int) -> dict[int, int]:
    """Read a struct and return its integer fields."""
    fields, field = dict[int, int](), 0
    while (kind := (head := _byte(file)) & 15) and depth:
        field = field + (head >> 4) if head >> 4 else _signed(_varint(file))
        if kind in _NUMBERS:
            fields[field] = _signed(_varint(file))
        elif kind == _STRUCT:
            _struct(file, depth - 1)
        elif kind in _SIZED:
            _skip(file, kind)
        elif kind not in _BOOLEANS:  # whose value is their type; headers have no lists
            raise ValueError("the header of a page has a field of another type")
    return fields


def _skip(file: BinaryIO, kind: int) -> None:
    """Skip a value whose size is given by its type or its first number."""
    n_bytes = {_BYTE: 1, _DOUBLE: 8}.get(kind) or _varint(file)
    if n_bytes >= 2**31:  # sizes of the protocol have 31 bits
        raise ValueError("a text is longer than its format allows")
    file.seek(n_bytes, 1)


def _varint(file: BinaryIO) -> int:
    value = shift = 0
    while (part := _byte(file)) & 128 and shift < 63:
        value, shift = value | (part & 127) << shift, shift + 7
    return value | part << shift


def _signed(value: int) -> int:
    return value >> 1 ^ -(value & 1)


def _byte(file: BinaryIO) -> int:
    if not (read := file.read(1)):
        raise ValueError("a footer or the header of a page is truncated")
    return read[0]
