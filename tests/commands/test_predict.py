"""Predictions for new rows: the same as in the evaluation, of any size, refused by name, with a word on drift."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.commands.predict import drift_in_words, predict_file
from scripts.config.experiment import DataConfig, Experiment, SyntheticConfig
from scripts.data.files import raw_tables
from scripts.data.files.raw_tables import frame_table
from scripts.data.inference_rows import market_rows
from scripts.data.loading import load_development, load_sealed
from scripts.data.synthetic import generate
from scripts.errors import InputError
from scripts.final_training.model import load_model
from scripts.statistics.drift import FeatureReference, feature_drift
from scripts.training.trading import SimulatedTrading
from tests.conftest import run
from tests.final_models import write_model

TINY_MARKET = SyntheticConfig(n_tickers=4, n_days=500, rho=0.3)
MLP = {"family": "mlp", "width": 8, "depth": 1}
GRU = {"family": "gru", "width": 8, "depth": 1, "window": 3}


def evaluate(*arguments, cwd=None):
    """evaluate_model.py with these arguments alone, without a run directory."""
    return run("evaluate_model.py", None, *arguments, cwd=cwd)


def table(n_rows, seed=0, n_groups=3):
    """Dated rows of some groups in the order of time; text that begins like a formula."""
    generator = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "day": np.repeat(pd.bdate_range("2015-01-01", periods=-(-n_rows // n_groups)), n_groups)[:n_rows],
            "who": np.resize([f"=g{k}" for k in range(n_groups)], n_rows),
            "size": generator.standard_normal(n_rows),
            "gap": np.where(generator.random(n_rows) < 0.2, np.nan, generator.standard_normal(n_rows)),
            "colour": generator.choice(["red", "green", "=cmd()"], n_rows),
            "constant": 1.0,
        }
    )
    frame["target"] = np.where(frame["size"] + 0.5 * generator.standard_normal(n_rows) > 0, "+up", "down")
    return frame


@pytest.fixture(scope="module")
def table_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "table.csv"
    table(900).to_csv(path, index=False)
    return path


def table_experiment(path, **data):
    names = {"label": "column", "label_column": "target", "time_column": "day", "group_column": "who"}
    config = DataConfig(source="table", path=str(path), **(names | data))
    return Experiment(data=config, search_space={"window": 3, "family": "gru"})


@pytest.fixture(scope="module")
def windowed(tmp_path_factory, table_file):
    """A model that reads windows of a dated table; it decides for "+up", its likeliest class is mostly "down"."""
    path = tmp_path_factory.mktemp("model") / "final_model.pkl"
    decision = {"threshold": 0.99, "margin": 0.0, "reason": "none"}
    return path, write_model(path, table_experiment(table_file), GRU, decision)


@pytest.fixture(scope="module")
def market_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("market") / "new.csv"
    generate(TINY_MARKET)[0].to_csv(path, index=False)
    return path


def test_predictions_of_a_market_are_those_of_the_evaluation_and_go_on_to_its_last_bar(
    finished_run, market_file, tmp_path
):
    ledger = (finished_run.folder / "test_openings.jsonl").read_bytes()
    out = tmp_path / "predictions.csv"
    done = evaluate("--model", finished_run.folder / "final_model.pkl", "--predict", market_file, "--out", out)
    assert done.returncode == 0, done.stderr
    said, judged = pd.read_csv(out), pd.read_csv(finished_run.folder / "evaluation" / "predictions.csv")
    both = judged.merge(said, on=["date", "ticker"], suffixes=("", "_said"))
    assert len(both) == len(judged)
    assert np.allclose(both["probability_up"], both["probability_up_said"], atol=1e-6)
    assert (both["predicted"] == both["predicted_said"]).all()
    assert said["date"].max() == pd.read_csv(market_file)["date"].max() > judged["date"].max()
    assert (finished_run.folder / "test_openings.jsonl").read_bytes() == ledger


def test_a_prediction_needs_no_run_directory_and_makes_none(finished_run, market_file, tmp_path):
    model = tmp_path / "alone.pkl"
    model.write_bytes((finished_run.folder / "final_model.pkl").read_bytes())
    done = evaluate("--model", model, "--predict", market_file, "--out", "said.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.pkl", "said.csv"]


def test_a_table_without_labels_is_predicted_in_parts_as_in_one_piece(windowed, tmp_path, monkeypatch):
    monkeypatch.setattr(raw_tables, "CHUNK", 7)
    _, model = windowed
    new = table(200, seed=1).drop(columns=["target", "constant"])
    new.to_csv(tmp_path / "new.csv", index=False)
    summary = predict_file(model, tmp_path / "new.csv", tmp_path / "said.csv")
    said, whole = pd.read_csv(tmp_path / "said.csv"), model.predict(new)
    assert said["row"].tolist() == whole["row"].tolist() == list(range(7, 201))
    assert np.allclose(said["probability_+up"], whole["probability_+up"], atol=1e-6)
    assert said["date"].tolist() == whole["date"].dt.strftime("%Y-%m-%d").tolist()
    assert (summary.n_rows, summary.n_skipped) == (194, 6)


def test_a_window_is_made_of_rows_of_its_own_group(windowed):
    """Each group predicted alone gives what it gives among others."""
    _, model = windowed
    new = table(60, seed=2)
    among = model.predict(new)
    for name, own in new.groupby("who"):
        alone = model.predict(own)
        assert np.allclose(alone["probability_down"], among.loc[among["ticker"] == name, "probability_down"], atol=1e-6)


def test_rows_out_of_order_are_refused_where_windows_are_read(windowed):
    _, model = windowed
    with pytest.raises(InputError, match="not later than the row before it"):
        model.predict(table(60).iloc[::-1])


def test_parquet_in_and_out_says_the_same_as_csv(windowed, tmp_path):
    _, model = windowed
    new = table(100, seed=3)
    new.to_csv(tmp_path / "new.csv", index=False)
    new.to_parquet(tmp_path / "new.parquet", index=False)
    predict_file(model, tmp_path / "new.csv", tmp_path / "a.parquet")
    predict_file(model, tmp_path / "new.parquet", tmp_path / "b.parquet")
    said = pd.read_parquet(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(said, pd.read_parquet(tmp_path / "b.parquet"))
    pd.testing.assert_frame_equal(said, model.predict(new), check_dtype=False)


def test_no_cell_of_a_csv_begins_a_formula(windowed, tmp_path):
    _, model = windowed
    table(100, seed=4).to_csv(tmp_path / "new.csv", index=False)
    predict_file(model, tmp_path / "new.csv", tmp_path / "said.csv")
    said = pd.read_csv(tmp_path / "said.csv", dtype=str, keep_default_na=False)
    text = said[["date", "ticker", "predicted", "decision"]].to_numpy().ravel()
    assert {"'=g0", "'+up"} <= set(text)
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in text)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda frame: frame.drop(columns="size"), "size"),
        (lambda frame: frame.drop(columns="day"), "day"),
        (lambda frame: frame.rename(columns={"gap": "gaps"}), "did you mean 'gaps'?"),
        (lambda frame: frame.assign(another=1), "another"),
        (lambda frame: frame.assign(size="much"), "size"),
    ],
)
def test_a_table_of_another_schema_is_refused_by_the_name_of_the_column(windowed, tmp_path, change, named):
    path, _ = windowed
    change(table(50)).to_csv(tmp_path / "new.csv", index=False)
    done = evaluate("--model", path, "--predict", tmp_path / "new.csv", "--out", tmp_path / "said.csv")
    assert done.returncode == 2, done.stderr
    assert named in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "said.csv").exists()


def test_a_market_without_a_column_that_the_model_reads_is_refused_by_its_name(finished_run, market_file, tmp_path):
    pd.read_csv(market_file).drop(columns="volume").to_csv(tmp_path / "new.csv", index=False)
    done = run("evaluate_model.py", finished_run.folder, "--predict", tmp_path / "new.csv", "--out", tmp_path / "x.csv")
    assert done.returncode == 2
    assert "no volume: the model reads volume_shock" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--predict", "nowhere.csv", "--out", "x.csv"], "nowhere.csv"),
        (["--predict", "table.csv"], "--out"),
        (["--out", "x.csv"], "has no effect without --predict"),
        (["--predict", "table.csv", "--out", "table.csv"], "files that are read"),
    ],
)
def test_flags_that_cannot_be_followed_are_refused(windowed, table_file, arguments, says):
    done = evaluate("--model", windowed[0], *arguments, cwd=table_file.parent)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_bad_cell_far_down_leaves_the_earlier_predictions_as_they_were(windowed, tmp_path, monkeypatch):
    monkeypatch.setattr(raw_tables, "CHUNK", 10)
    table(100).astype({"size": str}).assign(size=["1"] * 90 + ["x"] * 10).to_csv(tmp_path / "new.csv", index=False)
    (tmp_path / "said.csv").write_text("earlier")
    with pytest.raises(InputError, match="column size, line 92"):
        predict_file(windowed[1], tmp_path / "new.csv", tmp_path / "said.csv")
    assert (tmp_path / "said.csv").read_text() == "earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.csv", "said.csv"]


def test_too_short_a_market_is_refused(finished_run, market_file):
    short = pd.read_csv(market_file).groupby("ticker").head(30)
    short.to_csv(market_file.with_name("short.csv"), index=False)
    arguments = ["--predict", market_file.with_name("short.csv"), "--out", market_file.with_name("x.csv")]
    done = run("evaluate_model.py", finished_run.folder, *arguments)
    assert done.returncode == 2
    assert "history" in done.stderr


def test_drift_is_told_by_feature_and_only_where_there_is_some(windowed, table_file, tmp_path):
    _, model = windowed
    assert predict_file(model, table_file, tmp_path / "x.csv").drifted == []
    table(600, seed=5).assign(size=lambda t: t["size"] + 2, colour="blue").to_csv(tmp_path / "far.csv", index=False)
    summary = predict_file(model, tmp_path / "far.csv", tmp_path / "x.csv")
    assert {drift.feature for drift in summary.drifted} == {"size", "colour"}
    assert "warning: drift since training" in drift_in_words(summary)[0]


def test_few_rows_are_not_called_drift(windowed, tmp_path):
    for seed in range(20):
        table(15, seed=100 + seed).to_csv(tmp_path / "few.csv", index=False)
        assert predict_file(windowed[1], tmp_path / "few.csv", tmp_path / "x.csv").drifted == []


def test_two_dates_of_a_market_are_not_called_drift(tmp_path):
    """All tickers of a date share its weekday and its market's return."""
    model = write_model(tmp_path / "final_model.pkl", Experiment(data=DataConfig(synthetic=TINY_MARKET)), MLP)
    generate(TINY_MARKET)[0].groupby("ticker").tail(62).to_csv(tmp_path / "new.csv", index=False)
    summary = predict_file(model, tmp_path / "new.csv", tmp_path / "x.csv")
    assert (summary.n_rows, summary.drifted) == (8, [])


