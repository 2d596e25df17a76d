"""Named points at which a command can be killed: before every write, flush, rename and removal, around every epoch."""

import json
import os
import re
import signal
import sys
from pathlib import Path

from sqlalchemy.engine.default import DefaultDialect

from scripts.training.run import TrainingRun

_WRITES = os.O_WRONLY | os.O_RDWR


class KillPoints:
    """Hooks of one process; installed in a forked command alone, so that no ordinary run has them.

    Parameters
    ----------
    folder : Path
        Run directory: only what happens in it counts.
    target : (str, int) or None
        Kill at the so-many-th time (from 0) that the point of this name is passed; None kills never.
    log : Path or None
        Where to note how often each point was passed.
    """

    def __init__(self, folder, target=None, log=None):
        self.folder, self.target, self.log = str(Path(folder).resolve()), target, log
        self.counts: dict[str, int] = {}
        self.descriptors: dict[int, str] = {}

    def install(self):
        """RunMonitor this process from now on."""
        sys.addaudithook(self._audit)
        self._wrap(
            os, "fsync", lambda arguments: f"flush of {self._name(os.readlink(f'/proc/self/fd/{arguments[0]}'))}"
        )
        self._wrap(DefaultDialect, "do_commit", lambda arguments: "commit to study.db")
        self._wrap(TrainingRun, "advance", lambda arguments: "epoch")

    def passed(self, name):
        """The process is at a point."""
        count = self.counts.get(name, 0)
        if (name, count) == self.target:
            os.kill(os.getpid(), signal.SIGKILL)
        self.counts[name] = count + 1
        if self.log is not None:
            log, self.log = self.log, None  # writing it is no point
            log.write_text(json.dumps(self.counts))
            self.log = log

    def _wrap(self, owner, attribute, name):
        original = getattr(owner, attribute)

        def watched(*arguments, **options):
            what = name(arguments)
            self.passed(f"before {what}")
            result = original(*arguments, **options)
            self.passed(f"after {what}")
            return result

        setattr(owner, attribute, watched)

    def _audit(self, event, arguments):
        if event == "open" and isinstance(arguments[0], str | bytes) and (arguments[2] or 0) & _WRITES:
            self._path("opening", arguments[0])
        elif event == "os.rename":
            self._path("renaming to", arguments[1])
        elif event == "os.remove":
            self._path("removing", arguments[0])

    def _path(self, what, path):
        path = os.path.abspath(os.fsdecode(path))
        if path.startswith(self.folder + os.sep):
            self.passed(f"before {what} {self._name(path)}")

    def _name(self, path):
        """The path in the run directory with its numbers left out."""
        inside = os.path.relpath(path, self.folder)
        inside = re.sub(r"events\.out\.tfevents.*", "tensorboard events", inside)
        return re.sub(r"\d+(\.\d+)*", "N", re.sub(r"\.hyper-[0-9a-f]+\.tmp", "temporary file", inside))


def _path_of(descriptor):
    return os.readlink(f"/proc/self/fd/{descriptor}")
