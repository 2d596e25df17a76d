"""Any price table, written in any combination of marks, orders and containers, comes back equal or is refused."""

import bz2
import gzip
import json
import lzma
import sqlite3
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scripts.config.experiment import DataConfig
from scripts.data.files.market import read_market
from scripts.errors import InputError

DELIMITERS = [",", ";", "\t", "|"]
DATE_FORMS = [
    *("%Y-%m-%d", "%Y%m%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%Y/%m/%d", "%d-%b-%Y", "%b %d, %Y", "%m/%d/%y"),
    *("%Y-%m-%d %H:%M:%S", "epoch s", "epoch ms"),
]
NAMES = {
    "plain": ["date", "ticker", "open", "high", "low", "close", "volume"],
    "upper": ["DATE", "SYMBOL", "OPEN", "HIGH", "LOW", "CLOSE", "VOL"],
    "brackets": ["<DATE>", "<TICKER>", "<OPEN>", "<HIGH>", "<LOW>", "<CLOSE>", "<VOL>"],
    "german": ["Datum", "Symbol", "Eröffnung", "Hoch", "Tief", "Schlusskurs", "Volumen"],
}
CONTAINERS = ["plain", "gz", "bz2", "xz", "zip", "parquet", "feather", "json", "sqlite"]


@st.composite
def tables(draw):
    """Prices of one or two tickers on business days, with a number of decimals."""
    n_days = draw(st.integers(14, 60))
    decimals = draw(st.integers(0, 4))
    level = draw(st.sampled_from([0.7, 12.0, 980.0, 41_000.0]))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    frames = []
    for ticker in ["AAA", "BBB"][: draw(st.integers(1, 2))]:
        close = level * np.exp(np.cumsum(rng.normal(0, 0.01, n_days)))
        opening = close * np.exp(rng.normal(0, 0.003, n_days))
        prices = {"open": opening, "high": np.maximum(opening, close) * 1.01, "low": np.minimum(opening, close) * 0.99}
        frame = pd.DataFrame({"date": pd.bdate_range("2019-03-01", periods=n_days), "ticker": ticker, **prices})
        frame["close"], frame["volume"] = close, rng.integers(100, 9_000_000, n_days).astype(float)
        frames.append(frame)
    table = pd.concat(frames, ignore_index=True)
    table[["open", "high", "low", "close"]] = table[["open", "high", "low", "close"]].round(decimals)
    return table, decimals


def number(value, decimals, decimal, thousands):
    text = f"{value:,.{decimals}f}"
    return text.replace(",", "\0").replace(".", decimal).replace("\0", thousands)


def written_dates(dates, form):
    if form.startswith("epoch"):
        return (dates.astype("int64") // {"epoch s": 10**9, "epoch ms": 10**6}[form]).astype(str)
    return dates.dt.strftime(form)


def write_table(folder, table, decimals, style, names, form, container, newest_first):
    decimal, thousands, delimiter = style
    shown = table.iloc[::-1] if newest_first else table
    text = pd.DataFrame({"date": written_dates(shown.date.astype("datetime64[ns]"), form), "ticker": shown.ticker})
    for name in ("open", "high", "low", "close"):
        text[name] = [number(value, decimals, decimal, thousands) for value in shown[name]]
    text["volume"] = [number(value, 0, decimal, thousands) for value in shown.volume]
    text.columns = NAMES[names]
    content = text.to_csv(index=False, sep=delimiter).encode()
    path = folder / f"prices.{container if container != 'plain' else 'csv'}"
    pack = {"plain": bytes, "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
    if container in pack:
        path.write_bytes(pack[container](content))
    elif container == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("prices.csv", content)
    elif container == "parquet":
        text.to_parquet(path)
    elif container == "feather":
        text.reset_index(drop=True).to_feather(path)
    elif container == "json":
        path.write_text(json.dumps(text.to_dict(orient="records")))
    else:
        path.unlink(missing_ok=True)
        with sqlite3.connect(path) as connection:
            text.to_sql("prices", connection, index=False)
        connection.close()
    return path


@pytest.mark.slow
@given(
    tables(),
    st.sampled_from([".", ","]),
    st.sampled_from(["", ",", ".", " ", "'"]),
    st.sampled_from(DELIMITERS),
    st.sampled_from(list(NAMES)),
    st.sampled_from(DATE_FORMS),
    st.sampled_from(CONTAINERS),
    st.booleans(),
)
@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_a_written_table_comes_back_equal_or_is_refused(
    tmp_path_factory, made, decimal, thousands, delimiter, names, form, container, newest_first
):
    table, decimals = made
    if decimal == thousands:
        return
    folder = tmp_path_factory.mktemp("written")
    style = decimal, thousands, delimiter
    path = write_table(folder, table, decimals, style, names, form, container, newest_first)
    try:
        frame = read_market(path, DataConfig(source="market", path=str(path))).frame
    except InputError as error:
        assert error.remedy
        return
    expected = table.sort_values(["ticker", "date"], ignore_index=True)
    assert list(frame.ticker) == list(expected.ticker)
    assert (frame.date.to_numpy() == expected.date.to_numpy()).all()
    for name in ("open", "high", "low", "close", "volume"):
        assert frame[name].to_numpy() == pytest.approx(expected[name].to_numpy(), rel=1e-12)


def test_the_commonest_forms_are_not_refused(tmp_path):
    """A reader that refuses everything would pass the test above."""
    rng = np.random.default_rng(3)
    close = 980 * np.exp(np.cumsum(rng.normal(0, 0.01, 50)))
    frame = pd.DataFrame({"date": pd.bdate_range("2019-03-01", periods=50), "ticker": "AAA", "open": close})
    frame = frame.assign(high=close * 1.01, low=close * 0.99, close=close, volume=1234567.0).round(
        dict.fromkeys(("open", "high", "low", "close"), 2)
    )
    for decimal, thousands, delimiter in [(".", "", ","), (".", ",", "\t"), (",", ".", ";"), (",", "", ";")]:
        for form in ("%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "epoch ms"):
            for container in ("plain", "gz", "zip", "parquet"):
                path = write_table(
                    tmp_path, frame, 2, (decimal, thousands, delimiter), "plain", form, container, newest_first=True
                )
                read = read_market(path, DataConfig(source="market", path=str(path))).frame
                assert read.close.to_numpy() == pytest.approx(frame.close.to_numpy(), rel=1e-12)
