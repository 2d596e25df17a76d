"""Market files that are refused: the message names the place and what to do."""

import gzip
import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.data.source_files import BARS, HEADER, long_bars, market, refusal, wavy, write

# What is refused: the file


def zipped(*names):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(name, HEADER + BARS)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", ["empty", "CSV"]),
        (b"\n\n", ["no header", "names of its columns"]),
        (HEADER, ["no row"]),
        (BARS, ["'close' is missing", "looks like data", "data.header=["]),
        ("<!DOCTYPE html><html>", ["HTML", "line 1", "<!DOCTYPE"]),
        (zipped("a.csv", "b.csv"), ["zip", "2 files: a.csv, b.csv"]),
        (pickle.dumps({"date": [1]}), ["pickle"]),
        ((HEADER + BARS).encode("utf-16-le"), ["NUL", "byte offset 1", "UTF-16"]),
        ((HEADER + BARS).replace("A", "A\0", 1), ["NUL", "line 2", "byte offset 51"]),
        ((HEADER + BARS).replace("A", "Ä", 1).encode("latin-1"), ["tickers have letters", "UTF-8"]),
        (HEADER + BARS + "2020-01-06,\xe9".encode()[:-1].decode("latin-1"), ["line 7", "2 fields"]),
        ((HEADER + BARS).encode() + b"\xc3", ["ends inside", "line 7", "UTF-8"]),
        (HEADER + BARS.replace(",100", ",100,7"), ["line 2", "8 fields", "header has 7"]),
        (HEADER + BARS.replace(",20\n", "\n"), ["line 6", "6 fields"]),
        (HEADER + "source: nowhere\n" + BARS, ["line 2", "1 fields", "comment"]),
        (HEADER + BARS.replace("A", '"A', 1), ["valid CSV", "line 6", "quotes"]),
        (HEADER + BARS.replace("A", '"A"x', 1), ["valid CSV", "line 2"]),
        (HEADER.replace("open", "close") + BARS, ["'close'", "2 times", "positions 3, 6", "line 1"]),
        (HEADER.replace("close", "clsoe") + BARS, ["'close' is missing", "data.columns.close=clsoe"]),
        (
            HEADER.replace("close", "Close").replace("open", "CLOSE") + BARS,
            ["'CLOSE' and 'Close' can both be close", "data.columns.close=CLOSE"],
        ),
        (HEADER.replace("volume", "") + BARS, ["column 7 has no name", "line 2"]),
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
    assert "is a folder without files" in refusal(market, tmp_path)


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
        ("10.25", "1e308", ["beyond 1e+18", "column close", "line 3"]),
        ("10.25", "n/a?", ["'n/a?'", "column close", "line 3", "decimal mark '.'"]),
        ("10.25", '"10,25"', ["'10,25'", "line 3", "decimal mark '.'"]),
        ("10.25", '"1,000.5"', ["1000.5", "line 3", "below close"]),
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
    assert "line 3" in message and "decimal mark ','" in message


@pytest.mark.parametrize(("row", "factor"), [(60, 100), (60, 0.01), (0, 100), (119, 0.01), (1, 100), (118, 100)])
def test_single_print_a_hundred_times_off_is_refused(tmp_path, row, factor):
    closes = wavy(120)
    closes[row] *= factor
    message = refusal(market, write(tmp_path, HEADER + long_bars(closes)))
    assert f"line {row + 2}," in message and "ticker A" in message
    assert ("100 times" if factor > 1 else "1/100") in message and "decimal point" in message
