"""Atomic, fsynced file writes; backups instead of deletion; SHA-256 checksums."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

from scripts.errors import EnvironmentFailed, InputError
from scripts.storage.temporary_files import temporary_file

# Errors of an invalid call. All others are environment errors: of disks, network, limits or files. A list of those
# always misses some, such as ESTALE and EBUSY (docs/log.md, 2026-11-28, "A list of errors").
_DEFECTS = {
    *(errno.EBADF, errno.EFAULT, errno.EINVAL, errno.ENOTTY, errno.ESPIPE, errno.EDOM, errno.ERANGE, errno.ECHILD),
    *(errno.ENOTSOCK, errno.ESRCH, errno.EAGAIN, errno.EINTR),
}
# Some network and user-space file systems cannot flush a folder; databases also ignore this.
_NO_FOLDER_FLUSH = {errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.ENOSYS}


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` atomically; errors as `replacing`."""
    with replacing(path) as file:
        file.write(content)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that replaces `path` atomically once the block has ended without an error.

    A private temporary file is flushed to disk and renamed, and the folder is flushed.

    Raises
    ------
    EnvironmentFailed
        No space, no permission or a disk failure; the old file is unchanged.
    InputError
        `path` is a link, a folder, a device or a pipe, which a rename would silently replace.
    """
    check_replaceable(path, "remove it; artifacts are regular files")
    with environment_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_file(path.parent) as (temporary, file):
            yield file
            file.flush()
            # Before the rename: otherwise a power failure can leave the new name with an empty file.
            os.fsync(file.fileno())
            os.replace(temporary, path)
        _flush_folder(path.parent)


def check_replaceable(path: Path, remedy: str, named_by: str = "") -> None:
    """Raise InputError if `path` exists and is not a regular file; `named_by` is the flag with this path."""
    with environment_errors(path):
        try:
            mode = path.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            return
    if not stat.S_ISREG(mode):
        raise InputError(f"is {_kind(mode)}", f"{named_by} {path}".lstrip(), remedy)


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISLNK, "a symbolic link"), (stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"))
    return next((kind for is_kind, kind in (*kinds, (stat.S_ISSOCK, "a socket")) if is_kind(mode)), "a device")


def append_line(path: Path, line: str, durable: bool = True) -> None:
    """Append one line to a ledger and, if `durable`, flush it to disk; earlier lines are not changed.

    Raises
    ------
    InputError
        `path` is a link, a folder, a device or a pipe.
    EnvironmentFailed
        The disk is full or failed.
    """
    with environment_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(regular_descriptor(path, "", os.O_WRONLY | os.O_APPEND | os.O_CREAT), "a", encoding="utf-8") as file:
            file.write(line + "\n")
            if durable:
                file.flush()
                os.fsync(file.fileno())


def back_up(path: Path) -> Path | None:
    """Rename a file or folder to the first free `NAME.before-K` and return the new path; nothing is deleted."""
    if not path.exists():
        return None
    k = 1
    while (backup := path.with_name(f"{path.name}.before-{k}")).exists():
        k += 1
    with environment_errors(path):
        path.rename(backup)
    return backup


def read_regular(path: Path, limit: int, remedy: str = "") -> bytes:
    """Read a regular file of at most `limit` bytes, without following links or blocking on devices or pipes.

    Raises
    ------
    FileNotFoundError
        The file does not exist.
    InputError
        A link, a folder, a pipe, a device, or a file that is too large; the message ends in `remedy`.
    EnvironmentFailed
        The disk failed, or permission is denied.
    """
    with opened_regular(path, remedy) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise InputError(f"is larger than {limit} bytes", str(path), remedy)
        return file.read(size)


@contextmanager
def opened_regular(path: Path, remedy: str = "") -> Iterator[BufferedReader]:
    """Open a regular file for reading; errors as `read_regular`, also those of reads within the block."""
    with open(regular_descriptor(path, remedy), "rb") as file, environment_errors(path):
        yield file


def regular_descriptor(path: Path, remedy: str, access: int = os.O_RDONLY) -> int:
    """Return the descriptor of a regular file, opened for `access`; errors as `read_regular`.

    A pipe without a writer opens at once, and is then refused.
    """
    try:
        # A received run directory may contain links to files of the user, and pipes that would block the command.
        descriptor = os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o666)
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.ELOOP and path.is_symlink():
            raise InputError("is a symbolic link", str(path), remedy or "replace it by the file itself") from error
        if error.errno in (errno.ENXIO, errno.EISDIR):  # a socket, a pipe without a reader, a folder
            raise InputError("is not a regular file", str(path), remedy or "remove it") from error
        with environment_errors(path):
            raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError("is not a regular file", str(path), remedy or "remove it")
    return descriptor


def sha256(content: bytes) -> str:
    """Return the hexadecimal SHA-256."""
    return hashlib.sha256(content).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file; errors as `read_regular`."""
    with opened_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def environment_errors(path: Path) -> Iterator[None]:
    """Convert errors of the machine into a single clear message."""
    try:
        yield
    except OSError as error:
        if (failed := failure_of_the_machine(error, str(path))) is None:
            raise
        raise failed from error


def failure_of_the_machine(error: OSError, place: str = "") -> EnvironmentFailed | None:
    """Return EnvironmentFailed for an error of disks, network, limits or files; None for a defect of this program.

    `place` is the location if the error has none.
    """
    if error.errno is None or error.errno in _DEFECTS:
        return None
    where = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else place
    remedy = "free space, fix permissions or remove the blocking file"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        remedy = "allow more open files (ulimit -n)"
    return EnvironmentFailed(
        os.strerror(error.errno),
        os.fsdecode(where) if isinstance(where, bytes) else str(where),
        f"{remedy}, then rerun the same command to resume",
    )


def _flush_folder(folder: Path) -> None:
    """Make a rename durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_FLUSH:
            raise
    finally:
        os.close(descriptor)
