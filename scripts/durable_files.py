"""Files that survive a kill: replaced in one step, flushed to disk, set aside rather than deleted, known by digest."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from scripts.errors import EnvironmentFailed, InputError

_ENVIRONMENT_ERRNOS = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOENT, errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM),
}


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` in one step; errors as `replacing`."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes the place of `path` in one step once the block has ended without an error.

    A temporary file is flushed to disk and renamed, and the folder is flushed.

    Raises
    ------
    EnvironmentFailed
        No space, no permission or a failing disk; the old file is untouched.
    InputError
        `path` is a symbolic link, which a rename would silently replace.
    """
    if path.is_symlink():
        raise InputError("is a symbolic link", str(path), "remove it; artifacts are ordinary files")
    temporary = path.with_name(f".{path.name}.tmp")
    with environment_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _flush_folder(path.parent)


def replace_file(new: Path, path: Path) -> None:
    """Give the finished file `new` its final name in one step."""
    with environment_errors(path):
        os.replace(new, path)
        _flush_folder(path.parent)


def append_line(path: Path, line: str, durable: bool = True) -> None:
    """Add one line to a ledger and (if `durable`) flush it to disk; earlier lines are never touched."""
    with environment_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
            if durable:
                file.flush()
                os.fsync(file.fileno())


def set_aside(path: Path) -> Path | None:
    """Rename a file or folder to the first free `NAME.before-K`; never deletes. Returns the new path."""
    if not path.exists():
        return None
    k = 1
    while (aside := path.with_name(f"{path.name}.before-{k}")).exists():
        k += 1
    with environment_errors(path):
        path.rename(aside)
    return aside


def read_regular(path: Path, limit: int, remedy: str = "") -> bytes:
    """Read a regular file of at most `limit` bytes. Links are not followed, and no device or pipe is waited for.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    InputError
        A link, a folder, a pipe, a device, or a file that is too large; it ends in `remedy`.
    EnvironmentFailed
        The disk or its permissions fail.
    """
    with opened_regular(path, remedy) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise InputError(f"is larger than {limit} bytes", str(path), remedy)
        return file.read(size)


@contextmanager
def opened_regular(path: Path, remedy: str = "") -> Iterator[BinaryIO]:
    """Open a regular file for reading; errors as `read_regular`, also those of reading within the block."""
    with open(_regular_descriptor(path, remedy), "rb") as file, environment_errors(path):
        yield file


def _regular_descriptor(path: Path, remedy: str) -> int:
    """Descriptor of a regular file. A pipe without a writer opens at once, and is then refused."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ELOOP and path.is_symlink():
            raise InputError("is a symbolic link", str(path), remedy or "put the file itself there") from error
        if error.errno == errno.ENXIO:  # a socket, or a device that is not there
            raise InputError("is not a regular file", str(path), remedy or "remove it") from error
        with environment_errors(path):
            raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError("is not a regular file", str(path), remedy or "remove it")
    return descriptor


def sha256(content: bytes) -> str:
    """Hexadecimal SHA-256."""
    return hashlib.sha256(content).hexdigest()


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def environment_errors(path: Path) -> Iterator[None]:
    """Turn errors of the disk into one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno not in _ENVIRONMENT_ERRNOS:
            raise
        where = str(error.filename or path)
        remedy = "mend the disk, its permissions or what is in the way; the same command goes on"
        raise EnvironmentFailed(os.strerror(error.errno or 0), where, remedy) from error


def _flush_folder(folder: Path) -> None:
    """Make a rename durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
