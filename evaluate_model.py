#!/usr/bin/env python3
# PYTHON_ARGCOMPLETE_OK
"""Open the sealed test set once and say what the final model is worth there."""

import argparse
from pathlib import Path

from scripts.cli import Session, command


def add_flags(flags: argparse._ArgumentGroup) -> None:
    """Flags of this command alone."""
    flags.add_argument("--model", type=Path, metavar="FILE", help="default: final_model.pkl in the run directory")
    flags.add_argument(
        "--data", type=Path, metavar="FILE", help="another file of the same schema (default: the sealed test set)"
    )


def run(session: Session) -> None:
    """Evaluate."""
    from scripts.judging.sealed_test import evaluate

    evaluate(session)


if __name__ == "__main__":
    command(__doc__, "./evaluate_model.py --run-dir runs/first --model runs/first/final_model.pkl", run, add_flags)
