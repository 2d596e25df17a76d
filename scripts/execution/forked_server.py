"""Settings of the process that workers are forked from, made before its other imports; no other process imports this.

Its parent decides about a Ctrl-C, and a parent that has gone is no error of a worker.
"""

from __future__ import annotations

import signal
import sys
from types import TracebackType


def _tell_all_but_a_lost_parent(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, BrokenPipeError | ConnectionError | EOFError | KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
sys.excepthook = _tell_all_but_a_lost_parent
