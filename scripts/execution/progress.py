"""Progress on the terminal; no result ever depends on it."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TextIO, cast

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from scripts.storage.printable import duration_in_words, printable

_REFRESH_S = 0.1


class Progress:
    """Progress of one phase on standard error: a live line on a terminal, one plain line per finished run elsewhere.

    Never raises because of the terminal: what it cannot encode is written as an escape, and once it is closed or full
    work continues without it. It has no thread, so that worker processes can be forked.

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
        text = printable(text)
        self._console.print(Text(text if self._live else f"{self.title}: {text}"), soft_wrap=True)

    def _panel(self) -> Group:
        """Two lines: how far the phase is; what it is at."""
        bar = ProgressBar(total=max(self.total, 1), completed=self.done, width=20)
        first = Table.grid(padding=(0, 1))
        first.add_row(Text(self.title, no_wrap=True), bar, Text(self._state(), no_wrap=True, overflow="ellipsis"))
        return Group(first, Text(self._current, no_wrap=True, overflow="ellipsis"))

    def _draw(self, live: Live, text: str) -> None:
        self._current = printable(text)
        now = time.monotonic()
        if now - self._drawn >= _REFRESH_S:
            self._drawn = now
            live.refresh()


class _QuietStream:
    """Text stream that escapes characters it cannot encode and ignores a closed or full output.

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
