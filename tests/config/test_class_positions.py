"""Positions of predicted classes: by their names where these are known, stated in the config, shown everywhere."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch

from scripts.config.class_positions import pasted, positions_of
from scripts.config.experiment import Experiment
from scripts.config.yaml_files import load_experiment, parse_assignment
from scripts.data.loading import load_development, load_other, load_sealed
from scripts.errors import InputError
from tests.conftest import run
from tests.final_models import write_model

N = 300


def write_table(path, names=("buy", "hold", "sell"), earned=(0.01, 0.0, -0.01), seed=0):
    """A dated table whose label is read off its first feature; forward returns by class."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, len(names), N)
    frame = pd.DataFrame(
        {
            "time": pd.bdate_range("2019-01-01", periods=N).strftime("%Y-%m-%d"),
            "x": label + 0.1 * rng.standard_normal(N),
            "z": rng.standard_normal(N),
            "ret": np.array(earned)[label] + 0.001 * rng.standard_normal(N),
            "y": np.array(names)[label],
        }
    )
    frame.to_csv(path, index=False)
    return path


def values(path, **data):
    """A config of such a table."""
    named = {"label": "column", "label_column": "y", "time_column": "time", "forward_return_column": "ret"}
    return {"data": {"source": "table", "path": str(path)} | named | data}


def described(path, **data):
    return Experiment.model_validate(values(path, **data))


def loaded(path, **data):
    return load_development(described(path, **data).data, 1, 0)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (("buy", "sell"), (1, -1)),
        (("Buy", "HOLD", "Sell"), (1, 0, -1)),
        (("flat", "long", "short"), (0, 1, -1)),
        (("long", "short"), (1, -1)),
        (("down", "timeout", "up"), (-1, 0, 1)),
        (("+up", "down"), (1, -1)),
        (("buy", "hold"), (1, 0)),
        (("Buy", "Hold", "Sell", "Strong Buy", "strong_sell"), (0.5, 0, -0.5, 1, -1)),
        (("buy", "hold", "strong-buy"), (0.5, 0, 1)),
        (("no", "yes"), (-1, 1)),
        (("False", "True"), (-1, 1)),
        (("bear", "bull", "neutral"), (-1, 1, 0)),
        (("0", "1"), (-1, 1)),
        (("-1", "1"), (-1, 1)),
        (("-1", "0", "1"), (-1, 0, 1)),
        (("-1", "0"), (-1, 0)),
        (("-0.5", "0.25"), (-0.5, 0.25)),
        (("-2", "-1", "0", "1", "2"), (-1, -0.5, 0, 0.5, 1)),
        (("-1", "0", "4"), (-0.25, 0, 1)),
        (("1", "2", "3", "4", "5"), (-1, -0.5, 0, 0.5, 1)),
        (("0", "1", "2"), (-1, 0, 1)),
        (("0", "1", "4"), (-1, -0.5, 1)),
    ],
)
def test_positions_follow_from_numbers_and_from_known_words_in_any_case(classes, expected):
    assert positions_of(classes, None) == pytest.approx(expected)


@pytest.mark.parametrize(
    "classes",
    [
        ("buy", "short"),
        ("a", "b"),
        ("buy", "sell", "maybe"),
        ("1", "buy"),
        ("hold", "flat"),
        ("nan", "1"),
        ("=x'", "b"),
    ],
)
def test_classes_whose_meaning_is_not_known_are_refused_with_a_line_that_works(classes):
    with pytest.raises(InputError, match="unknown positions for the classes") as refused:
        positions_of(classes, None)
    flag = pasted(classes)
    assert flag in str(refused.value)
    assignment = re.fullmatch(r"--set '(.*)'", flag.replace("""'"'"'""", "'"))[1]
    stated = parse_assignment(assignment)["data"]["class_positions"]
    assert positions_of(classes, {str(name): float(p) for name, p in stated.items()}) == (
        (-1.0, 1.0) if len(classes) == 2 else (-1.0, 0.0, 1.0)
    )


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("{buy: 1, hold: 0, sell: -1}", {"buy": 1, "hold": 0, "sell": -1}),
        ("{BUY: 0.5, Hold: 0, sell: -1}", {"buy": 0.5, "hold": 0, "sell": -1}),
        ("{sell: 1, buy: -1, hold: 0}", {"buy": -1, "hold": 0, "sell": 1}),
    ],
)
def test_stated_positions_decide_and_are_named_in_a_note(tmp_path, stated, expected):
    path = write_table(tmp_path / "a.csv")
    experiment = load_experiment(None, [f"data.class_positions={stated}"], base=described(path))
    data = load_development(experiment.data, 1, 0)
    assert dict(zip(data.classes, data.class_positions, strict=True)) == expected
    assert any("positions of the classes: buy" in note and "data.class_positions" in note for note in data.notes)


