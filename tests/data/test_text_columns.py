"""Columns declared as text: codes of which most are numbers become categories."""

import re
import shlex

import numpy as np
import pandas as pd
import pytest

from scripts.config.experiment import Experiment
from scripts.config.yaml_files import load_experiment
from scripts.data.loading import load_development, load_sealed
from scripts.errors import InputError

N = 200
CODES = np.array(["1", "2", "01", "1311", "4A"])[np.arange(N) % 5]


def base(path, **values):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.standard_normal(N), "sic": CODES, "y": rng.integers(0, 2, N)} | values)
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    data = {"source": "table", "path": str(path), "label": "column", "label_column": "y"}
    return Experiment.model_validate({"data": data})


def load(values, *assignments):
    return load_development(load_experiment(None, list(assignments), base=values).data, 1, 0)


def test_the_refusal_of_text_among_numbers_gives_the_line_that_declares_it(tmp_path):
    values = base(tmp_path / "t.csv")
    with pytest.raises(InputError, match=r"'4A' is not a number .*if the column is text, add --set ") as refused:
        load(values)
    (typed,) = shlex.split(re.search(r"--set (.*)$", str(refused.value)).group(1))
    assert load(values, typed).vocabularies == {"sic": ("01", "1", "1311", "2", "4A")}


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_declared_text_is_text_although_all_cells_are_numbers(tmp_path, name):
    values = base(tmp_path / name, sic=[1, 2, 3, 1311] * (N // 4))
    assert load(values).vocabularies == {}
    dataset = load(values, "data.text_columns=[sic]")
    assert dataset.vocabularies == {"sic": ("1", "1311", "2", "3")}
    config = load_experiment(None, ["data.text_columns=[SIC]"], base=values).data
    assert load_sealed(config, 1, load_development(config, 1, 0), 0).vocabularies == {
        "SIC": dataset.vocabularies["sic"]
    }


def test_codes_that_only_sealed_rows_hold_are_unknown_and_not_refused(tmp_path):
    when = pd.date_range("2020-01-01", periods=N).strftime("%Y-%m-%d")
    values = base(tmp_path / "t.csv", when=when, sic=[*["1", "2"] * 80, *["4A", "1"] * 20])
    config = load_experiment(None, ["data.text_columns=[sic]", "data.time_column=when"], base=values).data
    development = load_development(config, 1, 0)
    assert development.vocabularies == {"sic": ("1", "2")}
    sealed = load_sealed(config, 1, development, 0)
    assert any("'4A'" in note for note in sealed.notes)


@pytest.mark.parametrize(
    ("assignments", "says"),
    [
        (["data.text_columns=[sik]"], "column 'sik' is missing; there are 'x', 'sic', 'y'"),
        (["data.text_columns=[y]"], r"data\.text_columns: 'y' is not a feature"),
        (["data.path=sklearn:digits", "data.label_column=target", "data.text_columns=[a]"], "has only numbers"),
    ],
)
def test_names_that_are_not_text_features_are_refused(tmp_path, assignments, says):
    with pytest.raises(InputError, match=says):
        load(base(tmp_path / "t.csv"), *assignments)
