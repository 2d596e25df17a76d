"""Dates of exchanges, short histories, identifiers and headers of other tools: read right, or named with what to do."""

import re

import numpy as np
import pandas as pd
import pytest

from scripts.commands.predict import predict_file
from scripts.config.experiment import DataConfig, Experiment, SyntheticConfig
from scripts.data import seal
from scripts.data.files import raw_tables
from scripts.data.files.market import read_market
from scripts.data.files.raw_tables import frame_table
from scripts.data.inference_rows import Schema, market_rows
from scripts.data.loading import load_development
from scripts.data.synthetic import generate
from scripts.errors import InputError
from tests.final_models import write_model

ZONES = ("America/New_York", "Asia/Tokyo", "Europe/Berlin")


def bars(n_days=320, n_tickers=3):
    frame = generate(SyntheticConfig(n_tickers=n_tickers, n_days=n_days))[0]
    return frame.assign(date=pd.to_datetime(frame["date"]))


def stamped(frame, form):
    """The bars with midnights of the exchange of each ticker, as text with offsets."""
    zone = dict(zip(sorted(set(frame.ticker)), ZONES, strict=False))
    dates = [day.tz_localize(zone[ticker]) for day, ticker in zip(frame.date, frame.ticker, strict=True)]
    return frame.assign(date=[str(d) if form is None else d.strftime(form) for d in dates])


@pytest.mark.parametrize("form", [None, "%d.%m.%Y %H:%M:%S %z"])
def test_midnights_of_exchanges_are_their_days(tmp_path, form):
    plain, path = bars(), tmp_path / "offsets.csv"
    stamped(plain, form).to_csv(path, index=False)
    plain.to_csv(tmp_path / "dates.csv", index=False)
    read = read_market(path, DataConfig(source="market", path=str(path), date_format=form))
    frame, notes = read.frame, read.notes
    wanted = read_market(tmp_path / "dates.csv", DataConfig(source="market", path="dates.csv")).frame
    pd.testing.assert_frame_equal(frame, wanted)
    assert any("midnights of their time zones taken as days" in note for note in notes)


@pytest.mark.parametrize("zone", ZONES)
def test_midnights_of_a_typed_zone_are_its_days_over_daylight_saving(tmp_path, zone):
    plain, path = bars(n_tickers=1), tmp_path / "t.parquet"
    plain.assign(date=plain.date.dt.tz_localize(zone)).to_parquet(path)
    frame = read_market(path, DataConfig(source="market", path=str(path))).frame
    assert (frame.date.to_numpy() == plain.date.to_numpy("datetime64[ns]")).all()


