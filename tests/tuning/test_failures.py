"""Trials that failed for want of time are told apart from bad ones, and trained again when there is more."""

import numpy as np
import pandas as pd
import pytest
import torch

from scripts.errors import is_out_of_memory
from tests.conftest import SCRIPTS, TRIALS, artifact, run

TINY = """
data: {synthetic: {n_tickers: 3, n_days: 400}}
search_space: {width: 8, depth: 1, batch_size: {type: categorical, choices: [64, 128]}}
tuning:
  scheduler: SCHEDULER
  portfolio: false
  n_random_trials: 2
  n_bayesian_trials: 1
  n_fine_tune_trials: 1
  epochs_per_trial_random: 1
  epochs_per_trial_bayesian: 1
  epochs_per_trial_fine_tune: 1
"""
SCHEDULERS = ["guide", "rungs"]


def test_trials_that_ran_out_of_time_are_trained_again_with_more(tmp_path):
    for scheduler in SCHEDULERS:
        config, folder = tmp_path / f"{scheduler}.yaml", tmp_path / scheduler
        config.write_text(TINY.replace("SCHEDULER", scheduler))
        flags = ["--config", config, "--workers", 1]
        flags += ["--set", "tuning.rungs=[1, 2]", "--epoch-budget", 8] if scheduler == "rungs" else []
        done = run(SCRIPTS[0], folder, *flags, "--max-trial-time", "0s")
        assert done.returncode == 2 and "stopped by --max-trial-time 0s" in done.stderr
        assert "longer --max-trial-time" in done.stderr and len(done.stderr.splitlines()) == 1
        done = run(SCRIPTS[0], folder, *flags, "--max-trial-time", "10m")
        assert done.returncode == 0, done.stderr
        assert {t["state"] for t in artifact(folder, TRIALS)["trials"]} <= {"complete", "stopped"}


def test_a_class_too_rare_for_the_folds_is_named_before_phase_1_trains(tmp_path):
    generator = np.random.default_rng(0)
    y = np.array([f"c{k}" for k in range(12) for _ in range(40 if k < 11 else 3)])
    frame = pd.DataFrame({"a": generator.normal(size=len(y)), "b": generator.normal(size=len(y)), "y": y})
    frame.to_csv(tmp_path / "table.csv", index=False)
    keys = ["data.source=table", f"data.path={tmp_path / 'table.csv'}", "data.label=column", "data.label_column=y"]
    flags = [part for key in (*keys, "extended.cross_validation_folds=4") for part in ("--set", key)]
    done = run(SCRIPTS[0], tmp_path / "run", *flags, "--workers", 1)
    assert done.returncode == 2 and "4 folds (class c11: " in done.stderr
    assert not (tmp_path / "run" / TRIALS).parent.exists()


def test_an_allocation_that_fails_in_pytorch_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("memory_format of the input is unknown"))
