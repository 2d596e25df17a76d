"""Checkpoints from which killed runs resume: two generations each, with detection of damage."""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
from pathlib import Path
from typing import Any

from scripts.storage.artifacts import MAX_TENSOR_BYTES, unpack_tensors
from scripts.storage.durable_files import environment_errors, read_regular, write_bytes

# File names of the checkpoints of all phases, with both generations.
_OURS = re.compile(r"(trial_\d+(_split_\d+)?|extended_\d+_fold_\d+(_seed_\d+)?|final_[a-z0-9_]+)(\.earlier)?\.pt")


class Checkpoints:
    """Packed states of runs in one folder, two generations each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Return the file of the newest generation of run `name`."""
        return self.folder / f"{name}.pt"

    def save(self, name: str, packed: bytes) -> None:
        """Store `packed` as the newest generation of run `name`, and the previous one as the second."""
        path = self.path(name)
        # A disk can damage the newest file. With a single generation the run would then start from scratch.
        with environment_errors(path), contextlib.suppress(FileNotFoundError):
            os.replace(path, self._earlier(name))
        write_bytes(path, packed)

    def load(self, name: str) -> tuple[bytes | None, dict[str, Any], str]:
        """Return the newest undamaged generation of run `name`, packed and unpacked, and a warning or an empty text.

        Without a checkpoint, return None, an empty state and an empty text.

        Raises
        ------
        InputError
            The file is not a regular file.
        EnvironmentFailed
            The disk failed, or permission is denied.
        """
        damaged = []
        for path in (self.path(name), self._earlier(name)):
            try:
                content = read_regular(path, MAX_TENSOR_BYTES, "remove it")
            except FileNotFoundError:
                continue
            try:
                state = unpack_tensors(content)
            except ValueError as error:
                damaged.append(f"{path}: {error}")
                continue
            return content, state, f"{damaged[0]}; resuming from the previous checkpoint" if damaged else ""
        return None, {}, f"{damaged[0]}; no earlier checkpoint is intact, {name} starts from scratch" if damaged else ""

    def has(self, name: str) -> bool:
        """Return True if run `name` has an undamaged generation."""
        return self.load(name)[0] is not None

    def discard(self, name: str) -> None:
        """Remove both generations of run `name`, which starts from scratch."""
        for path in (self.folder / f"{name}.pt", self._earlier(name)):
            with environment_errors(path):
                path.unlink(missing_ok=True)

    def drop_earlier(self, name: str) -> None:
        """Remove the second generation once a run has finished."""
        path = self._earlier(name)
        with environment_errors(path):
            path.unlink(missing_ok=True)

    def drop_all_earlier(self) -> None:
        """Remove all second generations with a newest one, such as those left by a kill after the end of a run."""
        # Behind a link the files may belong to another run, and nothing of another run is ever deleted.
        if self.folder.is_symlink() or self.folder.parent.is_symlink():
            return
        for path in self.folder.glob("*.earlier.pt"):
            name = path.name.removesuffix(".earlier.pt")
            if _OURS.fullmatch(path.name) and path.with_name(f"{name}.pt").is_file() and not path.is_symlink():
                self.drop_earlier(name)

    def keep_only(self, *patterns: str) -> bool:
        """Remove the checkpoints of all runs whose names match none of the `patterns`, such as "trial_0007".

        Only regular files with names of runs are removed. Return False without removing any if the folder is reached
        through a link, because its files may belong to another run.
        """
        if self.folder.is_symlink() or self.folder.parent.is_symlink():
            return False
        for path in self.folder.glob("*.pt"):
            kept = any(fnmatch.fnmatchcase(path.name.removesuffix(".pt"), pattern) for pattern in patterns)
            if not kept and _OURS.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                with environment_errors(path):
                    path.unlink()
        return True

    def _earlier(self, name: str) -> Path:
        return self.folder / f"{name}.earlier.pt"
