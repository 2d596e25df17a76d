"""Progress on the terminal and TensorBoard logs; no result ever depends on either."""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO, cast

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from scripts.config import NAME_PATTERN
from scripts.errors import EnvironmentFailed, InputError
from scripts.search_space import Scalar

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event

_REFRESH_S = 0.1
_TAGS = {
    "train_loss": "train/loss",
    "examples_per_s": "train/examples_per_s",
    "duration_s": "train/duration_s",
    "val_loss": "validation/loss",
    "val_accuracy": "validation/accuracy",
    "simulated_return": "validation/simulated_return",
}


class Progress:
    """Progress of one phase on standard error: a live line on a terminal, one plain line per finished run elsewhere.

    Never raises because of the terminal: what it cannot encode is written as an escape, and once it is closed or full
    everything goes on without it. It has no thread of its own, so that worker processes can be forked beside it.

    Parameters
    ----------
    title : str
        Name of the phase.
    total_epochs : int
        Epochs that the phase plans to spend.
    enabled : bool
        False writes nothing at all.
    verbose : bool
        Plain mode also gets a line per epoch.
    """

    def __init__(self, title: str, total_epochs: int, *, enabled: bool, verbose: bool = False) -> None:
        self.title, self.total, self.done, self.verbose = title, total_epochs, 0, verbose
        self.best: tuple[float, str] | None = None
        self.workers = ""  # what they are at, in words
        self._start = self._drawn = time.monotonic()
        self._console = Console(file=cast(TextIO, _QuietStream(sys.stderr)), highlight=False, quiet=not enabled)
        self._current = "starting"
        self._live: Live | None = None
        if enabled and self._console.is_terminal and not self._console.is_dumb_terminal:
            # auto_refresh would be a thread; redirection would change sys.stdout of the whole program.
            self._live = Live(
                console=self._console,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
                get_renderable=self._panel,
            )

    def __enter__(self) -> Progress:
        self._start = time.monotonic()
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def epoch(self, run: str, epoch: int, epochs_planned: int, metrics: Mapping[str, float | None]) -> None:
        """One epoch of `run` is done.

        Parameters
        ----------
        run : str
            For example "trial 7" or "config 2 fold 1".
        epoch, epochs_planned : int
            Epochs of this run done and planned.
        metrics : mapping
            Metrics of the epoch; `val_accuracy` is shown, None or missing is fine.
        """
        self.done += 1
        text = f"{run}, epoch {epoch}/{epochs_planned}{_accuracy(metrics.get('val_accuracy'))}"
        if self._live:
            self._draw(self._live, text)
        elif self.verbose:
            self._line(f"{text}; {self._state()}")

    def finished(self, run: str, summary: str, score: float | None, epochs_left_unspent: int = 0) -> None:
        """`run` has ended.

        Parameters
        ----------
        run : str
            As for `epoch`.
        summary : str
            How it ended, for example "stopped after 9 epochs".
        score : float or None
            Validation accuracy as a fraction; None or a non-finite number never becomes the best.
        epochs_left_unspent : int
            Planned epochs that early stopping or a failure saved; they leave the total.
        """
        self.total = max(self.done, self.total - epochs_left_unspent)
        text = f"{run}: {summary}{_accuracy(score)}"
        if score is not None and math.isfinite(score) and (self.best is None or score > self.best[0]):
            self.best = (score, run)
        if self._live:
            self._draw(self._live, text)
        else:
            self._line(f"{text}; {self._state()}")

    def note(self, text: str) -> None:
        """Write one line above the progress."""
        self._line(text)

    def time_left_s(self) -> float | None:
        """Seconds the remaining epochs will take at the mean rate so far; None before the first epoch."""
        if not self.done:
            return None
        return (time.monotonic() - self._start) / self.done * max(self.total - self.done, 0)

    def _state(self) -> str:
        best = f"best {self.best[0]:.1%} ({self.best[1]}), " if self.best else ""
        left = self.time_left_s()
        ending = "" if left is None else f", {duration_in_words(left)} left"
        workers = f", {self.workers}" if self.workers else ""
        return f"{best}{self.done}/{self.total} epochs{ending}{workers}"

    def _line(self, text: str) -> None:
        # Text, not markup: a ticker such as "[red]" is shown as it is.
        self._console.print(Text(text if self._live else f"{self.title}: {text}"), soft_wrap=True)

    def _panel(self) -> Group:
        """Two lines: how far the phase is; what it is at."""
        bar = ProgressBar(total=max(self.total, 1), completed=self.done, width=20)
        first = Table.grid(padding=(0, 1))
        first.add_row(Text(self.title, no_wrap=True), bar, Text(self._state(), no_wrap=True, overflow="ellipsis"))
        return Group(first, Text(self._current, no_wrap=True, overflow="ellipsis"))

    def _draw(self, live: Live, text: str) -> None:
        self._current = text
        now = time.monotonic()
        if now - self._drawn >= _REFRESH_S:
            self._drawn = now
            live.refresh()


