#!/usr/bin/env python3
# PYTHON_ARGCOMPLETE_OK
"""Compare phases 1 and 2: ranking, importance, agreement of the phases, epochs spent; writes analysis/report.html.

With --compare it compares finished runs instead, by paired tests on the same rows, and lists their differences.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # PYTHONSAFEPATH keeps it out

from scripts.commands.flags import add_select
from scripts.commands.main import command
from scripts.commands.session import Session


def add_flags(flags: argparse._ArgumentGroup) -> None:
    """Add the flags of this command."""
    add_select(flags)
    flags.add_argument(
        "--compare",
        type=Path,
        nargs="+",
        metavar="RUN_DIR",
        help="compare each further run with the first, whose analysis/comparison.json is written (default: none)",
    )


def run(session: Session) -> None:
    """Analyse a run, or compare several."""
    if session.arguments.compare is not None:
        from scripts.commands.compare_runs import compare

        compare(session)
    else:
        from scripts.commands.analyze import analyse

        analyse(session)


if __name__ == "__main__":
    command(__doc__, "./analyze_results.py --run-dir runs/first --select size", run, add_flags)