def test_a_model_of_an_earlier_version_predicts_and_says_that_it_cannot_judge_drift(table_file, tmp_path):
    path = tmp_path / "final_model.pkl"
    write_model(path, table_experiment(table_file), MLP, without=("reference", "dropped_columns", "trained_on"))
    table(50).assign(another=1).to_csv(tmp_path / "new.csv", index=False)
    done = evaluate("--model", path, "--predict", tmp_path / "new.csv", "--out", tmp_path / "said.csv")
    assert done.returncode == 0, done.stderr
    assert "drift cannot be assessed" in done.stdout
    assert len(pd.read_csv(tmp_path / "said.csv")) == 50


def test_the_decision_rule_of_the_model_decides_the_position(table_file, tmp_path):
    decision = {"threshold": 0.55, "margin": 0.05, "reason": "chosen out of fold"}
    held = [1.0, -1.0]
    model = write_model(tmp_path / "final_model.pkl", table_experiment(table_file), MLP, decision, class_positions=held)
    said = model.predict(table(300))
    lead = said["probability_down"] - 0.55  # class 1 is "down"
    answered = 2 * lead.abs() > 0.05
    expected = np.where(answered, np.where(lead > 0, "down", "+up"), "")
    assert said["decision"].tolist() == expected.tolist()
    assert said["position"].tolist() == np.where(answered, np.where(lead > 0, -1.0, 1.0), 0.0).tolist()
    assert 0 < answered.sum() < len(said)


