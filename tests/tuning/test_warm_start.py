"""A search starts from earlier runs and the portfolio: what is taken, how it is fitted, and that it stays the same."""

import shutil
import signal

import pytest

from scripts.config.experiment import Experiment, TuningConfig
from scripts.config.yaml_files import load_experiment
from scripts.errors import InputError, MissingInputError
from scripts.storage.artifacts import write_json
from scripts.storage.durable_files import file_sha256
from scripts.storage.run_dir import RunDir
from scripts.tuning.initial_trials import first_trials, origin_of
from scripts.tuning.portfolio import SIZE, portfolio
from scripts.tuning.space_transfer import translate
from scripts.tuning.warm_start import best_of_run
from tests.conftest import EXTENDED, TINY, TRIALS, artifact, finish, run, without_times
from tests.tuning.test_space_transfer import GOOD, SPACE

SCRIPT = "run_hyperparameter_tuning.py"


def trial(number, accuracy, **more):
    """A trial as phase 1 records it."""
    values = GOOD | {"learning_rate": 1e-3 + number * 1e-4}
    state = "failed" if accuracy is None else "complete"
    known = {"number": number, "state": state, "hyperparameters": values, "epochs": 4, "val_accuracy": accuracy}
    return known | more


def configuration(number, accuracy):
    """A configuration as phase 2 records it."""
    figures = ("phase_1_accuracy", "avg_accuracy", "std_accuracy", "accuracy_se", "avg_val_loss", "skill", "skill_se")
    figures = dict.fromkeys((*figures, "avg_simulated_return", "behind", "behind_se", "duration_s"), accuracy)
    others = {"inference_us_per_row": 1.0, "n_parameters": 10, "operations_per_row": 10, "decision": None}
    folds = {"seeds": [1, 1], "folds": [{"fold": k, "accuracy": accuracy} for k in range(2)]}
    place = {"trial_number": number, "rank": 1, "config": GOOD, "skill_ci95": [0.0, 0.1]}
    return place | figures | others | folds


def earlier_run(folder, trials, configurations=None, inputs=None, fingerprint="f" * 64):
    """A run directory with these results."""
    run_dir = RunDir(folder)
    made = {
        "config_hash": "c" * 64,
        "data_fingerprint": fingerprint,
        "sealed_fingerprint": "d" * 64,
        "files": {},
        "inputs": {},
    }
    spent = {"epochs_spent": 12, "data_passes": 12.0}
    write_json(run_dir.trials, made | spent | {"trials": trials})
    if configurations is not None:
        inputs = inputs or {"trials.json": file_sha256(run_dir.trials)}
        told = {"n_folds": 2, "best_constant_accuracy": 0.5, "reason": "", "inputs": inputs}
        write_json(run_dir.extended_results, made | spent | told | {"configurations": configurations})
    return run_dir


def numbers_of(run_dir, max_trials=5):
    """Trial numbers of the best configurations."""
    return [number for number, _ in best_of_run(run_dir, max_trials)[0]]


def test_trials_come_by_accuracy_and_failed_ones_never(tmp_path):
    run_dir = earlier_run(tmp_path, [trial(0, 0.5), trial(1, None), trial(2, 0.7), trial(3, 0.6)])
    assert numbers_of(run_dir) == [2, 3, 0]
    assert numbers_of(run_dir, max_trials=1) == [2]


def test_a_rank_counts_more_than_an_accuracy(tmp_path):
    ranked = [trial(0, 0.5, rank=1), trial(1, 0.9, rank=None), trial(2, 0.7, rank=2)]
    assert numbers_of(earlier_run(tmp_path, ranked)) == [0, 2, 1]


def test_means_over_folds_count_more_than_one_split(tmp_path):
    trials = [trial(0, 0.5), trial(1, 0.9), trial(2, 0.7)]
    configurations = [configuration(0, 0.6), configuration(2, 0.65)]
    assert numbers_of(earlier_run(tmp_path / "a", trials, configurations)) == [2, 0, 1]
    stale = earlier_run(tmp_path / "b", trials, configurations, inputs={"trials.json": "0" * 64})
    assert numbers_of(stale) == [1, 2, 0]


def test_a_configuration_is_taken_once(tmp_path):
    twin = trial(1, 0.9) | {"hyperparameters": trial(0, 0.5)["hyperparameters"]}
    assert numbers_of(earlier_run(tmp_path, [trial(0, 0.5), twin, trial(2, 0.4)])) == [1, 2]


@pytest.mark.parametrize(
    ("trials", "says"),
    [
        ([trial(0, None)], "no usable trial"),
        ([], "trials"),
        ("none", "trials"),
        ([{"number": 0}], "trials.0"),
        ([trial(0, 0.5) | {"hyperparameters": [1, 2]}], "hyperparameters"),
        ([trial(0, 0.5) | {"hyperparameters": {"width": [1]}}], "not a plain value"),
    ],
)
def test_what_is_no_list_of_trials_is_refused(tmp_path, trials, says):
    with pytest.raises(InputError, match=says) as caught:
        best_of_run(earlier_run(tmp_path, trials))
    assert caught.value.exit_code == 2


