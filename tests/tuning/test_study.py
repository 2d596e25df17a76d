"""The database of phase 1: damaged or foreign is refused, locked is waited for, lost is made again."""

import json
import random
import shutil
import sqlite3
import struct
from dataclasses import dataclass

import optuna
import pytest

from scripts.config.experiment import Experiment
from scripts.config.search_space import Choices, FloatRange
from scripts.errors import EnvironmentFailed, InputError
from scripts.storage.artifacts import read_record, unpack_tensors
from scripts.storage.records import Trials
from scripts.training.spec import Outcome
from scripts.tuning.importance import hyperparameter_importance
from scripts.tuning.stages import proposal_of
from scripts.tuning.study import TrialStudy
from tests.conftest import SCRIPTS, TRIALS, artifact, run, without_times

SPACE = {"family": Choices(choices=("mlp", "gru")), "learning_rate": FloatRange(low=1e-4, high=1e-2, log=True)}
STUDY = "hyperparameter_tuning_results/study.db"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A study of three finished trials and one that runs."""
    path = tmp_path_factory.mktemp("study") / "study.db"
    study = TrialStudy(path, {"config_hash": "a"})
    for number in range(4):
        values = {"family": ("mlp", "gru")[number % 2], "learning_rate": 0.001 * (number + 1)}
        study.start(proposal_of(SPACE, values), "random", origin="random", decision=number, epochs=2, gain=None)
        if number < 3:
            accuracy = 0.5 + number / 100
            outcome = Outcome("complete", 2, 1, 0.69, 0.69, accuracy, None, 17, 0.1, 2.0)
            study.finish(number, outcome, [{"epoch": k, "val_accuracy": accuracy - (k - 1) / 10} for k in (1, 2)])
    study.note("decision_000004", {"kind": "continue", "trial": 0, "split": 0, "epochs": 4})
    study.close()
    return path.read_bytes()


@pytest.fixture
def path(tmp_path, original):
    (tmp_path / "study.db").write_bytes(original)
    return tmp_path / "study.db"


def content(path):
    """What a search would go on with."""
    study = TrialStudy(path, {"config_hash": "a"})
    trials = [(t.number, t.state, t.params, t.value, t.user_attrs) for t in study.trials()]
    found = trials, study.attributes
    study.close()
    return found


def edited(path, *statements):
    connection = sqlite3.connect(path)
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


ENDLESS = (
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x AS a, x AS b, 'k' AS c, '1' AS d FROM c"
)
EDITS = {
    "endless view": ["ALTER TABLE trial_heartbeats RENAME TO other", f"CREATE VIEW trial_heartbeats AS {ENDLESS}"],
    "trigger": ["CREATE TRIGGER t AFTER UPDATE ON trials BEGIN DELETE FROM studies; END"],
    "further table": ["CREATE TABLE more (a)"],
    "other version": ["UPDATE alembic_version SET version_num = 'v9'"],
    "bad JSON": ["UPDATE trial_user_attributes SET value_json = '{' WHERE key = 'values' AND trial_id = 2"],
    "deep JSON": [f"UPDATE trial_user_attributes SET value_json = '{'[' * 100_000}' WHERE key = 'stage'"],
    "NULL": ["UPDATE trial_user_attributes SET value_json = NULL WHERE key = 'result'"],
    "null": ["UPDATE trial_user_attributes SET value_json = 'null' WHERE key = 'values' AND trial_id = 1"],
    "bytes": ["UPDATE trial_user_attributes SET value_json = CAST(x'ff' AS TEXT) WHERE key = 'stage'"],
    "unknown state": ["UPDATE trials SET state = 'WON' WHERE number = 1"],
    "other state": ["UPDATE trials SET state = 'FAIL' WHERE number = 1"],
    "ended too early": ["UPDATE trials SET state = 'COMPLETE' WHERE number = 3"],
    "lost trial": ["DELETE FROM trials WHERE number = 1"],
    "trial twice": ["INSERT INTO trials (number, study_id, state) VALUES (2, 1, 'RUNNING')"],
    "foreign trial": ["INSERT INTO trials (number, study_id, state) VALUES (4, 1, 'RUNNING')"],
    "other value": ["UPDATE trial_values SET value = 0.9 WHERE trial_id = 1"],
    "lost value": ["DELETE FROM trial_values WHERE trial_id = 1"],
    "other parameter": ["UPDATE trial_params SET param_value = 0.002 WHERE param_name = 'learning_rate'"],
    "text parameter": ["UPDATE trial_params SET param_value = 'fast' WHERE param_name = 'learning_rate'"],
    "lost parameter": ["DELETE FROM trial_params WHERE trial_id = 3"],
    "renamed attribute": ["UPDATE trial_user_attributes SET key = 'valuet' WHERE key = 'values' AND trial_id = 1"],
    "other outcome": [
        "UPDATE trial_user_attributes SET value_json = replace(value_json, '\"best_epoch\": 1', '\"best_epoch\": 2')"
    ],
    "other decision": [
        "UPDATE study_user_attributes SET value_json = replace(value_json, '\"epochs\": 4', '\"epochs\": 8')"
    ],
    "study deleted": ["DELETE FROM studies"],
}


@pytest.mark.parametrize("statements", EDITS.values(), ids=EDITS)
def test_a_study_that_was_edited_is_refused_in_one_line(path, statements):
    edited(path, *statements)
    with pytest.raises(InputError, match="not a readable study") as caught:
        TrialStudy(path, {"config_hash": "a"})
    assert f"mv {path} {path}.damaged" in caught.value.remedy


def test_a_study_that_was_begun_with_another_config_is_refused(path):
    with pytest.raises(InputError, match="started with another config_hash") as caught:
        TrialStudy(path, {"config_hash": "b"})
    assert "--fresh" in caught.value.remedy


def test_what_others_add_to_a_study_is_left_alone(path):
    before = content(path)
    storage = optuna.storages.RDBStorage(f"sqlite:///{path}")
    optuna.create_study(study_name="mine", storage=storage).add_trial(optuna.trial.create_trial(value=1.0))
    ours = optuna.load_study(study_name="hyper", storage=storage)
    ours.set_user_attr("note", {"of": "a dashboard"})
    storage.remove_session()
    storage.engine.dispose()
    assert content(path) == before


def test_a_flipped_bit_is_noticed_or_changes_nothing(path, original):
    """Before the digests, a score or a hyperparameter was read as another one."""
    before, generator = content(path), random.Random(0)
    in_use = [k for k, byte in enumerate(original) if byte]
    for _ in range(100):
        damaged = bytearray(original)
        damaged[k := generator.choice(in_use)] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        try:
            after = content(path)
        except InputError:
            continue
        assert after == before, f"byte {k}"


# --- journals -------------------------------------------------------------------------------------------------------

MAGIC = bytes.fromhex("d9d505f920a163d7")


def hot_journal(path, victim):
    """A rollback journal without pages that names another file as its super-journal."""
    page = int.from_bytes(path.read_bytes()[16:18], "big")
    header = (MAGIC + struct.pack(">IIIII", 0, 0, path.stat().st_size // page, 512, page)).ljust(512, b"\0")
    name = str(victim).encode()
    trailer = struct.pack(">I", 2**30 // page + 1) + name + struct.pack(">II", len(name), sum(name)) + MAGIC
    return header + trailer


def test_no_file_that_a_journal_names_is_deleted(path, tmp_path):
    victim = tmp_path / "thesis.txt"
    victim.write_text("my only copy")
    path.with_name("study.db-journal").write_bytes(hot_journal(path, victim))
    with pytest.raises(InputError, match="names another file"):
        TrialStudy(path, {})
    assert victim.read_text() == "my only copy"


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_files_that_hyper_never_makes_beside_a_study_are_refused(path, suffix):
    path.with_name(path.name + suffix).write_bytes(b"")
    with pytest.raises(InputError, match="was not made by Hyper"):
        TrialStudy(path, {})


def test_the_journal_of_a_killed_command_is_rolled_back(path, tmp_path):
    before = content(path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA cache_size = 1")  # so that changes reach the file before they are committed
    connection.execute("BEGIN")
    connection.execute("UPDATE trial_user_attributes SET value_json = hex(randomblob(20000))")
    killed = tmp_path / "killed"
    killed.mkdir()
    for name in ("study.db", "study.db-journal"):
        shutil.copy(path.with_name(name), killed / name)
    connection.execute("ROLLBACK")
    connection.close()
    assert (killed / "study.db").read_bytes() != path.read_bytes()
    assert content(killed / "study.db") == before


def test_the_journal_of_a_lost_study_is_not_applied_to_a_new_one(path):
    journal = path.with_name("study.db-journal")
    journal.write_bytes(hot_journal(path, path.with_name("none"))[:512])
    path.unlink()
    TrialStudy(path, {}).close()
    assert not journal.exists() and journal.with_name("study.db-journal.before-1").exists()


# --- locks ----------------------------------------------------------------------------------------------------------


@dataclass
class Holder:
    """A connection with an open cursor, which holds the lock as long as it lives."""

    connection: sqlite3.Connection
    cursor: sqlite3.Cursor

    def close(self):
        self.cursor.close()  # or its lock outlives the connection
        self.connection.close()


def hold(path):
    """A program that reads the study and pauses, so that nobody can write."""
    connection = sqlite3.connect(path, check_same_thread=False)
    cursor = connection.execute("SELECT * FROM trial_user_attributes, trials")
    cursor.fetchone()
    return Holder(connection, cursor)


def test_a_study_that_another_program_holds_is_waited_for_with_a_line(path):
    told = []

    def notify(line):
        told.append(line)
        if len(told) == 1:
            holder.close()

    study = TrialStudy(path, {}, notify)
    holder = hold(path)
    study.note("decision_000005", {"kind": "continue", "trial": 1, "split": 0, "epochs": 4})
    assert "locked by another program" in told[0] and "is available again" in told[1]
    assert "decision_000005" in study.attributes
    study.close()


def test_a_study_that_stays_held_is_an_environment_failure(path):
    study = TrialStudy(path, {}, lambda line: None, longest_wait_s=0.1)
    holder = hold(path)
    with pytest.raises(EnvironmentFailed, match="locked by another program"):
        study.note("decision_000005", {"kind": "continue", "trial": 1, "split": 0, "epochs": 4})
    holder.close()
    study.close()


# --- what is lost ---------------------------------------------------------------------------------------------------

RUNGS = """
data:
  synthetic: {n_tickers: 3, n_days: 400, rho: 0.3}
