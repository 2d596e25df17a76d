"""Signals that ask a command to end: it ends at any moment with one line and exit code 130.

Every write is atomic and workers end with their parent, so no moment is a bad one. The process therefore ends at once,
without an exception, which C code and callbacks may swallow or turn into another one. Three things are closed first,
by an exception and within a limited time: a run directory on object storage, a study on a server, a Ray cluster.

Importing this module installs the handlers at once if a command is being started, because other imports take seconds.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from scripts.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_UNWINDS_S = 10.0  # that an exception may take to leave the work
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))


def _announce_early() -> None:
    program = os.path.basename(sys.argv[0])
    announce(program)
    if "--json" in sys.argv[1:]:
        error = f'{{"what": "{Interrupted.what}", "where": "", "remedy": "{Interrupted.remedy}"}}'
        os.write(1, f'{{"command": "{program}", "exit_code": 130, "error": {error}}}\n'.encode())


def announce(program: str) -> None:
    """Print the line of an interruption past all buffers, and give a terminal its cursor back."""
    cursor = "\x1b[?25h" if os.isatty(2) else ""
    os.write(2, f"{cursor}{program}: {Interrupted.what}; {Interrupted.remedy}\n".encode())


class _Ending:
    """State of the end of the command and of a request to end. One per process, as for signals."""

    def __init__(self) -> None:
        self.announce: Callable[[], None] = _announce_early
        self.clean_up: list[Callable[[], None]] = []
        self.raises = False
        self.asked, self.left = threading.Event(), threading.Event()
        self._once, self._ended = threading.RLock(), False

    def now(self) -> NoReturn:
        """End the process; a second signal does not wait for what the first one still does."""
        while not self._once.acquire(blocking=False):
            time.sleep(1.0)  # until another thread has ended the process
        if not self._ended:
            self._ended = True
            for step in (self.announce, *self.clean_up):
                with contextlib.suppress(Exception):
                    step()
        # Not by an exception: destructors, callbacks and C code swallowed 6 of 70 signals (docs/log.md, 2026-11-28, "An
        # exception raised by the handler"). Every file is atomic, so that any moment is a good one to end.
        os._exit(Interrupted.exit_code)


_ending = _Ending()


def heed() -> None:
    """End the command on SIGINT, SIGTERM, and SIGHUP unless it was started by nohup."""
    for number in _SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)


def heed_in_calls(end_with: Callable[[], None]) -> None:
    """End the command also in the middle of a long call of a library.

    Parameters
    ----------
    end_with : callable
        Prints how the command ended; it must not wait for anything.
    """
    heed()
    _ending.announce = end_with
    # A handler runs only between two Python instructions, and a call of a library may take minutes. The signal number
    # is written to this pipe at once, and a thread reads it.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()


def at_end(step: Callable[[], None]) -> None:
    """Do something quick before a signal ends the process, such as removing a folder."""
    _ending.clean_up.append(step)


def was_asked() -> bool:
    """Return True if a signal asked for the end, so that any error may be caused by it."""
    return _ending.asked.is_set()


def ignore() -> None:
    """Ignore further signals: the command has ended and prints its result."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def raised() -> Iterator[None]:
    """Raise Interrupted on the first signal within the block instead of ending at once."""
    _ending.raises = True
    hook, sys.unraisablehook = sys.unraisablehook, _hide_interruption
    try:
        yield
    finally:
        sys.unraisablehook = hook
        # `_watch` may read a signal that was raised here only after the block was left.
        _ending.raises = _ending.asked.is_set()


@contextmanager
def work() -> Iterator[None]:
    """The block that an interruption must leave soon; what is outside of it may take its time."""
    try:
        yield
    finally:
        _ending.left.set()


def _handle(number: int, frame: FrameType | None) -> None:
    first = not _ending.asked.is_set()
    _ending.asked.set()
    if _ending.raises and first:
        raise Interrupted
    _ending.now()


def _watch(reader: int) -> NoReturn:
    """End the process if the handler, which Python calls between two instructions, is too late."""
    first = True
    while True:
        if os.read(reader, 1)[0] not in _SIGNALS:
            continue
        if not (_ending.raises and first) or not _ending.left.wait(_UNWINDS_S):
            _ending.now()
        first = False


def _hide_interruption(unraisable: sys.UnraisableHookArgs) -> None:
    """Show what a destructor or callback swallowed, but no interruption: `_watch` sees to that."""
    if unraisable.exc_type is not Interrupted:
        sys.__unraisablehook__(unraisable)


if os.path.dirname(os.path.realpath(sys.argv[0] if sys.argv else "")) == _ROOT and sys.argv[0].endswith(".py"):
    heed()
