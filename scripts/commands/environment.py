"""Restart of a command in the Python of .venv if the present one has no libraries."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from scripts.errors import InputError

_ENVIRONMENT = Path(__file__).parents[2] / ".venv"


def enter() -> None:
    """Restart the command in .venv if PyTorch is missing here and may be there.

    Processes that it starts do not look for modules in the current directory, which may be a received run.
    """
    os.environ["PYTHONSAFEPATH"] = "1"
    python = _ENVIRONMENT / "bin" / "python"
    if not _has_libraries() and python.exists() and not _ENVIRONMENT.samefile(sys.prefix):
        os.execv(python, [str(python), *sys.argv])


def check() -> None:
    """Raise InputError if PyTorch is not installed."""
    if not _has_libraries():
        raise InputError(
            "PyTorch is not installed", sys.executable, "run ./run_pipeline.sh, which installs it in .venv"
        )


def _has_libraries() -> bool:
    return importlib.util.find_spec("torch") is not None
