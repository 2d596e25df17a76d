"""Every type of cell of Arrow is read with its values or refused in one line; docs/data.md names each."""

import datetime
import decimal
import io
import re
import uuid

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet
import pytest

from scripts.config.experiment import DataConfig
from scripts.data.files.arrow_cells import MAX_CELL, MAX_TEXT
from scripts.data.files.columns import read_column
from scripts.data.files.raw_tables import frame_table, read_table
from scripts.data.files.table import read_features
from scripts.data.known_categories import known_numbers
from scripts.errors import InputError
from scripts.storage import parquet_bounds
from scripts.storage.parquet_bounds import unpacked_sizes
from tests.conftest import ROOT

CONFIG = DataConfig(source="table", label="column", path="t.parquet", label_column="y")
DAY = datetime.date(2020, 2, 29)
NOON = datetime.datetime(2020, 2, 29, 12)
NUMBER, WORD = decimal.Decimal("1.50"), "b"
# Constructor, a value, what it reads as ("" is missing; None: refused).
TYPES = {
    "null": (pa.null(), None, np.nan),
    "bool_": (pa.bool_(), True, "True"),
    "bool8": (pa.bool8(), 1, "True"),
    **{f"{u}int{n}": (getattr(pa, f"{u}int{n}")(), 7, 7.0) for u in ("", "u") for n in (8, 16, 32, 64)},
    **{f"float{n}": (getattr(pa, f"float{n}")(), 1.5, 1.5) for n in (16, 32, 64)},
    **{f"decimal{n}": (getattr(pa, f"decimal{n}")(5, 2), NUMBER, 1.5) for n in (32, 64, 128, 256)},
    **{
        name: (getattr(pa, name)(), WORD, WORD)
        for name in ("string", "utf8", "large_string", "large_utf8", "string_view")
    },
    "date32": (pa.date32(), DAY, "2020-02-29"),
    "date64": (pa.date64(), DAY, "2020-02-29"),
    "timestamp": (pa.timestamp("ms"), NOON, "2020-02-29 12:00:00"),
    "time32": (pa.time32("ms"), NOON.time(), "12:00:00"),
    "time64": (pa.time64("ns"), NOON.time(), "12:00:00"),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), WORD, WORD),
    "run_end_encoded": (pa.run_end_encoded(pa.int32(), pa.string()), WORD, WORD),
    "duration": (pa.duration("s"), datetime.timedelta(1), None),
    "month_day_nano_interval": (pa.month_day_nano_interval(), (1, 2, 3), None),
    **{name: (getattr(pa, name)(), b"x", None) for name in ("binary", "large_binary", "binary_view")},
    "list_": (pa.list_(pa.int8()), [1], None),
    "large_list": (pa.large_list(pa.int8()), [1], None),
    "list_view": (pa.list_view(pa.int8()), [1], None),
    "large_list_view": (pa.large_list_view(pa.int8()), [1], None),
    "map_": (pa.map_(pa.string(), pa.int8()), [("a", 1)], None),
    "struct": (pa.struct([("a", pa.int8())]), {"a": 1}, None),
    "dense_union": (pa.dense_union([pa.field("a", pa.int8())]), 1, None),
    "sparse_union": (pa.sparse_union([pa.field("a", pa.int8())]), 1, None),
    "union": (pa.union([pa.field("a", pa.int8())], mode="sparse"), 1, None),
    "uuid": (pa.uuid(), uuid.UUID(int=1).bytes, None),
    "json_": (pa.json_(), "{}", None),
    "opaque": (pa.opaque(pa.string(), "t", "v"), "x", None),
    "fixed_shape_tensor": (pa.fixed_shape_tensor(pa.int8(), [1]), [1], None),
}
MORE = {
    "fixed size list": (pa.list_(pa.int8(), 1), [1], None),
    "fixed size binary": (pa.binary(2), b"xy", None),
    "nested list": (pa.list_(pa.struct([("a", pa.list_(pa.string()))])), [{"a": ["x"]}], None),
    "dictionary of numbers": (pa.dictionary(pa.int16(), pa.float64()), 1.5, 1.5),
    "dictionary of days": (pa.dictionary(pa.int16(), pa.date32()), DAY, "2020-02-29"),
    "dictionary of views": (pa.dictionary(pa.int16(), pa.string_view()), WORD, WORD),
    "dictionary of binary": (pa.dictionary(pa.int16(), pa.binary()), b"x", None),
    "runs of numbers": (pa.run_end_encoded(pa.int64(), pa.float32()), 1.5, 1.5),
    "runs of booleans": (pa.run_end_encoded(pa.int16(), pa.bool_()), True, "True"),
    "runs of binary": (pa.run_end_encoded(pa.int16(), pa.binary()), b"x", None),
    "times of a zone": (pa.timestamp("ns", "Asia/Tokyo"), NOON, "2020-02-29 12:00:00 UTC"),
    "times of an offset": (pa.timestamp("s", "+05:30"), NOON, "2020-02-29 12:00:00 UTC"),
    "times of no known zone": (pa.timestamp("us", "Mars/Olympus"), NOON, None),
    "dictionary of times of no known zone": (pa.dictionary(pa.int8(), pa.timestamp("us", "Mars/Olympus")), None, None),
    "times of a zone that is a path": (pa.timestamp("us", "../../etc/passwd"), NOON, None),
}


