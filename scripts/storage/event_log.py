"""Event log of a run directory as JSON lines: scheduling decisions, run starts, run ends and worker failures.

It is for people and their tools: no command reads it, and a kill may lose its latest line.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scripts.storage.durable_files import append_line


class EventLog:
    """Writer of events.jsonl.

    Parameters
    ----------
    path : Path or None
        None disables the log.
    phase : str
        Phase in every line.
    """

    def __init__(self, path: Path | None = None, phase: str = "") -> None:
        self._path, self.phase = path, phase

    def write(self, event: str, **fields: Any) -> None:
        """Append a line: time (UTC, ISO 8601, milliseconds), phase, event, and plain values.

        Raises
        ------
        EnvironmentFailed
            The disk is full or failed.
        """
        if self._path is None:
            return
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "phase": self.phase, "event": event} | fields
        # Not flushed to disk, which takes milliseconds: no result depends on this file.
        append_line(self._path, json.dumps(line, allow_nan=False), durable=False)
