"""Reading data: what is accepted, what is mended and noted, what is refused and how the refusal reads."""

import csv
import gzip
import io
import os
import pickle
import zipfile
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.config.experiment import DataConfig
from scripts.data.sources import read_data
from scripts.errors import InputError
from tests.conftest import SHARED

HEADER = "date,ticker,open,high,low,close,volume\n"
BARS = (
    "2020-01-02,A,10,11,9,10.5,100\n"
    "2020-01-03,A,10.5,11,10,10.25,0\n"
    "2020-01-06,A,10.2,11,10,10.75,50\n"
    "2020-01-02,B,20,21,19,20.5,10\n"
    "2020-01-03,B,20,21.5,19,20,20\n"
)


def write(tmp_path, content, name="prices.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def market(path, **values):
    return read_data(DataConfig(source="market", path=str(path), **values))


def table(path, **values):
    return read_data(DataConfig(source="table", path=str(path), label="column", **{"label_column": "y", **values}))


def refusal(read, path, **values):
    """Message of the error, which must have all three parts and be one line."""
    with pytest.raises(InputError) as caught:
        read(path, **values)
    error = caught.value
    assert error.what and error.where and error.remedy
    assert "\n" not in str(error)
    return str(error)


def long_bars(closes, ticker="A", start="2020-01-01", volume=100):
    dates = pd.bdate_range(start, periods=len(closes)).strftime("%Y-%m-%d")
    return "".join(f"{d},{ticker},{c},{c * 1.01},{c * 0.99},{c},{volume}\n" for d, c in zip(dates, closes, strict=True))


def wavy(n):
    return 50 + np.round(np.sin(np.arange(n)), 3)


# Files that are fine


def test_market_file_is_read_as_it_is(tmp_path):
    path = write(tmp_path, HEADER + BARS)
    data = market(path)
    assert data.frame.columns.tolist() == ["date", "ticker", "open", "high", "low", "close", "volume"]
    assert data.frame["date"].dtype == "datetime64[ns]"
    assert data.frame["ticker"].tolist() == ["A", "A", "A", "B", "B"]
    assert data.frame["close"].tolist() == [10.5, 10.25, 10.75, 20.5, 20.0]
    assert (data.frame.dtypes[["open", "high", "low", "close", "volume"]] == "float64").all()
    assert data.frame.index.tolist() == list(range(5))
    assert data.truth is None


@pytest.mark.parametrize("form", ["gzip", "bom", "crlf", "quoted", "blanks", "parquet", "semicolon"])
def test_every_accepted_form_gives_the_same_table(tmp_path, form):
    expected, values = market(write(tmp_path, HEADER + BARS)).frame, {}
    text, name = HEADER + BARS, "same.csv"
    if form == "gzip":
        content, name = gzip.compress(text.encode()), "same.csv.gz"
    elif form == "bom":
        content = b"\xef\xbb\xbf" + text.encode()
    elif form == "crlf":
        content = text.replace("\n", "\r\n")
    elif form == "quoted":
        content = "".join(",".join(f'"{c}"' for c in line.split(",")) + "\n" for line in text.splitlines())
    elif form == "blanks":
        content = text.replace(",", " , ") + "\n\n"
    elif form == "semicolon":
        content, values = text.replace(",", ";").replace(".", ","), {"delimiter": ";", "decimal": ","}
    else:
        buffer, name = io.BytesIO(), "same.parquet"
        pd.read_csv(io.StringIO(text), parse_dates=["date"]).to_parquet(buffer)
        content = buffer.getvalue()
    pd.testing.assert_frame_equal(market(write(tmp_path, content, name), **values).frame, expected)


def test_real_prices_load_with_their_quirks():
    path = SHARED / "data" / "us_daily.csv.gz"
    if not path.exists():
        pytest.skip("us_daily.csv.gz is not beside the checkout")
    data = market(path)
    assert len(data.frame) == 60_295
    assert data.frame["ticker"].nunique() == 13
    notes = " ".join(data.notes)
    assert "raw_close" in notes
    assert "EEM 1 (first 2003-08-15)" in notes
    assert "like a split" not in notes
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = sorted(csv.reader(file), key=lambda row: (row[1], row[0]))
    rows = [row for row in rows if row[0] != "date"]
    assert data.frame["date"].dt.strftime("%Y-%m-%d").tolist() == [row[0] for row in rows]
    for k, name in enumerate(("open", "high", "low", "close", "volume"), start=2):
        assert data.frame[name].tolist() == [float(row[k]) for row in rows]


def test_synthetic_file_equals_the_generated_market():
    path = SHARED / "data" / "synthetic_daily.csv.gz"
    if not path.exists():
        pytest.skip("synthetic_daily.csv.gz is not beside the checkout")
    generated = read_data(DataConfig())
    pd.testing.assert_frame_equal(market(path).frame, generated.frame)
    assert len(generated.truth) == len(generated.frame)


def test_other_file_is_read_in_place_of_the_configured_one(tmp_path):
    other = write(tmp_path, HEADER + BARS, "other.csv")
    data = read_data(DataConfig(source="market", path="absent.csv"), other)
    assert len(data.frame) == 5


def test_file_without_tickers_is_one_ticker_named_after_it(tmp_path):
    data = market(write(tmp_path, "date,close\n2020-01-02,10\n2020-01-03,11\n", "SPX.csv"))
    assert data.frame["ticker"].tolist() == ["SPX", "SPX"]
    assert any("one ticker, SPX" in note for note in data.notes)


@pytest.mark.parametrize("ticker", ["NA", "0700", "1e5", "TRUE", "nan", "null", "<script>", "=1+1", "Ä"])
def test_tickers_stay_text(tmp_path, ticker):
    data = market(write(tmp_path, f"date,ticker,close\n2020-01-02,{ticker},10\n2020-01-03,{ticker},11\n"))
    assert data.frame["ticker"].tolist() == [ticker, ticker]


def test_declared_date_format_is_used(tmp_path):
    path = write(tmp_path, "date,close\n03/01/2020,10\n04/01/2020,11\n")
    dates = market(path, date_format="%d/%m/%Y").frame["date"]
    assert dates.dt.strftime("%Y-%m-%d").tolist() == ["2020-01-03", "2020-01-04"]


def test_times_with_zones_become_utc(tmp_path):
    path = write(tmp_path, "date,close\n2020-01-03T00:30:00+01:00,10\n2020-07-03T00:30:00+02:00,11\n")
    data = market(path)
    assert data.frame["date"].tolist() == [pd.Timestamp("2020-01-02 23:30"), pd.Timestamp("2020-07-02 22:30")]
    assert any("converted to UTC" in note for note in data.notes)


# What is mended or noted


def test_unsorted_rows_are_sorted_with_a_note(tmp_path):
    lines = BARS.splitlines(keepends=True)
    data = market(write(tmp_path, HEADER + "".join(reversed(lines))))
    pd.testing.assert_frame_equal(data.frame, market(write(tmp_path, HEADER + BARS, "b.csv")).frame)
    assert any("out of order" in note and "line 3" in note for note in data.notes)


def test_file_in_order_of_date_then_ticker_needs_no_note(tmp_path):
    lines = sorted(BARS.splitlines(keepends=True))
    assert not any("out of order" in note for note in market(write(tmp_path, HEADER + "".join(lines))).notes)


def test_exact_copies_are_dropped_with_a_note(tmp_path):
    data = market(write(tmp_path, HEADER + BARS + BARS.splitlines()[1] + "\n"))
    assert len(data.frame) == 5
    assert any("1 rows are exact copies" in note and "line 7" in note and "2020-01-03" in note for note in data.notes)


@pytest.mark.parametrize("ratio", [2, 1 / 10])
def test_jump_like_a_split_is_noted_and_kept(tmp_path, ratio):
    closes = np.concatenate([wavy(60), wavy(60) * ratio * 50 / wavy(60)[0]])
    closes[60:] = wavy(60) * wavy(60)[-1] / wavy(60)[0] * ratio
    data = market(write(tmp_path, HEADER + long_bars(closes)))
    notes = [note for note in data.notes if "like a split of" in note]
    assert len(notes) == 1
    date = str(data.frame["date"].iloc[60].date())
    assert "ticker A" in notes[0] and date in notes[0] and f"{ratio:.3g} times" in notes[0]
    assert len(data.frame) == 120


def test_wide_crash_day_is_not_called_a_split(tmp_path):
    lines = (HEADER + long_bars(wavy(120))).splitlines()
    date, *_ = lines[-1].split(",")
    lines[-1] = f"{date},A,25,26,20,21,100"
    assert not any("like a split of" in note for note in market(write(tmp_path, "\n".join(lines) + "\n")).notes)


def test_gaps_and_dates_that_only_others_have_are_noted(tmp_path):
    a, b = long_bars(wavy(150), "A").splitlines(), long_bars(wavy(150), "B").splitlines()
    del a[50:70], b[20]
    text = HEADER + "\n".join(a + b) + "\n"
    notes = " ".join(market(write(tmp_path, text)).notes)
    assert "1 long gaps: A 2020-03-10 to 2020-04-08" in notes
    assert "A 20 (first 2020-03-11), B 1 (first 2020-01-29)" in notes


def test_halts_are_noted(tmp_path):
    lines = long_bars(wavy(120)).splitlines()
    lines[40:47] = [lines[39].replace(lines[39][:10], line[:10]).rsplit(",", 1)[0] + ",0" for line in lines[40:47]]
    notes = market(write(tmp_path, HEADER + "\n".join(lines) + "\n")).notes
    assert any("1 halts" in note and "of 7 bars" in note and "line 42" in note for note in notes)


def test_range_off_by_rounding_is_widened_with_a_note(tmp_path):
    data = market(write(tmp_path, HEADER + "2020-01-02,A,10,10.5,9,10.50001,1\n2020-01-03,A,10,11,9,10,1\n"))
    assert data.frame["high"].iloc[0] == 10.50001
    assert any("by rounding" in note and "line 2" in note for note in data.notes)


def test_extra_columns_are_ignored_with_a_note_that_names_likely_slips(tmp_path):
    data = market(write(tmp_path, "date,ticker,close,hihg,sector\n2020-01-02,A,10,11,tech\n2020-01-03,A,10,11,tech\n"))
    assert data.frame.columns.tolist() == ["date", "ticker", "close"]
    assert any("hihg, sector" in note and "hihg may be meant as high" in note for note in data.notes)


@pytest.mark.parametrize("spelling", [str.title, str.upper])
def test_columns_are_found_in_upper_or_lower_case(tmp_path, spelling):
    expected = market(write(tmp_path, HEADER + BARS)).frame
    assert market(write(tmp_path, spelling(HEADER) + BARS)).frame.equals(expected)
    pd.read_csv(io.StringIO(spelling(HEADER) + BARS)).to_parquet(tmp_path / "prices.parquet")
    assert market(tmp_path / "prices.parquet").frame.equals(expected)


def test_a_column_in_its_own_spelling_is_preferred(tmp_path):
    data = market(write(tmp_path, HEADER.replace("open", "Close") + BARS))
    assert data.frame["close"].iloc[0] == 10.5 and "open" not in data.frame
    assert any("columns ignored: Close" in note for note in data.notes)


def test_blank_lines_between_records_are_skipped_with_a_note(tmp_path):
    data = market(write(tmp_path, HEADER + BARS.replace("\n", "\n\n", 1)))
    assert len(data.frame) == 5
    assert any("line 3" in note for note in data.notes)


# What is refused: the file


def zipped():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("prices.csv", HEADER + BARS)
    return buffer.getvalue()


def parquet():
    buffer = io.BytesIO()
    pd.read_csv(io.StringIO(HEADER + BARS)).to_parquet(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", ["empty", "CSV"]),
        (b"\n\n", ["no header", "date, close"]),
        (HEADER, ["no row"]),
        (BARS, ["line 1", "'date' is missing", "looks like data"]),
        ((HEADER + BARS).replace(",", ";"), ["line 1", "'date' is missing", "expected columns date, close", "';'"]),
        ((HEADER + BARS).replace(",", "\t"), ["line 1", "data.delimiter", r"'\t'"]),
        ("<!DOCTYPE html><html>", ["HTML", "line 1", "<!DOCTYPE"]),
        (zipped(), ["zip", "CSV"]),
        (parquet(), ["Parquet", "name it .parquet"]),
        (pickle.dumps({"date": [1]}), ["pickle"]),
        ((HEADER + BARS).encode("utf-16"), ["UTF-16", "byte offset 0", "UTF-8"]),
        ((HEADER + BARS).encode("utf-16-le"), ["NUL", "byte offset 1", "UTF-8"]),
        ((HEADER + BARS).replace("A", "A\0", 1), ["NUL", "line 2", "byte offset 51", "UTF-8"]),
        ((HEADER + BARS).replace("A", "Ä", 1).encode("latin-1"), ["0xc4", "line 2", "byte offset 50", "UTF-8"]),
        (HEADER + BARS + "2020-01-06,\xe9".encode()[:-1].decode("latin-1"), ["line 7", "2 fields"]),
        ((HEADER + BARS).encode() + b"\xc3", ["ends inside", "line 7", "UTF-8"]),
        (HEADER + BARS.replace(",100", ",100,7"), ["line 2", "8 fields", "header has 7"]),
        (HEADER + BARS.replace(",20\n", "\n"), ["line 6", "6 fields"]),
        (HEADER + BARS + "source: nowhere\n", ["line 7", "1 fields", "comment"]),
        (HEADER + BARS.replace("A", '"A', 1), ["valid CSV", "line 6", "quotes"]),
        (HEADER + BARS.replace("A", '"A"x', 1), ["valid CSV", "line 2"]),
        (HEADER.replace("open", "close") + BARS, ["'close'", "2 times", "positions 3, 6", "line 1"]),
        (HEADER.replace("close", "clsoe") + BARS, ["'close' is missing", "'clsoe'", "line 1"]),
        (
            HEADER.replace("close", "Close").replace("open", "CLOSE") + BARS,
            ["'close' is missing", "did you mean 'CLOSE'"],
        ),
        (HEADER.replace("ticker", "Symbol") + BARS, ["'ticker' is missing", "'Symbol'"]),
        (HEADER.replace("volume", "") + BARS, ["column 7 has no name", "line 1"]),
        (",".join(map(str, range(10_001))) + "\n", ["10001 columns", "10000"]),
        (b"\x1f\x8b" + b"garbage" * 5, ["gzip", "damaged"]),
        (gzip.compress((HEADER + BARS).encode())[:-20], ["gzip", "damaged"]),
    ],
)
def test_files_that_are_no_table_are_refused(tmp_path, content, says):
    message = refusal(market, write(tmp_path, content))
    for part in ["prices.csv", *says]:
        assert part in message


