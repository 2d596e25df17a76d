"""Openings of the sealed test set: counted once each, over all runs of a user, and never by accident."""

import json
import multiprocessing
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scripts.config.experiment import DataConfig
from scripts.data.loading import load_development, load_sealed
from scripts.data.row_sketch import share_rows
from scripts.errors import InputError
from scripts.evaluation.seal_openings import Look, count_opening, known_openings, record_result
from scripts.evaluation.user_ledger import user_ledger
from scripts.storage.run_dir import RunDir
from tests.conftest import artifact, run

LOOK = Look("model a", "sealed", "rows 1", "", "/runs/first")


@pytest.fixture
def state(tmp_path, monkeypatch):
    """A folder for the ledger of a user."""
    monkeypatch.setenv("HYPER_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state" / "test_openings.jsonl"


def opened(folder, look, again=False, figures=None):
    """Open the seal as an evaluation does that comes to its end."""
    found = count_opening(RunDir(folder), look, again)
    record_result(RunDir(folder), look, found.id, figures or {"skill": 0.1})
    return found


# --- one run --------------------------------------------------------------------------------------------------------


def test_a_look_counts_once_until_another_is_asked_for(tmp_path):
    run_dir = RunDir(tmp_path)
    assert count_opening(run_dir, LOOK, False).number == 1
    assert count_opening(run_dir, LOOK, True).number == 1  # an interrupted evaluation goes on
    record_result(run_dir, LOOK, count_opening(run_dir, LOOK, False).id, {"skill": 0.1})
    assert count_opening(run_dir, LOOK, False).number == 1  # the same model on the same rows
    assert count_opening(run_dir, LOOK, True).number == 2
    assert count_opening(run_dir, replace(LOOK, model_sha256="model b"), False).number == 3
    assert known_openings(run_dir, LOOK).number == 3
    assert known_openings(RunDir(tmp_path / "other"), LOOK).number == 0


def test_a_result_is_recorded_once_and_beside_its_opening(tmp_path):
    for _ in range(2):
        found = opened(tmp_path, LOOK)
    lines = [json.loads(line) for line in (tmp_path / "test_openings.jsonl").read_text().splitlines()]
    assert [(line["event"], line["id"]) for line in lines] == [("opening", found.id), ("result", found.id)]


def test_openings_of_earlier_versions_count(tmp_path):
    """Their lines have neither an id nor a fingerprint."""
    line = {"time": "2026-01-01T00:00:00+00:00", "event": "opening", "model_sha256": "model a", "data": "sealed"}
    (tmp_path / "test_openings.jsonl").write_text(f"{json.dumps(line)}\n{json.dumps(line | {'event': 'result'})}\n")
    assert count_opening(RunDir(tmp_path), LOOK, False).number == 1
    assert count_opening(RunDir(tmp_path), LOOK, True).number == 2


# --- all runs of a user ---------------------------------------------------------------------------------------------


def test_other_runs_on_the_same_rows_count_and_are_named(state, tmp_path):
    for k, name in enumerate(("first", "second", "second")):
        opened(tmp_path / name, replace(LOOK, model_sha256=f"model {k}", run=f"/runs/{name}"))
    found = opened(tmp_path / "third", replace(LOOK, model_sha256="model 3", run="/runs/third"))
    assert (found.number, found.by_others) == (4, ("first", "second", "second"))
    assert found.words == "4 times, 3 of them by other runs: first, second (2)"
    assert opened(tmp_path / "else", replace(LOOK, sealed_fingerprint="rows 2", run="/runs/else")).number == 1
    assert not found.warnings


def test_a_moved_or_copied_run_counts_nothing_twice(state, tmp_path):
    opened(tmp_path / "first", LOOK)
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    moved = replace(LOOK, run="/runs/copy")
    assert count_opening(RunDir(tmp_path / "copy"), moved, False).number == 1
    assert opened(tmp_path / "copy", moved, again=True).number == 2
    assert count_opening(RunDir(tmp_path / "first"), LOOK, False).number == 2


@pytest.mark.parametrize("lost", ["run", "user", "neither"])
def test_a_lost_ledger_is_filled_from_the_other_one(state, tmp_path, lost):
    for k in range(3):
        opened(tmp_path / "first", replace(LOOK, model_sha256=f"model {k}"))
    if lost != "neither":
        (state if lost == "user" else tmp_path / "first" / "test_openings.jsonl").unlink()
    found = opened(tmp_path / "first", replace(LOOK, model_sha256="model 3"))
    assert (found.number, found.by_others) == (4, ())
    assert known_openings(RunDir(tmp_path / "second"), replace(LOOK, run="/runs/second")).number == 4


def test_a_placebo_is_not_an_opening_for_other_runs(state, tmp_path):
    assert opened(tmp_path / "placebo", replace(LOOK, shared=False)).number == 1
    assert opened(tmp_path / "first", replace(LOOK, model_sha256="model b")).number == 1


def many_openings(folder, k):
    """Ten openings of a run of its own."""
    os.environ["HYPER_STATE_DIR"] = f"{folder}/state"
    for n in range(10):
        opened(Path(folder) / f"run_{k}", replace(LOOK, model_sha256=f"{k} {n}", run=f"/runs/run_{k}"))


def test_openings_at_the_same_time_are_all_counted(state, tmp_path):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(many_openings, [(str(tmp_path), k) for k in range(3)])
    lines = [json.loads(line) for line in state.read_text().splitlines()]
    assert len({line["id"] for line in lines}) == 30 and len(lines) == 60
    numbers = [known_openings(RunDir(tmp_path / f"run_{k}"), LOOK).number for k in range(3)]
    assert numbers == [30, 30, 30]


def test_damaged_lines_are_left_out_with_a_warning(state, tmp_path):
    opened(tmp_path / "first", LOOK)
    with open(state, "a") as file:
        file.write('[1, 2]\n{"event": "opening", "model_sha256": 3}\n{"event": "opening", "cut sho')
    found = opened(tmp_path / "second", replace(LOOK, model_sha256="model b", run="/runs/second"))
    assert found.number == 2
    (warning,) = found.warnings
    assert warning == f"3 damaged line(s) in {state} are left out: openings may be missing"
    assert known_openings(RunDir(tmp_path / "third"), LOOK).number == 2  # the line after the cut one is whole


def as_folder(state):
    state.mkdir(parents=True)


def as_pipe(state):
    state.parent.mkdir(parents=True)
    os.mkfifo(state)


def as_file_in_the_way(state):
    state.parent.parent.mkdir(exist_ok=True)
    state.parent.write_text("")


@pytest.mark.parametrize("spoil", [as_folder, as_pipe, as_file_in_the_way])
def test_a_ledger_that_cannot_be_used_is_a_warning(state, tmp_path, spoil):
    spoil(state)
    found = opened(tmp_path / "first", LOOK)
    assert found.number == 1
    assert any(str(state) in warning and "HYPER_STATE_DIR" in warning for warning in found.warnings)


def test_no_ledger_of_the_user_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.setenv("HYPER_STATE_DIR", "none")
    (warning,) = opened(tmp_path, LOOK).warnings
    assert "HYPER_STATE_DIR is none" in warning


def test_the_ledger_lies_in_the_state_folder_of_the_user(tmp_path, monkeypatch):
    monkeypatch.delenv("HYPER_STATE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    for given, folder in (
        (None, tmp_path / ".local/state"),
        ("relative", tmp_path / ".local/state"),
        ("/x", Path("/x")),
    ):
        monkeypatch.delenv("XDG_STATE_HOME", raising=False)
        if given:
            monkeypatch.setenv("XDG_STATE_HOME", given)
        assert user_ledger() == folder / "hyper" / "test_openings.jsonl"


def test_a_ledger_of_a_run_that_is_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "test_openings.jsonl")
    with pytest.raises(InputError, match="is not a regular file"):
        count_opening(RunDir(tmp_path), LOOK, False)


