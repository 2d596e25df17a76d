"""What every command shares: its flags, its lock, its signals, and the exit code of each kind of error."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from scripts.errors import HyperError, InputError, Interrupted
from scripts.selection import PREFERENCES

if TYPE_CHECKING:
    from sqlalchemy import URL

    from scripts.artifacts import RunDir

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?\Z")


@dataclass(frozen=True)
class Session:
    """One call of a command.

    Attributes
    ----------
    arguments : argparse.Namespace
    run_dir : RunDir
    deadline : float or None
        Moment of `time.monotonic` at which the time budget ends.
    started : float
        Moment of `time.monotonic` at which the command started.
    storage : URL or None
        Server of new studies; a file if None.
    """

    arguments: argparse.Namespace
    run_dir: RunDir
    deadline: float | None
    started: float
    storage: URL | None = field(default=None, repr=False)

    @property
    def took(self) -> str:
        """Time since the command started, for people."""
        minutes, seconds = divmod(round(time.monotonic() - self.started), 60)
        return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"

    def say(self, text: str = "") -> None:
        """Print a line for people, unless -q was given; a closed terminal is no reason to stop."""
        if not self.arguments.quiet:
            try:
                print(text, flush=True)
            except OSError:
                sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - lives as long as the process

    @property
    def assignments(self) -> list[str]:
        """All `key=value` pairs, those of flags that stand for a key last."""
        keys = {"seed": "seed", "top_n": "extended.top_n", "epochs": self.arguments.epochs_key}
        keys["epoch_budget"] = "epoch_budget"
        given = [(key, getattr(self.arguments, flag, None)) for flag, key in keys.items()]
        if (preference := getattr(self.arguments, "select", None)) is not None:
            given.append(("extended.selection_order", f"[{', '.join(PREFERENCES[preference])}]"))
        return [*self.arguments.set, *(f"{key}={value}" for key, value in given if value is not None)]

    @property
    def workers(self) -> int:
        """Number of worker processes asked for."""
        if self.arguments.workers == "auto":
            return len(os.sched_getaffinity(0))
        return int(self.arguments.workers)

    @property
    def device(self) -> str:
        """Device that trains: a GPU if there is one and nothing else was asked for."""
        import torch

        asked = str(self.arguments.device)
        if asked == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        if asked.startswith("cuda"):
            count = torch.cuda.device_count()
            if int(asked.partition(":")[2] or 0) >= count:
                raise InputError(f"{asked} is not there, {count} GPUs found", "--device", "use --device cpu or auto")
        return asked


def command(
    description: str | None,
    example: str,
    run: Callable[[Session], None],
    add_flags: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> None:
    """Parse the shared and own flags, hold the run directory, run, and end the process with the right exit code.

    Parameters
    ----------
    description : str
        The script's docstring.
    example : str
        A command line that works.
    run : callable
        What the command does; imports the heavy libraries itself, so that --help is quick.
    add_flags : callable
        Adds the command's own flags.
    """
    parser = _parser(description or "", example)
    add_flags(parser)
    arguments = parser.parse_args()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where the shell closed it
            stream.reconfigure(errors="backslashreplace")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        code = _run(arguments, run)
    except HyperError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        code = error.exit_code
    except Interrupted:
        print(f"{parser.prog}: interrupted; the same command goes on where it was", file=sys.stderr)
        code = Interrupted.exit_code
    except MemoryError:
        print(f"{parser.prog}: out of memory; use fewer --workers or less data, then the same command", file=sys.stderr)
        code = 5
    with contextlib.suppress(OSError, AttributeError):  # a closed terminal changes no result
        sys.stdout.flush()
    sys.exit(code)


def add_select(parser: argparse.ArgumentParser) -> None:
    """Add the flag of the commands that choose a configuration."""
    parser.add_argument(
        "--select",
        choices=PREFERENCES,
        help="what decides among configurations that cannot be told from the best (default: rule, the settable order)",
    )


def parse_duration(text: str) -> float:
    """Seconds of a duration such as 2h30m, 45m or 90s."""
    match = _DURATION.match(text)
    if not text or match is None or not any(match.groups()):
        raise argparse.ArgumentTypeError(f"{text!r} is no duration; write for example 2h30m, 45m or 90s")
    hours, minutes, seconds = (float(group or 0) for group in match.groups())
    return 3600 * hours + 60 * minutes + seconds


def _run(arguments: argparse.Namespace, run: Callable[[Session], None]) -> int:
    from scripts.artifacts import RunDir
    from scripts.file_systems import file_system_note

    started = time.monotonic()
    deadline = None if arguments.time_budget is None else started + arguments.time_budget
    run_dir = RunDir(arguments.run_dir)
    try:
        str(run_dir.path).encode("utf-8")
    except UnicodeEncodeError:
        raise InputError("is no UTF-8 path", ascii(str(run_dir.path)), "choose another --run-dir") from None
    session = Session(arguments, run_dir, deadline, started, _storage(arguments))
    if arguments.dry_run:
        run(session)
        return 0
    with session.run_dir.locked():
        if note := file_system_note(session.run_dir.path):
            session.say(f"note: {note}")
        run(session)
    return 0


def _storage(arguments: argparse.Namespace) -> URL | None:
    """Server of new studies, from the flag or the environment, which child processes then do not inherit."""
    inherited = os.environ.pop("HYPER_STORAGE", None)
    given = arguments.storage if arguments.storage is not None else inherited
    if not given:
        return None
    from scripts.tuning.storage import server_url

    return server_url(given, from_command_line=arguments.storage is not None)


def _parser(description: str, example: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=description.strip(),
        epilog=f"example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(epochs_key="")
    add = parser.add_argument_group("shared flags").add_argument
    add("--run-dir", type=Path, default=Path("."), metavar="DIR", help="where all results lie (default: here)")
    add("--config", type=Path, action="append", default=[], metavar="FILE", help="experiment in YAML")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="set one dotted key, such as data.horizon=5")
    add("--seed", type=int, metavar="N", help="seed of everything random (default: 0)")
    add("--workers", type=_workers, default="auto", metavar="N|auto", help="processes that train (default: one a core)")
    add("--execution", choices=("serial", "processes", "ray"), help="where trainings run (default: local processes)")
    add("--ray-address", metavar="auto|HOST:PORT", help="Ray cluster (default: one of its own)")
    add("--storage", metavar="URL", help="PostgreSQL server of the study (default: HYPER_STORAGE, else a SQLite file)")
    add("--device", type=_device, default="auto", metavar="auto|cpu|cuda[:K]", help="where to train (default: auto)")
    add("--epoch-budget", type=int, metavar="N", help="epochs of phases 1 and 2 together, at most")
    add("--time-budget", type=parse_duration, metavar="2h30m", help="end, resumable, after this time (exit code 4)")
    add("--dry-run", action="store_true", help="print the plan and do nothing")
    add("--fresh", action="store_true", help="move earlier results of this phase aside and start anew")
    add("--keep-checkpoints", choices=("all", "best"), default="all", help="of a finished phase (default: all)")
    add("-v", "--verbose", action="store_true", help="say more")
    add("-q", "--quiet", action="store_true", help="say nothing but errors")
    add("--no-progress", action="store_true", help="no progress display")
    return parser


def _workers(text: str) -> str:
    if text != "auto" and (not text.isdecimal() or not 1 <= int(text) <= 1024):
        raise argparse.ArgumentTypeError(f"{text!r} is neither auto nor a number from 1 to 1024")
    return text


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text!r} is none of auto, cpu, cuda, cuda:K")
    return text


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End now: every write is atomic, so any moment is a good one. A second signal does not wait for clean-up."""
    for again in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(again, lambda *_: os._exit(Interrupted.exit_code))
    raise Interrupted
