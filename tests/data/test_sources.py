"""Market files: what is accepted, and what is corrected with a note."""

import csv
import gzip
import io

import numpy as np
import pandas as pd
import pytest

from scripts.config.experiment import DataConfig
from scripts.data.sources import read_data
from tests.conftest import SHARED
from tests.data.source_files import BARS, HEADER, long_bars, market, refusal, wavy, write

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
def test_jump_like_a_split_is_refused_unless_raw_prices_are_wanted(tmp_path, ratio):
    closes = np.concatenate([wavy(60), wavy(60) * ratio * 50 / wavy(60)[0]])
    closes[60:] = wavy(60) * wavy(60)[-1] / wavy(60)[0] * ratio
    path = write(tmp_path, HEADER + long_bars(closes))
    message = refusal(market, path)
    assert "like a split of" in message and "data.prices=raw" in message
    data = market(path, prices="raw")
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
