"""Checkpoints of runs: packed states in one folder, two generations each, damage noticed when they are read."""

from __future__ import annotations

import fnmatch
import os
from pathlib import Path
from typing import Any

from scripts.artifacts import unpack_tensors
from scripts.durable_files import environment_errors, write_bytes


class Checkpoints:
    """Packed states of runs in one folder, two generations each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, name: str, packed: bytes) -> None:
        """Keep `packed` as the newest generation of run `name`, the one before it as the second."""
        path = self.folder / f"{name}.pt"
        with environment_errors(path):
            if path.exists():
                os.replace(path, self._earlier(name))
        write_bytes(path, packed)

    def load(self, name: str) -> tuple[bytes | None, dict[str, Any], str]:
        """Newest undamaged generation of run `name`, packed and unpacked, and a warning, empty if all is well.

        None and nothing without one.
        """
        damaged = []
        for path in (self.folder / f"{name}.pt", self._earlier(name)):
            if not path.exists():
                continue
            content = path.read_bytes()
            try:
                state = unpack_tensors(content)
            except ValueError as error:
                damaged.append(f"{path}: {error}")
                continue
            return content, state, f"{damaged[0]}; going on from the checkpoint before it" if damaged else ""
        return None, {}, f"{damaged[0]}; no earlier one is whole, {name} starts anew" if damaged else ""

    def drop_earlier(self, name: str) -> None:
        """Remove the second generation once a run has finished."""
        self._earlier(name).unlink(missing_ok=True)

    def keep_only(self, *patterns: str) -> None:
        """Remove the checkpoints of all runs whose names match none of the `patterns`, such as "trial_0007"."""
        for path in self.folder.glob("*.pt"):
            if not any(fnmatch.fnmatchcase(path.name.removesuffix(".pt"), pattern) for pattern in patterns):
                with environment_errors(path):
                    path.unlink()

    def _earlier(self, name: str) -> Path:
        return self.folder / f"{name}.earlier.pt"