def array_of(kind, value):
    """An array of a value, a missing cell and the value again."""
    cells = [value, None, value]
    if pa.types.is_run_end_encoded(kind):
        return pa.RunEndEncodedArray.from_arrays(
            pa.array([1, 2, 3], kind.run_end_type), pa.array(cells, kind.value_type)
        )
    if pa.types.is_union(kind):
        types, child = pa.array([0, 0, 0], pa.int8()), pa.array([1, 1, 1], pa.int8())
        if kind.mode == "sparse":
            return pa.UnionArray.from_sparse(types, [child], ["a"])
        return pa.UnionArray.from_dense(types, pa.array([0, 1, 2], pa.int32()), [child], ["a"])
    if isinstance(kind, pa.ExtensionType | pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.array(cells, kind.storage_type))
    if pa.types.is_dictionary(kind):
        indices = pa.array([None if c is None else 0 for c in cells], kind.index_type)
        return pa.DictionaryArray.from_arrays(indices, pa.array([value], kind.value_type))
    return pa.array(cells, kind)


def test_every_type_of_arrow_is_in_this_table():
    ids = {value: name for name, value in vars(pa.lib).items() if name.startswith("Type_")}
    covered = {kind.id for kind, *_ in (TYPES | MORE).values()}
    # Python has no constructor for these two.
    assert {name for value, name in ids.items() if value not in covered} <= {
        "Type_INTERVAL_MONTHS",
        "Type_INTERVAL_DAY_TIME",
    }
    extensions = {
        made for made in vars(pa).values() if isinstance(made, type) and issubclass(made, pa.BaseExtensionType)
    }
    own = {pa.BaseExtensionType, pa.ExtensionType, pa.UnknownExtensionType}
    assert extensions - own <= {type(kind) for kind, *_ in TYPES.values()}


@pytest.mark.parametrize("name", [*TYPES, *MORE])
def test_a_type_is_read_or_refused_in_one_line(tmp_path, name):
    kind, value, wanted = (TYPES | MORE)[name]
    column = array_of(kind, value)
    table = pa.table({"y": pa.array(["a", "b", "a"]), "x": column})
    tables = [lambda: frame_table(table.to_pandas(types_mapper=pd.ArrowDtype), [])]
    try:
        pa.parquet.write_table(table, tmp_path / "t.parquet")
        tables.append(lambda: read_table(tmp_path / "t.parquet", CONFIG, []))
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        pass  # Parquet has no such type
    for read in tables:
        if wanted is None:
            with pytest.raises(InputError) as refused:
                read()
            assert "column x" in str(refused.value) and "\n" not in str(refused.value)
            continue
        values = read_column(read(), "x", CONFIG)
        found = values if isinstance(values, np.ndarray) else values.to_numpy(dtype=object, na_value="")
        if isinstance(wanted, float):
            np.testing.assert_array_equal(found, [wanted, np.nan, wanted])
        else:
            assert list(found) == [wanted, "", wanted]


def test_the_documents_answer_for_every_type():
    table = (ROOT / "docs" / "data.md").read_text().partition("## Types of cells")[2].partition("\n## ")[0]
    for name in TYPES:
        word = {"bool_": "bool", "list_": "list", "map_": "map", "json_": "json"}.get(name, name)
        assert re.search(rf"`{word}`", table), word


@pytest.mark.parametrize("cells", ["period[D]", "interval", "timedelta64[ns]", "complex128", "Sparse[float64]"])
def test_pandas_columns_of_other_kinds_are_refused_or_read(cells):
    values = {
        "period[D]": pd.period_range("2020", periods=3),
        "interval": pd.interval_range(0, 3),
        "timedelta64[ns]": pd.to_timedelta([1, 2, 3], unit="D"),
        "complex128": np.array([1j, 2, 3]),
        "Sparse[float64]": pd.arrays.SparseArray([1.0, 0.0, 3.0]),
    }[cells]
    with pytest.raises(InputError) as refused:
        frame_table(pd.DataFrame({"x": values}), [])
    assert "\n" not in str(refused.value)


