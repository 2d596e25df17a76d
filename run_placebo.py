#!/usr/bin/env python3
# PYTHON_ARGCOMPLETE_OK
"""Repeat the whole pipeline on permuted labels: a p-value that includes selection.

Labels are permuted in blocks of dates, N times; every placebo has the budget of the real run, which must be finished.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH keeps it out

from scripts.commands.main import command
from scripts.commands.session import Session


def add_flags(flags: argparse._ArgumentGroup) -> None:
    """Add the flags of this command."""
    flags.add_argument("--n", type=int, default=20, metavar="N", help="number of placebos (default: 20)")


def run(session: Session) -> None:
    """Run the placebos."""
    from scripts.commands.placebo import run_placebos

    run_placebos(session)


if __name__ == "__main__":
    command(__doc__, "./run_placebo.py --run-dir runs/first --n 20", run, add_flags)