def test_name_and_content_must_agree(tmp_path):
    assert "not gzip" in refusal(market, write(tmp_path, HEADER + BARS, "prices.csv.gz"))
    assert "not a valid Parquet" in refusal(market, write(tmp_path, HEADER + BARS, "prices.parquet"))


def test_absent_file_and_folder_are_refused(tmp_path):
    assert "file not found" in refusal(market, tmp_path / "absent.csv")
    assert "is a folder" in refusal(market, tmp_path)


def test_a_million_columns_are_refused_by_their_number(tmp_path):
    names = ",".join(f"c{k}" for k in range(10**6)) + "\n"
    assert "1000000 columns are more than 10000" in refusal(market, write(tmp_path, names + "1\n"))
    assert "has 1000000 fields" in refusal(market, write(tmp_path, HEADER + "1," * 999_999 + "1\n"))
    path = tmp_path / "wide.parquet"
    pd.DataFrame(np.zeros((1, 10_001)), columns=[f"c{k}" for k in range(10_001)]).to_parquet(path)
    assert "10001 columns are more than 10000" in refusal(market, path)


@pytest.mark.parametrize("name", ["/dev/zero", "/dev/null", "pipe"])
def test_what_is_no_regular_file_is_refused_unread(tmp_path, name):
    """A device gives bytes for ever, and a pipe waits for a writer."""
    path = Path(name)
    if name == "pipe":
        os.mkfifo(path := tmp_path / name)
    assert "is not a regular file" in refusal(market, path)


