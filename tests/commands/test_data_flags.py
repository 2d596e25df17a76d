"""The flags --data, --label and --horizon in place of a config, and how a file was read."""

import json

import numpy as np
import pandas as pd
import pytest

from scripts.commands.data_flags import data_assignments
from scripts.config.yaml_files import load_experiment
from scripts.errors import InputError
from tests.conftest import SCRIPTS, run


def prices(tickers=("AAA", "BBB"), n_days=260, seed=0):
    rng = np.random.default_rng(seed)
    frames = []
    for ticker in tickers:
        close = 50 * np.exp(np.cumsum(rng.normal(0, 0.01, n_days)))
        frame = pd.DataFrame({"Date": pd.bdate_range("2020-01-01", periods=n_days), "Symbol": ticker})
        frames.append(frame.assign(Open=close, High=close * 1.01, Low=close * 0.99, Last=close, Volume=1000.0))
    return pd.concat(frames, ignore_index=True)


def experiment(path, label=None, horizon=None):
    return load_experiment(None, data_assignments(path, label, horizon))


def test_a_file_with_dates_and_prices_is_a_market(tmp_path):
    prices().to_csv(tmp_path / "p.csv", index=False)
    data = experiment(tmp_path / "p.csv").data
    assert (data.source, data.label, data.path) == ("market", "next_direction", str(tmp_path / "p.csv"))
    data = experiment(tmp_path / "p.csv", "volatility_regime", 5).data
    assert (data.label, data.horizon) == ("volatility_regime", 5)
    assert experiment(tmp_path / "p.csv", horizon=5).data.label == "k_bar_direction"


def test_a_file_with_a_label_column_is_a_table_with_its_times_and_groups(tmp_path):
    table = prices().rename(columns={"Last": "feature"}).assign(move=lambda f: np.where(f.feature > 50, "up", "down"))
    table.to_csv(tmp_path / "t.csv", index=False)
    data = experiment(tmp_path / "t.csv", "move").data
    assert (data.source, data.label, data.label_column) == ("table", "column", "move")
    assert (data.time_column, data.group_column) == ("Date", "Symbol")


@pytest.mark.parametrize(
    ("label", "says"),
    [(None, "add --label NAME"), ("mvoe", "no column 'mvoe'"), ("volatility_regime", "no column 'volatility_regime'")],
)
def test_a_table_without_its_label_is_refused_with_its_columns(tmp_path, label, says):
    pd.DataFrame({"x": [1.5, 2.5], "move": ["up", "down"]}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(InputError, match=says) as refused:
        data_assignments(tmp_path / "t.csv", label, None)
    assert "'x', 'move'" in refused.value.what


def test_an_unknown_label_of_a_market_is_refused_with_the_known_ones(tmp_path):
    prices().to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(InputError, match=r"not a label of a market.*triple_barrier"):
        data_assignments(tmp_path / "p.csv", "direction", None)


def test_a_plan_shows_how_the_file_was_read(tmp_path):
    frame = prices()
    frame.to_csv(tmp_path / "p.csv", index=False, sep=";", decimal=",", date_format="%d.%m.%Y")
    given = ["--data", tmp_path / "p.csv", "--horizon", 3, "--write-config", tmp_path / "own.yaml"]
    done = run(SCRIPTS[0], tmp_path / "run", *given, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)["data"]
    assert data["columns"]["close"] == "Last" and data["columns"]["ticker"] == "Symbol"
    own = frame[frame.Symbol == "BBB"]
    assert data["tickers"]["BBB"] == {
        "rows": 260,
        "first_date": "2020-01-01T00:00:00",
        "last_date": own.Date.iloc[-1].isoformat(),
        "first_close": pytest.approx(own.Last.iloc[0]),
        "last_close": pytest.approx(own.Last.iloc[-1]),
        "sum_close": pytest.approx(own.Last.sum()),
        "sum_volume": 260_000.0,
    }
    assert any("decimal mark ','" in note for note in data["notes"])
    assert "AAA: 260 rows from 2020-01-01" in done.stderr
    assert load_experiment(tmp_path / "own.yaml", []) == experiment(tmp_path / "p.csv", horizon=3)


def test_a_later_config_comes_first_and_drops_the_synthetic_market_of_an_earlier_one(tmp_path):
    quick, own = tmp_path / "quick.yaml", tmp_path / "own.yaml"
    quick.write_text("data: {source: synthetic, synthetic: {rho: 0.3}}\ntuning: {n_random_trials: 4}\n")
    own.write_text("data: {source: market, path: p.csv}\nfinal: {epochs: 9}\n")
    found = load_experiment([quick, own], [])
    assert (found.data.source, found.data.path) == ("market", str(tmp_path / "p.csv"))
    assert (found.tuning.n_random_trials, found.final.epochs) == (4, 9)
    assert found.data.synthetic.rho == load_experiment(None, []).data.synthetic.rho
