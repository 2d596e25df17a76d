#!/usr/bin/env python3
# PYTHON_ARGCOMPLETE_OK
"""Compare phases 1 and 2: ranking, importance, agreement of the phases, epochs spent; writes analysis/report.html."""

from scripts.cli import Session, add_select, command


def run(session: Session) -> None:
    """Analyse."""
    from scripts.analysis import analyse

    analyse(session)


if __name__ == "__main__":
    command(__doc__, "./analyze_results.py --run-dir runs/first --select size", run, add_select)
