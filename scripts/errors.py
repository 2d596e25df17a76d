"""Errors that a user or the environment can cause, with their exit codes.

Every message has three parts: what is wrong, where (file, line, column, key), what to do.
Any other exception is a defect of Hyper and ends in a traceback and exit code 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence


class HyperError(Exception):
    """Base of all expected errors.

    Parameters
    ----------
    what : str
        Description of the problem.
    where : str
        File, line, column or key.
    remedy : str
        Action of the user.
    """

    exit_code = 1

    def __init__(self, what: str, where: str = "", remedy: str = "") -> None:
        super().__init__(what, where, remedy)
        self.what, self.where, self.remedy = what, where, remedy

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return " ".join(f"{place}{self.what}{remedy}".split())


class InputError(HyperError):
    """Wrong data, configuration or flags of the user."""

    exit_code = 2


class OtherSchemaError(InputError):
    """Intact artifact of another schema version."""


class MissingInputError(HyperError):
    """Missing artifact of an earlier phase; the remedy contains the command that creates it."""

    exit_code = 3


class BudgetEnded(HyperError):
    """The time budget ended; then rerun the same command to resume."""

    exit_code = 4


class EnvironmentFailed(HyperError):
    """Disk full, no permission, database unreachable: finished work is kept, and the same command resumes."""

    exit_code = 5


MORE_MEMORY = "free memory, use fewer columns, or fewer --workers if there are several; then rerun the same command"


def is_out_of_memory(error: BaseException) -> bool:
    """Check for an allocation that failed, in Python or in PyTorch, on the CPU or a GPU."""
    # PyTorch has its own class for GPUs only; using it here would make every command import torch.
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error))
    )


class Interrupted(BaseException):
    """Request of a signal to end the command.

    Derives from BaseException, so that handlers of ordinary errors do not catch it.
    """

    exit_code = 130
    what, remedy = "interrupted", "rerun the same command to resume"


def close_match(name: str, valid: Sequence[str]) -> str:
    """Return a hint at the nearest valid name; empty if none is near."""
    close = difflib.get_close_matches(name, valid, n=1)
    return f"did you mean {close[0]}?" if close else ""


def nearest(name: str, valid: Sequence[str]) -> str:
    """Return a hint at the nearest valid name, or the list of valid names."""
    return close_match(name, valid) or f"valid: {', '.join(sorted(valid)[:20])}"