def test_the_largest_weight_limits_positions_on_a_market(tmp_path):
    config = DataConfig(synthetic=TINY_MARKET, max_weight=0.125)
    model = write_model(tmp_path / "final_model.pkl", Experiment(data=config), MLP)
    said = model.predict(generate(TINY_MARKET)[0])
    assert set(said["position"].abs()) == {0.5}  # 0.125 of the capital, four tickers of a quarter each


def test_a_frame_with_a_column_of_mixed_types_is_refused(windowed):
    frame = table(20).astype({"size": object})
    frame.loc[3, "size"] = [1, 2]
    with pytest.raises(InputError, match=r"mixed types|has cells of type"):
        windowed[1].predict(frame)


def test_a_model_loads_and_predicts_from_python_alone(windowed):
    said = load_model(windowed[0]).predict(table(30))
    assert np.allclose(said[["probability_+up", "probability_down"]].sum(axis=1), 1)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(20, 200))
def test_counts_of_parts_add_up_and_give_the_index_of_the_whole(seed, n_parts, n_rows):
    generator = np.random.default_rng(seed)
    before, after = (generator.standard_normal((n, 3)).astype(np.float32) for n in (n_rows, 2 * n_rows))
    before[:, 2], after[:, 2] = generator.integers(-1, 3, n_rows), generator.integers(-1, 3, 2 * n_rows)
    after[generator.random(2 * n_rows) < 0.1, 0] = np.nan
    reference = FeatureReference.of(before, [0, 0, 3])
    parts = [reference.counts(part) for part in np.array_split(after, n_parts)]
    counts = [sum(columns) for columns in zip(*parts, strict=True)]
    told = reference.drifted(counts, ["a", "b", "c"], 0.0, 2 * n_rows)
    known = {d.feature: d for d in feature_drift(before, after, ["a", "b", "c"], np.array([False, False, True]))}
    assert all(drift.psi == pytest.approx(known[drift.feature].psi, rel=1e-6) for drift in told)


