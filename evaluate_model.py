#!/usr/bin/env python3
# PYTHON_ARGCOMPLETE_OK
"""Open the sealed test set once and evaluate the final model on it; or use the model.

--predict and --export read only the model file: they do not open the test set and need no run directory.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH keeps it out

from scripts.commands.main import command
from scripts.commands.session import Session
from scripts.errors import InputError


def add_flags(flags: argparse._ArgumentGroup) -> None:
    """Add the flags of this command."""
    flags.add_argument("--model", type=Path, metavar="FILE", help="default: final_model.pkl in the run directory")
    purpose = flags.add_mutually_exclusive_group()
    purpose.add_argument(
        "--data", type=Path, metavar="FILE", help="another file of the same schema (default: the sealed test set)"
    )
    purpose.add_argument(
        "--predict",
        type=Path,
        metavar="FILE",
        help="predict for new rows, without labels, and write --out (default: evaluate)",
    )
    purpose.add_argument("--export", choices=("onnx", "torch"), help="write the model as one graph (default: evaluate)")
    flags.add_argument(
        "--only-if-promising",
        action="store_true",
        help="end with code 2 before opening the test set if phase 2 shows no lead over the naive rule (default: warn)",
    )
    flags.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="CSV or .parquet of --predict, .onnx or .pt2 of --export (default: next to the model)",
    )


def only_reads(arguments: argparse.Namespace) -> bool:
    """Return True if the model is used, not evaluated."""
    return arguments.predict is not None or arguments.export is not None


def run(session: Session) -> None:
    """Evaluate, predict or export."""
    if session.arguments.predict is not None:
        from scripts.commands.predict import predict

        predict(session)
    elif session.arguments.export is not None:
        from scripts.commands.export import export

        export(session)
    elif session.arguments.out is not None:
        raise InputError("has no effect without --predict or --export", "--out", "add one of them")
    else:
        from scripts.commands.evaluate import evaluate

        evaluate(session)


if __name__ == "__main__":
    example = "./evaluate_model.py --run-dir runs/first --model runs/first/final_model.pkl"
    command(__doc__, example, run, add_flags, only_reads)