search_space: {width: {type: categorical, choices: [8, 16]}, depth: 1}
epoch_budget: 24
tuning: {scheduler: rungs, rungs: [1, 2, 4], n_random_trials: 4, n_bayesian_trials: 2, n_fine_tune_trials: 1}
extended: {top_n: 2, cross_validation_folds: 2, extended_epochs: 2}
"""


@pytest.mark.parametrize("scheduler", ["guide", "rungs"])
def test_a_lost_study_is_made_again_from_the_checkpoints(tmp_path, finished_run, scheduler):
    folder, config = tmp_path / "run", finished_run.config
    if scheduler == "rungs":
        config = tmp_path / "rungs.yaml"
        config.write_text(RUNGS)
        assert run(SCRIPTS[0], folder, "--config", config, "--workers", 1).returncode == 0
    else:
        shutil.copytree(finished_run.folder / "hyperparameter_tuning_results", folder / "hyperparameter_tuning_results")
    before, states = artifact(folder, TRIALS), checkpoints(folder)
    (folder / STUDY).unlink()
    (folder / TRIALS).unlink()
    done = run(SCRIPTS[0], folder, "--config", config, "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert without_times(artifact(folder, TRIALS)) == without_times(before)
    assert checkpoints(folder) == states  # nothing was trained again


def checkpoints(folder):
    """Learning curves, with the seconds that each epoch took."""
    paths = (folder / "hyperparameter_tuning_results/checkpoints").glob("*.pt")
    return {path.name: unpack_tensors(path.read_bytes())["history"] for path in paths}


def test_a_damaged_study_is_refused_by_the_command_and_the_line_it_prints_helps(tmp_path, finished_run):
    folder = tmp_path / "run"
    shutil.copytree(finished_run.folder / "hyperparameter_tuning_results", folder / "hyperparameter_tuning_results")
    before = artifact(folder, TRIALS)
    (folder / TRIALS).unlink()
    edited(folder / STUDY, *EDITS["other value"])
    done = run(SCRIPTS[0], folder, "--config", finished_run.config, "--workers", 1)
    assert done.returncode == 2 and "trial 0" in done.stderr and len(done.stderr.splitlines()) == 1
    printed = done.stderr.partition("run: mv ")[2].partition(";")[0].split()
    shutil.move(*printed)
    done = run(SCRIPTS[0], folder, "--config", finished_run.config, "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert without_times(artifact(folder, TRIALS)) == without_times(before)


def test_importance_is_that_of_the_study(finished_run):
    plan = artifact(finished_run.folder, "hyperparameter_tuning_results/plan.json")["experiment"]
    space = Experiment.model_validate(plan).search_space
    found = hyperparameter_importance(read_record(finished_run.folder / TRIALS, "phase 1", Trials).trials, space, 0)
    study = optuna.load_study(study_name="hyper", storage=f"sqlite:///{finished_run.folder / STUDY}")
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    assert found == optuna.importance.get_param_importances(study, evaluator=evaluator)
    assert json.dumps(found) and len(found) > 3