def test_times_of_day_with_zones_are_in_utc(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("date,close\n2020-01-02 00:00:00-05:00,1\n2020-01-02 16:00:00-05:00,2\n")
    read = read_market(path, DataConfig(source="market", path=str(path)))
    frame, notes = read.frame, read.notes
    assert list(frame.date.astype(str)) == ["2020-01-02 05:00:00", "2020-01-02 21:00:00"]
    assert any("converted to UTC" in note for note in notes)


@pytest.mark.parametrize("date_format", ["%d/%m/%y", "%y%m%d"])
def test_years_of_two_digits_are_refused(tmp_path, date_format):
    path = tmp_path / "t.csv"
    bars().assign(date=lambda f: f.date.dt.strftime(date_format)).to_csv(path, index=False)
    with pytest.raises(InputError, match=r"years of two digits.*%Y"):
        read_market(path, DataConfig(source="market", path=str(path), date_format=date_format))


def test_a_new_listing_gets_its_answers_and_changes_nobody_elses():
    config = DataConfig(source="market", path="m.csv")
    frame = bars(n_days=150)
    names = ("return_lag_0", "market_return", "return_rank")
    last = sorted(set(frame.ticker))[-1]
    short = frame[(frame.ticker != last) | (frame.date >= sorted(set(frame.date))[-90])]
    whole, fewer = (market_rows(frame_table(f, []), "m", Schema(config, names, {}, None, 1)) for f in (frame, short))
    assert (fewer.ticker == last).sum() == 90 - 60
    for ticker in set(frame.ticker):
        there = {
            date: row for date, row, t in zip(whole.date, whole.x[whole.rows], whole.ticker, strict=True) if t == ticker
        }
        for date, row, t in zip(fewer.date, fewer.x[fewer.rows], fewer.ticker, strict=True):
            if t == ticker and date >= fewer.date[fewer.ticker == last].min():
                np.testing.assert_array_equal(row, there[date])


def test_a_text_column_with_many_categories_is_named(tmp_path):
    """Each is an input, so that the column may take more memory than there is."""
    rng, path = np.random.default_rng(0), tmp_path / "t.csv"
    frame = pd.DataFrame({"x": rng.standard_normal(2400), "code": [f"c{k % 1100}" for k in range(2400)]})
    frame.assign(few=[f"c{k % 20}" for k in range(2400)], y=(frame.x > 0).astype(int)).to_csv(path, index=False)
    config = DataConfig(source="table", label="column", label_column="y", path=str(path))
    (note,) = [note for note in load_development(config, 1, 0).notes if "many categories" in note]
    assert re.search(r"each of which is an input: code \(1,0\d\d\)$", note)


def test_text_that_never_repeats_is_dropped_with_a_note_and_may_be_absent_later(tmp_path, monkeypatch):
    rng, path = np.random.default_rng(0), tmp_path / "t.csv"
    frame = pd.DataFrame({"x": rng.standard_normal(400), "order": [f"o-{k:04d}" for k in range(400)]})
    frame["y"] = (frame.x > 0).astype(int)
    frame.to_csv(path, index=False)
    config = DataConfig(source="table", label="column", label_column="y", path=str(path))
    dataset = load_development(config, 1, 0)
    assert dataset.feature_names == ("x",) and dataset.dropped == ("order",)
    assert any("text differs in nearly every row: order" in note for note in dataset.notes)
    experiment = Experiment(data=config, search_space={"family": "mlp"})
    model = write_model(tmp_path / "final_model.pkl", experiment, {"family": "mlp", "width": 4, "depth": 1})
    assert len(model.predict(frame[["x", "order"]])) == len(model.predict(frame[["x"]])) == 400
    monkeypatch.setattr(seal, "MAX_CATEGORIES", 30)
    frame.assign(order=[f"o-{k % 40}" for k in range(400)]).to_csv(path, index=False)
    with pytest.raises(
        InputError, match="column order: has 40 categories, each of which would be an input, more than 30"
    ):
        load_development(config, 1, 0)


def test_dates_of_predictions_have_one_form_where_times_of_day_come_late(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    days = [*pd.date_range("2020", periods=60), *pd.date_range("2020-06-01 10:00", periods=40, freq="h")]
    frame = pd.DataFrame({"day": days, "x": rng.standard_normal(100)}).assign(y=lambda f: (f.x > 0).astype(int))
    frame.to_parquet(tmp_path / "t.parquet")
    names = {"label": "column", "label_column": "y", "time_column": "day"}
    config = DataConfig(source="table", path=str(tmp_path / "t.parquet"), **names)
    experiment = Experiment(data=config, search_space={"family": "mlp"})
    model = write_model(tmp_path / "final_model.pkl", experiment, {"family": "mlp", "width": 4, "depth": 1})
    monkeypatch.setattr(raw_tables, "CHUNK", 10)
    summary = predict_file(model, tmp_path / "t.parquet", tmp_path / "out.csv")
    dates = pd.read_csv(tmp_path / "out.csv").date
    assert summary.n_rows == len(dates) == 100 and set(dates.str.len()) == {19}
    frame.iloc[:60].to_parquet(tmp_path / "days.parquet")
    predict_file(model, tmp_path / "days.parquet", tmp_path / "days.csv")
    assert set(pd.read_csv(tmp_path / "days.csv").date.str.len()) == {10}
