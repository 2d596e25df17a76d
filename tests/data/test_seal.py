"""Phases 1 to 3 do not depend on the sealed rows: other sealed prices, the same search, choice and model."""

import numpy as np
import pandas as pd

from scripts.config.experiment import DataConfig
from scripts.data.loading import load_development, load_sealed
from scripts.data.preprocessing import Preprocessor
from tests.conftest import EXTENDED, SCRIPTS, TRIALS, artifact, finish, without_times
from tests.final_models import differing_parts


def market(path, seed_of_the_end, n_days=700, n_sealed=130):
    """Random walks of four tickers whose last dates come from another seed."""
    frames = []
    for k in range(4):
        steps = 0.01 * np.random.default_rng(k).standard_normal(n_days)
        steps[-n_sealed:] = 0.03 * np.random.default_rng((seed_of_the_end, k)).standard_normal(n_sealed)
        close = 50 * np.exp(np.cumsum(steps))
        dates = pd.bdate_range("2015-01-01", periods=n_days).strftime("%Y-%m-%d")
        frames.append(
            pd.DataFrame({"date": dates, "ticker": f"T{k}", "close": close, "volume": 1000.0 + np.arange(n_days)})
        )
    pd.concat(frames).to_csv(path, index=False)
    return path


def test_development_data_do_not_depend_on_sealed_rows(tmp_path):
    first, second = (
        load_development(DataConfig(source="market", path=str(market(tmp_path / f"{k}.csv", k))), 3, 0) for k in (1, 2)
    )
    assert first.fingerprint == second.fingerprint
    assert first.sealed_fingerprint != second.sealed_fingerprint
    assert np.array_equal(first.rows, second.rows)
    for name in ("x", "y", "label_end", "feature_start", "forward_return", "date"):
        assert np.array_equal(getattr(first, name), getattr(second, name), equal_nan=name in ("x", "forward_return"))


def test_no_development_label_reads_a_sealed_bar_and_no_sealed_row_is_in_development(tmp_path):
    config = DataConfig(source="market", path=str(market(tmp_path / "a.csv", 1)), label="k_bar_direction", horizon=7)
    development = load_development(config, 3, 0)
    sealed = load_sealed(config, 3, development, 0)
    assert development.label_end[development.rows].max() + config.embargo < sealed.date[sealed.rows].min()
    assert sealed.date[sealed.rows].min() >= development.n_dates
    assert len(development.y) < len(sealed.y)


def test_search_choice_and_model_do_not_depend_on_sealed_rows(tmp_path, tiny_config):
    phases = [script for script in SCRIPTS[:4] if script != "analyze_results.py"]
    for k in (1, 2):
        path = market(tmp_path / f"{k}.csv", k)
        flags = ["--config", tiny_config, "--set", "data.source=market", "--set", f"data.path={path}"]
        few = [f"--set=tuning.n_{stage}_trials={n}" for stage, n in (("random", 2), ("bayesian", 1), ("fine_tune", 1))]
        finish(tmp_path / f"run_{k}", *flags, *few, "--workers", 1, scripts=phases)
    runs = [tmp_path / "run_1", tmp_path / "run_2"]
    for name in (TRIALS, EXTENDED, "best_config.json"):
        first, second = (without_times(artifact(run, name)) for run in runs)
        for body in (first, second):
            body.pop("sealed_fingerprint")
            body.get("experiment", {}).get("data", {}).pop("path", None)
        assert first == second, name
    assert not differing_parts(*runs)


def test_scaling_knows_the_training_rows_of_its_split_alone(tmp_path):
    dataset = load_development(DataConfig(source="market", path=str(market(tmp_path / "a.csv", 1))), 3, 0)
    train, validation = dataset.tail_split(0.2, 0)
    fitted = Preprocessor.fit(dataset.x[train], dataset.categorical)
    changed = dataset.x.copy()
    changed[validation] += 100.0
    again = Preprocessor.fit(changed[train], dataset.categorical)
    assert np.array_equal(fitted.mean, again.mean)
    assert np.array_equal(fitted.scale, again.scale)
    assert not set(train) & set(validation)
