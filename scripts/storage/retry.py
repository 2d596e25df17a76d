"""Retry idempotent calls with exponential backoff while a server is unreachable."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from scripts.errors import EnvironmentFailed

T = TypeVar("T")

LONGEST_WAIT_S = 300.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0
_REPORT_AFTER_S = 2.0  # shorter outages are not reported


class Unreachable(Exception):
    """The server is unreachable, or failed during a call, which may or may not have been executed."""


def retry_until_available(
    call: Callable[[], T], place: object, notify: Callable[[str], None], longest_s: float = LONGEST_WAIT_S
) -> T:
    """Retry a call until the server is available, and return its result.

    Parameters
    ----------
    call : callable
        Raises `Unreachable` while the server is unreachable. May be repeated.
    place : object
        Name of the server for messages.
    notify : callable
        Prints a line when the wait becomes long, and another when it is over.
    longest_s : float
        Timeout in seconds.

    Raises
    ------
    EnvironmentFailed
        The server was unreachable for `longest_s`.
    """
    start, pause, reported = time.monotonic(), _FIRST_PAUSE_S, False
    while True:
        try:
            result = call()
        except Unreachable as error:
            waited = time.monotonic() - start
            if waited >= longest_s:
                remedy = "rerun the same command to resume"
                raise EnvironmentFailed(f"unreachable for {longest_s:.0f} s ({error})", str(place), remedy) from None
            if waited >= _REPORT_AFTER_S and not reported:
                notify(f"note: {place} is unreachable ({error}); retrying for up to {longest_s:.0f} s")
                reported = True
            # Growing pauses leave a server that restarts alone, and short outages cost a tenth of a second.
            time.sleep(min(pause, longest_s))
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        else:
            if reported:
                notify(f"note: {place} is available again after {time.monotonic() - start:.0f} s")
            return result
