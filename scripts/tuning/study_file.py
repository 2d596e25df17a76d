"""Checks of a study's SQLite file before it is opened: its journals, its tables and its pages.

A run directory may come from anywhere. SQLite deletes any file that a rollback journal names as its super-journal
(docs/log.md, 2026-11-28, "SQLite deletes the file"). A view or trigger in place of a table may never end.
"""

from __future__ import annotations

import functools
import json
import os
import shlex
import sqlite3
import stat
from pathlib import Path

from sqlalchemy import text

from scripts.errors import InputError
from scripts.storage.database import DatabaseUnreachable, is_locked, storage_in_memory
from scripts.storage.database_errors import failure_of_the_disk
from scripts.storage.durable_files import opened_regular

_MAX_BYTES = 2**30
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
_HEADER = b"SQLite format 3\0"
_ROLLBACK = b"\1\1"  # bytes 18 and 19 of a file that is not in WAL mode
_TEXTS = (
    "SELECT NULL, key, value_json FROM study_user_attributes",
    "SELECT number, key, value_json FROM trial_user_attributes JOIN trials USING (trial_id)",
    "SELECT number, param_name, distribution_json FROM trial_params JOIN trials USING (trial_id)",
)
_Table = tuple[str, str, str, str | None]


def check_study_file(path: Path) -> None:
    """Raise InputError unless `path` is a sound SQLite file with the tables that Optuna makes, and nothing else.

    Raises
    ------
    InputError
        The file, or its journal, is damaged or was not made by Hyper.
    DatabaseUnreachable
        Another program has locked the file.
    """
    _check_side_files(path)
    _check_header(path)
    try:
        connection = sqlite3.connect(path, timeout=1.0)
        try:
            # Only this table is read before it is known what the others are.
            found = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master LIMIT 100").fetchall()
            if sorted(map(repr, found)) != sorted(map(repr, _expected_tables())):
                raise unreadable(path, "its tables are not those that Optuna makes")
            (state,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            versions = connection.execute("SELECT version_num FROM alembic_version").fetchall()
            if state == "ok":
                _check_texts(connection, path)
        finally:
            connection.close()
    except sqlite3.Error as error:
        if is_locked(error):
            raise DatabaseUnreachable(f"locked by another program: {error}") from None
        raise failure_of_the_disk(error, path) or unreadable(path, str(error)) from error
    if state != "ok":
        raise unreadable(path, "damaged")
    if versions != [(_expected_version(),)]:
        raise unreadable(path, "written by another version of Optuna")


def _check_texts(connection: sqlite3.Connection, path: Path) -> None:
    """Raise InputError, naming the trial, where a value is not JSON."""
    connection.text_factory = bytes
    for query in _TEXTS:
        for owner, name, content in connection.execute(query):
            try:
                json.loads(content.decode())
            except (ValueError, AttributeError, RecursionError) as error:
                of = "the study" if owner is None else f"trial {owner}"
                raise unreadable(path, f"{of}: {ascii(name)[:80]} is not JSON ({error})") from None


class UnreadableStudy(InputError):
    """Return the error of a damaged study, or of an unreadable disk that makes it look damaged."""


def unreadable(location: object, reason: str) -> UnreadableStudy:
    """Refusal of a study, with two remedies: all is trained again, or taken from the checkpoints."""
    what, fresh = f"is not a readable study: {reason[:300]}", "add --fresh to back it up and start again"
    if not isinstance(location, Path):
        return UnreadableStudy(what, str(location), fresh)
    moved = shlex.join(["mv", str(location), f"{location}.damaged"])
    return UnreadableStudy(
        what, str(location), f"run: {moved}; the same command then takes the trials from their checkpoints"
    )


def side_files(path: Path) -> list[Path]:
    """Return the files in which SQLite keeps data that belongs to a database but is not in it."""
    return [path.with_name(path.name + suffix) for suffix in ("-journal", "-wal", "-shm")]


def _check_side_files(path: Path) -> None:
    for side_file in (path, *side_files(path)):
        if os.path.lexists(side_file) and not stat.S_ISREG(os.lstat(side_file).st_mode):
            raise InputError("is not a regular file", str(side_file), "remove it, or add --fresh to start over")
        if side_file.name.endswith(("-wal", "-shm")) and side_file.exists():
            raise _foreign(side_file, "Hyper never creates such a file")
    journal = path.with_name(path.name + "-journal")
    if journal.exists():
        with opened_regular(journal) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - len(_JOURNAL_MAGIC)))
            if size >= 16 and file.read() == _JOURNAL_MAGIC:
                raise _foreign(journal, "it names another file, which SQLite would delete")


def _foreign(path: Path, reason: str) -> InputError:
    return InputError(f"was not made by Hyper: {reason}", str(path), "add --fresh to back it up and start again")


def _check_header(path: Path) -> None:
    with opened_regular(path) as file:
        header = file.read(100)
        size = file.seek(0, os.SEEK_END)
    if size > _MAX_BYTES:
        raise unreadable(path, f"larger than {_MAX_BYTES:,} bytes")
    if len(header) < 100 or not header.startswith(_HEADER):
        raise unreadable(path, "not a SQLite file")
    if header[18:20] != _ROLLBACK:
        raise unreadable(path, "not in the journal mode that Hyper uses")


@functools.cache
def _as_optuna_makes_it() -> tuple[tuple[_Table, ...], str]:
    """Rows of sqlite_master of a new database, and the version of its schema."""
    storage, _ = storage_in_memory()
    with storage.engine.connect() as connection:
        tables = connection.execute(text("SELECT type, name, tbl_name, sql FROM sqlite_master")).fetchall()
        version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    storage.engine.dispose()
    return tuple((row[0], row[1], row[2], row[3]) for row in tables), str(version)


def _expected_tables() -> tuple[_Table, ...]:
    return _as_optuna_makes_it()[0]


def _expected_version() -> str:
    return _as_optuna_makes_it()[1]
