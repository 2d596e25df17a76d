"""Settings that only the fork server imports, before its other imports.

Its parent handles Ctrl-C, reports errors of the machine, and may end at any moment.
"""

from __future__ import annotations

import signal
import sys
from types import TracebackType


def _show_defects(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, OSError | EOFError | KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
sys.excepthook = _show_defects