def test_a_numeric_feature_may_come_as_booleans():
    table = frame_table(pd.DataFrame({"x": [True, False]}), [])
    assert known_numbers(table, "x").tolist() == [1.0, 0.0]


def bomb(tmp_path, length, n_rows):
    """A small file in which one text stands in every row."""
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n_rows, np.int32)), pa.array(["a" * length]))
    path = tmp_path / "bomb.parquet"
    pa.parquet.write_table(pa.table({"x": text, "y": np.arange(n_rows) % 2}), path, compression="zstd")
    assert path.stat().st_size < 2**20
    return path


def test_a_long_text_that_a_file_repeats_is_refused_before_it_takes_memory(tmp_path):
    before = pa.total_allocated_bytes()
    with pytest.raises(InputError, match="column x: has a cell of 1,000,000 bytes, more than 131,072"):
        read_features(bomb(tmp_path, 10**6, 20_000), CONFIG)
    with pytest.raises(InputError, match="column x: has more than 2,000,000,000 bytes of text"):
        read_features(bomb(tmp_path, MAX_CELL, MAX_TEXT // MAX_CELL + 1), CONFIG)
    assert pa.total_allocated_bytes() - before < 2**26


def varint(value, length=0):
    """A number as footers hold it, in at least `length` bytes."""
    value, parts = value << 1, []
    while value or not parts or len(parts) < length:
        parts, value = [*parts, value & 127 | 128], value >> 7
    return bytes([*parts[:-1], parts[-1] & 127])


def lying(path, texts):
    """Write each text into a page of its own, and a footer by which they take one byte."""
    settings = {"use_dictionary": False, "write_statistics": False, "data_page_size": 1, "write_batch_size": 1}
    pa.parquet.write_table(pa.table({"x": texts}), path, compression="zstd", **settings)
    size = pa.parquet.read_metadata(path).row_group(0).column(0).total_uncompressed_size
    content, true = path.read_bytes(), varint(size)
    path.write_bytes(content.replace(true, varint(1, len(true))))
    metadata = pa.parquet.read_metadata(path)
    assert (metadata.row_group(0).column(0).total_uncompressed_size, metadata.row_group(0).total_byte_size) == (1, 1)


def test_pages_are_measured_by_their_own_headers(tmp_path, monkeypatch):
    """The footer may say anything; memory is allocated by the header of each page."""
    path = tmp_path / "t.parquet"
    lying(path, ["a" * 10**5] * 30)
    assert len(read_table(path, CONFIG, []).lines) == 30
    monkeypatch.setattr(parquet_bounds, "MAX_INFLATED", 10**6)
    with pytest.raises(InputError, match="bytes unpack to 30"):
        read_table(path, CONFIG, [])
    lying(path, ["a" * 2 * 10**8])
    with pytest.raises(InputError, match="unpack to a page of 2000"):
        read_table(path, CONFIG, [])


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "zstd"])
def test_headers_of_pages_agree_with_an_honest_footer(version, codec):
    n = 30_000
    table = pa.table({"x": np.arange(n) / 7, "s": [f"t{k % 9}" for k in range(n)], "b": np.arange(n) % 2 == 0})
    for settings in ({}, {"use_dictionary": False, "write_page_index": True, "write_page_checksum": True}):
        buffer = io.BytesIO()
        size = {"row_group_size": 10_000, "data_page_size": 5_000}
        pa.parquet.write_table(table, buffer, data_page_version=version, compression=codec, **size, **settings)
        metadata = pa.parquet.read_metadata(buffer)
        footer = sum(metadata.row_group(k).total_byte_size for k in range(3))
        assert 0.95 * footer < unpacked_sizes(buffer, metadata)[1] <= footer  # which counts the headers, too


def test_one_number_that_a_file_repeats_for_ever_is_refused_before_it_takes_memory(tmp_path):
    before, part = pa.total_allocated_bytes(), pa.table({"x": pa.nulls(10**7)})
    with pa.parquet.ParquetWriter(tmp_path / "t.parquet", part.schema) as writer:
        for _ in range(14):
            writer.write_table(part)
    with pytest.raises(InputError, match="unpack to 1120000000"):
        read_table(tmp_path / "t.parquet", CONFIG, [])
    assert pa.total_allocated_bytes() - before < 2**26


def test_a_type_nested_a_thousand_times_is_refused(tmp_path):
    kind = pa.int8()
    for _ in range(1000):
        kind = pa.list_(kind)
    with pytest.raises(InputError) as refused:
        pa.parquet.write_table(pa.table({"y": ["a"], "x": pa.nulls(1, kind)}), tmp_path / "t.parquet")
        read_table(tmp_path / "t.parquet", CONFIG, [])
    assert len(str(refused.value)) < 400
