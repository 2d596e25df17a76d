"""Data set that worker processes map into memory instead of copying it."""

from __future__ import annotations

import io
import itertools
import mmap
import os
import pickle
import tempfile
from dataclasses import replace
from multiprocessing import reduction
from typing import Any, BinaryIO

from scripts.data.dataset import Dataset

_ALIGNMENT = 64  # bytes, as numerical libraries align their own arrays


class SharedDataset:
    """Writes the arrays once, but for mapped rows, whose file is there; travels as file descriptors to a process.

    It does so while that process is being started.
    """

    def __init__(self, dataset: Dataset) -> None:
        buffers: list[pickle.PickleBuffer] = []
        self._mapped = dataset.mapped
        if self._mapped is not None:
            dataset = replace(dataset, x=dataset.x[:0], mapped=None)
        self._rest = pickle.dumps(dataset, 5, buffer_callback=buffers.append)
        self._sizes = [buffer.raw().nbytes for buffer in buffers]
        self._file = _unnamed_file()
        for start, buffer in zip(self._starts, buffers, strict=False):
            self._file.seek(start)
            self._file.write(buffer.raw())
        self._file.truncate(max(1, self._starts[-1]))
        self._file.flush()

    @property
    def _starts(self) -> list[int]:
        """Return the start of each array, and the end of the last one, at multiples of the alignment."""
        return list(itertools.accumulate((-(-size // _ALIGNMENT) * _ALIGNMENT for size in self._sizes), initial=0))

    def __getstate__(self) -> tuple[Any, ...]:
        return self._rest, self._sizes, self._mapped, reduction.DupFd(self._file.fileno())

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._rest, self._sizes, self._mapped, descriptor = state
        self._file = os.fdopen(descriptor.detach(), "rb")

    def mapped(self) -> Dataset:
        """Return the data set on the shared memory; writes of a process are visible only to itself."""
        private = {"flags": mmap.MAP_PRIVATE, "prot": mmap.PROT_READ | mmap.PROT_WRITE}
        memory = memoryview(mmap.mmap(self._file.fileno(), max(1, self._starts[-1]), **private))
        arrays = [memory[start : start + size] for start, size in zip(self._starts, self._sizes, strict=False)]
        # Arrays are passed out of band (pickle protocol 5), so they refer to the mapped memory and are not copied.
        dataset: Dataset = pickle.loads(self._rest, buffers=arrays)
        return dataset if self._mapped is None else replace(dataset, x=self._mapped.array(), mapped=self._mapped)

    def close(self) -> None:
        """Close the file; the memory remains while a process maps it."""
        self._file.close()


def _unnamed_file() -> BinaryIO:
    """Create a file that disappears with the last process that uses it, in memory if the system supports it."""
    if hasattr(os, "memfd_create"):
        return io.BufferedRandom(io.FileIO(os.memfd_create("data set"), "w+b"))
    return tempfile.TemporaryFile()