def test_a_directory_without_results_names_the_command_that_makes_them(tmp_path):
    with pytest.raises(MissingInputError, match=SCRIPT) as caught:
        best_of_run(RunDir(tmp_path))
    assert caught.value.exit_code == 3


def begun(folder, warm_start=(), fingerprint="f" * 64, scheduler="guide", **tuning):
    """What a search over `SPACE` starts with."""
    experiment = Experiment(search_space=SPACE, tuning=TuningConfig(scheduler=scheduler, **tuning))
    return first_trials(RunDir(folder), warm_start, experiment, SPACE, fingerprint, fresh=False)


def test_the_best_of_all_runs_come_before_the_second_best_of_any(tmp_path):
    for name, numbers in {"a": (1, 2), "b": (3, 4)}.items():
        earlier_run(tmp_path / name, [trial(number, 0.9 - 0.1 * number) for number in numbers])
    first = begun(tmp_path / "new", [tmp_path / "a", tmp_path / "b", tmp_path / "a"])
    assert [t.source for t in first.trials] == [
        f"trial {k} of ../{d}" for k, d in ((1, "a"), (3, "b"), (2, "a"), (4, "b"))
    ]
    assert first.warm_start == ("../a", "../b")


def test_configurations_that_become_the_same_are_tried_once(tmp_path):
    twins = [trial(k, 0.5) | {"hyperparameters": GOOD | {"learning_rate": 1.0 + k}} for k in range(3)]
    earlier_run(tmp_path / "a", twins)
    assert len(begun(tmp_path / "new", [tmp_path / "a"]).trials) == 1


def test_the_portfolio_fills_up_what_earlier_runs_leave(tmp_path):
    earlier_run(tmp_path / "a", [trial(k, 0.5) for k in range(3)])
    first = begun(tmp_path / "new", [tmp_path / "a"], scheduler="rungs").trials
    assert [t.origin for t in first] == ["warm start"] * 3 + ["portfolio"] * (SIZE - 3)
    few = begun(tmp_path / "new", [tmp_path / "a"], scheduler="rungs", n_random_trials=4)
    assert few.trials == first[:4]
    assert "n_random_trials" in few.notes[-1]


def test_the_guides_own_plan_starts_without_the_portfolio_unless_asked(tmp_path):
    assert begun(tmp_path).trials == ()
    assert len(begun(tmp_path, portfolio=True).trials) == SIZE
    assert len(begun(tmp_path, scheduler="rungs").trials) == SIZE
    assert begun(tmp_path, scheduler="rungs", portfolio=False).trials == ()


def test_other_data_are_named_since_they_may_hold_sealed_rows(tmp_path):
    earlier_run(tmp_path / "a", [trial(0, 0.5)], fingerprint="e" * 64)
    assert any("other data" in note for note in begun(tmp_path / "new", [tmp_path / "a"]).notes)
    assert not any("other data" in n for n in begun(tmp_path / "new", [tmp_path / "a"], fingerprint="e" * 64).notes)


def test_every_trial_has_an_origin(tmp_path):
    first = begun(tmp_path, portfolio=True).trials
    origins = [origin_of(number, "random", first) for number in (0, SIZE - 1, SIZE)]
    assert origins == ["portfolio", "portfolio", "random"]
    assert origin_of(SIZE, "bayesian", first) == "model"


OTHER = TINY.replace("choices: [mlp, gru]", "choices: [mlp, resnet]").replace("n_days: 500", "n_days: 450, seed: 11")
OTHER = OTHER.replace("depth: 1", "depth: {type: int, low: 2, high: 3}").replace("window:", "dropout: 0.2\n  window:")
OTHER = OTHER.replace("when: {family: [gru]}", "when: {family: [resnet]}")


@pytest.fixture(scope="module")
def other_config(tmp_path_factory):
    """An experiment on other data with another search space than the finished run."""
    path = tmp_path_factory.mktemp("other") / "other.yaml"
    path.write_text(OTHER)
    return path


@pytest.fixture(scope="module", params=["guide", "rungs"])
def warm_run(request, finished_run, other_config, tmp_path_factory):
    """A search that started from the finished run: its folder, its flags and what it said."""
    folder = tmp_path_factory.mktemp("warm")
    flags = ["--config", other_config, "--workers", 1]
    flags += [f"--set=tuning.{key}" for key in (f"scheduler={request.param}", "rungs=[2, 4]", "epoch_budget=30")]
    done = run(SCRIPT, folder, *flags, "--warm-start", finished_run.folder)
    assert done.returncode == 0, done.stderr
    return folder, flags, done.stdout


