"""From run to run: the loop ends, says whether it has improved anything, and counts every look at the sealed rows."""

import json
import os
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from scripts.commands.compare_runs import ComparedRun, compared
from scripts.commands.next_experiment import inherit_openings
from scripts.config.experiment import Experiment
from scripts.config.yaml_files import load_experiment
from scripts.data.loading import load_development
from scripts.evaluation.seal_openings import n_inherited, n_openings
from scripts.storage.extended_record import Extended
from scripts.storage.run_dir import RunDir
from tests.conftest import ROOT, SCRIPTS, TRIALS, artifact, finish, run

FEW = [
    *("tuning.scheduler=guide", "tuning.n_random_trials=3", "tuning.n_bayesian_trials=1"),
    *("tuning.n_fine_tune_trials=1", "extended.top_n=2", "extended.extended_epochs=10", "final.epochs=10"),
]
TABLE = ["--config", ROOT / "configs" / "table_breast_cancer.yaml", *(p for key in FEW for p in ("--set", key))]


def carry_on(checkout, folder, *arguments):
    """`run_pipeline.sh --next`, to its end; what its last command answered."""
    pipeline = [checkout / "run_pipeline.sh", "--next", folder, "--workers", "1", "--no-progress", "--json", *arguments]
    done = subprocess.run(list(map(str, pipeline)), capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [a["command"] for a in answers] == [*SCRIPTS, "analyze_results.py"]
    return answers[-1], done.stderr


def test_a_dry_run_of_the_pipeline_ends_after_the_plan_of_phase_1(checkout, finished_run, tmp_path):
    typed = [checkout / "run_pipeline.sh", "--dry-run", "--next", finished_run.folder, "--run-dir", tmp_path / "run"]
    done = subprocess.run(list(map(str, typed)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("would do this") == 1
    assert str(tmp_path / "run") in done.stdout
    assert not (tmp_path / "run").exists()


def assert_the_loop_says_what_came_of_it(answer, said, folder):
    (found,) = answer["comparisons"]
    assert answer["improved"] == (found["verdict"] == "better")
    assert (found["accuracy"]["ci95"][0] > 0) == answer["improved"]
    assert found["n_rows"] > 100 and found["reason"] is None and not found["fingerprints"]
    assert all(key.startswith("search_space") for key in found["config"])
    assert found == artifact(folder, "analysis/comparison.json")["comparisons"][0]
    words = {"better": "better than", "worse": "worse than", "cannot be told apart": "a tie with"}
    assert words[found["verdict"]] in said


def test_the_loop_on_a_market_ends_with_a_verdict_and_a_second_look_is_counted(checkout, finished_run, tmp_path):
    first, second = tmp_path / "first", tmp_path / "first_next"
    shutil.copytree(finished_run.folder, first)
    answer, said = carry_on(checkout, first)
    assert_the_loop_says_what_came_of_it(answer, said, first)
    assert artifact(second, TRIALS)["warm_start"] == ["../first"]
    assert "opened 1 time(s) by earlier runs" in said
    evaluation = artifact(second, "evaluation/evaluation_results.json")
    assert evaluation["test_openings"] == 2
    assert any("opened 2 times" in warning for warning in evaluation["warnings"])
    # The same command again, with the earlier run gone, goes on with what is there and counts nothing twice.
    shutil.rmtree(first)
    done = run(SCRIPTS[0], second, "--next", first, "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert "is finished" in done.stdout
    assert (n_openings(RunDir(second)), n_inherited(RunDir(second))) == (2, 1)


def test_the_loop_on_a_table_improves_a_run_that_hardly_learned(tmp_path):
    first, second = tmp_path / "first", tmp_path / "elsewhere"
    slow = "search_space.learning_rate={type: float, low: 1e-5, high: 1e-4, log: true}"
    few = ("--set", slow, "--set", "tuning.n_random_trials=6")
    finish(first, *TABLE, *few, "--workers", 1, scripts=SCRIPTS[:3])
    # As run_pipeline.sh --next does it.
    assert run(SCRIPTS[0], second, "--next", first, "--workers", 1).returncode == 0
    finish(second, "--workers", 1, scripts=SCRIPTS[1:])
    done = run(SCRIPTS[2], second, "--compare", first, second, "--json")
    answer = json.loads(done.stdout)
    assert_the_loop_says_what_came_of_it(answer, done.stderr, first)
    assert answer["comparisons"][0]["verdict"] == "better"
    assert answer["comparisons"][0]["p_diebold_mariano"] is None
    assert artifact(second, "evaluation/evaluation_results.json")["test_openings"] == 1


def test_a_run_that_was_not_analysed_cannot_be_carried_on(finished_run, tmp_path):
    shutil.copytree(finished_run.folder, tmp_path / "first")
    (tmp_path / "first" / "analysis" / "suggested_search_space.yaml").unlink()
    done = run(SCRIPTS[0], tmp_path / "second", "--next", tmp_path / "first")
    assert done.returncode == 3
    assert f"analyze_results.py --run-dir {tmp_path / 'first'}" in done.stderr


def test_a_run_is_carried_on_with_its_own_experiment_and_what_it_suggests(finished_run, tmp_path):
    done = run(SCRIPTS[0], tmp_path, "--next", finished_run.folder, "--dry-run", "--json", "--set", "extended.top_n=1")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)["plan"]
    assert plan["training"] == "7 trials"
    suggested = load_experiment(finished_run.folder / "analysis" / "suggested_search_space.yaml", []).search_space
    assert plan["search space"].count(" = ") == sum(isinstance(d, bool | int | float | str) for d in suggested.values())


# --- looks at the sealed rows ---------------------------------------------------------------------------------------


def test_openings_are_inherited_once_and_only_where_rows_may_be_the_same(finished_run, tmp_path):
    for name in ("first", "second", "third"):
        shutil.copytree(finished_run.folder, tmp_path / name)
    for name in ("second", "third"):
        (tmp_path / name / "test_openings.jsonl").unlink()
    experiment = load_experiment(finished_run.config, [])
    development = load_development(experiment.data, 3, experiment.seed)
    second, third = RunDir(tmp_path / "second"), RunDir(tmp_path / "third")
    for _ in range(2):
        assert "1 time(s)" in inherit_openings(second, ["../first"], experiment, development)
    assert (n_openings(second), n_inherited(second)) == (1, 1)
    # From both the first and the second: the same look is one look.
    inherit_openings(third, ["../second", "../first", "../gone"], experiment, development)
    assert (n_openings(third), n_inherited(third)) == (1, 1)
    other = Experiment.model_validate({"data": {"synthetic": {"n_tickers": 5, "n_days": 500}}})
    fresh = RunDir(tmp_path / "fresh")
    rows = load_development(other.data, 3, other.seed)
    assert inherit_openings(fresh, ["../first"], other, rows) == ""
    assert n_openings(fresh) == 0


def market(path, n_days):
    """Two random walks; a longer file continues a shorter one."""
    frames = []
    for k in range(2):
        steps = 0.01 * np.random.default_rng(k).standard_normal(2000)[:n_days]
        dates = pd.bdate_range("2012-01-02", periods=n_days).strftime("%Y-%m-%d")
        frames.append(pd.DataFrame({"date": dates, "ticker": f"T{k}", "close": 50 * np.exp(np.cumsum(steps))}))
    pd.concat(frames).to_csv(path, index=False)


def test_looks_at_rows_that_have_become_development_rows_do_not_count(tmp_path, tiny_config):
    """A file that has grown: as long as a row that was seen may be sealed, the look counts."""
    own = tmp_path / "own.csv"
    market(own, 500)
    data = ["--set", "data.source=market", "--set", f"data.path={own}", "--workers", 1]
    few = ["tuning.n_random_trials=1", "tuning.n_bayesian_trials=0", "tuning.n_fine_tune_trials=0", "extended.top_n=1"]
    sets = [part for key in (*few, "final.epochs=2", "search_space.family=mlp") for part in ("--set", key)]
    scripts = [script for script in SCRIPTS if script != "analyze_results.py"]
    finish(tmp_path / "first", "--config", tiny_config, *data, *sets, scripts=scripts)
    experiment = load_experiment(tiny_config, ["data.source=market", f"data.path={own}"])
    for n_days, counted in ((500, 1), (520, 1), (900, 0)):
        market(own, n_days)
        development = load_development(experiment.data, 3, experiment.seed)
        second = RunDir(tmp_path / f"second_{n_days}")
        inherit_openings(second, ["../first"], experiment, development)
        assert n_openings(second) == counted, n_days


# --- comparing runs -------------------------------------------------------------------------------------------------

N_DATES, N_TICKERS = 400, 5


def made_run(name, seed, share_right, *, n_missing=0, **changes):
    """A run whose predictions are right on a given share of the rows, independently of each other."""
    rng, n = np.random.default_rng(seed), N_DATES * N_TICKERS
    hit = (rng.random(n) < share_right).astype(float)
    frame = pd.DataFrame(
        {
            "hit": hit,
            "loss": np.where(hit == 1, 0.5, 0.9),
            "label": np.random.default_rng(0).integers(0, 2, n),
            "date": np.repeat(np.arange(N_DATES), N_TICKERS),
        },
        index=pd.RangeIndex(n, name="row"),
    )
    experiment = Experiment(seed=changes.pop("seed_of_run", 0))
    made = {"data_fingerprint": "a", "sealed_fingerprint": "a", "config_hash": "a"}
    results = Extended.model_construct(**made | changes)
    return ComparedRun(name, experiment, results, frame.iloc[n_missing:], ("probability_0", "probability_1"), 1)


def test_a_better_run_is_called_better_and_the_other_way_round():
    weak, strong = made_run("weak", 1, 0.52), made_run("strong", 2, 0.60)
    found, back = compared(weak, strong, 1), compared(strong, weak, 1)
    assert (found.verdict, back.verdict) == ("better", "worse")
    assert found.accuracy.difference == pytest.approx(strong.rows["hit"].mean() - weak.rows["hit"].mean())
    assert found.log_loss.difference > 0 > back.log_loss.difference
    assert found.accuracy.p_value < 0.01 and found.p_diebold_mariano < 0.01
    assert back.accuracy.difference == pytest.approx(-found.accuracy.difference)


def test_equally_good_runs_are_rarely_told_apart_and_less_so_where_many_are_compared():
    pairs = [(made_run("a", 100 + k, 0.55), made_run("b", 200 + k, 0.55)) for k in range(60)]
    alone = [compared(a, b, 1) for a, b in pairs]
    among_ten = [compared(a, b, 10) for a, b in pairs]
    told_apart = [sum(found.verdict != "cannot be told apart" for found in some) for some in (alone, among_ten)]
    assert told_apart[0] <= 9  # more than 9 of 60 at 5 %: probability .001
    assert told_apart[1] <= 1
    for one, many in zip(alone, among_ten, strict=True):
        assert many.accuracy.p_value >= one.accuracy.p_value
        assert many.accuracy.ci95[0] <= one.accuracy.ci95[0]
        assert many.detectable > one.detectable


def test_only_rows_of_both_are_compared_and_what_differs_is_named():
    found = compared(made_run("a", 1, 0.5), made_run("b", 2, 0.5, n_missing=30, seed_of_run=4), 1)
    assert (found.n_rows, found.n_rows_of_one_alone) == (N_DATES * N_TICKERS - 30, 30)
    assert found.config == ["seed (0 -> 4)"]
    assert found.openings == {"a": 1, "b": 1}


def test_runs_on_other_data_or_labels_are_not_tested():
    first = made_run("a", 1, 0.5)
    found = compared(first, made_run("b", 2, 0.6, data_fingerprint="b", sealed_fingerprint="c"), 1)
    assert found.verdict == "not comparable" and "other data" in found.reason
    assert found.fingerprints == ["data_fingerprint", "sealed_fingerprint"]
    assert not hasattr(found, "accuracy")
    other = made_run("b", 2, 0.6)
    other.rows["label"] = 1 - other.rows["label"]
    assert "other labels" in compared(first, other, 1).reason


def test_a_run_compared_with_itself_differs_in_nothing(finished_run, tmp_path):
    for name in ("a", "b"):
        shutil.copytree(finished_run.folder, tmp_path / name)
    done = run("analyze_results.py", tmp_path, "--compare", tmp_path / "a", tmp_path / "b")
    assert done.returncode == 0, done.stderr
    for words in ("+0.0000", "tie", "same config", "same data"):
        assert words in done.stdout
    found = artifact(tmp_path / "a", "analysis/comparison.json")["comparisons"][0]
    predictions = pd.read_parquet(tmp_path / "a" / "extended_training_results" / "out_of_fold_predictions.parquet")
    assert found["n_rows"] == predictions["row"].nunique()
    alone = run("analyze_results.py", tmp_path, "--compare", tmp_path / "a")
    assert alone.returncode == 2 and "name two or more" in alone.stderr
    assert os.listdir(tmp_path / "b" / "analysis") == os.listdir(finished_run.folder / "analysis")
