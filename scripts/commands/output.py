"""Output at the end of a command: a line for people, an object for --json, the exit code of each kind of error."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from scripts.errors import MORE_MEMORY, EnvironmentFailed, HyperError, Interrupted, is_out_of_memory
from scripts.execution import interruption
from scripts.storage.durable_files import failure_of_the_machine
from scripts.storage.printable import printable

_INTERRUPTED = HyperError(Interrupted.what, "", Interrupted.remedy)


Plain = str | int | float | Sequence["Plain"] | Mapping[str, "Plain"] | None  # what JSON can contain


@dataclass
class Answer:
    """Result of a command as --json prints it; filled while the command runs.

    Attributes
    ----------
    run_dir : str or None
        Path or URL; None if the command ended before it was known.
    artifacts : list of str or None
        Files that are there at the end; None if the command did not get that far.
    figures : dict
        Main figures of this command, each a field of the JSON object.
    error : HyperError or None
        Reason of an exit code other than 0.
    next : str or None
        Command line to run next.
    """

    command: str
    exit_code: int = 0
    run_dir: str | None = None
    artifacts: list[str] | None = None
    figures: dict[str, Plain] = field(default_factory=dict)
    error: HyperError | None = None
    next: str | None = None

    def as_json(self, seconds: float) -> str:
        """Return the JSON object; fields without a value are left out."""
        error = self.error and {"what": self.error.what, "where": self.error.where, "remedy": self.error.remedy}
        head = {"command": self.command, "exit_code": self.exit_code}
        given = {"run_dir": self.run_dir, "artifacts": self.artifacts, **self.figures, "error": error}
        optional = given | {"next": self.next}
        named = {name: value for name, value in optional.items() if value is not None or name in self.figures}
        return json.dumps(head | named | {"seconds": round(seconds, 3)})


def account_for(error: BaseException, answer: Answer) -> None:
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
        _note_error(answer, HyperError(repr(error)), HyperError.exit_code)
    else:  # SystemExit of --help
        raise error


def end_interrupted(answer: Answer, output: TextIO | None, started: float) -> None:
    """Print the answer after a signal; called at any moment, so nothing here waits for a lock or a buffer."""
    interruption.announce(answer.command)
    _note_error(answer, _INTERRUPTED, Interrupted.exit_code)
    print_answer(answer, output, started)


def print_answer(answer: Answer, output: TextIO | None, started: float) -> None:
    """Print the object of --json with the seconds since `started`; `output` is None without that flag."""
    if output is not None:
        with contextlib.suppress(OSError):
            os.write(output.fileno(), f"{answer.as_json(time.monotonic() - started)}\n".encode())


def only_for_json() -> TextIO:
    """Reserve standard output for one object: all other output, also of workers, goes to standard error from now on."""
    if sys.stdout is None:  # the shell closed it
        return open(os.devnull, "w")
    sys.stdout.flush()
    kept = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    elsewhere = sys.stderr or open(os.devnull, "w")  # noqa: SIM115 - lives as long as the process
    os.dup2(elsewhere.fileno(), sys.stdout.fileno())
    return kept


def _refuse(answer: Answer, error: HyperError, exit_code: int) -> None:
    """Print one line with the error, and add it to the answer."""
    print(printable(f"{answer.command}: {error}"), file=sys.stderr)
    _note_error(answer, error, exit_code)


def _note_error(answer: Answer, error: HyperError, exit_code: int) -> None:
    answer.exit_code, answer.error = exit_code, error
    if exit_code in (4, 5, Interrupted.exit_code):
        answer.next = shlex.join([*started_by(answer.command), *sys.argv[1:]])


def started_by(script: str) -> list[str]:
    """Return the command line of a script next to this one; only its name if its first line finds this same Python."""
    path = f"{Path(sys.argv[0]).parent}/{script}"
    found = shutil.which("python3")
    if script.endswith(".sh") or (found is not None and Path(found).parent == Path(sys.executable).parent):
        return [path]
    python = Path(sys.executable)
    here = Path.cwd()
    return [str(python.relative_to(here) if python.is_relative_to(here) else python), path]