def test_offset_of_bad_bytes_holds_beyond_the_first_block(tmp_path):
    # A block ends inside the two-byte character, so that what is pending must be counted.
    filler = HEADER + BARS * 8000
    content = filler.encode()[: 2**20 - 1]
    message = refusal(market, write(tmp_path, content + "é".encode() + b"\xe9,"))
    assert f"byte offset {2**20 + 1}" in message
    message = refusal(market, write(tmp_path, content + b"\xc3,"))
    assert f"byte offset {2**20 - 1}" in message


def test_gzip_bomb_is_refused_while_streaming(tmp_path):
    member = gzip.compress(b"2020-01-02,A,10,11,9,10.5,100\n" * 350_000)
    message = refusal(market, write(tmp_path, gzip.compress(HEADER.encode()) + member * 100, "bomb.csv.gz"))
    assert "bomb.csv.gz" in message and "unpack to more than" in message


def test_a_packed_file_of_one_endless_line_is_refused_early(tmp_path):
    path = write(tmp_path, gzip.compress(HEADER.encode() + b"0" * 2**27), "line.csv.gz")
    assert path.stat().st_size < 2**18
    assert "line 2: is longer than" in refusal(market, path)


def test_line_without_end_is_refused(tmp_path):
    assert "line 2" in refusal(market, write(tmp_path, HEADER + "1" * (2**24 + 2**21)))


