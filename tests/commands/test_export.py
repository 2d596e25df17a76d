"""The exported model gives the model's own probabilities, from raw columns, without this package."""

import json
import subprocess
import sys

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch

from scripts.commands.export import TOLERANCE, example_rows, export_model, own_probabilities
from scripts.config.experiment import DataConfig, Experiment
from scripts.data.preprocessing import Preprocessor
from scripts.errors import InputError
from tests.commands.test_predict import evaluate, table
from tests.final_models import write_model

pytestmark = pytest.mark.slow  # exports take seconds
FAMILIES = ("mlp", "resnet", "tabm", "gru", "tcn", "transformer")
LOADED = """
import sys, numpy, torch
for family in sys.argv[1:]:
    program = torch.export.load(f"{family}.pt2").module()
    numpy.save(f"{family}_said.npy", program(torch.from_numpy(numpy.load(f"{family}_rows.npy"))).numpy())
assert not any(name.split(".")[0] == "scripts" for name in sys.modules)
"""


@pytest.fixture(scope="module")
def table_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "table.csv"
    table(600).to_csv(path, index=False)
    return path


def untrained(folder, table_file, family):
    """A model of a table with missing cells and text."""
    window = 5 if family in FAMILIES[3:] else 1
    names = {"label": "column", "label_column": "target", "time_column": "day", "group_column": "who"}
    config = DataConfig(source="table", path=str(table_file), **names)
    experiment = Experiment(data=config, search_space={"window": window, "family": family})
    hyperparameters = {"family": family, "width": 16, "depth": 2, "dropout": 0.2, "window": window, "n_members": 4}
    return write_model(folder / "final_model.pkl", experiment, hyperparameters)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_onnx_model_agrees_for_any_number_of_rows_and_tells_its_columns(tmp_path, table_file, family):
    model = untrained(tmp_path, table_file, family)
    assert export_model(model, "onnx", tmp_path / "model.onnx") <= TOLERANCE
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    rows = example_rows(model, 40)
    assert np.isnan(rows).any()
    for part in (rows, rows[:1]):
        said = session.run(["probabilities"], {"x": part})[0]
        assert np.abs(said - own_probabilities(model, part)).max() <= TOLERANCE
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["columns"]) == ["size", "gap", "colour"]
    assert json.loads(told["classes"]) == ["+up", "down"]
    assert json.loads(told["vocabularies"]) == {"colour": ["=cmd()", "green", "red"]}


def test_an_exported_program_agrees_without_this_package_and_without_no_grad(tmp_path, table_file):
    expected = {}
    for family in FAMILIES:
        model = untrained(tmp_path, table_file, family)
        assert export_model(model, "torch", tmp_path / f"{family}.pt2") <= TOLERANCE
        rows = example_rows(model, 40)
        np.save(tmp_path / f"{family}_rows.npy", rows)
        expected[family] = own_probabilities(model, rows)
    command = [sys.executable, "-c", LOADED, *FAMILIES]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for family, own in expected.items():
        assert np.abs(np.load(tmp_path / f"{family}_said.npy") - own).max() <= TOLERANCE


def test_a_window_of_one_row_is_a_window(tmp_path, table_file):
    names = {"label": "column", "label_column": "target", "time_column": "day", "group_column": "who"}
    config = DataConfig(source="table", path=str(table_file), **names)
    hyperparameters = {"family": "gru", "width": 8, "depth": 1, "window": 1}
    model = write_model(tmp_path / "final_model.pkl", Experiment(data=config), hyperparameters)
    assert example_rows(model, 4).shape == (4, 1, 3)
    assert export_model(model, "torch", tmp_path / "model.pt2") <= TOLERANCE
    files = {"schema.json": ""}
    torch.export.load(tmp_path / "model.pt2", extra_files=files)
    assert json.loads(files["schema.json"])["window"] == 1


def test_the_onnx_model_agrees_with_the_predictions_for_a_file(tmp_path, table_file):
    """From the cells of a frame to the graph's input with nothing but the metadata."""
    model = untrained(tmp_path, table_file, "gru")
    export_model(model, "onnx", tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    told = {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}
    new = table(60, seed=9, n_groups=1)
    columns = [
        pd.Index(told["vocabularies"][name]).get_indexer(new[name]) if name in told["vocabularies"] else new[name]
        for name in told["columns"]
    ]
    x = np.column_stack(columns).astype(np.float32)
    windows = np.stack([x[k - told["window"] : k] for k in range(told["window"], len(x) + 1)])
    said = session.run(None, {"x": windows})[0]
    expected = model.predict(new)[[f"probability_{name}" for name in told["classes"]]].to_numpy()
    assert np.abs(said - expected).max() <= TOLERANCE


def test_the_command_writes_the_model_beside_its_file(tmp_path, table_file):
    untrained(tmp_path, table_file, "mlp")
    done = evaluate("--model", tmp_path / "final_model.pkl", "--export", "torch")
    assert done.returncode == 0, done.stderr
    assert "largest difference" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["final_model.pkl", "final_model.pt2"]
    assert torch.export.load(tmp_path / "final_model.pt2")


def test_a_name_with_another_ending_is_refused(tmp_path, table_file):
    untrained(tmp_path, table_file, "mlp")
    done = evaluate("--model", tmp_path / "final_model.pkl", "--export", "onnx", "--out", tmp_path / "x.pt2")
    assert done.returncode == 2
    assert ".onnx" in done.stderr


def test_a_graph_that_disagrees_is_not_written(tmp_path, table_file, monkeypatch):
    model = untrained(tmp_path, table_file, "mlp")
    transform = Preprocessor.transform
    monkeypatch.setattr(Preprocessor, "transform", lambda self, x: transform(self, x) + 0.01)
    with pytest.raises(InputError, match="differs by"):
        export_model(model, "torch", tmp_path / "model.pt2")
    assert not (tmp_path / "model.pt2").exists()
