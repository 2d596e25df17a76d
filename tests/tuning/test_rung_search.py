"""Phase 1 on rungs as a command: the same decisions with any workers and with kills; every epoch counted once."""

import random
import re

import pytest

from scripts.reporting.charts.search import pieces
from scripts.storage.artifacts import read_record
from scripts.storage.records import Trials
from tests.conftest import EXTENDED, SCRIPTS, TINY, TRIALS, artifact, finish, run
from tests.faults import accidents
from tests.faults.commands import differences
from tests.faults.commands import finish as finish_forked

RUNGS = TINY.replace("  scheduler: guide\n  n_random_trials: 3", "  rungs: [2, 4, 6]\n  n_random_trials: 4").replace(
    "proposal_lag: 2", "proposal_lag: 2\n  epoch_budget: 30"
)


@pytest.fixture(scope="module")
def calm(once):
    """A search that was left alone, and its config."""

    def fill(folder):
        (folder / "rungs.yaml").write_text(RUNGS)
        finish(folder / "calm", "--config", folder / "rungs.yaml", "--workers", 1, scripts=SCRIPTS[:3])

    folder = once("rungs", fill)
    return folder / "calm", folder / "rungs.yaml"


def test_runs_pause_at_rungs_go_on_and_every_epoch_is_counted_once(calm):
    trials = artifact(calm[0], TRIALS)
    trained = list(pieces(read_record(calm[0] / TRIALS, "phase 1", Trials)))
    assert {piece.end for piece in trained} <= {2, 4, 5, 6}  # 5: patience ended a run between two rungs
    assert any(piece.start > 0 for piece in trained)
    spent = sum(piece.end - piece.start for piece in trained)
    assert trials["epochs_spent"] == spent == sum(trials["epoch_ledger"].values())
    assert 30 <= spent < 40
    assert "budget of 30 epochs" in trials["stopped_because"]


def test_two_workers_and_kills_of_any_process_make_the_same_decisions(calm, tmp_path):
    folder, config = calm
    arguments, generator = ("--config", config, "--workers", 2, "-q"), random.Random(0)
    for _ in range(3):
        _, ended = accidents.kill_some_process(SCRIPTS[0], tmp_path / "run", generator, 6.0, *arguments)
        if ended:
            break
    finish_forked(tmp_path / "run", *arguments, scripts=SCRIPTS[:1])
    assert differences(tmp_path / "run", folder, scripts=SCRIPTS[:1]) == []


def test_a_killed_search_resumes_with_the_same_decisions(calm, tmp_path):
    folder, config = calm
    arguments, generator = ("--config", config, "--workers", 1, "-q"), random.Random(1)
    for _ in range(4):
        if not accidents.kill_at_random(SCRIPTS[0], tmp_path / "run", generator, 3.0, *arguments):
            break
    finish_forked(tmp_path / "run", *arguments, scripts=SCRIPTS[:2])
    assert differences(tmp_path / "run", folder, scripts=SCRIPTS[:2]) == []


def test_phase_2_takes_the_trials_that_lead_by_rank(calm):
    by_rank = sorted(artifact(calm[0], TRIALS)["trials"], key=lambda t: t["rank"])
    best = artifact(calm[0], EXTENDED)["configurations"]
    assert {c["trial_number"] for c in best} == {t["number"] for t in by_rank[:2]}


def test_the_dry_run_says_how_many_epochs_are_the_most(calm, tmp_path):
    done = run(SCRIPTS[0], tmp_path, "--config", calm[1], "--dry-run")
    assert re.search(r"epochs at most +30", done.stdout)
    assert re.search(r"likely time +\d.* of phase 2 and .*phase 3", done.stdout)


def test_a_budget_of_epochs_holds_for_both_phases_and_is_refused_where_it_cannot(calm, tmp_path):
    arguments = ("--config", calm[1], "--workers", 1, "-q", "--epoch-budget", 33)
    finish_forked(tmp_path / "run", *arguments, scripts=SCRIPTS[:2])
    first = artifact(tmp_path / "run", TRIALS)
    second = artifact(tmp_path / "run", EXTENDED)
    assert "budget of 22 epochs" in first["stopped_because"]
    assert first["epochs_spent"] + second["epochs_spent"] <= 33
    assert all(1 <= fold["epochs"] < 6 for c in second["configurations"] for fold in c["folds"])
    few = run(SCRIPTS[1], tmp_path / "run", *arguments, "--fresh", "--set", "extended.cross_validation_folds=8")
    assert few.returncode == 2
    assert "trainings of phase 2; raise it, or lower --top-n" in few.stderr
    guide = run(SCRIPTS[0], tmp_path / "guide", *arguments, "--set", "tuning.scheduler=guide")
    assert guide.returncode == 2
    assert "epoch_budget needs tuning.scheduler: rungs" in guide.stderr


def test_a_budget_of_time_becomes_epochs_once_that_both_phases_keep(calm, tmp_path):
    arguments = ("--config", calm[1], "--workers", 1)
    begun = run(SCRIPTS[0], tmp_path / "run", *arguments, "--epoch-budget", "40s")
    assert begun.returncode == 0, begun.stderr
    epochs = artifact(tmp_path / "run", "hyperparameter_tuning_results/plan.json")["experiment"]["epoch_budget"]
    assert re.search(rf"40 s of phases 1 and 2: {epochs} epochs \(mlp .* s, gru .* s each\)", begun.stdout)
    # Another time would be other epochs; the search keeps those that it began with, and phase 2 what they leave.
    finish_forked(tmp_path / "run", *arguments, "-q", "--epoch-budget", "9m", scripts=SCRIPTS[:2])
    spent = [artifact(tmp_path / "run", name)["epochs_spent"] for name in (TRIALS, EXTENDED)]
    assert sum(spent) <= epochs
    for wrong, why in (
        ("9 minutes", "neither a number of epochs nor a duration"),
        ("3s", "needs tuning.scheduler: rungs"),
    ):
        refused = run(
            SCRIPTS[0], tmp_path / "guide", *arguments, "--epoch-budget", wrong, "--set=tuning.scheduler=guide"
        )
        assert refused.returncode == 2
        assert why in refused.stderr


def test_passes_over_the_data_weigh_epochs_by_their_share_of_the_rows(calm):
    for name in (TRIALS, EXTENDED):
        content = artifact(calm[0], name)
        assert 0.5 * content["epochs_spent"] < content["data_passes"] < content["epochs_spent"]