# What is refused: values


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("10.25", "", ["missing", "column close", "line 3"]),
        ("10.25", "NaN", ["missing", "column close", "line 3", "fill"]),
        ("10.25", "inf", ["not finite", "column close", "line 3"]),
        ("10.25", "1e309", ["not finite", "column close", "line 3"]),
        ("10.25", "1e308", ["beyond 1e+12", "column close", "line 3"]),
        ("10.25", "n/a?", ["'n/a?'", "column close", "line 3", "data.decimal"]),
        ("10.25", "$10.25", ["'$10.25'", "column close", "line 3"]),
        ("10.25", '"10,25"', ["'10,25'", "line 3", "--set 'data.decimal=,'"]),
        ("10.25", '"1,000.5"', ["'1,000.5'", "line 3", "1234.5"]),
        ("10.25", "1_0", ["'1_0'", "line 3"]),
        ("10.25", "0x1F", ["'0x1F'", "line 3"]),
        ("10.25", "१०", ["column close", "line 3"]),
        ("10.25", "0", ["close 0.0 is not positive", "line 3", "ticker A", "date 2020-01-03"]),
        ("10.25", "-1", ["not positive", "line 3", "ticker A", "fix or remove"]),
        (",50\n", ",-50\n", ["volume -50.0 is negative", "line 4", "ticker A", "2020-01-06"]),
        ("10.5,11,10,", "10.5,9,10,", ["high 9.0 is below low 10.0", "line 3", "ticker A", "2020-01-03"]),
        ("10.25", "12", ["high 11.0 is below close 12.0", "line 3", "ticker A"]),
        ("10.25", "8", ["close 8.0 is below low 10.0", "line 3", "ticker A"]),
        ("10.5,11,10,", "13,11,10,", ["high 11.0 is below open 13.0", "line 3"]),
        ("2020-01-03,A", "2020-01-02,A", ["line 3", "line 2", "same ticker and date", "ticker A", "keep one"]),
        ("A", "", ["ticker is missing", "line 2"]),
        ("2020-01-03", "", ["date is missing", "line 3"]),
        ("2020-01-03", "03/01/2020", ["'03/01/2020'", "line 3", "ISO 8601", "date_format"]),
        ("2020-01-03", "1578009600", ["'1578009600'", "line 3", "ISO 8601"]),
        ("2020-01-03", "2020-02-30", ["'2020-02-30'", "line 3"]),
        ("2020-01-03", "1600-01-03", ["1600", "line 3", "1900-2100"]),
        ("2020-01-03", "9999-01-03", ["9999", "line 3", "1900-2100"]),
        ("2020-01-03", "2020-01-03T10:00", ["time of day", "line 2", "line 3"]),
    ],
)
def test_bad_values_are_refused_with_their_place(tmp_path, old, new, says):
    message = refusal(market, write(tmp_path, HEADER + BARS.replace(old, new, 1)))
    for part in ["prices.csv", *says]:
        assert part in message


