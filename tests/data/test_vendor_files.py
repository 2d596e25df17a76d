"""Files as vendors and programs write them: read to the right numbers, or refused with the line that helps."""

import json

import numpy as np
import pytest

from scripts.config.experiment import DataConfig
from scripts.data.sources import read_data
from scripts.errors import InputError
from tests.conftest import SHARED

CASES = SHARED / "cases" / "vendors"
# Files that are refused, with the cause that the message must name.
REFUSED = {
    "yahoo_adj_renamed_close": "some prices are adjusted and others are not",
    "thousands_integers": 'data.thousands=","',
    "thousands_dots_integers": 'data.thousands="."',
    "kaggle_zero_open": "open 0.0 is not positive",
    "crsp": "like a split of 4 to 1",
    "hdf5": "HDF5",
    "wti_negative": "negative prices have no returns",
}
# The truth of these cases states volumes, or empty minutes, that are not in their files.
NO_VOLUME = {
    *("investing_en", "investing_en_renamed", "histdata_ascii", "cryptodatadownload", "kaggle_bitcoin"),
    *("kraken_ohlcvt", "tushare", "eodhd", "sharadar_sep", "yahoo_page_csv", "yahoo_page_null_row"),
}
OTHER_NAMES = {"tushare": {"000001.SZ": "AAPL", "600000.SH": "MSFT", "300750.SZ": "NVDA"}}
SINGLE = {"parquet_categorical"}  # prices are stored in single precision
NO_ROWS = {"kaggle_bitcoin"}  # minutes without prices are left out

cases = [case["case"] for case in json.loads((CASES / "index.json").read_text())] if CASES.exists() else []
needs_cases = pytest.mark.skipif(not cases, reason="the vendors' files are not beside the checkout")


def read(case, **values):
    file = next(entry["file"] for entry in json.loads((CASES / "index.json").read_text()) if entry["case"] == case)
    return read_data(DataConfig(source="market", path=str(CASES / case / file), **values))


def truth_of(case):
    adjusted = CASES / case / "truth_adjusted.json"
    return json.loads((adjusted if adjusted.exists() else CASES / case / "truth.json").read_text())


def assert_true(frame, case, truth):
    by_ticker = dict(iter(frame.groupby("ticker")))
    names = OTHER_NAMES.get(case, {})
    if len(truth) == len(by_ticker) == 1:  # the file does not have the name
        names = {next(iter(by_ticker)): next(iter(truth))}
    found = {names.get(ticker, ticker): own for ticker, own in by_ticker.items()}
    assert found.keys() == truth.keys()
    near = {"rtol": 1e-6 if case in SINGLE else 1e-9}
    for ticker, expected in truth.items():
        own = found[ticker]
        assert own.date.iloc[0].isoformat() == expected["first_date"]
        assert own.date.iloc[-1].isoformat() == expected["last_date"]
        assert np.isclose(own.close.iloc[0], expected["first_close"], **near)
        assert np.isclose(own.close.iloc[-1], expected["last_close"], **near)
        if case not in NO_ROWS:
            assert len(own) == expected["rows"]
            assert np.isclose(own.close.sum(), expected["sum_close"], **near)
        if case not in NO_VOLUME and expected["sum_volume"] is not None:
            assert np.isclose(own.volume.sum(), expected["sum_volume"], **near)


@needs_cases
@pytest.mark.parametrize("case", [case for case in cases if case not in REFUSED])
def test_files_of_vendors_are_read_to_the_right_numbers(case):
    frame = read(case).frame
    if (truth := truth_of(case)) is not None:
        assert_true(frame, case, truth)


@needs_cases
@pytest.mark.parametrize(("case", "cause"), REFUSED.items())
def test_files_with_two_readings_or_unusable_prices_are_refused_with_the_cause(case, cause):
    with pytest.raises(InputError) as refused:
        read(case)
    assert cause in str(refused.value) and refused.value.remedy


@needs_cases
@pytest.mark.parametrize(("case", "mark"), [("thousands_integers", ","), ("thousands_dots_integers", ".")])
def test_the_line_of_the_message_leads_to_the_right_numbers(case, mark):
    assert_true(read(case, thousands=mark).frame, case, truth_of(case))


@needs_cases
@pytest.mark.parametrize("case", ["tiingo", "eodhd", "yahoo_page_csv"])
def test_raw_prices_are_used_on_request(case):
    assert_true(read(case, prices="raw").frame, case, json.loads((CASES / case / "truth.json").read_text())) if (
        case == "yahoo_page_csv"
    ) else None
    raw, adjusted = read(case, prices="raw").frame, read(case).frame
    assert not np.allclose(raw.close, adjusted.close) and len(raw) == len(adjusted)
