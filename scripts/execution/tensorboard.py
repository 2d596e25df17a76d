"""TensorBoard logs of runs, which equal their histories also after an interruption; no result ever depends on them."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.config.experiment import NAME_PATTERN
from scripts.config.search_space import Scalar
from scripts.errors import EnvironmentFailed, InputError
from scripts.storage.durable_files import regular_descriptor
from scripts.storage.printable import printable, printable_values

if TYPE_CHECKING:
    import torch
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

_TAGS = {
    "train_loss": "train/loss",
    "examples_per_s": "train/examples_per_s",
    "duration_s": "train/duration_s",
    "val_loss": "validation/loss",
    "val_accuracy": "validation/accuracy",
    "simulated_return": "validation/simulated_return",
}

_BINS = 30  # of a histogram of weights
_OURS = re.compile(r"events\.out\.tfevents\.\d{10}\.hyper")


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
        """Make the folder of `run` contain exactly `history`, whatever an interrupted command left in it.

        Parameters
        ----------
        run : str
            Name of the run, at most 64 of the characters A-Z a-z 0-9 . _ -.
        history : sequence of mappings
            One mapping per epoch with the keys of `epoch`; its own `epoch` is the step, else its position from 1.

        Raises
        ------
        InputError
            `run` is not a valid name.
        EnvironmentFailed
            The disk is full or the folder cannot be written.
        """
        events = [scalars(int(m.get("epoch") or k), _tagged(m)) for k, m in enumerate(history, start=1)]
        self._begin(run, events)

    def replace(self, run: str, events: Iterable[Event]) -> None:
        """Make the folder of `run` contain exactly `events`; errors as `start`."""
        self._begin(run, events)

    def _begin(self, run: str, events: Iterable[Event]) -> None:
        if not re.fullmatch(NAME_PATTERN, run):
            raise InputError(
                f"{run!r} is not a valid run name", "tensorboard_logs", "use 1 to 64 letters, digits, . _ -"
            )
        folder = self.folder / run
        try:
            folder.mkdir(parents=True, exist_ok=True)
            earlier = sorted(path for path in folder.iterdir() if _OURS.fullmatch(path.name))
            # A name that sorts later makes a running TensorBoard switch to the new file.
            number = int(earlier[-1].name.split(".")[3]) + 1 if earlier else 1
            if not (folder.is_symlink() or self.folder.is_symlink()):  # the new file voids what stays behind a link
                for old in earlier:
                    if old.is_file() and not old.is_symlink():
                        old.unlink()
        except OSError as error:
            raise _failed(folder, error) from error
        self._files[run] = folder / f"events.out.tfevents.{number:010d}.hyper"
        self._append(run, [*_opening(), *events])

    def epoch(self, run: str, epoch: int, metrics: Mapping[str, float | None]) -> None:
        """Add the metrics of one epoch (counted from 1); None is omitted. Without `start` the run is empty at first.

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
        self._append(run, [scalars(epoch, _tagged(metrics))])

    def weights(self, run: str, epoch: int, weights: Mapping[str, torch.Tensor]) -> None:
        """Add a histogram of each tensor of weights to a separate run, `RUN_weights`.

        A resumed command starts them from scratch, because states of earlier epochs are not kept.

        Parameters
        ----------
        run : str
            Name of the run.
        epoch : int
            Step.
        weights : mapping of str to Tensor
            What is not finite anywhere is left out.
        """
        # Imported here, because the imports of TensorBoard are slow and most commands write no histograms.
        from torch.utils.tensorboard.summary import histogram

        known = {n: t.detach().float().cpu().numpy() for n, t in weights.items() if t.numel() and t.isfinite().all()}
        events = [_event(step=epoch, summary=histogram(printable(f"weights/{n}"), v, _BINS)) for n, v in known.items()]
        self._append(f"{run}_weights", events)

    def finished(self, run: str, hyperparameters: Mapping[str, Scalar], metrics: Mapping[str, float | None]) -> None:
        """Add the hyperparameters and final metrics of `run` to the table of the HParams page."""
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from torch.utils.tensorboard.summary import hparams

        final = {f"final/{name}": value for name, value in metrics.items() if value is not None}
        # PyTorch's start summary turns booleans into numbers, and its experiment summary would fix the table's columns
        # by one run; without one TensorBoard takes the columns of all runs.
        start = hparams_pb(printable_values(hyperparameters), trial_id=run)
        _, _, end = hparams({}, {})
        self._append(run, [_event(summary=start), scalars(0, final), _event(summary=end)])

    def close(self) -> None:
        """Close all files; afterwards a run starts from scratch."""
        self._files.clear()

    def _append(self, run: str, events: Iterable[Event]) -> None:
        if run not in self._files:
            self.start(run)
        from tensorboard.summary.writer.record_writer import RecordWriter

        path = self._files[run]
        try:
            descriptor = regular_descriptor(path, "remove it", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            with open(descriptor, "ab") as file:
                writer = RecordWriter(file)
                for event in events:
                    writer.write(event.SerializeToString())
        except OSError as error:
            raise _failed(path, error) from error


def summary_event(summary: Summary) -> Event:
    """Event with a summary that has no step."""
    return _event(summary=summary)


def _event(**content: Any) -> Event:
    from tensorboard.compat.proto.event_pb2 import Event

    return Event(wall_time=time.time(), **content)


def _opening() -> list[Event]:
    """Begin a file of events: its version, and that all steps seen before are void."""
    from tensorboard.compat.proto.event_pb2 import SessionLog

    return [_event(file_version="brain.Event:2"), _event(session_log=SessionLog(status=SessionLog.START))]


def scalars(step: int, values: Mapping[str, float]) -> Event:
    """Event with scalars at a step, by their tag."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    summary = Summary(value=[Summary.Value(tag=printable(tag), simple_value=value) for tag, value in values.items()])
    return _event(step=step, summary=summary)


def _tagged(metrics: Mapping[str, float | None]) -> dict[str, float]:
    return {
        name if "/" in name else _TAGS.get(name, f"other/{name}"): value
        for name, value in metrics.items()
        if value is not None and name != "epoch"
    }


def _failed(path: Path, error: OSError) -> EnvironmentFailed:
    return EnvironmentFailed(
        error.strerror or str(error), str(path), "fix disk or permissions, then rerun the same command to resume"
    )
