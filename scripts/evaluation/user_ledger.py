"""Ledger of test-set openings in all runs of one user on this machine."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from scripts.errors import InputError
from scripts.storage.durable_files import sha256
from scripts.storage.parsing_limits import parsed_json
from scripts.storage.record_base import Record

NAME = "test_openings.jsonl"
VARIABLE, NO_LEDGER = "HYPER_STATE_DIR", "none"
MAX_BYTES = 2**28
_LOCK_S = 10.0  # timeout for another evaluation, which needs milliseconds
_UNKNOWN = "openings by other runs may be missing from the count"


class Entry(Record):
    """A line of a ledger; a result also has the figures of its evaluation, and earlier versions wrote fewer fields.

    Attributes
    ----------
    rows : str
        Sketch of the sealed rows, as in `row_sketch`.
    inherited_from : str
        Run in which it happened, if that is not the run of the ledger.
    """

    time: str = ""
    event: Literal["opening", "result"]
    id: str = ""
    model_sha256: str = ""
    data: str = ""
    sealed_fingerprint: str = ""
    run: str = ""
    rows: str = ""
    inherited_from: str = ""

    @property
    def is_opening(self) -> bool:
        """Return True if it is an opening, and not the result of one."""
        return self.event == "opening"

    @property
    def identity(self) -> str:
        """Id of the opening; without one, a digest of its time and model."""
        if self.id:
            return self.id
        body = self.body()
        return sha256(json.dumps([body.get(name) for name in ("time", "model_sha256", "data")]).encode())[:16]

    @property
    def key(self) -> tuple[str, str]:
        """Event and identity, which are the same in every ledger."""
        return self.event, self.identity

    def line(self) -> str:
        """Return the line of the ledger."""
        return json.dumps(self.body())


def user_ledger() -> Path | None:
    """Ledger of all runs of this user on this machine; None if HYPER_STATE_DIR is `none`.

    Raises
    ------
    RuntimeError
        The user has no home directory.
    """
    given = os.environ.get(VARIABLE)
    if given == NO_LEDGER:
        return None
    if given:
        return Path(given).expanduser() / NAME
    state = os.environ.get("XDG_STATE_HOME", "")
    return (Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state") / "hyper" / NAME


class UserLedger:
    """Ledger of the user while this process has locked it.

    Attributes
    ----------
    entries : list of Entry
        Empty where the ledger cannot be used.
    warnings : list of str
        Why something is missing from it.
    """

    def __init__(self, path: Path | None, descriptor: int | None, warnings: list[str]) -> None:
        self._path, self._descriptor, self.warnings = path, descriptor, warnings
        content = b""
        if descriptor is not None:
            content = os.pread(descriptor, min(os.fstat(descriptor).st_size, MAX_BYTES), 0)
        self._torn = bool(content) and not content.endswith(b"\n")
        self.entries, n_damaged = parsed(content)
        self.warnings += damage(n_damaged, path or NAME)

    @classmethod
    @contextlib.contextmanager
    def held(cls) -> Iterator[UserLedger]:
        """Lock the ledger; an unusable one is empty and has a warning."""
        path, descriptor, warnings = None, None, list[str]()
        try:
            path = user_ledger()
            if path is None:
                warnings = [f"{_UNKNOWN}: {VARIABLE} is {NO_LEDGER}"]
            else:
                descriptor = _opened(path)
        except RuntimeError:
            warnings = [f"{_UNKNOWN}: no home directory; set {VARIABLE} to a folder"]
        except (OSError, InputError) as error:
            reason = error.strerror if isinstance(error, OSError) else error.what
            warnings = [f"{_UNKNOWN}: {path}: {reason}; set {VARIABLE} to a folder that can be written"]
        try:
            if descriptor is not None and not _lock(descriptor):
                warnings = [f"{_UNKNOWN}: {path} cannot be locked"]
            yield cls(path, descriptor, warnings)
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def add(self, entries: list[Entry]) -> None:
        """Append entries in one write; a line that a kill cut short does not swallow the first."""
        if not entries or self._descriptor is None:
            return
        lines = "".join(entry.line() + "\n" for entry in entries)
        try:
            if fcntl.fcntl(self._descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
                raise PermissionError(0, "the file or its folder is read-only")
            os.write(self._descriptor, (("\n" if self._torn else "") + lines).encode())
            os.fsync(self._descriptor)
        except OSError as error:
            self.warnings.append(f"other runs will not count this opening: {self._path}: {error.strerror}")


def parsed(content: bytes) -> tuple[list[Entry], int]:
    """Entries of a ledger, and its number of damaged lines."""
    entries, damaged = [], 0
    for line in filter(bytes.strip, content.split(b"\n")):
        entry = _entry(line)
        if entry is None:
            damaged += 1
        else:
            entries.append(entry)
    return entries, damaged


def _entry(line: bytes) -> Entry | None:
    try:
        return Entry.model_validate(parsed_json(line))
    except ValueError:
        return None


def damage(n_lines: int, path: Path | str) -> list[str]:
    """Warning of damaged lines, if there are any."""
    return [f"{n_lines} damaged line(s) in {path} are left out: openings may be missing"] if n_lines else []


def _opened(path: Path) -> int:
    """Return the descriptor of the user's ledger for reading and appending, or for reading only."""
    flags = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, flags | os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError as error:
        try:
            descriptor = os.open(path, flags | os.O_RDONLY)
        except OSError:
            raise error from None  # why it cannot be written
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InputError("is not a regular file", str(path))
    return descriptor


def _lock(descriptor: int) -> bool:
    """Wait for the ledger; False where another process does not let go of it or the file system has no locks."""
    deadline = time.monotonic() + _LOCK_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        except OSError:
            return False
        else:
            return True
