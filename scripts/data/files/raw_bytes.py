"""Check of the bytes of a file before parsing: kind, compression, encoding, size."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from scripts.errors import InputError
from scripts.storage.parquet_bounds import MAX_INFLATED, MAX_RATIO, PARQUET_MAGIC

BLOCK = 2**20
MAX_LINE = 2**24  # bytes
GZIP_MAGIC = b"\x1f\x8b"
_SIGNATURES = (
    (b"PK\x03\x04", "a zip archive or a spreadsheet"),
    (b"PK\x05\x06", "an empty zip archive"),
    (PARQUET_MAGIC, "Parquet: name it .parquet"),
    (b"\x89HDF", "HDF5"),
    (b"SQLite format 3", "an SQLite database"),
    (b"%PDF", "PDF"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstandard"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
    *((b"\x80" + bytes([protocol]), "a Python pickle, which is never loaded") for protocol in range(2, 6)),
)
_HTML = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")
_UTF_MARKS = ((codecs.BOM_UTF32_LE, "UTF-32"), (codecs.BOM_UTF16_LE, "UTF-16"), (codecs.BOM_UTF16_BE, "UTF-16"))
_WANTED = "give a CSV file (plain or .gz) or a Parquet file"


def is_parquet(path: Path) -> bool:
    """Return True if the name is that of a Parquet file."""
    return path.suffix.lower() in (".parquet", ".pq")


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


def check_text(path: Path) -> None:
    """Stream the whole file once and raise InputError unless it is plain UTF-8 text, perhaps gzipped, of sane size.

    Errors name the byte offset, which counts in the unpacked text if the file is compressed.
    """
    # A pass of its own before parsing, because the errors of CSV readers name neither the byte nor the encoding.
    decoder = codecs.getincrementaldecoder("utf-8")()
    seen = line = since_newline = 0
    for block in _unpacked(path):
        if seen == 0:
            _check_kind(block[:512], path)
        if (nul := block.find(b"\0")) >= 0:
            lines = line + block.count(b"\n", 0, nul)
            raise _encoding_error("NUL byte (a binary file, or UTF-16)", path, lines + 1, seen + nul)
        # Bytes of a character that was cut by the end of the previous block: positions count from its start.
        pending = len(decoder.getstate()[0])
        try:
            decoder.decode(block)
        except UnicodeDecodeError as error:
            at = error.start - pending
            what = f"byte 0x{error.object[error.start]:02x} is not UTF-8 (Latin-1 or Windows-1252?)"
            raise _encoding_error(what, path, line + block.count(b"\n", 0, max(at, 0)) + 1, seen + at) from None
        line += block.count(b"\n")
        since_newline = since_newline + len(block) if b"\n" not in block else len(block) - block.rfind(b"\n")
        seen += len(block)
        if since_newline > MAX_LINE:
            raise InputError(f"is longer than {MAX_LINE} bytes", f"{path}, line {line + 1}", _WANTED)
    if decoder.getstate()[0]:
        raise _encoding_error("the text ends inside a UTF-8 character", path, line + 1, seen)
    if seen == 0:
        raise InputError("the file is empty", str(path), _WANTED)


def open_text(path: Path) -> TextIO:
    """The file as text without byte order mark, unpacked if it is gzipped; line ends as they are."""
    return io.TextIOWrapper(_open(path), encoding="utf-8-sig", newline="")


def _open(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        packed = file.read(2) == GZIP_MAGIC
    return cast(BinaryIO, gzip.open(path, "rb")) if packed else path.open("rb")


def _unpacked(path: Path) -> Iterator[bytes]:
    """Blocks of the unpacked file."""
    size, seen = path.stat().st_size, 0
    with _open(path) as file:
        if path.suffix.lower() == ".gz" and not isinstance(file, gzip.GzipFile) and size:
            raise InputError("is named .gz but is not gzip", str(path), "rename or compress it")
        while True:
            try:
                block = file.read(BLOCK)
            except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                raise InputError(f"the gzip file is damaged ({error})", str(path), "get the file again") from None
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
    kind = next((kind for magic, kind in _SIGNATURES if head.startswith(magic)), None)
    if head.lstrip(codecs.BOM_UTF8 + b" \t\r\n").lower().startswith(_HTML):
        kind = "HTML or XML, perhaps a download that failed"
    if kind is not None:
        raise InputError(f"is not a CSV but {kind}", f"{path}, line 1, {_shown(head)}", _WANTED)
    mark = next((name for magic, name in _UTF_MARKS if head.startswith(magic)), None)
    if mark is not None:
        raise _encoding_error(f"the text is {mark}", path, 1, 0)


def _encoding_error(what: str, path: Path, line: int, offset: int) -> InputError:
    return InputError(what, f"{path}, line {line}, byte offset {offset}", "save the file as UTF-8 text")


def _shown(head: bytes) -> str:
    return ascii(head.split(b"\n")[0][:40].decode("latin-1"))