def test_keys_of_yaml_that_are_numbers_or_truth_values_name_classes(tmp_path):
    digits = write_table(tmp_path / "a.csv", names=("0", "1", "2"), earned=(0.0, 0.01, -0.01))
    experiment = load_experiment(None, ["data.class_positions={0: 0, 1.0: 1, 2: -1}"], base=described(digits))
    assert load_development(experiment.data, 1, 0).class_positions == (0, 1, -1)
    truths = write_table(tmp_path / "b.csv", names=("False", "True"), earned=(0.01, -0.01))
    experiment = load_experiment(None, ["data.class_positions={true: -1, false: 0}"], base=described(truths))
    assert load_development(experiment.data, 1, 0).class_positions == (0, -1)


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ("{buy: 1, hold: 0}", r"data.class_positions: has no position for sell; .*--set 'data.class_positions="),
        ("{buy: 1, hold: 0, sel: -1}", r"'sel' is not a class; the classes are buy, hold, sell"),
        ("{buy: 1, Buy: 1, hold: 0, sell: -1}", r"'Buy' repeats the class 'buy'"),
        ("{buy: 1.5, hold: 0, sell: -1}", r"data.class_positions.buy: .*less than or equal to 1, not 1.5"),
        ("{buy: high, hold: 0, sell: -1}", r"data.class_positions.buy: .*number, not 'high'"),
        ("{buy: 1, hold: 1, sell: 1}", r"all equal"),
        ("{buy: 1}", r"at least 2"),
        ("[1, 0, -1]", r"data.class_positions: .*dictionary"),
    ],
)
def test_positions_that_do_not_fit_the_classes_are_refused_in_one_line(tmp_path, stated, said):
    path = write_table(tmp_path / "a.csv")
    with pytest.raises(InputError, match=said) as refused:
        load_development(load_experiment(None, [f"data.class_positions={stated}"], base=described(path)).data, 1, 0)
    assert "\n" not in str(refused.value)


def test_positions_need_returns_and_unknown_classes_need_none_without_them(tmp_path):
    path = write_table(tmp_path / "a.csv", names=("a", "b"), earned=(0.0, 0.01))
    assert loaded(path, forward_return_column=None).class_positions is None
    with pytest.raises(InputError, match="unknown positions"):
        loaded(path)
    with pytest.raises(InputError, match="class_positions needs `forward_return_column`"):
        load_experiment(None, ["data.class_positions={a: 1, b: -1}"], base=described(path, forward_return_column=None))


def test_positions_of_a_market_may_be_stated_too():
    experiment = load_experiment(
        None, ["data.synthetic={n_tickers: 3, n_days: 400}", "data.class_positions={down: 0, up: 1}"]
    )
    assert load_development(experiment.data, 1, 0).class_positions == (0, 1)


@pytest.mark.parametrize(
    ("names", "earned", "doubted"),
    [
        (("0", "1", "2"), (0.0, 0.01, -0.01), True),  # hold, buy, sell: numbers by value hold +1 for "sell"
        (("0", "1", "2"), (-0.01, 0.0, 0.01), False),
        (("buy", "sell"), (0.0, 0.0), False),
    ],
)
def test_positions_that_lose_although_every_prediction_is_right_are_doubted(tmp_path, names, earned, doubted):
    notes = loaded(write_table(tmp_path / "a.csv", names=names, earned=earned)).notes
    assert any("with every prediction right these positions lose" in note for note in notes) == doubted