@pytest.mark.parametrize("delimiter", ['"', "\n", "\r"])
def test_delimiters_that_csv_needs_for_itself_are_refused(tmp_path, delimiter):
    assert "data.delimiter" in refusal(market, write(tmp_path, HEADER + BARS), delimiter=delimiter)


def test_lines_count_quoted_line_breaks(tmp_path):
    text = HEADER.replace("\n", ",remark\n") + BARS.replace("\n", ",x\n").replace("x", '"a\nb"', 1).replace(
        "20.5,", "?,"
    )
    assert "line 6" in refusal(market, write(tmp_path, text))


def test_zones_must_be_on_all_dates_or_none(tmp_path):
    path = write(tmp_path, "date,close\n2020-01-02T00:00:00Z,10\n2020-01-03T00:00:00,11\n")
    message = refusal(market, path)
    assert "time zone" in message and "line 3" in message and "line 2" in message


def test_dates_that_break_the_declared_format_are_refused(tmp_path):
    path = write(tmp_path, "date,close\n03/01/2020,10\n13/14/2020,11\n")
    message = refusal(market, path, date_format="%d/%m/%Y")
    assert "line 3" in message and "%d/%m/%Y" in message
    assert "data.date_format" in refusal(market, path, date_format="%Q")


def test_decimal_points_are_refused_where_commas_are_declared(tmp_path):
    path = write(tmp_path, "date;close\n2020-01-02;10,5\n2020-01-03;10.5\n")
    message = refusal(market, path, delimiter=";", decimal=",")
    assert "line 3" in message and "data.decimal" in message


