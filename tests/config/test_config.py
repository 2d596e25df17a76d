"""Experiments from YAML and the command line: defaults, bounds, and what is said about mistakes."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from scripts.config.experiment import Experiment
from scripts.config.recorded import differing_keys
from scripts.config.search_space import Choices, FloatRange, Hyperparameters, IntRange, longest_window, narrow
from scripts.config.yaml_files import load_experiment, parse_assignment, read_yaml
from scripts.config.yaml_text import dump_yaml, parse_yaml
from scripts.errors import InputError


def experiment_of(tmp_path, text, assignments=()):
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return load_experiment(path, list(assignments))


def test_defaults_are_those_of_the_guide():
    experiment = Experiment()
    tuning, extended, final = experiment.tuning, experiment.extended, experiment.final
    assert (tuning.n_random_trials, tuning.n_bayesian_trials, tuning.n_fine_tune_trials) == (20, 40, 15)
    assert tuning.epochs_per_trial_random == 8
    assert tuning.epochs_per_trial_bayesian == 15
    assert tuning.epochs_per_trial_fine_tune == 25
    assert (tuning.early_stopping_patience, tuning.early_stopping_min_delta) == (5, 0.002)
    assert (extended.top_n, extended.cross_validation_folds, extended.extended_epochs) == (5, 3, 100)
    assert (extended.evaluation_frequency, extended.early_stopping_patience) == (5, 10)
    assert (final.epochs, final.early_stopping_patience) == (200, 15)


TABLE = "data: {source: table, path: x.csv, label: column, label_column: target, "


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "tuning:\n  n_random_trails: 3\n",
            "line 2, tuning.n_random_trails: unknown key; did you mean n_random_trials?",
        ),
        ("tuning: {n_random_trials: 3, n_random_trials: 4}", 'duplicate key "n_random_trials", first on line 1'),
        ("seed: 1\ndata: {cost_bps: 1.0}\nseed: 2", 'line 3: found duplicate key "seed", first on line 1'),
        ("1: a\n01: b", "duplicate key"),
        ("[seed]: 1", "unhashable key"),
        ("seed: !!python/object/apply:os.getpid []", "could not determine a constructor for the tag"),
        ("seed: !!bool maybe", "line 1: 'maybe' is not a valid bool"),
        ("data: &data {cost_bps: 1.0}\nfinal: {<<: *data}", "line 2: uses an alias (*name); write the value out"),
        ("tuning: {n_random_trials: yes}", "valid integer"),
        ("tuning: {n_random_trials: .inf}", "valid integer"),
        ("data: {cost_bps: .nan}", "finite"),
        ("tuning:\n  n_random_trials: -1\n", "line 2"),
        ("search_space:\n  learning_rate: {type: float, low: 0.1, high: 0.01}", "low 0.1 is above high 0.01"),
        ("search_space: {learning_rate: {type: flaot, low: 0.1, high: 0.2}}", "must be float, int or categorical"),
        ("search_space: {learning_rate: {type: float, low: 0.0, high: 0.2, log: true}}", "low > 0"),
        ("search_space: {learning_rate: abc}", "learning_rate"),
        ("search_space: {dropout: {type: float, low: 0.0, high: 1.5}}", "dropout"),
        ("search_space: {window: {type: int, low: 2, high: 3, when: {nothing: [1]}}}", "names nothing"),
        ("a: &x [*x]", "alias"),
        ("x: " + "[" * 200, "deeper than 50"),
        ("x: " + "{a: " * 20_000, "deeper than 50"),
        ("- " * 40_000, "deeper than 50"),
        ("".join(" " * k + "a:\n" for k in range(300)), "deeper than 50"),
        ("seed: " + "9" * 5000, "line 1: a number of 5000 characters is not a valid int"),
        ("data: {source: market}", "needs `path`"),
        ("data: {source: table, path: x.csv}", "does not support label"),
        ("- 1\n- 2\n", "not a mapping"),
        (
            TABLE + "cost_matrix: [[0, 1], [5]]}",
            "line 1, data.cost_matrix: a cost matrix needs as many columns as rows",
        ),
        (TABLE + "cost_matrix: [[0]]}", "at least two"),
        (TABLE + "cost_matrix: [[0, .inf], [5, 0]]}", "finite"),
        ("data: {cost_matrix: [[0, 1], [5, 0]]}", "cost_matrix is for tables"),
        ("data: {position: half}", "'sign' or 'proportional'"),
        ("data: {max_weight: 0.0}", "greater than 0"),
        ("tuning: {n_random_trials: 0, n_bayesian_trials: 0, n_fine_tune_trials: 0}", "no trials"),
    ],
)
def test_a_wrong_config_is_refused_with_place_and_reason(tmp_path, text, says):
    with pytest.raises(InputError) as caught:
        experiment_of(tmp_path, text)
    message = str(caught.value)
    assert says in message
    assert "config.yaml" in message
    assert "\n" not in message


def test_yaml_is_read_as_version_1_2(tmp_path):
    experiment = experiment_of(tmp_path, "seed: 010\nsearch_space: {learning_rate: 1e-3, family: mlp}")
    assert experiment.seed == 10
    assert experiment.search_space["learning_rate"] == 0.001


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, True) for text in ("true", "True", "TRUE")),
        *((text, False) for text in ("false", "False", "FALSE")),
        *((text, None) for text in ("null", "Null", "NULL", "~", "")),
        *((text, text) for text in ("yes", "No", "on", "OFF", "y", "12:30:45", "2020-01-01", "0o8", "_1", "1e", "=")),
        *(("010", 10), ("-12", -12), ("1_000", 1000), ("0x1F", 31), ("0o17", 15), ("0b11", 3)),
        *(("1e-3", 0.001), ("1E3", 1000.0), (".5", 0.5), ("-1.", -1.0), ("1_0.5", 10.5), ("-.inf", float("-inf"))),
        *((f"'{text}'", text) for text in ("true", "~", "1e-3")),
        ("!!str 5", "5"),
    ],
)
def test_plain_scalars_follow_the_core_schema_of_yaml_1_2(text, value):
    read = parse_yaml(f"value: {text}", "here")[0]["value"]
    assert read == value
    assert type(read) is type(value)


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.sampled_from(["yes", "no", "1e-3", "010", "~", "<<", "=", "2020-01-01", "*x", "&x", "!x", "%d", "0o7"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), PLAIN, max_size=4))
def test_what_is_written_reads_back_the_same_also_by_a_reader_of_yaml_1_1(values):
    text = dump_yaml(values)
    assert parse_yaml(text, "here")[0] == values
    assert yaml.safe_load(text) == values


def test_a_value_that_occurs_twice_is_written_without_an_alias():
    shared = ["mlp", "gru"]
    assert parse_yaml(dump_yaml({"a": shared, "b": shared}), "here")[0] == {"a": shared, "b": shared}


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_bytes(b"seed: 1\nname: \xff\xfe")
    with pytest.raises(InputError, match="not UTF-8 at byte 14"):
        read_yaml(path)


def test_a_large_file_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("#" * (2**17 + 1))
    with pytest.raises(InputError, match="larger"):
        read_yaml(path)


@pytest.mark.parametrize("key", ["a." * 3000 + "b", "data." + "a." * 3000 + "b"])
def test_an_endless_key_is_refused(key):
    with pytest.raises(InputError, match="unknown key"):
        load_experiment(None, [f"{key}=1"])


def test_a_data_path_that_no_artifact_can_record_is_refused(tmp_path):
    folder = tmp_path / "\udcff"
    folder.mkdir()
    with pytest.raises(InputError, match="not a UTF-8 path"):
        experiment_of(folder, "data: {source: market, path: prices.csv}")


def test_assignments_come_last_and_nest(tmp_path):
    experiment = experiment_of(tmp_path, "data: {cost_bps: 1.0}", ["data.cost_bps=2.5", "seed=3"])
    assert (experiment.data.cost_bps, experiment.seed) == (2.5, 3)
    assert parse_assignment("a.b=[1, 2]") == {"a": {"b": [1, 2]}}
    with pytest.raises(InputError, match="not an assignment"):
        parse_assignment("seed")


def test_a_search_space_entry_replaces_its_default_and_keeps_the_others(tmp_path):
    space = experiment_of(tmp_path, "search_space: {width: 64}").search_space
    assert space["width"] == 64
    assert isinstance(space["learning_rate"], FloatRange)


def test_data_paths_count_from_the_file_that_names_them(tmp_path):
    experiment = experiment_of(tmp_path, "data: {source: market, path: prices.csv}")
    assert experiment.data.path == str(tmp_path / "prices.csv")


def test_what_is_recorded_loads_again_and_names_no_code(tmp_path):
    experiment = experiment_of(tmp_path, "models: {mine: 'a.b:c'}\nsearch_space: {family: mine}")
    recorded = experiment.recorded()
    assert "models" not in recorded
    assert Experiment.model_validate(recorded).search_space == experiment.search_space
    path = tmp_path / "again.yaml"
    path.write_text(dump_yaml(recorded))
    assert load_experiment(path, []).recorded() == recorded


def test_differences_are_named_key_by_key():
    assert differing_keys({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}) == ["a.c (2 -> 3)"]


def test_the_longest_window_is_that_of_the_space():
    assert longest_window({"window": IntRange(low=2, high=9)}) == 9
    assert longest_window({"window": Choices(choices=(3, 7))}) == 7
    assert longest_window({}) == 1


@given(
    low=st.floats(1e-6, 1e3),
    share=st.floats(1.001, 1e3),
    log=st.booleans(),
    places=st.lists(st.floats(0, 1), min_size=1, max_size=5),
    widen=st.floats(0, 1),
)
def test_narrowed_bounds_hold_the_best_and_stay_inside(low, share, log, places, widen):
    old = FloatRange(low=low, high=low * share, log=log)
    best = [min(old.high, max(old.low, low + p * (old.high - low))) for p in places]
    new = old.narrowed(best, widen)
    assert old.low <= new.low <= min(best) * (1 + 1e-9)
    assert max(best) * (1 - 1e-9) <= new.high <= old.high


def test_narrowing_keeps_the_choices_that_one_of_the_best_has():
    space = {"optimizer": Choices(choices=("adamw", "adam", "sgd")), "depth": IntRange(low=1, high=10), "width": 8}
    best = [{"optimizer": "adam", "depth": 4}, {"optimizer": "sgd", "depth": 5}]
    new = narrow(space, best, 0.1)
    assert new["optimizer"].choices == ("adam", "sgd")
    assert (new["depth"].low, new["depth"].high) == (3, 6)
    assert new["width"] == 8


def test_hyperparameters_accept_further_names_for_own_models():
    assert Hyperparameters(family="mine", n_heads=4).model_dump()["n_heads"] == 4
