"""Waiting for a server that is away: a call that may be repeated is tried again with growing pauses, and said."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from scripts.errors import EnvironmentFailed

T = TypeVar("T")

LONGEST_WAIT_S = 300.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0
_TELL_AFTER_S = 2.0  # a restart that is over sooner is nobody's concern


class Away(Exception):
    """The server cannot be reached, or went away during a call, which it may or may not have carried out."""


def patiently(
    call: Callable[[], T], place: object, tell: Callable[[str], None], longest_s: float = LONGEST_WAIT_S
) -> T:
    """Result of a call that may be repeated, as soon as the server is there.

    Parameters
    ----------
    call : callable
        Raises `Away` while the server is.
    place : object
        The server, as people know it.
    tell : callable
        Takes a line for people when the wait becomes long, and another when it is over.
    longest_s : float
        Seconds after which to give up.

    Raises
    ------
    EnvironmentFailed
        It was away for `longest_s`.
    """
    start, pause, told = time.monotonic(), _FIRST_PAUSE_S, False
    while True:
        try:
            result = call()
        except Away as error:
            waited = time.monotonic() - start
            if waited >= longest_s:
                remedy = "the same command goes on"
                raise EnvironmentFailed(f"unreachable for {longest_s:.0f} s ({error})", str(place), remedy) from None
            if waited >= _TELL_AFTER_S and not told:
                tell(f"note: {place} is away ({error}); waiting up to {longest_s:.0f} s for it")
                told = True
            time.sleep(min(pause, longest_s))
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        else:
            if told:
                tell(f"note: {place} is back after {time.monotonic() - start:.0f} s")
            return result
