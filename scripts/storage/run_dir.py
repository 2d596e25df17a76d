"""Paths of the artifacts of a run, the command that creates each, and the lock of the run directory."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from scripts.errors import EnvironmentFailed, InputError
from scripts.storage.durable_files import check_replaceable, environment_errors, regular_descriptor
from scripts.storage.temporary_files import remove_abandoned


class Command(StrEnum):
    """Commands by the names of their scripts, which messages print; each artifact is created by one of them."""

    TUNING = "run_hyperparameter_tuning.py"
    EXTENDED = "run_extended_training.py"
    ANALYSIS = "analyze_results.py"
    FINAL = "run_final_training.py"
    EVALUATION = "evaluate_model.py"
    PLACEBO = "run_placebo.py"


class InUse(InputError):
    """The run directory is locked by another process."""


class RunDir:
    """Paths of the artifacts of a run. `path` is resolved once, so that it may be a link."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().resolve()
        self.tuning = self.path / "hyperparameter_tuning_results"
        self.config = self.tuning / "config.yaml"
        self.study = self.tuning / "study.db"
        self.study_on_server = self.tuning / "study_on_server.json"
        self.trials = self.tuning / "trials.json"
        self.leak_check = self.tuning / "leak_check.json"
        self.ledger = self.tuning / "validation_by_date.parquet"
        self.extended = self.path / "extended_training_results"
        self.extended_results = self.extended / "extended_training_results.json"
        self.out_of_fold = self.extended / "out_of_fold_predictions.parquet"
        self.analysis = self.path / "analysis"
        self.credibility = self.analysis / "credibility.json"
        self.suggestion = self.analysis / "suggested_search_space.yaml"
        self.comparison = self.analysis / "comparison.json"
        self.best_config = self.path / "best_config.json"
        self.final_model = self.path / "final_model.pkl"
        self.final = self.path / "final_training_results"
        self.final_results = self.final / "final_training_results.json"
        self.evaluation = self.path / "evaluation"
        self.evaluation_results = self.evaluation / "evaluation_results.json"
        self.predictions = self.evaluation / "predictions.csv"
        self.openings = self.path / "test_openings.jsonl"
        self.events = self.path / "events.jsonl"
        self.placebo = self.path / "placebo"
        self.tensorboard = self.path / "tensorboard_logs"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the run directory for one command.

        Raises
        ------
        InUse
            Another process has locked it.
        EnvironmentFailed
            The directory is not writable.
        """
        descriptor = self._lock_file()
        try:
            if not self._try_lock(descriptor):
                # The kernel releases `flock` with its process, so a killed command leaves no lock. The text in the file
                # is only for the message.
                holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
                raise InUse(f"in use by {holder}", str(self.path), "wait for it or choose another --run-dir")
            with environment_errors(self.path):
                os.ftruncate(descriptor, 0)
                since = datetime.now(UTC).isoformat(timespec="seconds")
                os.pwrite(descriptor, f"pid {os.getpid()} on {socket.gethostname()} since {since}".encode(), 0)
            # Only with the lock: temporary files may belong to a running command.
            self.check_files()
            self._remove_leftovers()
            yield
        finally:
            os.close(descriptor)

    def _lock_file(self) -> int:
        with environment_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            return regular_descriptor(self.path / "run.lock", "", os.O_RDWR | os.O_CREAT)

    def _try_lock(self, descriptor: int) -> bool:
        """Lock the lock file; return False if another process has locked it."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            what = f"the file system cannot lock run.lock ({os.strerror(error.errno or 0)})"
            remedy = "use a --run-dir on a local disk, or mount this one with locks (Lustre: -o flock; NFS: lockd)"
            raise EnvironmentFailed(what, str(self.path), remedy) from error
        return True

    def check_files(self) -> None:
        """Raise InputError if a file or folder of the run has another type; links to folders are allowed."""
        for path in vars(self).values():
            if path.suffix and path != self.path:
                check_replaceable(path, "replace it by the file itself, or remove it")
            elif os.path.lexists(path) and not path.is_dir():
                raise InputError("is not a folder", str(path), "remove it")

    def _remove_leftovers(self) -> None:
        """Remove temporary files of killed commands, except behind links; requires the lock."""
        phases = (self.tuning, self.extended, self.final)
        others = (self.path, self.analysis, self.evaluation)
        for folder in (*others, *phases, *(phase / "checkpoints" for phase in phases)):
            if folder.resolve() == folder:
                remove_abandoned(folder)
