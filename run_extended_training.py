#!/usr/bin/env python3
# PYTHON_ARGCOMPLETE_OK
"""Phase 2: train the best configurations of phase 1 long, under cross-validation, and choose one."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH keeps it out

from scripts.commands.early_start import begin_workers
from scripts.commands.flags import add_select
from scripts.commands.main import command
from scripts.commands.session import Session


def add_flags(flags: argparse._ArgumentGroup) -> None:
    """Add the flags of this command."""
    flags.set_defaults(epochs_key="extended.extended_epochs")
    flags.add_argument("--top-n", type=int, metavar="N", help="number of configurations (default: 5)")
    add_select(flags)
    flags.add_argument("--epochs", type=int, metavar="N", help="maximum epochs of each fold (default: 100)")


def run(session: Session) -> None:
    """Cross-validate."""
    begin_workers(session, session.run_dir.extended_results)
    from scripts.commands.extend import extend

    extend(session)


if __name__ == "__main__":
    command(__doc__, "./run_extended_training.py --run-dir runs/first --top-n 5 --epochs 100", run, add_flags)