def test_other_rows_are_held_as_the_model_was_made(tmp_path):
    config = Experiment.model_validate(values(write_table(tmp_path / "a.csv"))).data
    own = load_development(config, 1, 0)
    alone = pd.read_csv(write_table(tmp_path / "b.csv", seed=1)).query("y != 'hold'")
    alone.assign(time=pd.bdate_range("2025-01-01", periods=len(alone)).strftime("%Y-%m-%d")).to_csv(
        tmp_path / "b.csv", index=False
    )
    other = load_other(config, 1, tmp_path / "b.csv", own, 0)[0]
    for data in (own, load_sealed(config, 1, own, 0), other):
        assert data.classes == ("buy", "hold", "sell") and data.class_positions == (1.0, 0.0, -1.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of the table, its parameters made up."""
    folder = tmp_path_factory.mktemp("model")
    experiment = Experiment.model_validate(
        values(write_table(folder / "a.csv"), class_positions={"sell": -1, "buy": 1, "hold": 0})
    )
    likeliest = {"threshold": None, "margin": 0.0, "reason": "none"}
    return write_model(folder / "final_model.pkl", experiment, {"family": "mlp", "width": 8, "depth": 1}, likeliest)


def test_predictions_hold_the_position_of_their_class(model):
    new = pd.DataFrame({"time": ["2025-01-01"] * 40, "x": np.linspace(-3, 5, 40), "z": np.linspace(2, -2, 40)})
    found = model.predict(new)
    held = {"buy": 1.0, "hold": 0.0, "sell": -1.0, "": 0.0}
    assert found["position"].tolist() == [held[name] for name in found["decision"]]
    assert model.positions_in_words == ["positions of the classes: buy +1, hold 0, sell -1"]


def test_a_model_of_an_earlier_version_that_holds_buy_short_is_doubted_and_not_judged(tmp_path):
    path = write_table(tmp_path / "a.csv", names=("buy", "sell"), earned=(0.01, -0.01))
    experiment = Experiment.model_validate(values(path))
    old = write_model(
        tmp_path / "final_model.pkl", experiment, {"family": "mlp", "width": 8, "depth": 1}, class_positions=[-1.0, 1.0]
    )
    assert any("their names imply other positions" in line for line in old.positions_in_words)
    with pytest.raises(InputError, match="positions of the classes: the model has buy -1, sell"):
        old.check_schema(load_development(experiment.data, 1, 0))


def test_the_plan_the_first_lines_the_model_and_the_evaluation_show_the_positions(tmp_path):
    config, table = tmp_path / "c.yaml", write_table(tmp_path / "a.csv")
    config.write_text(
        f"data: {{source: table, path: {table}, label: column, label_column: y, time_column: time, "
        "forward_return_column: ret}\n"
        "search_space: {family: mlp, width: 16, depth: 1, learning_rate: 0.01, batch_size: 32, dropout: 0.0}\n"
        "tuning: {scheduler: guide, n_random_trials: 2, n_bayesian_trials: 0, n_fine_tune_trials: 0, "
        "epochs_per_trial_random: 8}\n"
        "extended: {top_n: 1, extended_epochs: 20, cross_validation_folds: 2}\nfinal: {epochs: 30, n_seeds: 1}\n"
    )
    shown = "buy +1, hold 0, sell -1"
    plan = run("run_hyperparameter_tuning.py", tmp_path / "run", "--config", config, "--dry-run")
    assert f"positions of the classes   {shown}" in plan.stdout
    assert "dates per year" in plan.stdout and "days a week)" in plan.stdout
    for script in ("run_hyperparameter_tuning.py", "run_extended_training.py", "analyze_results.py"):
        done = run(script, tmp_path / "run", "--config", config, "--workers", 1)
        assert done.returncode == 0, done.stderr
        assert script != "run_hyperparameter_tuning.py" or f"note: positions of the classes: {shown}" in done.stdout
    for script in ("run_final_training.py", "evaluate_model.py"):
        done = run(script, tmp_path / "run", "--workers", 1)
        assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "run/evaluation/evaluation_results.json").read_text())
    assert found["class_positions"] == {"buy": 1.0, "hold": 0.0, "sell": -1.0}
    assert found["accuracy"] > 0.9 and found["returns"]["gross"] > 0.3
    card = (tmp_path / "run/evaluation/model_card.md").read_text()
    assert "positions of the classes" in card and "buy +1, hold 0, sell -1" in card
    assert f"Positions of the classes: {shown}." in (tmp_path / "run/evaluation/report.html").read_text()
    content = torch.load(tmp_path / "run/final_model.pkl", weights_only=True)
    assert content["class_positions"] == [1.0, 0.0, -1.0]
    predicted = pd.read_csv(tmp_path / "run/evaluation/predictions.csv")
    assert predicted.groupby("predicted")["position"].unique().explode().to_dict() == found["class_positions"]
