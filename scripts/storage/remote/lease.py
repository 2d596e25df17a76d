"""Lease of a prefix: a lock object, created and renewed by conditional writes.

Clocks are not compared. A start that finds the prefix locked watches the object. If the object changes, its holder is
alive; if it does not change for half a minute, the lease is taken over.
"""

from __future__ import annotations

import getpass
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from scripts.errors import EnvironmentFailed, InputError
from scripts.storage.parsing_limits import parsed_json
from scripts.storage.remote.bucket import Bucket, Version
from scripts.storage.retry import Unreachable, retry_until_available
from scripts.storage.run_dir import InUse

LOCK = ".hyper/lock.json"
BEAT_S = 5.0
MAX_LOCK_BYTES = 2**16
STALE_S = 30.0  # several renewals, so that a slow answer does not end the lease


class Lease:
    """The right to publish under a prefix, for one command.

    Parameters
    ----------
    cache : str
        Name of the working directory, which only one process can use: a holder with the same one is dead.
    notify : callable
        Takes lines for people.
    """

    def __init__(self, bucket: Bucket, cache: str, notify: Callable[[str], None]) -> None:
        self._bucket, self._notify = bucket, notify
        since = datetime.now(UTC).isoformat(timespec="seconds")
        self._body: dict[str, Any] = {
            "holder": f"{_user()}, pid {os.getpid()} on {socket.gethostname()}",
            "since": since,
            "cache": cache,
            "released": False,
            "sign_of_life": secrets.token_hex(8),
        }
        self._version: Version = {}
        self._ended, self._lost = threading.Event(), threading.Event()
        self._beating = threading.Thread(target=self._beat, daemon=True)

    def take(self) -> bool:
        """Take the lease; return True if the previous holder did not end normally, so that its work must be checked.

        Raises
        ------
        InUse
            Another command has the lease.
        InputError
            The server does not know conditional writes.
        """
        unclean = retry_until_available(self._take, self._bucket, self._notify)
        self._beating.start()
        return unclean

    def check(self) -> None:
        """Raise EnvironmentFailed if another start has taken over the lease."""
        if self._lost.is_set():
            what = "another start of a command has taken over the lease"
            raise EnvironmentFailed(what, str(self._bucket), "wait for it, then rerun the same command to resume")

    def release(self) -> None:
        """Release the lease, so that the next command need not wait; errors as those of `Bucket`."""
        self._ended.set()
        if self._beating.is_alive():
            self._beating.join()
        if not self._lost.is_set():
            self._bucket.replace(LOCK, self._content(released=True), self._version)

    def _take(self) -> bool:
        while True:
            version = self._bucket.create(LOCK, self._content())
            if version is not None:
                self._check_conditions()
                self._version = version
                return False
            if (found := self._bucket.read(LOCK, MAX_LOCK_BYTES)) is None:
                continue  # removed by hand in between
            holder = _parsed(found[0])
            # A holder with the same working directory is dead, because this process has locked that directory.
            if not holder.get("released") and holder.get("cache") != self._body["cache"]:
                self._watch(holder, found[1])
            if version := self._bucket.replace(LOCK, self._content(), found[1]):
                self._version = version
                return not holder.get("released")

    def _check_conditions(self) -> None:
        """Make the object a second time, and replace another one than it, both of which must fail."""
        ignored = self._bucket.create(LOCK, self._content()) is not None
        if self._bucket.scheme == "s3":  # Google knows both, and versions of another kind
            ignored = ignored or self._bucket.replace(LOCK, self._content(), {"e_tag": f'"{"0" * 32}"'}) is not None
        if ignored:
            what = "its server ignores conditional writes (If-None-Match, If-Match), which the lease needs"
            raise InputError(what, str(self._bucket), "use a server that knows them")

    def _watch(self, holder: dict[str, Any], version: Version) -> None:
        """Return if the holder shows no sign of life; raise InUse if it does."""
        who = f"{holder.get('holder', 'another command')} since {holder.get('since', 'some time')}"
        self._notify(f"note: {self._bucket} is in use by {who}; watching it for up to {STALE_S:.0f} s")
        # The versions of the object are compared, not its times: the clocks of two machines may differ.
        start = time.monotonic()
        while time.monotonic() - start < STALE_S:
            time.sleep(BEAT_S / 4)
            found = self._bucket.read(LOCK, MAX_LOCK_BYTES)
            if found is None or _parsed(found[0]).get("released"):
                return
            if found[1] != version:
                who = _parsed(found[0]).get("holder", "another command")
                since = _parsed(found[0]).get("since", "some time")
                raise InUse(
                    f"in use by {who} since {since}", str(self._bucket), "wait for it or choose another --run-dir"
                )
        self._notify(f"note: {self._bucket}: that one has shown no sign of life; its place is taken")

    def _beat(self) -> None:
        content = self._content()
        while not self._ended.wait(BEAT_S):
            try:
                version = self._bucket.replace(LOCK, content, self._version)
            except (Unreachable, InputError):
                # As long as no command can write, none takes over. The same content is sent again, so that a request
                # that has arrived without an answer is recognised as our own.
                continue
            if version is None:
                self._lost.set()
                return
            self._version, content = version, self._content()

    def _content(self, released: bool = False) -> bytes:
        self._body |= {"sign_of_life": secrets.token_hex(8), "released": released}
        return json.dumps(self._body, indent=1).encode()


def _parsed(content: bytes) -> dict[str, Any]:
    """Fields of a lock object; none if it is not one, so that it is watched as any other."""
    try:
        fields = parsed_json(content)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no name for this number, as in some containers
        return f"user {os.getuid()}"
