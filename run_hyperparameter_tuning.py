#!/usr/bin/env python3
# PYTHON_ARGCOMPLETE_OK
"""Phase 1: try many configurations for a few epochs each, on one split.

Random trials come first, then trials that a sampler proposes from the results, then trials close to the best.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH keeps it out

from scripts.commands.early_start import begin_workers
from scripts.commands.flags import parse_duration
from scripts.commands.main import command
from scripts.commands.session import Session


def add_flags(flags: argparse._ArgumentGroup) -> None:
    """Add the flags of this command."""
    flags.add_argument(
        "--max-trial-time",
        type=parse_duration,
        metavar="10m",
        help="end a trial after this training time (default: no limit)",
    )
    flags.add_argument(
        "--warm-start",
        type=Path,
        action="append",
        default=[],
        metavar="RUN_DIR",
        help="start with the best configurations of an earlier run, also on other data; repeatable (default: none)",
    )
    flags.add_argument(
        "--next",
        type=Path,
        metavar="RUN_DIR",
        help="continue from an earlier run: its experiment, its suggested search space, its best configurations "
        "(default: none)",
    )
    flags.add_argument(
        "--write-config", type=Path, metavar="FILE", help="write the given config and flags as YAML (default: none)"
    )
    flags.add_argument(
        "--check-leaks", action="store_true", help="check data, features and models for leaks, without training"
    )
    flags.add_argument("--strict", action="store_true", help="end with code 2 for any suspected leak")


def run(session: Session) -> None:
    """Search."""
    if not session.arguments.check_leaks:  # which trains nothing
        begin_workers(session, session.run_dir.trials)
    from scripts.commands.tune import tune

    tune(session)


if __name__ == "__main__":
    command(__doc__, "./run_hyperparameter_tuning.py --run-dir runs/first --set data.horizon=1", run, add_flags)
