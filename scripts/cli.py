"""What every command shares: its lock, its signals, its answer as JSON, and the exit code of each kind of error."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shlex
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from scripts import environment
from scripts.addresses import check_addresses, is_address
from scripts.durable_files import failure_of_the_machine
from scripts.errors import EnvironmentFailed, HyperError, InputError, Interrupted
from scripts.flags import AddFlags, make_parser
from scripts.selection import PREFERENCES

if TYPE_CHECKING:
    from sqlalchemy import URL

    from scripts.object_storage.mirror import Mirror
    from scripts.run_dir import RunDir


_WORKERS_PER_GPU = 2  # while one prepares an epoch or packs a state, the other's kernels run


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
    answer : dict
        What the command did, as plain values: the object that --json prints.
    storage : URL or None
        Server of new studies; a file if None.
    mirror : Mirror or None
        Publishes the run directory on object storage, where it lies there.
    """

    arguments: argparse.Namespace
    run_dir: RunDir
    deadline: float | None
    started: float
    answer: dict[str, Any] = field(default_factory=dict)
    storage: URL | None = field(default=None, repr=False)
    mirror: Mirror | None = None

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

    def keep(self, **figures: Any) -> None:
        """Add plain values to the answer that --json prints."""
        self.answer.update(figures)

    def conclude(self, next_command: str, artifacts: Sequence[Path], **figures: Any) -> None:
        """Say the next command to type, and keep it for --json with the files that hold the results and main figures.

        Parameters
        ----------
        next_command : str
            As `next_command` makes it.
        artifacts : sequence of Path
            Files that are there now, whether this call wrote them or an earlier one.
        **figures
            Plain values.
        """
        self.keep(artifacts=[self._place(path) for path in artifacts], **figures, next=next_command)
        self.say(f"next: {next_command}")

    def steady(self, at_once: bool = False, without: Collection[Path] = ()) -> None:
        """Nothing is being written now: publish a run directory on object storage, if due; as `Mirror.steady`."""
        if self.mirror is not None:
            self.mirror.steady(at_once, without)

    def _place(self, path: Path) -> str:
        """Where others find a file."""
        if self.mirror is None or not path.is_relative_to(self.run_dir.path):
            return str(path)
        return f"{self.arguments.run_dir.rstrip('/')}/{path.relative_to(self.run_dir.path).as_posix()}"

    def next_command(self, script: str, *flags: str, models: Mapping[str, str] | None = None) -> str:
        """Command line of another command on the same run directory, as this shell would take it.

        Parameters
        ----------
        script : str
        *flags : str
            Further flags.
        models : mapping of str to str, optional
            The user's own model families: no artifact names them, so each command must be told.
        """
        given = self.arguments.run_dir
        where = [] if given == Path(".") else ["--run-dir", str(given)]
        families = [part for name, factory in (models or {}).items() for part in ("--set", f"models.{name}={factory}")]
        return shlex.join([*_started_by(script), *where, *families, *flags])

    def same_command(self, without: str) -> str:
        """The command line itself without one of its flags."""
        return shlex.join([*_started_by(self.answer["command"]), *(part for part in sys.argv[1:] if part != without)])

    def next_run(self, run: str | None = None) -> str:
        """Command line of a whole run that carries on from this one, or from `run`."""
        return shlex.join([*_started_by("run_pipeline.sh"), "--next", run or str(self.arguments.run_dir)])

    @property
    def assignments(self) -> list[str]:
        """All `key=value` pairs, those of flags that stand for a key last."""
        keys = {"seed": "seed", "top_n": "extended.top_n", "epochs": self.arguments.epochs_key}
        keys |= {"epoch_budget": "epoch_budget", "ensemble": "final.ensemble"}
        given = [(key, getattr(self.arguments, flag, None)) for flag, key in keys.items()]
        given = [(key, value) for key, value in given if not isinstance(value, float)]  # a time: see search_time
        if (preference := getattr(self.arguments, "select", None)) is not None:
            given.append(("extended.selection_order", f"[{', '.join(PREFERENCES[preference])}]"))
        by_flag = {key: value for key, value in given if value is not None}
        for assignment in self.arguments.set:
            if (key := assignment.partition("=")[0]) in by_flag:
                raise InputError("is given by a flag, too", f"--set {key}", "give it once")
        return [*self.arguments.set, *(f"{key}={value}" for key, value in by_flag.items())]

    @property
    def search_time(self) -> float | None:
        """Seconds that phases 1 and 2 may take together, where --epoch-budget gives a time."""
        given = self.arguments.epoch_budget
        return given if isinstance(given, float) else None

    @property
    def shares_work(self) -> bool:
        """Whether further starts of the command on this run directory train for the first one."""
        return self.storage is not None and self.arguments.execution is None

    @property
    def workers(self) -> int:
        """Number of worker processes asked for: one a core, on GPUs a few for each, if nothing was."""
        if self.arguments.workers != "auto":
            return int(self.arguments.workers)
        if (device := str(self.arguments.device)).startswith("cuda"):
            import torch

            return _WORKERS_PER_GPU * (1 if ":" in device else max(1, torch.cuda.device_count()))
        return len(os.sched_getaffinity(0))

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
    add_flags: AddFlags = lambda flags: None,
    only_reads: Callable[[argparse.Namespace], bool] = lambda arguments: False,
    joins: bool = False,
) -> NoReturn:
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
    only_reads : callable
        Whether a call with these arguments leaves the run directory alone, so that it need not be held, nor exist.
    joins : bool
        Whether it trains for another start of it that holds the run directory, where --storage lets them share work.
    """
    environment.enter()
    parser = make_parser(description or "", example, add_flags)
    if "_ARGCOMPLETE" in os.environ:
        from scripts.completion import complete

        complete(parser)
    started = time.monotonic()
    output = _only_for_json() if "--json" in sys.argv[1:] else None
    answer: dict[str, Any] = {"command": parser.prog, "exit_code": 0}
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where the shell closed it
            stream.reconfigure(errors="backslashreplace")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        arguments = parser.parse_args()
        environment.check()
        _run(arguments, run, arguments.dry_run or only_reads(arguments), answer, joins)
    except HyperError as error:
        _refuse(answer, error, error.exit_code)
    except Interrupted:
        _refuse(answer, HyperError("interrupted", "", "the same command goes on where it was"), Interrupted.exit_code)
    except MemoryError:
        remedy = "use fewer --workers or less data, then the same command"
        _refuse(answer, EnvironmentFailed("out of memory", "", remedy), EnvironmentFailed.exit_code)
    except OSError as error:
        if (failed := failure_of_the_machine(error)) is None:
            _tell_defect(answer, error)
        else:
            _refuse(answer, failed, failed.exit_code)
    except Exception as defect:
        _tell_defect(answer, defect)
    with contextlib.suppress(OSError, AttributeError):  # a closed terminal changes no result
        sys.stdout.flush()
    if output is not None:
        with contextlib.suppress(OSError):
            print(json.dumps(answer | {"seconds": round(time.monotonic() - started, 3)}), file=output, flush=True)
    sys.exit(answer["exit_code"])


def _only_for_json() -> TextIO:
    """Standard output, for one object alone: what else is printed, also by workers, goes to standard error from now."""
    if sys.stdout is None:  # the shell closed it
        return open(os.devnull, "w")
    sys.stdout.flush()
    kept = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    elsewhere = sys.stderr or open(os.devnull, "w")  # noqa: SIM115 - lives as long as the process
    os.dup2(elsewhere.fileno(), sys.stdout.fileno())
    return kept


def _refuse(answer: dict[str, Any], error: HyperError, exit_code: int) -> None:
    """Say in one line what went wrong, and put it into the answer."""
    print(f"{answer['command']}: {error}", file=sys.stderr)
    answer |= {"exit_code": exit_code, "error": {"what": error.what, "where": error.where, "remedy": error.remedy}}
    if exit_code in (4, 5, Interrupted.exit_code):
        answer["next"] = shlex.join([*_started_by(answer["command"]), *sys.argv[1:]])


def _tell_defect(answer: dict[str, Any], defect: Exception) -> None:
    """Show where an error of this program happened, and put it into the answer."""
    traceback.print_exception(defect)
    answer |= {"exit_code": HyperError.exit_code, "error": {"what": repr(defect), "where": "", "remedy": ""}}


def _started_by(script: str) -> list[str]:
    """How to start a script that lies beside this one: by itself where its first line finds this same Python."""
    path = f"{Path(sys.argv[0]).parent}/{script}"
    found = shutil.which("python3")
    if script.endswith(".sh") or (found is not None and Path(found).parent == Path(sys.executable).parent):
        return [path]
    python = Path(sys.executable)
    here = Path.cwd()
    return [str(python.relative_to(here) if python.is_relative_to(here) else python), path]


def _run(
    arguments: argparse.Namespace,
    run: Callable[[Session], None],
    only_reads: bool,
    answer: dict[str, Any],
    joins: bool,
) -> None:
    started = time.monotonic()
    if runs := getattr(arguments, "compare", None):
        arguments.run_dir = runs[0]
    from scripts.file_systems import file_system_note
    from scripts.run_dir import RunDir

    deadline = None if arguments.time_budget is None else started + arguments.time_budget
    on_object_storage = is_address(arguments.run_dir)
    run_dir = RunDir(Path() if on_object_storage else arguments.run_dir)
    answer["run_dir"] = arguments.run_dir if on_object_storage else str(run_dir.path)
    try:
        answer["run_dir"].encode("utf-8")
    except UnicodeEncodeError:
        raise InputError("is no UTF-8 path", ascii(answer["run_dir"]), "choose another --run-dir") from None
    session = Session(arguments, run_dir, deadline, started, answer, _storage(arguments))
    check_addresses(arguments, with_server=session.storage is not None)
    with contextlib.ExitStack() as held:
        if on_object_storage:
            from scripts.object_storage.mirror import mirrored

            folder, mirror = held.enter_context(mirrored(arguments.run_dir, only_reads, session.say))
            session = replace(session, run_dir=RunDir(folder), mirror=mirror)
        if only_reads:
            session.run_dir.check_files()
            run(session)
        elif _hold(session, joins and session.shares_work, held):
            if note := file_system_note(session.run_dir.path):
                session.say(f"note: {note}")
            run(session)


def _hold(session: Session, joins: bool, held: contextlib.ExitStack) -> bool:
    """Hold the run directory, or join whoever does until it is free; False if that left nothing to do."""
    from scripts.run_dir import InUse

    while True:
        try:
            held.enter_context(session.run_dir.locked())
        except InUse:
            if not joins or session.arguments.fresh:
                raise
        else:
            return True
        from scripts.joining.worker import join

        if join(session):
            return False


def _storage(arguments: argparse.Namespace) -> URL | None:
    """Server of new studies, from the flag or the environment, which child processes then do not inherit."""
    inherited = os.environ.pop("HYPER_STORAGE", None)
    given = arguments.storage if arguments.storage is not None else inherited
    if not given:
        return None
    from scripts.tuning.storage import server_url

    return server_url(given, from_command_line=arguments.storage is not None)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End now: every write is atomic, so any moment is a good one. A second signal does not wait for clean-up."""
    for again in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(again, lambda *_: os._exit(Interrupted.exit_code))
    raise Interrupted
