"""Session and life of every command: flags, lock of the run directory, run, end."""

from __future__ import annotations

from scripts import interruption  # first of all, so that signals are heeded during the other imports

# isort: split
import argparse
import contextlib
import io
import os
import shlex
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from scripts import environment
from scripts.addresses import check_addresses, is_address, without_secret
from scripts.answers import account_for, end_interrupted, only_for_json, print_answer, started_by
from scripts.errors import InputError
from scripts.flags import AddFlags, make_parser
from scripts.limits import check_folder, check_study_path
from scripts.printable import printable
from scripts.remedies import remedies_spelled_out
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
                print(printable(text), flush=True)
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
        where = [] if given == Path(".") else ["--run-dir", _no_flag(given)]
        families = [part for name, factory in (models or {}).items() for part in ("--set", f"models.{name}={factory}")]
        return shlex.join([*started_by(script), *where, *families, *flags])

    def same_command(self, without: str) -> str:
        """The command line itself without one of its flags."""
        return shlex.join([*started_by(self.answer["command"]), *(part for part in sys.argv[1:] if part != without)])

    def next_run(self, run: str | None = None) -> str:
        """Command line of a whole run that carries on from this one, or from `run`."""
        return shlex.join([*started_by("run_pipeline.sh"), "--next", _no_flag(run or self.arguments.run_dir)])

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
    """
    environment.enter()
    parser = make_parser(description or "", example, add_flags)
    if "_ARGCOMPLETE" in os.environ:
        from scripts.completion import complete

        complete(parser)
    started = time.monotonic()
    output = only_for_json() if "--json" in sys.argv[1:] else None
    answer: dict[str, Any] = {"command": parser.prog, "exit_code": 0}
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None where the shell closed it
            stream.reconfigure(errors="backslashreplace")
    interruption.heed_in_calls(lambda: end_interrupted(answer, output, started))
    try:
        check_folder()
        arguments = parser.parse_args()
        environment.check()
        _run(arguments, run, arguments.dry_run or only_reads(arguments), answer)
    except BaseException as error:
        interruption.ignore()
        account_for(error, answer)
    with contextlib.suppress(OSError, AttributeError):  # a closed terminal changes no result
        sys.stdout.flush()
    interruption.ignore()
    print_answer(answer, output, started)
    sys.exit(answer["exit_code"])


def _run(
    arguments: argparse.Namespace, run: Callable[[Session], None], only_reads: bool, answer: dict[str, Any]
) -> None:
    started = time.monotonic()
    if runs := getattr(arguments, "compare", None):
        arguments.run_dir = runs[0]
    from scripts.file_systems import file_system_note
    from scripts.run_dir import RunDir

    deadline = None if arguments.time_budget is None else started + arguments.time_budget
    on_object_storage = is_address(arguments.run_dir)
    run_dir = RunDir(Path() if on_object_storage else arguments.run_dir)
    answer["run_dir"] = without_secret(arguments.run_dir) if on_object_storage else str(run_dir.path)
    try:
        answer["run_dir"].encode("utf-8")
    except UnicodeEncodeError:
        raise InputError("is no UTF-8 path", ascii(answer["run_dir"]), "choose another --run-dir") from None
    if arguments.dry_run or not only_reads:
        check_study_path(run_dir.study)
    session = Session(arguments, run_dir, deadline, started, answer, _storage(arguments))
    check_addresses(arguments, with_server=session.storage is not None)
    with contextlib.ExitStack() as held:
        if on_object_storage or session.storage is not None or arguments.execution == "ray":
            held.enter_context(interruption.raised())
        if on_object_storage:
            from scripts.object_storage.mirror import mirrored

            folder, mirror = held.enter_context(mirrored(arguments.run_dir, only_reads, session.say))
            session = replace(session, run_dir=RunDir(folder), mirror=mirror)
        held.enter_context(remedies_spelled_out(session.run_dir.path, session.next_command))
        if only_reads:
            session.run_dir.check_files()
        else:
            held.enter_context(session.run_dir.locked())
            if note := file_system_note(session.run_dir.path):
                session.say(f"note: {note}")
        with interruption.work():
            run(session)


def _no_flag(path: Path | str) -> str:
    """A path as an argument that begins with no dash, which a parser would take for a flag."""
    return f"./{path}" if str(path).startswith("-") else str(path)


def _storage(arguments: argparse.Namespace) -> URL | None:
    """Server of new studies, from the flag or the environment, which child processes then do not inherit."""
    inherited = os.environ.pop("HYPER_STORAGE", None)
    given = arguments.storage if arguments.storage is not None else inherited
    if not given:
        return None
    from scripts.tuning.storage import server_url

    return server_url(given, from_command_line=arguments.storage is not None)
