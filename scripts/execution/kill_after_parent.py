"""Kill processes when the parent has ended: kill_after_parent.py PID...; standard input is a pipe from the parent.

For grandchildren, which the kernel does not kill with it: agents of a private Ray cluster would try for a minute to
report to its dead head. Uses the standard library only, so that it starts in milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def main() -> None:
    """Hold on to the processes, so that no later one of the same number is meant; wait; kill those that live."""
    # Descriptors instead of numbers: a number may belong to another process by the time of the kill.
    held = []
    for number in map(int, sys.argv[1:]):
        with contextlib.suppress(ProcessLookupError):
            held.append(os.pidfd_open(number))
    # The parent decides about a Ctrl-C, which reaches the whole group.
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, signal.SIG_IGN)
    sys.stdin.buffer.read()
    for descriptor in held:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)


if __name__ == "__main__":
    main()
