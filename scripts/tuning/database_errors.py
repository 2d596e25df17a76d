"""Turns what SQLite says when the disk fails it into one clear line."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.exceptions import OptunaError
from sqlalchemy.exc import SQLAlchemyError

from scripts.errors import EnvironmentFailed, InputError

_DISK = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}


@contextmanager
def database_errors(path: Path) -> Iterator[None]:
    """Raise EnvironmentFailed where the cause of an error is that the disk of the database `path` failed."""
    try:
        yield
    except (InputError, SQLAlchemyError, OptunaError) as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, sqlite3.Error):
            cause = getattr(cause, "orig", None) or cause.__cause__
        # The low byte is the kind of error, the others say in which call.
        if cause is None or cause.sqlite_errorcode & 0xFF not in _DISK:
            raise
        remedy = "mend the disk or make room; the same command goes on"
        raise EnvironmentFailed(f"the database cannot be written ({cause})", str(path), remedy) from error
