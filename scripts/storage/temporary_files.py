"""Temporary files with unpredictable names, and their removal after a kill.

Each writer locks its file, which distinguishes an abandoned file from one that is being written.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PATTERN = ".hyper-*.tmp"
_NAME = re.compile(r"\.hyper-[0-9a-f]{16}\.tmp")


@contextmanager
def temporary_file(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Open a new file in `folder` for writing; removed at the end unless the block renamed it.

    Raises
    ------
    OSError
        The file cannot be created.
    """
    path, descriptor = _create(folder)
    try:
        with open(descriptor, "wb") as file:
            yield path, file
    finally:
        path.unlink(missing_ok=True)


def remove_abandoned(folder: Path) -> None:
    """Remove temporary files of killed commands from `folder`.

    Only unlocked regular files of this user with names of `temporary_file` are removed.
    """
    with contextlib.suppress(OSError):  # remaining files are harmless
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if _NAME.fullmatch(entry.name)]
        for name in names:
            with contextlib.suppress(OSError):
                _remove_if_abandoned(folder / name)


def _create(folder: Path) -> tuple[Path, int]:
    # Random names, exclusive creation and a lock: with names derived from the target, files of other commands were
    # removed and links followed (docs/log.md, 2026-11-28, "Temporary files named after their target").
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        path = folder / f".hyper-{secrets.token_hex(8)}.tmp"
        descriptor = os.open(path, flags, 0o666)
        if _locked(descriptor) is not False and os.fstat(descriptor).st_nlink:
            return path, descriptor
        os.close(descriptor)  # a clean-up removed it before it was locked


def _remove_if_abandoned(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and _locked(descriptor):
            path.unlink()
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool | None:
    """Try to lock a file: False if another process has locked it, None if the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