@pytest.mark.parametrize(("row", "factor"), [(60, 100), (60, 0.01), (0, 100), (119, 0.01), (1, 100), (118, 100)])
def test_single_print_a_hundred_times_off_is_refused(tmp_path, row, factor):
    closes = wavy(120)
    closes[row] *= factor
    message = refusal(market, write(tmp_path, HEADER + long_bars(closes)))
    assert f"line {row + 2}," in message and "ticker A" in message
    assert ("100 times" if factor > 1 else "1/100") in message and "decimal point" in message


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
        ("x,y\n" + "".join(f"1,{k}.5\n" for k in range(1001)), {}, ["1001 classes", "label_column"]),
        ("x,z\n1,0\n2,1\n", {}, ["'y' is missing", "line 1"]),
        ("x,lable\n1,0\n2,1\n", {"label_column": "label"}, ["'label' is missing", "'lable'"]),
        ("y\n0\n1\n", {}, ["no feature column"]),
        ("x,y\n1,0\n2,1\n$3,1\n4,0\n", {}, ["'$3'", "column x", "line 4"]),
        ("x,y\n1,0\n2,1\ninf,1\n4,0\n", {}, ["not finite", "column x", "line 4"]),
        ("x,y\n1,0\n2,1\n1e13,1\n4,0\n", {}, ["beyond 1e+12", "column x", "line 4"]),
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
    assert "row 2" in refusal(market, stored(date=dates, close=[1.0, np.nan]))
    assert "'close' is missing" in refusal(market, stored(date=dates, clsoe=[1.0, 2.0]))
    assert "type list" in refusal(market, stored(date=dates, close=[[1.0], [2.0]])).replace("large_list", "list")
    assert "not finite" in refusal(market, stored(date=dates, close=[1.0, np.inf]))
    good = stored(date=dates, close=[1.0, 2.0], ticker=["AAAA", "BBBB"]).read_bytes()
    for text in (b"AAAA", b"ticker"):
        bad = good.replace(text, b"\xff" + text[1:])
        assert "not a valid Parquet" in refusal(market, write(tmp_path, bad, "bad.parquet"))


