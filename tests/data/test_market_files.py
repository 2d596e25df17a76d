"""Layouts, dates, numbers and repairs of market files beyond those of vendors."""

import numpy as np
import pandas as pd
import pytest

from scripts.data.files.date_style import find_dates
from scripts.data.files.number_style import NumberStyle
from tests.data.source_files import HEADER, long_bars, market, refusal, wavy, write


@pytest.mark.parametrize(
    ("style", "cell", "value"),
    [
        (NumberStyle(), "1234.5", 1234.5),
        (NumberStyle(".", ","), "1,234.5", 1234.5),
        (NumberStyle(".", ","), "12,34,567.5", 1234567.5),
        (NumberStyle(",", "."), "1.234.567,5", 1234567.5),
        (NumberStyle(",", " "), "1\u00a0234,5", 1234.5),
        (NumberStyle(".", "'"), "1\u2019234.5", 1234.5),
        (NumberStyle(), "$12.5", 12.5),
        (NumberStyle(), "(12.5)", -12.5),
        (NumberStyle(), "\u221212.5", -12.5),
        (NumberStyle(), "1.23M", 1_230_000.0),
        (NumberStyle(), "2.5B", 2.5e9),
        (NumberStyle(), "12.5%", 0.125),
        (NumberStyle(), "1e-3", 0.001),
    ],
)
def test_a_number_has_one_value_in_its_style(style, cell, value):
    assert style.value(cell) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize("cell", ["", "1,234.5", "1.2.3", "12abc", "--1", "(1", "1_000", "0x1F", "\u0661", ".", "$"])
def test_what_is_not_a_number_of_the_style_has_no_value(cell):
    assert np.isnan(NumberStyle().value(cell))


@pytest.mark.parametrize("cell", ["12,34.5", "0,123.5", "1,2345", "1,234,56"])
def test_groups_of_a_wrong_length_are_not_read(cell):
    assert np.isnan(NumberStyle(".", ",").value(cell))


@pytest.mark.parametrize(
    ("cells", "first"),
    [
        (["20240131", "20240201"], "2024-01-31"),
        (["1704067200", "1704153600"], "2024-01-01"),
        (["1704067200000", "1704153600000"], "2024-01-01"),
        (["45292", "45293"], "2024-01-01"),
        (["31/01/2024", "01/02/2024"], "2024-01-31"),
        (["01/31/2024", "02/01/2024"], "2024-01-31"),
        (["30.01.24", "31.01.24", "01.02.24", "02.02.24"], "2024-01-30"),
        (["31-Jan-2024", "01-Feb-2024"], "2024-01-31"),
        (["Jan 31, 2024", "Feb 1, 2024"], "2024-01-31"),
        (["2024-01", "2024-02"], "2024-01-31"),
        (["20240131 24:00", "20240201 01:00"], "2024-02-01"),
        (["31.01.2024 10:00:00.000 GMT+0200", "01.02.2024 10:00:00.000 GMT+0200"], "2024-01-31T08:00"),
        (["1/31/2024 4:00 PM", "2/1/2024 4:00 PM"], "2024-01-31T16:00"),
    ],
)
def test_dates_with_one_reading_are_found(cells, first):
    assert find_dates(cells, "t.csv").utc[0] == np.datetime64(first, "ns")


def test_months_in_an_unknown_order_are_read_by_their_even_gaps(tmp_path):
    dates = pd.date_range("1990-01-01", periods=60, freq="MS")
    lines = [f"{date:%m/%d/%Y},{price:.2f}" for date, price in zip(dates, wavy(60), strict=True)]
    data = market(write(tmp_path, "\n".join(["date,close", *lines]) + "\n"))
    assert list(data.frame.date) == list(dates)


def test_few_dates_that_fit_both_orders_are_refused_with_both_flags(tmp_path):
    message = refusal(market, write(tmp_path, "date,close\n01/02/2020,10\n03/02/2020,11\n05/02/2020,10.5\n"))
    assert "data.date_format=%m/%d/%Y" in message and "data.date_format=%d/%m/%Y" in message


def test_closes_that_jump_by_a_thousand_are_read_as_thousands_or_refused(tmp_path):
    closes = ["998", "1.004", "997", "1.010", "1.002"]
    dates = pd.bdate_range("2020-01-01", periods=5)
    lines = [f"{date:%Y-%m-%d};{close}" for date, close in zip(dates, closes, strict=True)]
    data = market(write(tmp_path, "\n".join(["date;close", *lines]) + "\n"))
    assert list(data.frame.close) == [998, 1004, 997, 1010, 1002]
    message = refusal(market, write(tmp_path, "\n".join(["date;close", *lines]) + "\n"), decimal=".")
    assert "1,000 times" in message and "data.thousands" in message


