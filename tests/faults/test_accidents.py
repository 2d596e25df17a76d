"""Some of each kind of accident; `./run_tests.sh --soak` has very many."""

import random
import shutil

import pytest

from tests.conftest import SCRIPTS
from tests.faults import accidents, received
from tests.faults.commands import differences, finish

# Of the points of a phase, so many, evenly spread.
N_POINTS = 8
INPUTS = {
    SCRIPTS[0]: (),
    SCRIPTS[1]: ("hyperparameter_tuning_results",),
    SCRIPTS[3]: ("hyperparameter_tuning_results", "extended_training_results", "best_config.json"),
}


def copy_inputs(calm, folder, script):
    folder.mkdir()
    for name in INPUTS[script]:
        copy = shutil.copytree if (calm / name).is_dir() else shutil.copy
        copy(calm / name, folder / name)


@pytest.mark.parametrize("script", INPUTS)
def test_a_kill_at_any_point_changes_nothing(finished_run, tmp_path, script):
    """Before a write, a flush, a rename, a commit, an epoch: the same command goes on and ends in the same bits."""
    arguments = ("--config", finished_run.config, "--workers", 1, "-q")
    copy_inputs(finished_run.folder, tmp_path / "count", script)
    counts = accidents.count_points(script, tmp_path / "count", *arguments)
    assert len(counts) > N_POINTS
    generator, names = random.Random(0), sorted(counts)
    for k in range(N_POINTS):
        name = names[k * len(names) // N_POINTS]
        folder, target = tmp_path / str(k), (name, generator.randrange(counts[name]))
        copy_inputs(finished_run.folder, folder, script)
        assert accidents.killed_at(script, folder, target, *arguments), target
        finish(folder, *arguments, scripts=[script])
        assert differences(folder, finished_run.folder, scripts=[script]) == [], target


def test_no_trial_is_lost_or_counted_twice_when_any_process_of_a_search_is_killed(finished_run, tmp_path):
    arguments, generator = ("--config", finished_run.config, "--workers", 2, "-q"), random.Random(0)
    for k in range(2):
        for _ in range(5):
            _, ended = accidents.kill_some_process(SCRIPTS[0], tmp_path / str(k), generator, 4.0, *arguments)
            if ended:
                break
        finish(tmp_path / str(k), *arguments, scripts=SCRIPTS[:1])
        assert differences(tmp_path / str(k), finished_run.folder, scripts=SCRIPTS[:1]) == []


def test_fuzzed_tables_are_read_or_refused_with_one_line(tmp_path):
    outcomes = {accidents.table_outcome(seed, tmp_path / "market.csv") for seed in range(120)}
    assert outcomes == {"read", "refused"}


def test_fuzzed_configs_are_read_or_refused_with_one_line(tmp_path):
    outcomes = {accidents.config_outcome(seed, tmp_path / "config.yaml") for seed in range(150)}
    assert outcomes == {"read", "refused"}


def test_damage_to_any_artifact_is_noticed(finished_run, tmp_path):
    unnoticed = [s for s in range(150) if not accidents.damage_is_noticed(s, finished_run.folder, tmp_path)]
    assert unnoticed == []


def test_no_trap_springs(tmp_path):
    assert [seed for seed in range(50) if not accidents.trap_is_harmless(seed, tmp_path)] == []


def test_edited_artifacts_are_read_or_refused_with_one_line(finished_run, tmp_path):
    """Signed again, and read by the commands: no code, no traceback, no memory beyond what they take anyway."""
    data = received.new_data(tmp_path / "new.csv")
    paths = (finished_run.folder, finished_run.config, data, tmp_path)
    assert [found for seed in range(12) if (found := received.problem(seed, *paths))] == []
