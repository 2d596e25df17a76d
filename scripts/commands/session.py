"""Session of a command: its arguments, run directory, answer and messages."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.commands.output import Answer, Plain, started_by
from scripts.config.selection_order import PREFERENCES
from scripts.errors import InputError
from scripts.storage.printable import duration_in_words, printable

if TYPE_CHECKING:
    from sqlalchemy import URL

    from scripts.storage.remote.sync import RemoteRunDir
    from scripts.storage.run_dir import RunDir


_WORKERS_PER_GPU = 2  # while one prepares an epoch or packs a state, the other's kernels run


@dataclass(frozen=True)
class Session:
    """One call of a command.

    Attributes
    ----------
    arguments : argparse.Namespace
        As parsed; nothing changes them.
    place : Path or str
        Run directory as it was typed, or its address on object storage.
    deadline : float or None
        Moment of `time.monotonic` at which the time budget ends.
    started : float
        Moment of `time.monotonic` at which the command started.
    answer : Answer
        Result of the command, which --json prints.
    storage : URL or None
        Server of new studies; a file if None.
    mirror : RemoteRunDir or None
        Publishes the run directory on object storage, if it is there.
    """

    arguments: argparse.Namespace
    place: Path | str
    run_dir: RunDir
    deadline: float | None
    started: float
    answer: Answer
    storage: URL | None = field(default=None, repr=False)
    mirror: RemoteRunDir | None = None

    @property
    def took(self) -> str:
        """Time since the command started, for people."""
        return duration_in_words(time.monotonic() - self.started)

    def echo(self, text: str = "") -> None:
        """Print a line for people, unless -q was given; a closed terminal is not an error."""
        if not self.arguments.quiet:
            try:
                print(printable(text), flush=True)
            except OSError:
                sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - lives as long as the process

    def keep(self, artifacts: Sequence[Path], **figures: Plain) -> None:
        """Keep artifacts and main figures for --json."""
        self.answer.artifacts = [self._found_at(path) for path in artifacts]
        self.answer.figures |= figures

    def conclude(self, next_command: str, artifacts: Sequence[Path], **figures: Plain) -> None:
        """Print the next command, and keep it for --json with the artifacts and main figures.

        Parameters
        ----------
        next_command : str
            Result of `next_command`.
        artifacts : sequence of Path
            Files that are there now, whether this call wrote them or an earlier one.
        **figures
            Plain values.
        """
        self.keep(artifacts, **figures)
        self.answer.next = next_command
        self.echo(f"next: {next_command}")

    def publish_if_due(self, at_once: bool = False, without: Collection[Path] = ()) -> None:
        """Publish a run directory on object storage if due, while nothing is written; see `RemoteRunDir`."""
        if self.mirror is not None:
            self.mirror.publish_if_due(at_once, without)

    def _found_at(self, path: Path) -> str:
        """Return the path or URL of a file for others."""
        if self.mirror is None or not path.is_relative_to(self.run_dir.path):
            return str(path)
        return f"{str(self.place).rstrip('/')}/{path.relative_to(self.run_dir.path).as_posix()}"

    def next_command(self, script: str, *flags: str, models: Mapping[str, str] | None = None) -> str:
        """Return the command line of another command on the same run directory, quoted for the shell.

        Parameters
        ----------
        *flags : str
            Further flags.
        models : mapping of str to str, optional
            Model families of the user: artifacts do not name them, so each command needs them.
        """
        given = self.place
        where = [] if given == Path(".") else ["--run-dir", _no_flag(given)]
        families = [part for name, factory in (models or {}).items() for part in ("--set", f"models.{name}={factory}")]
        return shlex.join([*started_by(script), *where, *families, *flags])

    def same_command(self, without: str) -> str:
        """The command line itself without one of its flags."""
        return shlex.join([*started_by(self.answer.command), *(part for part in sys.argv[1:] if part != without)])

    def next_run(self, run: str | None = None) -> str:
        """Return the command line of a whole run that continues this one, or `run`."""
        return shlex.join([*started_by("run_pipeline.sh"), "--next", _no_flag(run or self.place)])

    @property
    def assignments(self) -> list[str]:
        """Return all `key=value` pairs, with those of other flags last."""
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
        return [*self._data_flags(), *self.arguments.set, *(f"{key}={value}" for key, value in by_flag.items())]

    def _data_flags(self) -> Sequence[str]:
        path = self.arguments.data_path
        if path is None and self.arguments.label is None and self.arguments.horizon is None:
            return []
        from scripts.commands.data_flags import data_assignments  # loads the readers of files

        return data_assignments(path, self.arguments.label, self.arguments.horizon)

    @property
    def search_time(self) -> float | None:
        """Return the seconds of phases 1 and 2 together, if --epoch-budget is a time."""
        given = self.arguments.epoch_budget
        return given if isinstance(given, float) else None

    @property
    def workers(self) -> int:
        """Number of worker processes asked for, on the device that was asked for."""
        return worker_count(self.arguments.workers, self.arguments.device)


def worker_count(asked: str, device: str) -> int:
    """Return the number of worker processes; `auto` is one a core, on GPUs a few for each."""
    if asked != "auto":
        return int(asked)
    if device.startswith("cuda"):
        import torch

        return _WORKERS_PER_GPU * (1 if ":" in device else max(1, torch.cuda.device_count()))
    return len(os.sched_getaffinity(0))


def _no_flag(path: Path | str) -> str:
    """Return a path as an argument without a leading dash, which a parser would treat as a flag."""
    return f"./{path}" if str(path).startswith("-") else str(path)
