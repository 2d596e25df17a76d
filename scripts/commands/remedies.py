"""Command lines in error messages that can be pasted: script names become commands for this run directory."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.errors import HyperError

_UNPLACED = re.compile(
    r"(?<![\w/.-])(?:run_hyperparameter_tuning|run_extended_training|run_final_training|analyze_results|evaluate_model)"
    r"\.py(?! --run-dir)"
)


@contextmanager
def remedies_spelled_out(run_dir: Path, command_line: Callable[[str], str]) -> Iterator[None]:
    """Spell out the commands in the remedy of an error, unless it is about a file outside of the run directory.

    Parameters
    ----------
    command_line : callable
        Command line of a script on this run directory, as this shell takes it.
    """
    try:
        yield
    except HyperError as error:
        where = Path(error.where)
        is_path = where.is_absolute() or os.path.exists(error.where)
        if not is_path or where.absolute().is_relative_to(run_dir.absolute()):
            error.remedy = _UNPLACED.sub(lambda found: command_line(found[0]), error.remedy)
        raise