def test_a_search_on_other_data_starts_with_the_best_of_an_earlier_run(warm_run, finished_run, other_config):
    folder, _, said = warm_run
    for line in ("has other data", "fixed in this search space: dropout 0.2", "depth 1 -> 2"):
        assert said.count(line) == 1, line
    trials = artifact(folder, TRIALS)
    space = load_experiment(other_config, []).search_space
    winner = max(artifact(finished_run.folder, EXTENDED)["configurations"], key=lambda c: c["avg_accuracy"])
    assert trials["trials"][0]["hyperparameters"] == translate(winner["config"], space)[0]
    origins = [t["origin"] for t in trials["trials"]]
    assert origins[:3] == ["warm start"] * 3
    assert "model" in origins
    assert {t["stage"] for t in trials["trials"][:3]} == {"random"}
    assert [s["values"] for s in trials["starting"]] == [t["hyperparameters"] for t in trials["trials"][:3]]


def test_another_list_of_earlier_runs_is_refused_like_a_changed_key(warm_run, finished_run):
    folder, flags, _ = warm_run
    for changed in ([], ["--warm-start", folder / "nowhere"]):
        done = run(SCRIPT, folder, *flags, *changed)
        assert done.returncode == 2
        assert "warm_start" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    done = run(SCRIPT, folder, *flags, "--warm-start", finished_run.folder)
    assert done.returncode == 0, done.stderr
    assert "is finished" in done.stdout


def test_rungs_start_from_the_portfolio(tiny_config, tmp_path):
    flags = ["--set", "tuning.scheduler=rungs", "--set", "tuning.rungs=[1, 2]", "--set", "tuning.epoch_budget=6"]
    done = run(SCRIPT, tmp_path, "--config", tiny_config, "--workers", 1, *flags)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("portfolio: ") == 1
    trials = artifact(tmp_path, TRIALS)["trials"]
    expected = [m.values for m in portfolio(load_experiment(tiny_config, []).search_space)][:3]
    assert [t["hyperparameters"] for t in trials[:3]] == expected
    assert [t["origin"] for t in trials[:3]] == ["portfolio"] * 3


def test_an_interrupted_search_goes_on_with_its_first_trials_after_the_earlier_run_is_gone(
    finished_run, other_config, tmp_path
):
    shutil.copytree(finished_run.folder, tmp_path / "earlier")
    flags = ["--config", other_config, "--workers", 1, "--warm-start", tmp_path / "earlier"]
    flags += ["--set=tuning.epochs_per_trial_random=40", "--set=tuning.early_stopping_patience=40"]
    flags += ["--set=tuning.n_random_trials=2", "--set=tuning.n_bayesian_trials=1", "--set=tuning.n_fine_tune_trials=1"]
    finish(tmp_path / "whole", *flags, scripts=[SCRIPT])
    sign = tmp_path / "cut" / "hyperparameter_tuning_results" / "checkpoints" / "trial_0000.pt"
    done = run(SCRIPT, tmp_path / "cut", *flags, interrupt=(sign, signal.SIGINT))
    assert done.returncode == 130, done.stderr
    shutil.rmtree(tmp_path / "earlier")
    finish(tmp_path / "cut", *flags, scripts=[SCRIPT])
    whole, cut = (without_times(artifact(tmp_path / name, TRIALS)) for name in ("whole", "cut"))
    assert cut == whole


def test_a_fresh_search_can_start_from_the_results_it_moves_aside(finished_run, tmp_path):
    shutil.copytree(finished_run.folder, tmp_path / "run")
    flags = ["--config", finished_run.config, "--workers", 1, "--fresh", "--warm-start", tmp_path / "run"]
    finish(tmp_path / "run", *flags, scripts=[SCRIPT])
    winner = max(artifact(finished_run.folder, EXTENDED)["configurations"], key=lambda c: c["avg_accuracy"])
    expected, _ = translate(winner["config"], load_experiment(finished_run.config, []).search_space)
    assert artifact(tmp_path / "run", TRIALS)["trials"][0]["hyperparameters"] == expected


def test_a_missing_or_damaged_earlier_run_ends_with_one_line_and_its_code(finished_run, tiny_config, tmp_path):
    done = run(SCRIPT, tmp_path / "new", "--config", tiny_config, "--warm-start", tmp_path / "nowhere")
    assert done.returncode == 3
    assert SCRIPT in done.stderr
    damaged = tmp_path / "damaged" / TRIALS
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes((finished_run.folder / TRIALS).read_bytes().replace(b'"seed": 0', b'"seed": 1'))
    done = run(SCRIPT, tmp_path / "new", "--config", tiny_config, "--warm-start", tmp_path / "damaged")
    assert done.returncode == 2
    assert "SHA-256" in done.stderr
    assert not (tmp_path / "new" / "hyperparameter_tuning_results").exists()
