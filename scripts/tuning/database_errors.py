"""Turns what a database says when its disk fails it into one clear line."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from optuna.exceptions import OptunaError
from sqlalchemy.exc import SQLAlchemyError

from scripts.errors import EnvironmentFailed, InputError
from scripts.tuning.storage import Place

_DISK = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}


@contextmanager
def database_errors(place: Place) -> Iterator[None]:
    """Raise EnvironmentFailed where the cause of an error is that the disk of the database failed."""
    try:
        yield
    except (InputError, SQLAlchemyError, OptunaError) as error:
        cause: BaseException | None = error
        while cause is not None and not _is_of_disk(cause):
            cause = getattr(cause, "orig", None) or cause.__cause__
        if cause is None:
            raise
        remedy = "mend the disk or make room; the same command goes on"
        raise EnvironmentFailed(f"the database cannot be written ({cause})", str(place), remedy) from error


def _is_of_disk(error: BaseException) -> bool:
    if isinstance(error, sqlite3.Error):
        # The low byte is the kind of error, the others say in which call.
        return error.sqlite_errorcode & 0xFF in _DISK
    # Of psycopg's errors: insufficient resources, and failures of the server's own system.
    return str(getattr(error, "sqlstate", None) or "")[:2] in ("53", "58")
