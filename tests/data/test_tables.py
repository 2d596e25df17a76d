"""Tables of features and labels: types of columns, missing cells, labels, and refusals with their place."""

import io

import numpy as np
import pandas as pd
import pytest

from tests.data.source_files import market, refusal, table, write

# Tables


TABLE = "when,who,x,kind,flat,y\n" + "".join(
    f"2020-01-{day:02d},{who},{day}.5,{'NA' if day == 3 else 'k' + str(day % 2)},1,{'up' if day % 2 else 'down'}\n"
    for who in ("007", "b")
    for day in range(1, 6)
)
TIMED = {"time_column": "when", "group_column": "who"}


def test_table_columns_get_their_types(tmp_path):
    frame = table(write(tmp_path, TABLE), **TIMED).whole()
    assert frame.columns.tolist() == ["when", "who", "x", "kind", "flat", "y"]
    assert frame["when"].dtype == "datetime64[ns]" and frame["when"].is_monotonic_increasing
    assert frame["who"].unique().tolist() == ["007", "b"]
    assert frame["x"].dtype == "float64"
    assert set(frame["kind"]) == {"NA", "k0", "k1"}
    assert set(frame["y"]) == {"up", "down"}


def test_missing_cells_of_numeric_columns_are_nan_and_of_text_columns_empty_ones(tmp_path):
    text = "x,kind,y\n1,a,0\n,b,1\nNA,,0\nnan,NA,1\nnull,a,1\n-2e3,b,1\n"
    frame = table(write(tmp_path, text)).whole()
    np.testing.assert_array_equal(frame["x"], [1, np.nan, np.nan, np.nan, np.nan, -2000])
    assert frame["kind"].isna().tolist() == [False, False, True, False, False, False]
    assert frame["y"].tolist() == [0.0, 1.0, 0.0, 1.0, 1.0, 1.0]


def test_rows_without_a_label_are_dropped_with_a_note(tmp_path):
    data = table(write(tmp_path, "x,y\n1,a\n2,\n3,b\n4,NA\n"))
    assert data.column("x").tolist() == [1.0, 3.0]
    assert any("2 rows without a label" in note and "line 3" in note for note in data.notes)


def test_copies_are_dropped_with_time_and_kept_without(tmp_path):
    text = "t,x,y\n2020-01-01,1,0\n2020-01-01,1,0\n2020-01-02,2,1\n"
    timed, plain = table(write(tmp_path, text), time_column="t"), table(write(tmp_path, text.replace("2020-01-0", "")))
    assert (len(timed.frame), len(plain.frame)) == (2, 3)
    assert all(any("copies" in note and "line 3" in note for note in data.notes) for data in (timed, plain))


@pytest.mark.parametrize(
    ("text", "values", "says"),
    [
        ("x,y\n1,0\n2,0\n", {}, ["fewer than two classes", "0.0 2", "column y"]),
        ("x,y\n1,\n2,\n", {}, ["fewer than two classes", "none"]),
        ("x,y\n" + "".join(f"1,c{k}\n" for k in range(1001)), {}, ["1001 classes", "label_column"]),
        ("x,z\n1,0\n2,1\n", {}, ["'y' is missing", "line 1"]),
        ("x,lable\n1,0\n2,1\n", {"label_column": "label"}, ["'label' is missing", "'lable'"]),
        ("y\n0\n1\n", {}, ["no feature column"]),
        ("x,y\n" + "".join(f"{k},{k / 7}\n" for k in range(40)), {}, ["40 different numbers", "are not classes"]),
        ("x,y\n1,0\n2,1\nx3,1\n4,0\n", {}, ["'x3'", "column x", "line 4"]),
        ("x,y\n1,0\n2,1\ninf,1\n4,0\n", {}, ["not finite", "column x", "line 4"]),
        ("x,y\n1,0\n2,1\n1e19,1\n4,0\n", {}, ["beyond 1e+18", "column x", "line 4"]),
        ("x,r,y\n1,.1,0\n2,a,1\n", {"forward_return_column": "r"}, ["'a'", "column r", "line 3"]),
        ("t,x,y\n2020-01-01,1,0\n2020,2,1\n", {"time_column": "t"}, ["'2020'", "column t", "line 3"]),
        ("g,x,y\na,1,0\n,2,1\n", {"group_column": "g"}, ["group is missing", "column g", "line 3"]),
        (
            "g,t,x,y\na,2020-01-01,1,0\nb,2020-01-01,1,0\na,2020-01-01,2,1\n",
            {"group_column": "g", "time_column": "t"},
            ["line 4", "line 2", "g a", "t 2020-01-01"],
        ),
    ],
)
def test_bad_tables_are_refused_with_their_place(tmp_path, text, values, says):
    message = refusal(table, write(tmp_path, text), **values)
    for part in ["prices.csv", *says]:
        assert part in message


@pytest.mark.parametrize(("name", "rows", "classes"), [("breast_cancer", 569, 2), ("digits", 1797, 10)])
def test_bundled_tables_are_read(name, rows, classes):
    frame = table(f"sklearn:{name}", label_column="target").whole()
    assert len(frame) == rows
    assert frame["target"].nunique() == classes
    assert (frame.dtypes == "float64").all()


def test_unknown_bundled_table_and_label_are_refused():
    assert "sklearn:digits" in refusal(table, "sklearn:iris", label_column="target")
    assert "'target'" in refusal(table, "sklearn:digits", label_column="y")


def test_table_from_parquet_equals_that_from_csv(tmp_path):
    frame = pd.read_csv(io.StringIO(TABLE), dtype={"who": str, "kind": str}, keep_default_na=False)
    path = tmp_path / "table.parquet"
    frame.assign(when=pd.to_datetime(frame["when"]), kind=frame["kind"].astype("category")).to_parquet(path)
    expected = table(write(tmp_path, TABLE), **TIMED).whole()
    pd.testing.assert_frame_equal(table(path, **TIMED).whole(), expected)


def test_parquet_faults_are_named(tmp_path):
    def stored(**columns):
        path = tmp_path / "faulty.parquet"
        pd.DataFrame(columns).to_parquet(path)
        return path

    dates = pd.to_datetime(["2020-01-01", "2020-01-02"])
    assert "row 2" in refusal(market, stored(date=dates, open=[1.0, 1.0], close=[1.0, np.nan]))
    assert "'close' is missing" in refusal(market, stored(date=dates, open=[1.0, 2.0], clsoe=[1.0, 2.0]))
    assert "type list" in refusal(market, stored(date=dates, close=[[1.0], [2.0]])).replace("large_list", "list")
    assert "not finite" in refusal(market, stored(date=dates, close=[1.0, np.inf]))
    good = stored(date=dates, close=[1.0, 2.0], ticker=["AAAA", "BBBB"]).read_bytes()
    for text in (b"AAAA", b"ticker"):
        bad = good.replace(text, b"\xff" + text[1:])
        assert "not a valid Parquet" in refusal(market, write(tmp_path, bad, "bad.parquet"))
