"""End of a command: one line for people, one object for --json, and the exit code of each kind of error."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import sys
import time
import traceback
from pathlib import Path
from typing import Any, TextIO

from scripts.errors import MORE_MEMORY, EnvironmentFailed, HyperError, Interrupted, is_out_of_memory
from scripts.execution import interruption
from scripts.storage.durable_files import failure_of_the_machine
from scripts.storage.printable import printable

_INTERRUPTED = HyperError(Interrupted.what, "", Interrupted.remedy)


def account_for(error: BaseException, answer: dict[str, Any]) -> None:
    """Print one line with the error, or the traceback of a defect, and add it to the answer."""
    if isinstance(error, Interrupted) or interruption.was_asked():
        _refuse(answer, _INTERRUPTED, Interrupted.exit_code)
    elif isinstance(error, HyperError):
        _refuse(answer, error, error.exit_code)
    elif is_out_of_memory(error):
        _refuse(answer, EnvironmentFailed("out of memory", "", MORE_MEMORY), EnvironmentFailed.exit_code)
    elif isinstance(error, OSError) and (failed := failure_of_the_machine(error)) is not None:
        _refuse(answer, failed, failed.exit_code)
    elif isinstance(error, Exception):
        print(printable("".join(traceback.format_exception(error)), lines=True), end="", file=sys.stderr)
        answer |= {"exit_code": HyperError.exit_code, "error": {"what": repr(error), "where": "", "remedy": ""}}
    else:  # SystemExit of --help
        raise error


def end_interrupted(answer: dict[str, Any], output: TextIO | None, started: float) -> None:
    """Print the answer after a signal; called at any moment, so nothing here waits for a lock or a buffer."""
    interruption.announce(answer["command"])
    _note_error(answer, _INTERRUPTED, Interrupted.exit_code)
    print_answer(answer, output, started)


def print_answer(answer: dict[str, Any], output: TextIO | None, started: float) -> None:
    """Print the object of --json with the seconds since `started`; `output` is None without that flag."""
    if output is not None:
        text = json.dumps(answer | {"seconds": round(time.monotonic() - started, 3)})
        with contextlib.suppress(OSError):
            os.write(output.fileno(), f"{text}\n".encode())


def only_for_json() -> TextIO:
    """Reserve standard output for one object: all other output, also of workers, goes to standard error from now on."""
    if sys.stdout is None:  # the shell closed it
        return open(os.devnull, "w")
    sys.stdout.flush()
    kept = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    elsewhere = sys.stderr or open(os.devnull, "w")  # noqa: SIM115 - lives as long as the process
    os.dup2(elsewhere.fileno(), sys.stdout.fileno())
    return kept


def _refuse(answer: dict[str, Any], error: HyperError, exit_code: int) -> None:
    """Print one line with the error, and add it to the answer."""
    print(printable(f"{answer['command']}: {error}"), file=sys.stderr)
    _note_error(answer, error, exit_code)


def _note_error(answer: dict[str, Any], error: HyperError, exit_code: int) -> None:
    answer |= {"exit_code": exit_code, "error": {"what": error.what, "where": error.where, "remedy": error.remedy}}
    if exit_code in (4, 5, Interrupted.exit_code):
        answer["next"] = shlex.join([*started_by(answer["command"]), *sys.argv[1:]])


def started_by(script: str) -> list[str]:
    """Return the command line of a script next to this one; only its name if its first line finds this same Python."""
    path = f"{Path(sys.argv[0]).parent}/{script}"
    found = shutil.which("python3")
    if script.endswith(".sh") or (found is not None and Path(found).parent == Path(sys.executable).parent):
        return [path]
    python = Path(sys.executable)
    here = Path.cwd()
    return [str(python.relative_to(here) if python.is_relative_to(here) else python), path]
