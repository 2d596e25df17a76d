"""Check of machine limits at the start of a command: current folder, length of paths."""

from __future__ import annotations

import os
from pathlib import Path

from scripts.errors import InputError

_LONGEST_PATH = 512  # bytes of a path that SQLite opens, the end of its journal's name included


def check_folder() -> None:
    """Raise InputError where the current folder has been removed: libraries end the process then."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise InputError("the current folder has been removed", "", "change to a folder that exists") from None


def check_study_path(study: Path) -> None:
    """Raise InputError if the path of the study's database is too long for SQLite."""
    excess = len(os.fsencode(f"{study}-journal")) - _LONGEST_PATH
    if excess > 0:
        what = f"the path is too long for SQLite ({_LONGEST_PATH} characters)"
        raise InputError(what, f"--run-dir {study.parents[1]}", f"choose one that is {excess} characters shorter")
