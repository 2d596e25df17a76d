"""Conversion of database errors that are caused by the disk into a single clear message."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from optuna.exceptions import OptunaError
from sqlalchemy.exc import SQLAlchemyError

from scripts.errors import EnvironmentFailed, InputError
from scripts.storage.database import StudyLocation

_DISK = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}

_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}  # also reported by SQLite for an unreadable sector


@contextmanager
def database_errors(location: StudyLocation) -> Iterator[None]:
    """Raise EnvironmentFailed if an error was caused by the disk of the database.

    This includes damage of a study that was intact when it was opened. The next command checks it again.
    """
    try:
        yield
    except (InputError, SQLAlchemyError, OptunaError) as error:
        kinds = _DISK if isinstance(error, InputError) else _DISK | _DAMAGE
        if (failed := failure_of_the_disk(error, location, kinds)) is None:
            raise
        raise failed from error


def failure_of_the_disk(
    error: BaseException, location: StudyLocation, kinds: Collection[int] = _DISK
) -> EnvironmentFailed | None:
    """Return EnvironmentFailed if the cause of an error is the disk, by the SQLite error codes `kinds`."""
    cause: BaseException | None = error
    while cause is not None and not _is_of_disk(cause, kinds):
        cause = getattr(cause, "orig", None) or cause.__cause__
    if cause is None:
        return None
    remedy = "fix the disk or free space, then rerun the same command to resume"
    return EnvironmentFailed(f"the database cannot be read or written ({cause})", str(location), remedy)


def _is_of_disk(error: BaseException, kinds: Collection[int]) -> bool:
    if isinstance(error, sqlite3.Error):
        # The low byte is the kind of error, the others are the call; errors of Python's own module have no code.
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in kinds
    # psycopg's classes of insufficient resources and of system errors of the server.
    return str(getattr(error, "sqlstate", None) or "")[:2] in ("53", "58")
