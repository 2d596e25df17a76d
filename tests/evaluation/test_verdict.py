"""The verdict on markets that turn: what held while the model was developed and no longer holds is not called skill."""

from tests.conftest import SCRIPTS, artifact, finish

TURNING = """
data:
  synthetic: {n_tickers: 8, n_days: 900, rho: 0.5, switch: 720}
search_space: {family: mlp, width: 16, depth: 1, batch_size: 128, learning_rate: 0.003}
tuning: {scheduler: guide, n_random_trials: 2, n_bayesian_trials: 0, n_fine_tune_trials: 0, epochs_per_trial_random: 4}
extended: {top_n: 1, extended_epochs: 6, evaluation_frequency: 2}
final: {epochs: 10}
"""


def test_a_signal_that_turns_around_where_the_test_begins_is_judged_worse_than_naive(tmp_path):
    config = tmp_path / "turning.yaml"
    config.write_text(TURNING)
    folder = tmp_path / "run"
    phases = [script for script in SCRIPTS if script != "analyze_results.py"]
    finish(folder, "--config", config, "--workers", 1, scripts=phases)
    developed = artifact(folder, "best_config.json")["selection"]
    assert developed["avg_accuracy"] > developed["best_constant_accuracy"] + 0.05
    results = artifact(folder, "evaluation/evaluation_results.json")
    assert results["skill_ci95"][1] < 0
    assert results["verdict"] == "worse than naive"
    assert results["warnings"][0].startswith("regime break: cross-validation and test disagree")
