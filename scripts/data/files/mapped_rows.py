"""Feature rows in a memory-mapped file, for tables that do not fit in memory."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from multiprocessing import reduction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from scripts.errors import EnvironmentFailed

_CELL_BYTES = 24  # of a cell while a table is read into memory: as read, in double precision, in single precision


@dataclass(frozen=True)
class MemoryBound:
    """Memory limit of a table, and the folder of the file for its rows beyond the limit.

    Attributes
    ----------
    limit_mb : int or None
        Half of the machine's memory if None.
    folder : Path or None
        The system's folder for temporary files if None.
    """

    limit_mb: int | None = None
    folder: Path | None = None

    def exceeded_by(self, n_cells: int) -> bool:
        """Return True if a table of so many cells exceeds the limit."""
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        limit = machine // 2 if self.limit_mb is None else self.limit_mb * 2**20
        return n_cells * _CELL_BYTES > limit


NO_BOUND = MemoryBound(2**40)


class MappedRows:
    """A float32 array of shape (n_rows, n_columns) in a file without a name, which ends with the last process using it.

    So no other command finds it again: there is nothing that an interruption could leave half written. It travels to a
    process while that is being started.

    Parameters
    ----------
    folder : Path or None
        Where there is room, or will be a folder; the system's folder for temporary files if None.
    shape : tuple of int

    Raises
    ------
    EnvironmentFailed
        The disk has no space.
    """

    def __init__(self, folder: Path | None, shape: tuple[int, int]) -> None:
        self.shape = shape
        wanted = (folder or Path(tempfile.gettempdir())).resolve()
        place = next(path for path in (wanted, *wanted.parents) if path.is_dir())
        try:
            self._file = _unnamed_file(place)
            # Room is taken at once: a disk that is full later would end the process in the middle of a write.
            os.posix_fallocate(self._file.fileno(), 0, max(1, self.n_bytes))
        except OSError as error:
            what = (
                f"has no space for {self.n_bytes / 2**20:.0f} MB of rows that do not fit in memory ({error.strerror})"
            )
            raise EnvironmentFailed(what, str(place), "free space, or choose another --run-dir") from None

    @property
    def n_bytes(self) -> int:
        """Size of the array."""
        return 4 * self.shape[0] * self.shape[1]

    def array(self, writes: bool = False) -> np.ndarray:
        """Return the array on the mapped file; writes are visible only to this process unless it `writes`."""
        if not self.n_bytes:
            return np.empty(self.shape, dtype=np.float32)
        # Mapped copy-on-write in workers: one that writes by mistake does not change the rows of the others.
        return np.asarray(np.memmap(self._file, np.float32, "r+" if writes else "c", shape=self.shape))

    def __getstate__(self) -> tuple[tuple[int, int], Any]:
        return self.shape, reduction.DupFd(self._file.fileno())

    def __setstate__(self, state: tuple[tuple[int, int], Any]) -> None:
        self.shape, descriptor = state
        self._file = os.fdopen(descriptor.detach(), "rb")


def _unnamed_file(folder: Path) -> BinaryIO:
    return tempfile.TemporaryFile(dir=folder)
