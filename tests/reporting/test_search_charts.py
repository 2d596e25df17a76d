"""Charts and table of the search of phase 1 count every epoch once, with rungs and without."""

import pytest

from scripts.reporting.charts.search import pieces, rung_figure, rung_tables, search_figure
from scripts.storage.records import Trials


def trial(number, accuracies, **fields):
    history = [{"epoch": k, "val_accuracy": a} for k, a in enumerate(accuracies, 1)]
    record = {"number": number, "stage": "random", "state": "complete", "epochs": len(accuracies), "history": history}
    record |= {"hyperparameters": {}, "val_accuracy": max(accuracies), "rank": number + 1, "replicates": []}
    return record | fields


def made(**content):
    """Content of trials.json."""
    origin = dict.fromkeys(("config_hash", "data_fingerprint", "sealed_fingerprint"), "")
    return Trials.model_validate(origin | {"inputs": {}, "epochs_spent": 0, "data_passes": 0.0, "files": {}} | content)


def decision(trial, epochs, split=0):
    return {"kind": "start", "trial": trial, "split": split, "epochs": epochs}


REPEAT = {"split": 1, "epochs": 2, "val_accuracy": 0.6, "duration_s": 1.0}
WITH_RUNGS = made(
    rungs=[2, 4],
    stopped_because="the budget is spent",
    trials=[
        trial(0, [0.5, 0.55, 0.52, 0.6], replicates=[REPEAT]),
        trial(1, [0.56, 0.4]),
        trial(2, [0.3], state="failed", val_accuracy=None),
    ],
    decisions=[decision(0, 2), decision(1, 2), decision(0, 4), decision(2, 2), decision(0, 2, split=1)],
)


def values(figure, layer):
    spec = figure.panels[0].spec
    name = spec["layer"][layer].get("data", spec.get("data", {}))
    return name["values"] if "values" in name else spec["datasets"][name["name"]]


def test_pieces_of_a_search_with_rungs_add_up_to_its_epochs():
    found = list(pieces(WITH_RUNGS))
    assert [(p.trial.number, p.split, p.start, p.end) for p in found] == [
        (0, 0, 0, 2),
        (1, 0, 0, 2),
        (0, 0, 2, 4),
        (2, 0, 0, 1),  # failed in its first epoch
        (0, 1, 0, 2),
    ]
    assert [p.accuracy for p in found] == [0.55, 0.56, 0.6, None, None]


def test_best_so_far_stands_at_the_epochs_that_were_spent_for_it():
    rows = values(search_figure(WITH_RUNGS, 0.5), 1)
    assert [(r["epochs"], r["best"]) for r in rows] == [(2, 0.55), (4, 0.56), (6, 0.6)]


def test_without_rungs_each_trial_is_one_piece():
    content = made(trials=[trial(1, [0.56, 0.4]), trial(0, [0.5, 0.55, 0.52, 0.6])])
    assert [(p.trial.number, p.start, p.end) for p in pieces(content)] == [(0, 0, 4), (1, 0, 2)]
    assert rung_figure(content) is None
    assert rung_tables(content) == ()


def test_the_table_of_rungs_counts_runs_and_epochs():
    (table,) = rung_tables(WITH_RUNGS)
    cells = [[cell.value for cell in row.cells] for row in table.rows]
    assert cells == [[2, 3, 7, pytest.approx(7 / 9)], [4, 1, 2, pytest.approx(2 / 9)]]
    assert "including 1 repeats of leaders on other splits" in table.caption
    assert "the budget is spent" in table.caption


def test_of_very_many_trials_the_best_are_drawn():
    trials, decisions = [trial(k, [0.5]) for k in range(400)], [decision(k, 1) for k in range(400)]
    many = made(rungs=[1, 2], trials=trials, decisions=decisions)
    assert {row["trial"] for row in values(rung_figure(many), 1)} == set(range(150))
