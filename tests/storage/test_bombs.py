"""Small files that ask for much memory, and tables of the wrong shape: refused in one line, before they are built."""

import io
import os
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from scripts.errors import InputError
from scripts.evaluation.seal_openings import n_openings
from scripts.storage import table_artifacts
from scripts.storage.artifacts import pack_tensors, read_record, unpack_tensors
from scripts.storage.checkpoints import Checkpoints
from scripts.storage.durable_files import sha256
from scripts.storage.extended_record import Extended
from scripts.storage.parquet_bounds import n_structs
from scripts.storage.records import Trials
from scripts.storage.run_dir import RunDir
from scripts.storage.table_artifacts import read_by_date, read_out_of_fold
from tests.conftest import ROOT
from tests.signed import edit_tensors, signed_json, signed_tensors

MEMORY = """
import resource, sys
from pathlib import Path
from scripts.errors import InputError
from scripts.evaluation.seal_openings import n_openings
from {module} import {function}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    {call}
except InputError as error:
    print(error)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def refused_within(megabytes, module, function, call):
    """What a call in a process of its own is refused with; it takes no more memory than that."""
    code = MEMORY.format(module=module, function=function, call=call)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    *said, taken = done.stdout.splitlines()
    assert int(taken) < megabytes * 1024, done.stdout
    assert len(said) == 1, done.stdout + done.stderr
    return said[0]


def archive(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def two_directories(n_bytes):
    """An archive whose first directory has a compressed entry of `n_bytes` zeros, and whose second hides it."""
    source = zipfile.ZipFile(io.BytesIO(archive({"x": torch.zeros(4)})))
    body, first, second = bytearray(), bytearray(), bytearray()
    for name in source.namelist():
        data, method = source.read(name), 0
        size = len(data)
        if name.endswith("data/0"):
            packer = zlib.compressobj(9, zlib.DEFLATED, -15)
            data, method, size = packer.compress(bytes(n_bytes)) + packer.flush(), 8, n_bytes
        at, plain = len(body), name.encode()
        sizes = (0, len(data), size, len(plain), 0)
        body += struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, method, 0, 0, *sizes) + plain + data
        for directory, as_method, as_size in ((first, method, size), (second, 0, len(data))):
            fields = (0x02014B50, 20, 20, 0, as_method, 0, 0, 0, len(data), as_size, len(plain), 0, 0, 0, 0, 0, at)
            directory += struct.pack("<IHHHHHHIIIHHHHHII", *fields) + plain
    end = struct.pack(
        "<IHHHHIIH", 0x06054B50, 0, 0, len(source.namelist()), len(source.namelist()), len(first), len(body), 0
    )
    return bytes(body + first + second) + end


def compressed():
    packed = io.BytesIO()
    old = zipfile.ZipFile(io.BytesIO(archive({"x": torch.zeros(1000)})))
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    return packed.getvalue()


def with_pickle(pickle):
    """An archive as PyTorch lays it out, of that pickle."""
    buffer = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(buffer)
    writer.write_record("data.pkl", pickle, len(pickle))
    writer.write_record("byteorder", b"little", 6)
    writer.write_end_of_file()
    return buffer.getvalue()


ARCHIVES = {
    "two directories": lambda: two_directories(2**24),
    "compressed entries": compressed,
    "bytes before it": lambda: b"x" * 10 + archive({"x": 1}),
    "bytes after it": lambda: archive({"x": 1}) + archive({"x": 1}),
    "another archive around it": lambda: archive({"x": 1})[:-22] + archive({"x": 1}),
    "a huge array of bytes": lambda: with_pickle(b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x10\x85R."),
    "a huge tensor without data": lambda: with_pickle(b"\x80\x02ctorch\nTensor\n\x8a\x05\x00\x00\x00\x00\x10\x85R."),
    "millions of lists": lambda: with_pickle(b"\x80\x02(" + b"]" * 5_000_000 + b"l."),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_that_torch_save_did_not_write_is_refused_unread(tmp_path, name):
    path = tmp_path / "final_model.pkl"
    path.write_bytes(signed_tensors(ARCHIVES[name]()))
    said = refused_within(150, "scripts.final_training.model", "load_model", f"load_model({str(path)!r})")
    assert str(path) in said


@pytest.mark.parametrize(
    "state", [{}, {"x": torch.arange(5)}, {f"name{k}": [torch.zeros(k), {"a": None}] for k in range(300)}]
)
def test_what_torch_save_writes_is_read(state):
    back = unpack_tensors(pack_tensors(state))
    assert back.keys() == state.keys()


@pytest.mark.parametrize("change", [{"width": 16384, "depth": 64}, {"width": 9}])
def test_a_model_is_compared_with_its_weights_before_it_is_built(finished_run, tmp_path, change):
    path = tmp_path / "final_model.pkl"
    shutil.copy(finished_run.folder / "final_model.pkl", path)

    def widen(body):
        for member in body["members"]:
            member["hyperparameters"] |= {"family": "mlp", "window": 1} | change

    edit_tensors(path, widen)
    said = refused_within(150, "scripts.final_training.model", "load_model", f"load_model({str(path)!r})")
    assert "weights do not fit" in said and str(path) in said


def test_json_of_empty_lists_is_refused_before_it_is_parsed(tmp_path):
    path = tmp_path / "trials.json"
    path.write_bytes(signed_json('{\n "artifact": "trials", "x": [' + "[]," * 6_000_000 + "[]]\n}"))
    said = refused_within(
        100, "scripts.storage.artifacts", "read_json", f"read_json(Path({str(path)!r}), 'phase.py', 'trials')"
    )
    assert "more memory" in said and str(path) in said


@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "device"])
def test_what_is_not_a_file_in_the_place_of_a_checkpoint_or_ledger_is_refused_at_once(tmp_path, kind):
    make = {"pipe": os.mkfifo, "link": lambda p: p.symlink_to("/dev/zero"), "folder": os.mkdir}
    make["device"] = lambda p: p.symlink_to("/dev/zero")
    for name in ("trial_0000.pt", "test_openings.jsonl"):
        make[kind](tmp_path / name)
    with pytest.raises(InputError, match=r"trial_0000\.pt"):
        Checkpoints(tmp_path).load("trial_0000")
    with pytest.raises(InputError, match="test_openings"):
        n_openings(RunDir(tmp_path))


# --- tables ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def tables(finished_run, tmp_path):
    """A copy of a run, and the contents that list its tables."""
    shutil.copytree(finished_run.folder, tmp_path / "run")
    run_dir = RunDir(tmp_path / "run")
    return run_dir, read_record(run_dir.extended_results, "x", Extended), read_record(run_dir.trials, "x", Trials)


def rewritten(path, listed, change):
    """Put a changed table in the place of the one of an artifact."""
    content = change(pd.read_parquet(path)).to_parquet(index=False)
    path.write_bytes(content)
    listed.files[path.name] = sha256(content)


def test_the_tables_of_an_honest_run_are_read_as_they_were_written(tables):
    run_dir, extended, trials = tables
    written = pd.read_parquet(run_dir.out_of_fold)
    pd.testing.assert_frame_equal(read_out_of_fold(run_dir, extended), written.drop(columns="ticker"))
    pd.testing.assert_frame_equal(read_by_date(run_dir, trials), pd.read_parquet(run_dir.ledger))


OUT_OF_FOLD = {
    "a column is gone": lambda t: t.drop(columns="row"),
    "another type": lambda t: t.assign(label=t["label"].astype(str)),
    "a label beyond the classes": lambda t: t.assign(label=7),
    "a negative label": lambda t: t.assign(label=-1),
    "no probabilities": lambda t: t.drop(columns=[c for c in t if c.startswith("probability")]),
    "a probability of two": lambda t: t.assign(**{next(c for c in t if c.startswith("probability")): 2.0}),
    "no number": lambda t: t.assign(**{next(c for c in t if c.startswith("probability")): np.nan}),
    "a trial is gone": lambda t: t[t["trial_number"] != t["trial_number"].iloc[0]],
    "a row is gone": lambda t: t.iloc[1:],
    "empty": lambda t: t.iloc[:0],
    "a missing row number": lambda t: t.assign(row=t["row"].astype("Int64").where(t.index > 0)),
}
BY_DATE = {
    "a column is gone": lambda t: t.drop(columns="hits"),
    "a date twice": lambda t: pd.concat([t, t.iloc[:1]]),
    "a date is gone": lambda t: t.iloc[1:],
    "no rows": lambda t: t.assign(n_rows=0),
    "no number": lambda t: t.assign(hits=np.inf),
    "another trial": lambda t: t.assign(trial=t["trial"] + 100),
    "empty": lambda t: t.iloc[:0],
}


@pytest.mark.parametrize("name", OUT_OF_FOLD)
def test_out_of_fold_predictions_of_another_shape_are_refused(tables, name):
    run_dir, extended, _ = tables
    rewritten(run_dir.out_of_fold, extended, OUT_OF_FOLD[name])
    with pytest.raises(InputError, match=r"out_of_fold_predictions\.parquet.*run_extended_training\.py"):
        read_out_of_fold(run_dir, extended)


@pytest.mark.parametrize("name", BY_DATE)
def test_results_by_date_of_another_shape_are_refused(tables, name):
    run_dir, _, trials = tables
    rewritten(run_dir.ledger, trials, BY_DATE[name])
    with pytest.raises(InputError, match=r"validation_by_date\.parquet.*run_hyperparameter_tuning\.py"):
        read_by_date(run_dir, trials)


def test_a_table_that_repeats_one_number_for_ever_is_refused_before_it_is_read(tables):
    run_dir, extended, _ = tables
    names = {name: pa.int64() for name in ("trial_number", "fold", "seed", "row", "label", "date")}
    schema = pa.schema(names | {"probability_a": pa.float64(), "probability_b": pa.float64()})
    block = pa.table([pa.array(np.zeros(2**20, dtype=field.type.to_pandas_dtype())) for field in schema], schema=schema)
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema) as writer:
        for _ in range(10):
            writer.write_table(block)
    run_dir.out_of_fold.write_bytes(sink.getvalue())
    extended.files[run_dir.out_of_fold.name] = sha256(sink.getvalue())
    with pytest.raises(InputError, match="more memory"):
        read_out_of_fold(run_dir, extended)


def test_a_table_whose_pages_unpack_to_far_more_than_its_size_is_refused_before_it_is_read(tables, monkeypatch):
    """Also pages of text, which are not read: a footer may call them numbers."""
    run_dir, extended, _ = tables
    frame = pd.read_parquet(run_dir.out_of_fold).assign(text="a" * 1000)
    frame.to_parquet(run_dir.out_of_fold, compression="zstd")
    extended.files[run_dir.out_of_fold.name] = sha256(run_dir.out_of_fold.read_bytes())
    read_out_of_fold(run_dir, extended)
    long = pa.table(frame).set_column(frame.columns.get_loc("text"), "text", pa.array(["a" * 2**16] * len(frame)))
    pq.write_table(long, run_dir.out_of_fold, compression="zstd", use_dictionary=False)
    extended.files[run_dir.out_of_fold.name] = sha256(run_dir.out_of_fold.read_bytes())
    monkeypatch.setattr(table_artifacts, "_ALWAYS_FINE", 2**20)
    with pytest.raises(InputError, match="more memory"):
        read_out_of_fold(run_dir, extended)


# --- footers of Parquet files ---------------------------------------------------------------------------------------


def footer_of_many(n_groups, n_chunks):
    """A Parquet file of nothing but its footer: row groups of column chunks of three bytes each (Thrift compact)."""

    def length(n):
        return bytes([n]) if n < 0x80 else bytes([n & 0x7F | 0x80]) + length(n >> 7)

    chunks = b"\xfc" + length(n_chunks) + b"\x26\0\0" * n_chunks
    group = b"\x19" + chunks + b"\x16\0\x16\2\0"
    root, column = b"\x48\1r\x15\2\0", b"\x15\2\x25\0\x18\1a\0"
    groups = b"\xfc" + length(n_groups) + group * n_groups
    footer = b"\x15\2\x19\x2c" + root + column + b"\x16\2\x19" + groups + b"\0"
    return b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1"


def test_a_footer_that_expands_is_refused_before_it_is_built(tmp_path):
    path = tmp_path / "bars.parquet"
    path.write_bytes(footer_of_many(2, 500_100))
    call = f"read_table(Path({str(path)!r}), DataConfig(), ['close'])"
    said = refused_within(100, "scripts.data.files.raw_tables", "DataConfig, read_table", call)
    assert said.startswith(f"{path}: its footer would take far more memory than its size")


def test_a_footer_that_expands_is_refused_in_an_artifact_too(tables):
    run_dir, extended, _ = tables
    content = footer_of_many(2, 500_100)
    run_dir.out_of_fold.write_bytes(content)
    extended.files[run_dir.out_of_fold.name] = sha256(content)
    with pytest.raises(InputError, match=r"out_of_fold_predictions\.parquet: its footer would take far more memory"):
        read_out_of_fold(run_dir, extended)


def test_every_part_of_a_footer_that_a_library_writes_is_counted(tmp_path):
    import pyarrow.parquet as pq

    path = tmp_path / "bars.parquet"
    frame = pd.DataFrame({"ticker": ["a", "b"] * 50, "close": np.arange(100.0), "halted": [True, False] * 50})
    frame.to_parquet(path, row_group_size=10)
    found = pq.ParquetFile(path).metadata
    at = len(path.read_bytes()) - 8 - found.serialized_size
    n = n_structs(path.read_bytes()[at:-8], max_structs=10**6)
    n_chunks = found.num_row_groups * found.num_columns
    assert 3 * n_chunks < n < 12 * n_chunks  # a chunk, its metadata, its statistics, and the encodings of its pages
    assert n_structs(path.read_bytes()[at:-9], max_structs=10**6) == n  # the last byte ends the message
    assert n_structs(path.read_bytes()[at:-8], max_structs=7) == 8


def test_what_follows_a_text_in_a_footer_is_counted():
    text, inner, end = b"\x18\x02\x00\x00", b"\x1c\x00", b"\x00"  # field and type, length and text; field and type, end
    assert n_structs(text + inner + inner + end, 10) == 3
    assert n_structs(b"\x18" + b"\xff" * 8 + b"\x7f" + inner + end, 10) == 1  # the text ends far beyond the message
