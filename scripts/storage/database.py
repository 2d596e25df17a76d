"""Location and connection of the study: a SQLite file of the run directory, or a PostgreSQL server.

The password of a server comes from the environment variable of --storage or from libpq (~/.pgpass, PGPASSWORD). It is
never part of a URL that Optuna or SQLAlchemy sees, nor of any file or message.
"""

from __future__ import annotations

import functools
import secrets
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optuna.storages import RDBStorage
from sqlalchemy import URL, event, make_url
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, IntegrityError, ProgrammingError
from sqlalchemy.pool import Pool, QueuePool, StaticPool

from scripts.errors import InputError
from scripts.storage.artifacts import read_record, write_record
from scripts.storage.records import StudyName
from scripts.storage.retry import Unreachable
from scripts.storage.run_dir import Command, RunDir

ENVIRONMENT = "HYPER_STORAGE"
FILE_STUDY_NAME = "hyper"
# A server that disappears silently is detected within half a minute.
_CONNECTION = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,  # milliseconds
    "application_name": "hyper",
}
_LOCKED_S = 1.0  # timeout of SQLite for another program; callers then retry by `retry_until_available`
_REFUSALS = ("authentication failed", "no password supplied", "does not exist", "no pg_hba.conf entry")


class DatabaseUnreachable(Unreachable):
    """The database is unreachable."""


@dataclass(frozen=True)
class Server:
    """A study on a PostgreSQL server."""

    study_name: str
    url: URL = field(repr=False)

    def __str__(self) -> str:
        return f"database {self.url.database or '(default)'} on {self.url.host or 'this machine'}"


StudyLocation = Path | Server


def server_url(text: str, from_command_line: bool) -> URL:
    """Parse the URL of a PostgreSQL server.

    Raises
    ------
    InputError
        It is not a PostgreSQL URL, or contains a password that others can read.
    """
    where = "--storage" if from_command_line else ENVIRONMENT
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        url = None
    if url is None or url.drivername not in ("postgresql", "postgresql+psycopg"):
        raise InputError("is not a PostgreSQL URL", where, "write postgresql+psycopg://USER@HOST:PORT/DATABASE")
    if from_command_line and url.password is not None:
        raise InputError(
            "contains a password, which every user of this machine can read in the list of processes",
            where,
            f"change that password, and pass the URL in {ENVIRONMENT} or the password in ~/.pgpass",
        )
    if any("password" in name.lower() for name in url.query):
        raise InputError("contains a password in its options", where, f"write it as USER:PASSWORD@ in {ENVIRONMENT}")
    return url.set(drivername="postgresql+psycopg")


def locate_study(run_dir: RunDir, url: URL | None) -> StudyLocation:
    """Return the location of the study of a run directory.

    Parameters
    ----------
    url : URL or None
        Server of new studies; None means a file. An existing study keeps its location.

    Raises
    ------
    InputError
        The study is on a server, and no server was given.
    """
    if run_dir.study.exists():
        return run_dir.study
    if not run_dir.study_on_server.exists():
        if url is None:
            return run_dir.study
        # A random name, because several run directories may use one database.
        write_record(run_dir.study_on_server, StudyName(study_name=f"{FILE_STUDY_NAME}-{secrets.token_hex(8)}"))
    name = read_record(run_dir.study_on_server, Command.TUNING, StudyName).study_name
    if url is None:
        raise InputError(
            "the study is on a server", str(run_dir.study_on_server), f"give its URL with --storage or {ENVIRONMENT}"
        )
    return Server(name, url)


def open_file(path: Path) -> RDBStorage:
    """Return storage in a SQLite file; its calls raise DatabaseUnreachable while another program locks the file."""
    # A creator instead of a URL: in a URL, a `?`, `%` or `{` of the path would silently select another file.
    connect = functools.partial(sqlite3.connect, path, timeout=_LOCKED_S, check_same_thread=False)
    storage = _on_sqlite(connect, QueuePool)
    event.listen(storage.engine, "handle_error", _raise_if_locked)
    return storage


def storage_in_memory() -> tuple[RDBStorage, sqlite3.Connection]:
    """Return storage in memory and its connection."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    return _on_sqlite(lambda: connection, StaticPool), connection


def _on_sqlite(connect: Callable[[], sqlite3.Connection], pool: type[Pool]) -> RDBStorage:
    events = [(_keep, "connect")]
    return RDBStorage("sqlite://", engine_kwargs={"creator": connect, "poolclass": pool, "pool_events": events})


def _keep(_: sqlite3.Connection, record: Any) -> None:
    """Set the time of a connection after 1970: SQLAlchemy drops earlier ones at each use, even within a transaction."""
    # A clock of 1969 ended phase 1 (docs/log.md, 2026-11-28, "A clock of 1969").
    record.starttime = max(record.starttime, 1.0)


def is_locked(error: BaseException) -> bool:
    """Return True if the SQLite file is locked by another program."""
    # The low byte is the kind of error. Errors of Python's own module have no code.
    code = getattr(error, "sqlite_errorcode", None) or 0
    return isinstance(error, sqlite3.Error) and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def open_server(server: Server) -> RDBStorage:
    """Return storage on a PostgreSQL server, with a pool of connections that are tested before use.

    Raises
    ------
    DatabaseUnreachable
        The server is unreachable, also during any later call of the storage.
    InputError
        The server refuses the connection, or psycopg is not installed.
    """
    options = {"creator": _connector(server), "pool_size": 2, "max_overflow": 2, "pool_pre_ping": True}
    for left in range(4, -1, -1):
        try:
            storage = RDBStorage("postgresql+psycopg://", options)
            break
        except (IntegrityError, ProgrammingError):  # another command creates the same tables now
            if not left:
                raise
            time.sleep(0.5)
    event.listen(storage.engine, "handle_error", _raise_if_unreachable)
    return storage


def _connector(server: Server) -> Callable[[], Any]:
    """Return a function that opens connections; only libpq gets the password."""
    try:
        import psycopg
    except ImportError:
        raise InputError(
            "is not installed", "psycopg", "run .venv/bin/pip install -r requirements/distributed.txt"
        ) from None
    _, keywords = server.url.get_dialect()().create_connect_args(server.url)

    def connect() -> psycopg.Connection[Any]:
        try:
            return psycopg.connect(**{**_CONNECTION, **keywords})
        except psycopg.OperationalError as error:
            reason = " ".join(str(error).split())
            if any(refusal in reason for refusal in _REFUSALS):
                raise InputError(f"refused: {reason}", str(server), f"check the user or {ENVIRONMENT}") from None
            raise DatabaseUnreachable(reason) from None

    return connect


def _raise_if_locked(context: ExceptionContext) -> None:
    """Replace SQLAlchemy's error, which Optuna would treat as invalid data."""
    if is_locked(context.original_exception):
        raise DatabaseUnreachable(f"locked by another program: {context.original_exception}")


def _raise_if_unreachable(context: ExceptionContext) -> None:
    """Replace SQLAlchemy's error, which Optuna would treat as invalid data or retry itself."""
    if context.is_disconnect:
        raise DatabaseUnreachable(" ".join(str(context.original_exception).split()))