# --- which rows -----------------------------------------------------------------------------------------------------


def walks(path, n_days, seed=0):
    """Two random walks; a longer file continues a shorter one."""
    steps = 0.01 * np.random.default_rng(seed).standard_normal((2, 2000))[:, :n_days]
    dates = pd.bdate_range("2012-01-02", periods=n_days).strftime("%Y-%m-%d")
    frames = [
        pd.DataFrame({"date": dates, "ticker": f"T{k}", "close": np.exp(np.cumsum(s))}) for k, s in enumerate(steps)
    ]
    pd.concat(frames).to_csv(path, index=False)
    return DataConfig(source="market", path=str(path))


def sealed(config):
    return load_sealed(config, 1, load_development(config, 1, 0), 0)


def test_other_cuts_and_labels_of_the_same_prices_are_known_again(tmp_path):
    config = walks(tmp_path / "a.csv", 500)
    first = sealed(config)
    other_label = {"label": "k_bar_direction", "horizon": 3}
    for change in (other_label, {"test_fraction": 0.3}, other_label | {"test_fraction": 0.1}):
        other = sealed(config.model_copy(update=change))
        assert share_rows(first.sealed_sketch, other.sealed_sketch), change
    assert share_rows(first.sealed_sketch, sealed(walks(tmp_path / "longer.csv", 520)).sealed_sketch)
    # All that was sealed may be development rows by now, and other prices are other rows.
    assert not share_rows(first.sealed_sketch, sealed(walks(tmp_path / "much_longer.csv", 900)).sealed_sketch)
    assert not share_rows(first.sealed_sketch, sealed(walks(tmp_path / "b.csv", 500, seed=1)).sealed_sketch)


