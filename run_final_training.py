#!/usr/bin/env python3
# PYTHON_ARGCOMPLETE_OK
"""Phase 3: train the chosen configuration, or an ensemble of several, on all development data.

A dated hold-out finds the best epoch; --config is a best_config.json, by default the one of the run directory.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH keeps it out

from scripts.commands.early_start import begin_workers
from scripts.commands.main import command
from scripts.commands.session import Session


def add_flags(flags: argparse._ArgumentGroup) -> None:
    """Add the flags of this command."""
    flags.set_defaults(epochs_key="final.epochs")
    flags.add_argument("--epochs", type=int, metavar="N", help="maximum epochs (default: 200)")
    ensemble_help = "average configurations of phase 2, chosen out of fold in up to K draws (default: 1, the best one)"
    flags.add_argument("--ensemble", type=int, metavar="K", help=ensemble_help)


def run(session: Session) -> None:
    """Train the final model."""
    begin_workers(session, session.run_dir.final_results)
    from scripts.commands.train_final import finalise

    finalise(session)


if __name__ == "__main__":
    command(
        __doc__,
        "./run_final_training.py --run-dir runs/first --config runs/first/best_config.json",
        run,
        add_flags,
    )