# Fuzz: a damaged file is refused, or read as an independent reader reads it

NUMBERS = ["inf", "nan", "NA", "1e400", "1_0", "E5", "e", "0", "9", "1,5", ".", "-", "+", "$", "\u0661", "\u00b2"]
DATES = ["T00:00", "Z", "2020-01-03", "03/01/2020"]
MARKS = [",", ";", "'", '"', "\n", "\r", "\0", "\t", "\x0b", " ", "\ufeff", "A", "é"]
SNIPPETS = NUMBERS + DATES + MARKS
SHARE = st.floats(0, 1, exclude_max=True)
KINDS = st.sampled_from(["insert", "delete", "copy line", "drop line", "swap"])
MUTATIONS = st.lists(st.tuples(KINDS, SHARE, SHARE, st.sampled_from(SNIPPETS)), min_size=1, max_size=4)


def mutate(text, mutations):
    for kind, a, b, snippet in mutations:
        lines = text.splitlines(keepends=True) or [""]
        at, i, j = int(a * len(text)), int(a * len(lines)), int(b * len(lines))
        if kind == "insert":
            text = text[:at] + snippet + text[at:]
        elif kind == "delete":
            text = text[:at] + text[at + 1 + int(3 * b) :]
        elif kind == "copy line":
            text = "".join([*lines[:i], lines[j], *lines[i:]])
        elif kind == "drop line":
            text = "".join(lines[:i] + lines[i + 1 :])
        else:
            lines[i], lines[j] = lines[j], lines[i]
            text = "".join(lines)
    return text


def header_of(text):
    records = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    return [name.strip() for name in next(record for record in records if record)]


def independent_reading(text):
    """Rows by the csv module, numbers by Decimal, dates by datetime."""
    header = header_of(text)
    _, *records = [r for r in csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline="")) if r]
    rows = set()
    for record in records:
        assert len(record) == len(header)
        cells = {name: cell.strip() for name, cell in zip(header, record, strict=True)}
        date = datetime.fromisoformat(cells["date"]).replace(tzinfo=None)
        numbers = [float(Decimal(cells[name])) for name in header if name in ("open", "high", "low", "close", "volume")]
        rows.add((cells.get("ticker", "fuzz"), date, *numbers))
    return sorted(rows)


@given(MUTATIONS)
@settings(max_examples=400, deadline=None)
def test_damaged_file_is_refused_or_read_exactly(tmp_path_factory, mutations):
    text = mutate(HEADER + BARS, mutations)
    path = tmp_path_factory.mktemp("fuzz") / "fuzz.csv"
    path.write_bytes(text.encode())
    try:
        frame = market(path).frame
    except InputError:
        return
    names = [name for name in header_of(text) if name not in ("date", "ticker")]
    order = [name for name in names if name in frame.columns]
    assert len(order) == len(frame.columns) - 2
    read = [(r["ticker"], r["date"].to_pydatetime(), *(r[c] for c in order)) for _, r in frame.iterrows()]
    expected = independent_reading(text)
    assert len(read) == len(expected)
    for got, want in zip(read, expected, strict=True):
        assert got[:2] == want[:2]
        # A range off by rounding is widened, so high and low may differ by as much.
        assert got[2:] == pytest.approx(want[2:], rel=1e-4)
        assert all(g == w for g, w, c in zip(got[2:], want[2:], order, strict=True) if c not in ("high", "low"))


def test_independent_reading_agrees_on_the_undamaged_file(tmp_path):
    frame = market(write(tmp_path, HEADER + BARS)).frame
    assert [tuple(row) for row in frame[["ticker", "date", "open"]].itertuples(index=False)] == [
        (ticker, pd.Timestamp(date), opening) for ticker, date, opening, *_ in independent_reading(HEADER + BARS)
    ]
