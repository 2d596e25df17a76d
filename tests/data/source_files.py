"""Small files of bars, and how tests read them."""

import numpy as np
import pandas as pd
import pytest

from scripts.config.experiment import DataConfig
from scripts.data.sources import read_data
from scripts.errors import InputError

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