class TensorBoardLog:
    """TensorBoard logs, one folder per run, that equal the runs' histories also after an interruption.

    Records are appended by the caller's thread and the file is closed after each, so any number of paused runs costs
    neither threads nor open files.

    Parameters
    ----------
    folder : Path
        The `tensorboard_logs` folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, Path] = {}

    def start(self, run: str, history: Sequence[Mapping[str, float | None]] = ()) -> None:
        """Make the folder of `run` hold exactly `history`, whatever an interrupted command left in it.

        Parameters
        ----------
        run : str
            Name of the run, at most 64 of the characters A-Z a-z 0-9 . _ -.
        history : sequence of mappings
            One mapping per epoch with the keys of `epoch`; its own `epoch` is the step, else its position from 1.

        Raises
        ------
        InputError
            `run` is no valid name.
        EnvironmentFailed
            The disk is full or the folder cannot be written.
        """
        if not re.fullmatch(NAME_PATTERN, run):
            raise InputError(f"{run!r} is no name of a run", "tensorboard_logs", "use 1 to 64 letters, digits, . _ -")
        folder = self.folder / run
        events = [_scalars(int(m.get("epoch") or k), _tagged(m)) for k, m in enumerate(history, start=1)]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            earlier = sorted(folder.glob("events.out.tfevents.*.hyper"))
            # A name that sorts later makes a TensorBoard that is watching go on to the new file.
            number = int(earlier[-1].name.split(".")[3]) + 1 if earlier else 1
            for old in earlier:
                old.unlink()
        except OSError as error:
            raise _failed(folder, error) from error
        self._files[run] = folder / f"events.out.tfevents.{number:010d}.hyper"
        self._append(run, [*_opening(), *events])

    def epoch(self, run: str, epoch: int, metrics: Mapping[str, float | None]) -> None:
        """Add the metrics of one epoch (counted from 1); None is left out. Without `start` the run begins empty.

        Parameters
        ----------
        run : str
            Name of the run.
        epoch : int
            Step.
        metrics : mapping
            train_loss, val_loss, val_accuracy, simulated_return, examples_per_s, duration_s; a name with a slash is its
            own tag; others go to `other/`.
        """
        self._append(run, [_scalars(epoch, _tagged(metrics))])

    def finished(self, run: str, hyperparameters: Mapping[str, Scalar], metrics: Mapping[str, float | None]) -> None:
        """Add the hyperparameters and final metrics of `run` to the table of the HParams page."""
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from torch.utils.tensorboard.summary import hparams

        final = {f"final/{name}": value for name, value in metrics.items() if value is not None}
        # PyTorch's start summary turns booleans into numbers, and its experiment summary would fix the table's columns
        # by one run; without one TensorBoard takes the columns of all runs.
        start = hparams_pb(dict(hyperparameters), trial_id=run)
        _, _, end = hparams({}, {})
        self._append(run, [_event(summary=start), _scalars(0, final), _event(summary=end)])

    def close(self) -> None:
        """Nothing is open between calls; afterwards a run starts anew."""
        self._files.clear()

    def _append(self, run: str, events: Iterable[Event]) -> None:
        if run not in self._files:
            self.start(run)
        from tensorboard.summary.writer.record_writer import RecordWriter

        path = self._files[run]
        try:
            with open(path, "ab") as file:
                writer = RecordWriter(file)
                for event in events:
                    writer.write(event.SerializeToString())
        except OSError as error:
            raise _failed(path, error) from error


class _QuietStream:
    """A text stream that escapes what it cannot encode and falls silent once it is closed or full.

    Parameters
    ----------
    stream : TextIO or None
        None, as Python has it where the descriptor was closed before it started, is silent from the beginning.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self.encoding = getattr(stream, "encoding", None) or "ascii"

    def write(self, text: str) -> int:
        if self._stream is not None:
            try:
                self._stream.write(text.encode(self.encoding, "backslashreplace").decode(self.encoding))
            except (OSError, ValueError):  # ValueError: closed
                self._silence()
        return len(text)

    def flush(self) -> None:
        if self._stream is not None:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._silence()

    def isatty(self) -> bool:
        return self._stream is not None and not self._stream.closed and self._stream.isatty()

    def _silence(self) -> None:
        self._stream = None


def _accuracy(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f", validation accuracy {value:.1%}"


def duration_in_words(seconds: float) -> str:
    """Seconds, minutes, or hours and minutes."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _event(**content: Any) -> Event:
    from tensorboard.compat.proto.event_pb2 import Event

    return Event(wall_time=time.time(), **content)


def _opening() -> list[Event]:
    """Begin a file of events: its version, and that all steps seen before are void."""
    from tensorboard.compat.proto.event_pb2 import SessionLog

    return [_event(file_version="brain.Event:2"), _event(session_log=SessionLog(status=SessionLog.START))]


def _scalars(step: int, values: Mapping[str, float]) -> Event:
    from tensorboard.compat.proto.summary_pb2 import Summary

    summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
    return _event(step=step, summary=summary)


def _tagged(metrics: Mapping[str, float | None]) -> dict[str, float]:
    return {
        name if "/" in name else _TAGS.get(name, f"other/{name}"): value
        for name, value in metrics.items()
        if value is not None and name != "epoch"
    }


def _failed(path: Path, error: OSError) -> EnvironmentFailed:
    return EnvironmentFailed(
        error.strerror or str(error), str(path), "mend the disk or its permissions; the same command goes on"
    )