def test_a_folder_has_one_ticker_a_file(tmp_path):
    for ticker in ("BRK.B", "7203.T"):
        closes = [line.partition(",A,") for line in long_bars(wavy(40)).splitlines()]
        rows = "".join(f"{date},{rest}\n" for date, _, rest in closes)
        write(tmp_path, HEADER.replace("ticker,", "") + rows, f"{ticker}.csv")
    data = market(tmp_path)
    assert sorted(set(data.frame.ticker)) == ["7203.T", "BRK.B"] and len(data.frame) == 80
    write(tmp_path, HEADER.replace("ticker,", "") + "2020-01-01,?,1,1,1,1\n", "BRK.B.csv")
    assert "BRK.B.csv" in refusal(market, tmp_path) and "line 2" in refusal(market, tmp_path)


def test_a_column_that_distinguishes_rows_is_proposed_as_the_ticker(tmp_path):
    text = (HEADER + long_bars(wavy(30))).replace("ticker", "desk")
    second = long_bars(wavy(30)).replace(",A,", ",B,")
    message = refusal(market, write(tmp_path, text + second))
    assert "data.columns.ticker=desk" in message
    data = market(tmp_path / "prices.csv", columns={"ticker": "desk"})
    assert sorted(set(data.frame.ticker)) == ["A", "B"]


def test_a_few_bad_rows_are_left_out_with_a_note_and_refused_on_request(tmp_path):
    lines = (HEADER + long_bars(wavy(200))).splitlines()
    date, ticker, _, high, low, close, volume = lines[50].split(",")
    lines[50] = ",".join([date, ticker, "0", high, low, close, volume])
    lines[60] = ",".join([*lines[60].split(",")[:6], ""])
    path = write(tmp_path, "\n".join(lines) + "\n")
    data = market(path)
    assert len(data.frame) == 199 and not data.frame.isna().any().any()
    assert any("1 rows left out" in note and "line 51" in note for note in data.notes)
    assert any("1 missing volumes" in note and "line 61" in note for note in data.notes)
    assert "open 0.0 is not positive" in refusal(market, path, repair="strict")


def test_the_last_date_written_twice_counts_once(tmp_path):
    lines = (HEADER + long_bars(wavy(30))).splitlines()
    later = ",".join([*lines[-1].split(",")[:6], "7"])
    path = write(tmp_path, "\n".join([*lines, later]) + "\n")
    data = market(path)
    assert len(data.frame) == 30 and data.frame.volume.iloc[-1] == 7
    assert "same ticker and date" in refusal(market, path, repair="strict")


def test_tickers_on_different_clocks_are_refused(tmp_path):
    rows = []
    for ticker, hour in (("A", 9), ("B", 10)):
        times = pd.date_range("2020-01-01", periods=60, freq="4h") + pd.Timedelta(hours=hour)
        rows += [f"{t:%Y-%m-%d %H:%M:%S},{ticker},{p:.2f}" for t, p in zip(times, wavy(60), strict=True)]
    message = refusal(market, write(tmp_path, "\n".join(["date,ticker,close", *rows]) + "\n"))
    assert "share hardly any date" in message


@pytest.mark.parametrize(
    ("volumes", "refused"), [(["390.496", "51.203", "945"], True), (["390.496", "51.2", "9"], False)]
)
def test_volumes_whose_marks_may_separate_thousands_are_refused(tmp_path, volumes, refused):
    dates = ("2020-01-01", "2020-01-02", "2020-01-03")
    lines = [f"{date},{10 + k / 4},{volume}" for k, (date, volume) in enumerate(zip(dates, volumes, strict=True))]
    path = write(tmp_path, "\n".join(["date,close,volume", *lines]) + "\n")
    if refused:
        message = refusal(market, path)
        assert "may separate thousands" in message and "data.decimal" in message
    assert market(path, **({"decimal": "."} if refused else {})).frame.volume.iloc[0] == 390.496


def test_folders_of_partitions_name_the_tickers(tmp_path):
    frame = pd.DataFrame({"date": pd.bdate_range("2020-01-01", periods=30), "close": wavy(30)})
    for ticker in ("AAA", "BBB"):
        folder = tmp_path / f"symbol={ticker}"
        folder.mkdir()
        frame.to_parquet(folder / "part-0.parquet")
    assert sorted(set(market(tmp_path).frame.ticker)) == ["AAA", "BBB"]


def test_fixed_point_prices_of_databento_are_in_units_of_the_currency(tmp_path):
    stamps = pd.bdate_range("2020-01-01", periods=30).to_numpy().astype("datetime64[ns]").astype("int64")
    frame = pd.DataFrame({"ts_event": stamps, "rtype": 35})
    close = np.round(wavy(30) * 1e9).astype(np.int64)
    frame = frame.assign(publisher_id=2, instrument_id=1, open=close, high=close, low=close, close=close, symbol="AAA")
    path = tmp_path / "bars.csv"
    frame.to_csv(path, index=False)
    assert market(path).frame.close.to_numpy() == pytest.approx(wavy(30), rel=1e-12)


def test_a_missing_first_volume_is_not_taken_from_a_later_bar(tmp_path):
    lines = (HEADER + long_bars(wavy(200))).splitlines()
    lines[1] = ",".join([*lines[1].split(",")[:6], ""])
    data = market(write(tmp_path, "\n".join(lines) + "\n"))
    assert data.frame.volume.iloc[0] == 0 and (data.frame.volume.iloc[1:] == 100).all()
