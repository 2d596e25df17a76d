"""Tables that memory has no room for: the same data sets, trainings and refusals as in memory, nothing left behind."""

import os
import signal
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
import torch

from scripts.config.experiment import DataConfig
from scripts.config.search_space import Hyperparameters
from scripts.data.files.mapped_rows import NO_BOUND, MappedRows, MemoryBound
from scripts.data.loading import load_development, load_sealed
from scripts.data.table import Table
from scripts.errors import EnvironmentFailed, InputError
from scripts.statistics.drift import n_rows_in_both, n_shared_rows
from scripts.training.order import shuffled
from scripts.training.run import TrainingRun
from scripts.training.spec import RunSpec

N_ROWS = 4000


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({f"x{k}": rng.standard_normal(N_ROWS) for k in range(8)})
    frame["gaps"] = np.where(rng.random(N_ROWS) < 0.1, np.nan, rng.standard_normal(N_ROWS))
    frame["zero"] = np.where(rng.random(N_ROWS) < 0.5, -0.0, 0.0)
    frame["single"] = rng.standard_normal(N_ROWS).astype(np.float32)
    frame["whole"], frame["constant"] = rng.integers(0, 5, N_ROWS), 1.5
    frame["kind"] = rng.choice(["a", "b ", "NA", ""], N_ROWS)
    frame["when"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.permutation(N_ROWS) // 4, unit="D")
    frame["group"] = rng.integers(0, 9, N_ROWS)
    frame = frame.drop_duplicates(["when", "group"], ignore_index=True)
    up = (frame.x0 + frame.x1 * frame.x2 > 0).astype(float)
    frame["y"] = np.where(rng.random(len(frame)) < 0.02, np.nan, up)
    return pd.concat([frame, frame.iloc[:5]], ignore_index=True)


def written(table, tmp_path, **keys):
    path = tmp_path / "table.parquet"
    table.to_parquet(path, row_group_size=700)
    return DataConfig(source="table", label="column", path=str(path), label_column="y", **keys)


@pytest.fixture
def bound(tmp_path):
    return MemoryBound(1, tmp_path)


def parts(dataset):
    return {f.name: getattr(dataset, f.name) for f in fields(dataset) if f.name != "mapped"}


def assert_same(a, b):
    for name, value in parts(a).items():
        np.testing.assert_equal(parts(b)[name], value, err_msg=name)
    assert a.x.tobytes() == b.x.tobytes()


@pytest.mark.parametrize(
    "keys", [{}, {"time_column": "when"}, {"time_column": "when", "group_column": "group"}, {"text_columns": ["whole"]}]
)
def test_a_mapped_table_is_the_same_data_set(table, tmp_path, bound, keys):
    config = written(table, tmp_path, **keys)
    for load in (
        lambda b: load_development(config, 5, 3, b),
        lambda b: load_sealed(config, 5, load_development(config, 5, 3, b), 3, b),
    ):
        mapped, resident = load(bound), load(NO_BOUND)
        assert mapped.mapped is not None and resident.mapped is None
        assert_same(mapped, resident)


@pytest.mark.parametrize(
    "change",
    [
        {"x3": np.inf},
        {"x3": 1e19},
        {"y": 1.0},
        {"kind": "a", **{f"x{k}": 0.0 for k in range(8)}, "gaps": 0.0, "zero": 0.0, "single": 0.0, "whole": 0},
    ],
)
def test_faults_are_refused_with_the_same_line(table, tmp_path, bound, change):
    faulty = table.copy()
    for name, value in change.items():
        faulty.loc[slice(None) if len(change) > 1 or name == "y" else 1234, name] = value
    config = written(faulty.drop(columns=["when", "group"]), tmp_path)
    lines = []
    for b in (NO_BOUND, bound):
        with pytest.raises(InputError) as refused:
            load_development(config, 1, 0, b)
        lines.append(str(refused.value))
    assert lines[0] == lines[1]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["mlp", "gru"])
@pytest.mark.parametrize("block_rows", [None, 20])
def test_training_on_mapped_rows_reaches_the_same_bits(table, tmp_path, bound, family, block_rows):
    config = written(table, tmp_path, time_column="when", group_column="group", shuffle_block_rows=block_rows)
    states = []
    for b in (NO_BOUND, bound):
        dataset = load_development(config, 3, 0, b)
        cut = len(dataset.rows) * 3 // 4
        hyperparameters = Hyperparameters(family=family, width=16, window=3)
        run = TrainingRun(RunSpec("run", (1,), hyperparameters, dataset.rows[:cut], dataset.rows[cut:], 2), dataset)
        assert isinstance(run.inputs, torch.Tensor) == (b is NO_BOUND)
        run.advance(2)
        states.append((run.model.state_dict(), [report.val_loss for report in run.history]))
    assert states[0][1] == states[1][1]
    assert all(torch.equal(states[0][0][name], states[1][0][name]) for name in states[0][0])


def test_an_order_in_blocks_is_a_permutation_that_reads_few_places_at_a_time():
    generator = torch.Generator().manual_seed(0)
    order = shuffled(10_007, 50, generator)
    assert torch.equal(order.sort().values, torch.arange(10_007))
    assert len((shuffled(10_000, 50, generator)[:800] // 50).unique()) == 16
    assert not torch.equal(order, shuffled(10_007, 50, generator))
    whole = [shuffled(700, block, torch.Generator().manual_seed(1)) for block in (None, 50)]
    assert torch.equal(*whole)  # so few rows are shuffled with all others


def test_hashes_of_columns_are_those_of_the_whole_frame(table):
    whole = pd.util.hash_pandas_object(table, index=False).to_numpy()
    np.testing.assert_array_equal(Table.of(table).row_hashes(tuple(table)), whole)


def test_shared_rows_are_counted_without_a_copy():
    x = np.random.default_rng(0).integers(0, 3, (500, 4)).astype(np.float32)
    x[x == 0] *= np.random.default_rng(1).choice([-1.0, 1.0], (x == 0).sum())
    rows, others = np.arange(0, 300, 2), np.arange(150, 500)
    assert n_shared_rows(x, rows, x, others) == n_rows_in_both(x[rows], x[others]) > 0


def test_mapped_rows_have_no_name_and_need_room(tmp_path):
    rows = MappedRows(tmp_path / "not yet there", (10, 3))
    rows.array(writes=True)[:] = 7
    assert (rows.array() == 7).all() and list(tmp_path.iterdir()) == []
    rows.array()[:] = 1  # what is not said to be written stays with who wrote it
    assert (rows.array() == 7).all()
    with pytest.raises(EnvironmentFailed, match="free space"):
        MappedRows(tmp_path, (2**50, 8))


KILLED = """
import sys
from pathlib import Path
from scripts.config.experiment import DataConfig
from scripts.data.files import feature_columns
from scripts.data.loading import load_development
from scripts.data.files.mapped_rows import MemoryBound
path, folder = map(Path, sys.argv[1:])
parts = feature_columns.table_chunks
def slow(*arguments):
    for part in parts(*arguments):
        yield part
        print("written", flush=True)
        sys.stdin.read()
feature_columns.table_chunks = slow
config = DataConfig(source="table", label="column", path=str(path), label_column="y")
load_development(config, 1, 0, MemoryBound(1, folder))
"""


def test_a_kill_while_rows_are_written_leaves_nothing(table, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    config = written(table.drop(columns=["when", "group"]), tmp_path)
    command = [sys.executable, "-c", KILLED, config.path, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"written\n"
        os.kill(process.pid, signal.SIGKILL)
    assert list(folder.iterdir()) == []
