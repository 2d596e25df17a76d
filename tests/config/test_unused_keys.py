"""A key without an effect is refused or noted, and a value on the command line is taken as it stands."""

import numpy as np
import pandas as pd
import pytest

from scripts.config.experiment import Experiment
from scripts.config.unused_keys import RULES, keys_without_effect
from scripts.config.yaml_files import load_experiment, parse_assignment
from scripts.errors import InputError
from tests.conftest import run
from tests.final_models import write_model

TABLE = {"source": "table", "path": "t.csv", "label": "column", "label_column": "y"}
RETURNS = TABLE | {"forward_return_column": "r"}
# Key, a value, a config beside which it has no effect and one beside which it has.
CASES = {
    "data.path": ("p.csv", {}, {"data": {"source": "market"}}),
    "data.synthetic.n_days": (99, {"data": {"source": "market", "path": "p.csv"}}, {}),
    **{f"data.{n}_column": ("c", {}, {"data": TABLE}) for n in ("label", "time", "group", "forward_return")},
    "data.text_columns": (["c"], {}, {"data": TABLE}),
    "data.fill": ("close_to_close", {"data": TABLE}, {}),
    "data.holding": ("bar", {"data": TABLE}, {}),
    **{
        f"data.{name}": (value, {"data": TABLE}, {"data": RETURNS})
        for name, value in (
            ("cost_bps", 1.0),
            ("ticker_cost_bps.A", 1.0),
            ("cost_bps_column", "c"),
            ("borrow_bps", 1.0),
            ("position", "proportional"),
            ("max_weight", 0.5),
            ("periods_per_year", 12),
        )
    },
    **{f"data.{name}": (3, {"data": TABLE}, {"data": TABLE | {"time_column": "t"}}) for name in ("horizon", "embargo")},
    "data.label_price": ("next_open", {"data": {"label": "triple_barrier"}}, {}),
    "data.ties": ("down", {"data": TABLE}, {}),
    "data.barrier_width": (2.0, {}, {"data": {"label": "triple_barrier"}}),
    "data.regime_window": (99, {}, {"data": {"label": "volatility_regime"}}),
    "tuning.rungs": ([1, 2], {"tuning": {"scheduler": "guide"}}, {}),
    "tuning.epoch_budget": (9, {"tuning": {"scheduler": "guide"}}, {}),
    "tuning.stop": ("auto", {"tuning": {"scheduler": "guide"}}, {}),
    **{
        f"tuning.epochs_per_trial_{stage}": (2, {}, {"tuning": {"scheduler": "guide"}})
        for stage in ("random", "bayesian", "fine_tune")
    },
    **{f"tuning.fine_tune_{name}": (2, {"tuning": {"n_fine_tune_trials": 0}}, {}) for name in ("top", "widen")},
    "extended.racing_error_rate": (0.1, {"extended": {"racing": False}}, {}),
    "extended.racing_most_seeds": (2, {"extended": {"racing": False}}, {}),
    "search_space.window": (3, {"search_space": {"family": "mlp"}}, {"search_space": {"family": "tcn"}}),
    "search_space.patch_length": (3, {"search_space": {"family": "gru"}}, {"search_space": {"family": "transformer"}}),
    "search_space.n_members": (3, {"search_space": {"family": "mlp"}}, {"search_space": {"family": "tabm"}}),
}


def joined(values, key, value):
    section, _, name = key.partition(".")
    part, _, leaf = name.partition(".")
    return {**values, section: {**values.get(section, {}), part: {leaf: value} if leaf else value}}


def found(values):
    default = {"search_space": Experiment().recorded()["search_space"]}
    space = default["search_space"] | values.get("search_space", {})
    experiment = Experiment.model_validate(values | {"search_space": space})
    return [key for key, _ in keys_without_effect(experiment, values)]


@pytest.mark.parametrize("key", CASES)
def test_a_key_has_no_effect_exactly_where_another_one_decides_so(key):
    value, without, with_effect = CASES[key]
    assert key in found(joined(without, key, value))
    assert key not in found(joined(with_effect, key, value))


