"""An index of dates belongs to a market; the index of a table of features is left out, as it always was."""

import numpy as np
import pandas as pd
import pytest

from scripts.config.experiment import DataConfig
from scripts.data.files.raw_tables import frame_table, read_table
from scripts.data.sources import read_data


def features(n_rows=60):
    frame = pd.DataFrame({"x": np.arange(n_rows) / 7, "y": np.arange(n_rows) % 2})
    return frame.set_index(pd.date_range("2020-01-01", periods=n_rows).repeat(2)[:n_rows])


def test_the_index_of_a_table_of_features_is_no_feature(tmp_path):
    assert list(frame_table(features(), ("x",)).columns) == ["x", "y"]
    path = tmp_path / "t.parquet"
    features().to_parquet(path)
    config = DataConfig(source="table", path=str(path), label="column", label_column="y")
    assert list(read_table(path, config, ("y",)).columns) == ["x", "y"]
    assert read_data(config).feature_names == ["x"]


def test_names_of_two_levels_are_names_of_a_table_as_they_are(tmp_path):
    frame = features().set_axis(pd.MultiIndex.from_tuples([("a", "x"), ("b", "y")]), axis=1)
    names = ["('a', 'x')", "('b', 'y')"]
    assert list(frame_table(frame, (names[0],)).columns) == names
    frame.to_parquet(path := tmp_path / "t.parquet")
    config = DataConfig(source="table", path=str(path), label="column", label_column=names[1])
    assert read_data(config).feature_names == names[:1]


@pytest.mark.parametrize("name", [None, "Date"])
def test_the_index_of_a_market_is_its_date(tmp_path, name):
    frame = pd.DataFrame({"Close": np.linspace(10, 11, 30)}, index=pd.bdate_range("2020-01-01", periods=30, name=name))
    frame.to_parquet(path := tmp_path / "AAA.parquet")
    read = read_data(DataConfig(source="market", path=str(path))).frame
    assert list(read.date) == list(frame.index) and set(read.ticker) == {"AAA"}
    assert list(frame_table(frame, ()).columns) == [name or "date", "Close"]
