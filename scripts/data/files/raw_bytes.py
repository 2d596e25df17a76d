"""Bytes of a file, before anything is parsed: container, compression, encoding and size, each with its bounds."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO, cast

import pyarrow as pa

from scripts.errors import InputError
from scripts.storage.parquet_bounds import MAX_INFLATED, MAX_RATIO, PARQUET_MAGIC

BLOCK = 2**20
MAX_LINE = 2**24  # bytes
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
# Containers that are read, by their first bytes.
_CONTAINERS = (
    (PARQUET_MAGIC, "parquet"),
    (b"ARROW1", "feather"),
    (b"ORC", "orc"),
    (b"SQLite format 3", "sqlite"),
    (b"\xd0\xcf\x11\xe0", "excel"),
)
_REFUSED = (
    (b"PK\x05\x06", "an empty zip archive", "give the file that should be in it"),
    (b"\x89HDF", "HDF5, which can contain Python objects", "in pandas: read_hdf(FILE).to_parquet('prices.parquet')"),
    (b"FEA1", "the first version of Feather", "in pandas: read_feather(FILE).to_parquet('prices.parquet')"),
    (b"%PDF", "PDF", "give a table"),
    *(
        (
            b"\x80" + bytes([protocol]),
            "a Python pickle, which is never loaded",
            "in pandas: df.to_parquet('prices.parquet')",
        )
        for protocol in range(2, 6)
    ),
)
_IN_WORKBOOKS = {"xl/workbook.xml", "xl/workbook.bin", "mimetype"}  # members of Excel's and OpenDocument's
_HTML = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")
_UTF_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Encodings of older programs in this order: each is tried where the text is not UTF-8, and a known name decides.
OLD_ENCODINGS = ("cp1252", "gb18030", "cp1251", "shift_jis", "cp1250")
_WANTED = "give CSV, Excel, Parquet, Feather, ORC, JSON, SQLite or DuckDB"


def is_parquet(path: Path) -> bool:
    """Return True if the name is that of a Parquet file."""
    return path.suffix.lower() in (".parquet", ".pq")


def container_of(path: Path) -> str:
    """Return what a file is: text, json, parquet, feather, orc, sqlite, duckdb or excel.

    Raises
    ------
    InputError
        It is none of them; the message has the kind and the way to convert it.
    """
    with path.open("rb") as file:
        head = file.read(512)
    if is_parquet(path):
        return "parquet"
    for magic, kind, remedy in _REFUSED:
        if head.startswith(magic):
            raise InputError(f"is {kind}", str(path), remedy)
    container = next((kind for magic, kind in _CONTAINERS if head.startswith(magic)), None)
    if container is not None:
        return container
    if head[8:12] == b"DUCK":
        return "duckdb"
    if head.startswith(b"PK\x03\x04") and _IN_WORKBOOKS & set(_members(path)):
        return "excel"
    return _text(path)


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"the zip archive is damaged ({error})", str(path), "get the file again") from None


def _text(path: Path) -> str:
    """Return json or text, by the first characters of the unpacked file."""
    head = next(_unpacked(path), b"")[:4096].lstrip(codecs.BOM_UTF8 + b" \t\r\n")
    if head.startswith(b"[") or head.startswith(b"{"):
        return "json"
    return "text"


def check_readable(path: Path, named_by: str) -> None:
    """Raise InputError if the file does not exist or is not readable; `named_by` is the flag or key to check."""
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise InputError("is not a regular file", str(path), "write it into a file: it is read several times")
        path.open("rb").close()
    except (FileNotFoundError, NotADirectoryError):
        raise InputError("file not found", str(path), f"check {named_by}") from None
    except IsADirectoryError:
        raise InputError("is a folder", str(path), f"name one file in {named_by}") from None
    except PermissionError:
        raise InputError("may not be read", str(path), "change its permissions") from None


def text_encoding(path: Path) -> str | None:
    """Stream the whole file once; return its encoding, None if it is not Unicode.

    Raises
    ------
    InputError
        It is not text, or too large; with the byte offset in the unpacked text.
    """
    # A pass of its own before parsing, because the errors of CSV readers name neither the byte nor the encoding.
    decoder = codecs.getincrementaldecoder("utf-8")()
    encoding: str | None = "utf-8-sig"
    seen = line = since_newline = 0
    for block in _unpacked(path):
        if seen == 0:
            _check_kind(block[:512], path)
            mark = next((name for magic, name in _UTF_MARKS if block.startswith(magic)), None)
            encoding = mark or encoding
        if encoding in ("utf-8-sig", None) and (nul := block.find(b"\0")) >= 0:
            lines = line + block.count(b"\n", 0, nul)
            place = f"{path}, line {lines + 1}, byte offset {seen + nul}"
            raise InputError("NUL byte (a binary file, or UTF-16 without its mark)", place, _WANTED)
        if encoding == "utf-8-sig":
            try:
                decoder.decode(block)
            except UnicodeDecodeError:
                encoding = None
        line += block.count(b"\n")
        since_newline = since_newline + len(block) if b"\n" not in block else len(block) - block.rfind(b"\n")
        seen += len(block)
        if since_newline > MAX_LINE:
            raise InputError(f"is longer than {MAX_LINE} bytes", f"{path}, line {line + 1}", _WANTED)
    if encoding == "utf-8-sig" and decoder.getstate()[0]:
        what, place = "the text ends inside a UTF-8 character", f"{path}, line {line + 1}, byte offset {seen}"
        raise InputError(what, place, "get the file again")
    if seen == 0:
        raise InputError("the file is empty", str(path), _WANTED)
    return encoding


def open_text(path: Path, encoding: str = "utf-8-sig", errors: str = "strict") -> TextIO:
    """The unpacked file as text without byte order mark; line ends as they are."""
    return io.TextIOWrapper(_open(path), encoding=encoding, errors=errors, newline="")


def _open(path: Path) -> BinaryIO:
    kind = _compression(path)
    if kind == "gzip":
        return cast(BinaryIO, gzip.open(path, "rb"))
    if kind == "bzip2":
        return cast(BinaryIO, bz2.open(path, mode="rb"))
    if kind == "xz":
        return cast(BinaryIO, lzma.open(path, mode="rb"))
    if kind == "zstd":
        return cast(BinaryIO, pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))
    return _only_member(path) if kind == "zip" else path.open("rb")


def _compression(path: Path) -> str | None:
    with path.open("rb") as file:
        head = file.read(6)
    return next((kind for magic, kind in _COMPRESSED.items() if head.startswith(magic)), None)


def _only_member(path: Path) -> BinaryIO:
    names = [name for name in _members(path) if not name.endswith("/") and not name.startswith("__MACOSX/")]
    if len(names) != 1:
        what = f"the zip archive has {len(names)} files: {', '.join(names[:5])}"
        raise InputError(what, str(path), "unpack it and name one of them, or their folder")
    try:
        return cast(BinaryIO, zipfile.ZipFile(path).open(names[0], mode="r"))
    except (RuntimeError, NotImplementedError) as error:
        raise InputError(f"the zip archive cannot be unpacked ({error})", str(path), "unpack it yourself") from None


def _unpacked(path: Path) -> Iterator[bytes]:
    """Blocks of the unpacked file."""
    size, seen = path.stat().st_size, 0
    faults = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, pa.ArrowException)
    with _open(path) as file:
        if path.suffix.lower() == ".gz" and not isinstance(file, gzip.GzipFile) and size:
            raise InputError("is named .gz but is not gzip", str(path), "rename or compress it")
        while True:
            try:
                block = file.read(BLOCK)
            except faults as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise
                kind = _compression(path) or "zip"
                raise InputError(f"the {kind} file is damaged ({error})", str(path), "get the file again") from None
            if not block:
                return
            seen += len(block)
            if seen > MAX_INFLATED and seen > MAX_RATIO * size:
                raise InputError(
                    f"{size} bytes unpack to more than {MAX_INFLATED} (over {MAX_RATIO} times as many)",
                    str(path),
                    "unpack it yourself if it is what you expect",
                )
            yield block


def _check_kind(head: bytes, path: Path) -> None:
    if head.lstrip(codecs.BOM_UTF8 + b" \t\r\n").lower().startswith(_HTML):
        shown = ascii(head.split(b"\n")[0][:40].decode("latin-1"))
        what = "is HTML or XML, perhaps a download that failed"
        raise InputError(what, f"{path}, line 1, {shown}", _WANTED)