def ragged_market(n_days=420, sealed_from=336):
    """Bars of two tickers with whole histories, one that ends, one listed late, one that halts, all of random walks."""
    frame = generate(SyntheticConfig(n_tickers=6, n_days=n_days))[0]
    days, name = np.array(sorted(set(frame["date"]))), np.array(sorted(set(frame["ticker"])))
    place, ticker = np.searchsorted(days, frame["date"]), np.searchsorted(name, frame["ticker"])
    gone = (ticker == 2) & (place >= 380) | (ticker == 3) & (place < sealed_from - 60) | (ticker == 4) & (place < 200)
    gone |= (ticker == 5) & (place >= 240) & (place < 290)
    # The fourth ticker has 60 bars before the seal, and bars at weekends, which are no dates of the other tickers.
    weekend = frame[(ticker == 3) & (place >= 350)].assign(
        date=lambda f: (pd.to_datetime(f["date"]) + pd.Timedelta(days=1)).dt.strftime("%Y-%m-%d")
    )
    return pd.concat([frame[~gone], weekend[~weekend["date"].isin(days)]]), name[3]


def test_predictions_for_sealed_rows_are_made_from_the_inputs_of_the_evaluation(tmp_path):
    frame, late = ragged_market()
    path = tmp_path / "market.csv"
    frame.to_csv(path, index=False)
    config = DataConfig(source="market", path=str(path), max_weight=0.22)
    model = write_model(tmp_path / "final_model.pkl", Experiment(data=config, search_space={"window": 3}), GRU)
    sealed = load_sealed(config, 3, load_development(config, 3, 0), 0)
    assert late not in sealed.tickers and "return_rank" in sealed.feature_names
    asked = market_rows(frame_table(pd.read_csv(path), []), "market", model.schema)
    place = {key: k for k, key in enumerate(zip(asked.date, asked.ticker, strict=True))}
    rows = sealed.predictable
    names = np.array(sealed.tickers)[sealed.ticker[rows]]
    at = np.array([place[key] for key in zip(sealed.dates[sealed.date[rows]], names, strict=True)])
    for back in range(3):
        np.testing.assert_array_equal(asked.x[asked.rows[at] - back], sealed.x[rows - back])
    judged, said = model.predict_probabilities(sealed, rows), model.predict_raw(asked.x, asked.rows[at])
    np.testing.assert_array_equal(said, judged)
    assert (asked.ticker == late).any()
    trading = SimulatedTrading.of(sealed, rows, config.trading)
    table = model.predict_rows(asked)
    np.testing.assert_array_equal(
        table["position"].to_numpy()[at], trading.simulator.positions(judged, trading.class_positions)
    )
    assert len(set(table["position"].abs().to_numpy()[at])) > 1  # the limit depends on the tickers that are listed
    assert any(f"tickers that the model was not trained on: {late}" in note for note in asked.notes)


def test_a_single_known_ticker_among_others_is_answered_with_their_market(tmp_path):
    model = write_model(tmp_path / "final_model.pkl", Experiment(data=DataConfig(synthetic=TINY_MARKET)), MLP)
    frame = generate(TINY_MARKET)[0]
    others = sorted(set(frame["ticker"]))[1:]
    renamed = frame.assign(ticker=frame["ticker"].replace({name: f"new {name}" for name in others}))
    whole, said = model.predict(frame), model.predict(renamed)
    for table in (whole, said):
        table["ticker"] = table["ticker"].str.removeprefix("new ")
    both = whole.merge(said, on=["date", "ticker"], suffixes=("", "_said"))
    assert len(both) == len(whole)
    assert np.allclose(both["probability_up"], both["probability_up_said"], atol=1e-12)
