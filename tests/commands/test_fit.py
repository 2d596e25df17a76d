"""The entry point for notebooks."""

import numpy as np
import pandas as pd
import pytest

from scripts.commands.fit import fit
from scripts.errors import HyperError


def downloaded(n_days=420):
    """Prices as yfinance returns them: an index of dates, names of two levels."""
    rng = np.random.default_rng(5)
    parts = {}
    for ticker in ("AAA", "BBB", "CCC"):
        close = 50 * np.exp(np.cumsum(rng.normal(0, 0.01, n_days)))
        parts[ticker] = pd.DataFrame(
            {"Close": close, "High": close * 1.01, "Low": close * 0.99, "Open": close, "Volume": 1e6},
            index=pd.bdate_range("2020-01-01", periods=n_days, name="Date"),
        )
    return pd.concat(parts, axis=1, names=["Ticker", "Price"]).swaplevel(axis=1)


@pytest.mark.slow
def test_a_frame_of_yfinance_is_fitted_and_predicted(tmp_path):
    frame = downloaded()
    tuning = {"scheduler": "guide", "n_random_trials": 2, "n_bayesian_trials": 0, "n_fine_tune_trials": 0}
    tuning |= {"epochs_per_trial_random": 2}
    sections = {"tuning": tuning, "extended": {"top_n": 1, "extended_epochs": 5}, "final": {"epochs": 2, "n_seeds": 1}}
    model = fit(frame, tmp_path / "run", horizon=5, **sections)
    found = model.predict(frame)
    assert sorted(set(found.ticker)) == ["AAA", "BBB", "CCC"] and len(found) > 300
    assert (tmp_path / "run" / "best_config.json").exists()


def test_a_refusal_has_the_message_of_the_command(tmp_path):
    (tmp_path / "t.csv").write_text("x,y\n1,a\n2,b\n")
    with pytest.raises(HyperError, match="add --label NAME"):
        fit(tmp_path / "t.csv", tmp_path / "run")
