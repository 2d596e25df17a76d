"""Run a command that ends with its parent: die_with_parent.py PID PROGRAM ARGUMENT..., where PID is the parent.

A parent that is killed cannot end its children, so the kernel has to (prctl, PR_SET_PDEATHSIG). The request survives
exec. It is made in this separate process, because code between fork and exec (`preexec_fn`) may deadlock if the parent
has threads, such as those of numerical libraries. Only the standard library is used, for a start in milliseconds.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of linux/prctl.h


def main() -> None:
    """Ask to be killed with the parent, then become the command."""
    parent, *command = sys.argv[1:]
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL) != 0:
        raise SystemExit("prctl failed")
    if os.getppid() != int(parent):  # it died before the request was made
        raise SystemExit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