def test_every_key_of_a_rule_is_tried_above():
    ruled = {key for rule in RULES for key in rule.keys}
    assert {key if key in ruled else key.rpartition(".")[0] for key in CASES} == ruled


def test_a_path_without_a_source_is_refused(tmp_path):
    done = run("run_hyperparameter_tuning.py", tmp_path / "run", "--set", "data.path=no_such_prices.csv")
    assert done.returncode == 2
    assert "command line, data.path: has no effect: data.source is synthetic" in done.stderr
    path = tmp_path / "e.yaml"
    path.write_text("data:\n  label: k_bar_direction\n  barrier_width: 2.0\n")
    with pytest.raises(
        InputError, match=r"e.yaml line 3, data.barrier_width: has no effect: it is for .*triple_barrier"
    ):
        load_experiment(path, [])


def test_a_tuning_key_without_effect_gets_a_note(tmp_path):
    keys = ("tuning.epochs_per_trial_random=3", "data.synthetic.n_tickers=4", "data.synthetic.n_days=500")
    flags = [part for key in keys for part in ("--set", key)]
    done = run("run_hyperparameter_tuning.py", tmp_path / "run", "--dry-run", *flags)
    assert "note: tuning.epochs_per_trial_random has no effect: it is for tuning.scheduler: guide" in done.stdout


@pytest.mark.parametrize(
    ("text", "value"),
    [("%d/%m/%Y", "%d/%m/%Y"), (",", ","), (";", ";"), ("|", "|"), ("\t", "\t"), ("#", "#"), ("3", 3), ("null", None)],
)
def test_a_value_that_is_no_yaml_is_taken_as_it_stands(text, value):
    assert parse_assignment(f"data.x={text}") == {"data": {"x": value}}


def test_a_fault_on_the_command_line_is_said_to_be_there(tmp_path):
    path = tmp_path / "e.yaml"
    path.write_text("tuning:\n  n_random_trials: 3\n")
    with pytest.raises(InputError, match=r"command line, tuning.n_random_trials"):
        load_experiment(path, ["tuning.n_random_trials=1e1"])
    with pytest.raises(InputError, match=r"write a list: \[2, 4\]"):
        load_experiment(None, ["tuning.rungs=2,4"])


def test_a_key_and_its_flag_are_not_both_given(tmp_path):
    done = run("run_hyperparameter_tuning.py", tmp_path / "run", "--seed", "1", "--set", "seed=2")
    assert done.returncode == 2 and "--set seed: is given by a flag, too" in done.stderr


def test_new_data_may_be_written_in_another_notation(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"when": pd.date_range("2021-11-25", periods=90), "x": rng.standard_normal(90)})
    frame.assign(y=np.where(frame.x > 0, "a", "b")).to_csv(tmp_path / "train.csv", index=False)
    data = TABLE | {"path": str(tmp_path / "train.csv"), "time_column": "when"}
    experiment = Experiment(data=data, search_space={"family": "mlp"})
    write_model(tmp_path / "final_model.pkl", experiment, {"family": "mlp", "width": 4, "depth": 1})
    frame.to_csv(tmp_path / "plain.csv", index=False)
    frame.to_csv(tmp_path / "other.csv", index=False, sep=";", decimal=",", date_format="%d.%m.%Y")
    model = ["--model", tmp_path / "final_model.pkl"]
    notation = ["data.delimiter=;", "data.decimal=,", "data.date_format=%d.%m.%Y"]
    for name, assignments in (("plain", []), ("other", notation)):
        flags = [part for given in assignments for part in ("--set", given)]
        done = run(
            "evaluate_model.py",
            tmp_path,
            *model,
            "--predict",
            tmp_path / f"{name}.csv",
            "--out",
            tmp_path / name,
            *flags,
        )
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "plain").read_bytes() == (tmp_path / "other").read_bytes()