def test_another_label_column_of_a_table_is_the_same_rows(tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.standard_normal((600, 3)), columns=["a", "b", "c"])
    table["day"] = pd.bdate_range("2012-01-02", periods=600).strftime("%Y-%m-%d")
    table["y"], table["z"] = rng.integers(0, 2, 600), rng.integers(0, 3, 600)
    table["earned"] = rng.standard_normal(600)
    table.to_csv(tmp_path / "table.csv", index=False)
    config = DataConfig(
        source="table", path=str(tmp_path / "table.csv"), label="column", label_column="y", time_column="day"
    )
    first = sealed(config)
    assert share_rows(first.sealed_sketch, sealed(config.model_copy(update={"label_column": "z"})).sealed_sketch)
    earned = config.model_copy(update={"forward_return_column": "earned"})
    table.assign(d=1.5 * table["a"], b=0.0).to_csv(tmp_path / "table.csv", index=False)  # other features, same returns
    more = sealed(earned)
    table.drop(columns="c").to_csv(tmp_path / "table.csv", index=False)
    assert share_rows(more.sealed_sketch, sealed(earned).sealed_sketch)


def test_a_look_at_a_part_of_the_rows_counts_and_is_told(state, tmp_path):
    config = walks(tmp_path / "a.csv", 500)
    for name, fraction in (("first", 0.2), ("second", 0.3)):
        rows = sealed(config.model_copy(update={"test_fraction": fraction}))
        look = Look(name, "sealed", rows.sealed_fingerprint, rows.sealed_sketch, f"/runs/{name}")
        found = opened(tmp_path / name, look)
    assert (found.number, found.on_parts) == (2, 1)
    assert found.words == "2 times, 1 of them by other runs: first; 1 of them on overlapping rows"


def test_text_that_is_not_a_sketch_shares_nothing():
    assert not share_rows("", "") and not share_rows("no base64!", "AAAA") and not share_rows("AAAA", "AAAA")


# --- as a command ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["report.html", "predictions.csv", "model_card.md", "evaluation_results.json"])
@pytest.mark.parametrize("damage", ["deleted", "flipped"])
def test_a_lost_file_of_an_evaluation_is_made_again_and_is_not_a_further_look(finished_run, tmp_path, name, damage):
    folder = tmp_path / "run"
    shutil.copytree(finished_run.folder, folder)
    before = artifact(folder, "evaluation/evaluation_results.json")
    path = folder / "evaluation" / name
    content = path.read_bytes()
    path.unlink() if damage == "deleted" else path.write_bytes(content[:99] + bytes([content[99] ^ 4]) + content[100:])
    done = run("evaluate_model.py", folder, "--json")
    assert done.returncode == 0, done.stderr
    assert all(Path(place).exists() for place in json.loads(done.stdout)["artifacts"])
    after = artifact(folder, "evaluation/evaluation_results.json")
    for field in ("accuracy", "skill_ci95", "verdict", "by_group", "returns", "test_openings"):
        assert before[field] == after[field]
    if name == "predictions.csv":
        assert path.read_bytes() == content
    done = run("evaluate_model.py", folder)
    assert "this evaluation is finished" in done.stdout


def test_a_second_run_inherits_the_openings_of_the_first(finished_run, tmp_path, state, tiny_config):
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        shutil.copytree(finished_run.folder, folder)
        shutil.rmtree(folder / "evaluation")
        (folder / "test_openings.jsonl").unlink()
    flags = ("--config", tiny_config, "--workers", 1, "--fresh", "--set", "final.n_seeds=2")
    assert run("run_final_training.py", second, *flags).returncode == 0
    assert run("evaluate_model.py", first).returncode == 0
    done = run("evaluate_model.py", second, "--json")
    assert done.returncode == 0, done.stderr
    results = artifact(second, "evaluation/evaluation_results.json")
    assert (results["test_openings"], results["openings_by_other_runs"]) == (2, ["first"])
    assert "opened        2 times, 1 of them by other runs: first" in done.stderr
    assert "2 times, 1 of them by other runs: first" in (second / "evaluation" / "report.html").read_text()
    # The first evaluation is shown as it was, with a word about what came after it.
    done = run("evaluate_model.py", first)
    assert "opened 1 more time(s) since this evaluation" in done.stdout
    assert artifact(first, "evaluation/evaluation_results.json")["test_openings"] == 1
