"""Cost of tables that do not fit in memory: loading, memory and epochs of mapped rows, compared with resident rows.

Tables have 50 numeric features and a label, and are written once to Parquet files in `--folder`. Each point is measured
in its own process, on one thread. Seconds are those from the file to the data set. Rows per second are those of the
second epoch of an MLP (50-128-128-2, batch 1024, with validation) on at most a million rows from the whole table.
Memory is the peak of the private memory of the process (RssAnon, read every 20 ms), including Python and libraries.
`--sizes` are the rows of the tables; `--resident N` measures resident rows up to N. The mapped file is in the page
cache, because it has just been written.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import Result, arguments, show
from scripts.config.experiment import DataConfig
from scripts.config.search_space import Hyperparameters
from scripts.data.files.mapped_rows import NO_BOUND, MemoryBound
from scripts.data.loading import load_development
from scripts.training.run import TrainingRun
from scripts.training.spec import RunSpec

_FEATURES, _GROUP_ROWS, _MAX_TRAINED, _EPOCHS = 50, 10**5, 10**6, 2


def make_table(path: Path, n_rows: int) -> None:
    """Write a table, row group by row group."""
    generator, names = np.random.default_rng(0), [f"x{k}" for k in range(_FEATURES)]
    schema = pa.schema([*((name, pa.float64()) for name in names), ("y", pa.int8())])
    with pyarrow.parquet.ParquetWriter(path, schema, use_dictionary=False, compression="none") as writer:
        for first in range(0, n_rows, _GROUP_ROWS):
            x = generator.standard_normal((_FEATURES, min(_GROUP_ROWS, n_rows - first)))
            y = (x[0] + x[1] * x[2] + generator.standard_normal(x.shape[1]) > 0).astype(np.int8)
            writer.write_table(pa.table([*map(pa.array, x), pa.array(y)], schema=schema))


class _PeakOfPrivateMemory(threading.Thread):
    """Bytes that belong to this process alone at most."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0

    def run(self) -> None:
        while True:
            status = Path("/proc/self/status").read_text()
            self.peak = max(self.peak, 1024 * int(status.partition("RssAnon:")[2].split()[0]))
            time.sleep(0.02)


def _report(pipe: Connection, path: Path, mapped: bool) -> None:
    torch.set_num_threads(1)
    memory = _PeakOfPrivateMemory()
    memory.start()
    config = DataConfig(source="table", label="column", path=str(path), label_column="y")
    start = time.perf_counter()
    dataset = load_development(config, 1, 0, MemoryBound(1, path.parent) if mapped else NO_BOUND)
    loading, memory_of_loading = time.perf_counter() - start, memory.peak
    rows = dataset.rows[:: max(1, len(dataset.rows) // _MAX_TRAINED)]
    validation = rows[::20]
    train = np.setdiff1d(rows, validation)
    hyperparameters = Hyperparameters(family="mlp", width=128, depth=2, batch_size=1024)
    start = time.perf_counter()
    run = TrainingRun(RunSpec("run", (0,), hyperparameters, train, validation, _EPOCHS), dataset)
    beginning = time.perf_counter() - start
    run.advance(_EPOCHS)
    last = run.history[-1]
    values = {
        "load, s": loading,
        "peak private memory loading, GB": memory_of_loading / 1e9,
        "scaling of a run, s": beginning,
        "rows a second": len(train) / last.duration_s,
        "validation loss": float(last.val_loss or np.nan),
        "peak private memory, GB": memory.peak / 1e9,
    }
    pipe.send(values)


def measured(path: Path, mapped: bool) -> dict[str, float]:
    """Figures of a point."""
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_report, args=(theirs, path, mapped))
    process.start()
    theirs.close()
    values: dict[str, float] = ours.recv()
    process.join()
    return values


def main() -> None:
    """Measure and print."""
    given = arguments(__doc__, sizes="100000,1000000,10000000", resident=10**6, folder="")
    results = list[Result]()
    with tempfile.TemporaryDirectory() as folder:
        for size in map(int, given.sizes.split(",")):
            path = Path(given.folder or folder) / f"{size}.parquet"
            if not path.exists():
                make_table(path, size)
            for way in ("resident", "mapped"):
                if way == "mapped" or size <= given.resident:
                    values = measured(path, way == "mapped")
                    results += [Result(f"{size:,} {way}", name, value, None, 1) for name, value in values.items()]
                    print(f"{size:,} {way}: {values}", file=sys.stderr, flush=True)
    show("A table that memory has no room for", results, given.json)


if __name__ == "__main__":
    main()
