"""Snapshot of a folder that stays unchanged while it is published.

Artifacts are replaced, never written to, and ledgers and logs only grow. So a hard link and a size keep a file as it is
now, at no cost; only a SQLite file is written in place, and is copied by its own backup.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts.storage.durable_files import environment_errors
from scripts.storage.temporary_files import PATTERN

_LEFT_OUT = ("run.lock", PATTERN, "*-journal", "*-wal", "*-shm")
_BUSY_S = 60.0  # timeout of a backup for a writer

Stamp = tuple[int, int, int]  # inode, time of the last change in nanoseconds, size: another one, another content


@dataclass(frozen=True)
class Frozen:
    """A file as it was.

    Attributes
    ----------
    stamp : Stamp
        Of the file in the folder.
    path : Path or None
        Where its content is kept; None where it has not changed since it was published.
    size : int
        Bytes of `path` that belong to it.
    """

    stamp: Stamp
    path: Path | None
    size: int


def stamp(status: os.stat_result) -> Stamp:
    """Return a stamp that identifies the content of a file."""
    return status.st_ino, status.st_mtime_ns, status.st_size


def freeze(
    folder: Path, snapshot_dir: Path, known: Mapping[str, Stamp], without: Collection[Path] = ()
) -> dict[str, Frozen]:
    """Freeze all files of a folder, by their names in it.

    Parameters
    ----------
    folder : Path
        Nothing may write to it during this call.
    snapshot_dir : Path
        A folder to keep contents in, on the same file system; emptied first.
    known : mapping of str to Stamp
        Files that need not be kept if they still have this stamp.
    without : collection of Path
        Folders to leave out.

    Raises
    ------
    EnvironmentFailed
        The disk fails.
    """
    with environment_errors(snapshot_dir):
        shutil.rmtree(snapshot_dir, ignore_errors=True)
        snapshot_dir.mkdir(parents=True)
        frozen = {}
        for k, (name, entry) in enumerate(files(folder, without)):
            status = entry.stat(follow_symlinks=False)
            now, kept = stamp(status), snapshot_dir / str(k)
            if known.get(name) == now:
                frozen[name] = Frozen(now, None, now[2])
            elif name.endswith(".db"):
                _back_up(Path(entry.path), kept)
                frozen[name] = Frozen(now, kept, kept.stat().st_size)
            else:
                # A link instead of a copy: artifacts are replaced by a rename, which keeps the old file, and logs only
                # grow, so that `size` cuts off what is appended later.
                os.link(entry.path, kept)
                frozen[name] = Frozen(now, kept, now[2])
        return frozen


def files(folder: Path, without: Collection[Path] = ()) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield all files to publish, by their names in the folder, without locks and temporary files."""
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if Path(entry.path) not in without:
                        waiting.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False) and not any(
                    fnmatch.fnmatchcase(entry.name, pattern) for pattern in _LEFT_OUT
                ):
                    yield Path(entry.path).relative_to(folder).as_posix(), entry


def _back_up(source: Path, target: Path) -> None:
    # By SQLite itself: reading the file would end the locks that this process has on it.
    original, copy = sqlite3.connect(source, timeout=_BUSY_S), sqlite3.connect(target)
    try:
        with copy:
            original.backup(copy)
    except sqlite3.Error as error:
        raise OSError(5, f"SQLite: {error}", str(source)) from error
    finally:
        copy.close()
        original.close()
