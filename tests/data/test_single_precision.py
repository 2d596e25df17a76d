"""A feature in another unit, or plus a constant, is the same feature: nothing is lost in single precision."""

import numpy as np
import pandas as pd
import pytest
import torch

from scripts.commands.export import _schema, export_model
from scripts.config.experiment import DataConfig, Experiment
from scripts.data.files.mapped_rows import NO_BOUND, MemoryBound
from scripts.data.loading import load_development, load_other
from scripts.data.preprocessing import Preprocessor
from scripts.data.single_precision import reference_of
from tests.final_models import write_model

N = 400
SCALES = [
    (1e-13, 0.0),
    (1e-4, 50_000.0),
    (1.0, 1e8),
    (1.0, 1.7e9),
    (1e-42, 0.0),
    (1e-50, 0.0),
    (1e-7, -1.0),
    (1e9, 1e11),
]
KEYS = {"source": "table", "label": "column", "label_column": "y", "time_column": "day"}


def frame_of(scale, offset):
    rng = np.random.default_rng(0)
    x = np.round(rng.standard_normal(N), 3)
    frame = pd.DataFrame(
        {"day": pd.date_range("2020", periods=N), "x": offset + scale * x, "z": rng.standard_normal(N)}
    )
    return frame.assign(y=(x + rng.standard_normal(N) > 0).astype(int)), x


def config_of(path):
    return DataConfig(**KEYS, path=str(path))


def inputs_of(dataset):
    return Preprocessor.fit(dataset.x, dataset.categorical, dataset.rows).transform(dataset.x)


@pytest.mark.parametrize("scale, offset", SCALES)
@pytest.mark.parametrize("mapped", [False, True])
def test_inputs_of_a_network_do_not_depend_on_the_unit(tmp_path, scale, offset, mapped):
    frame, x = frame_of(scale, offset)
    path = tmp_path / "t.parquet"
    frame.to_parquet(path)
    dataset = load_development(config_of(path), 1, 0, MemoryBound(0, tmp_path) if mapped else NO_BOUND)
    made = inputs_of(dataset)[:, 0]
    wanted = (x - x[dataset.rows].mean()) / x[dataset.rows].std()
    np.testing.assert_allclose(made, wanted[: len(made)], atol=3e-4)


@pytest.mark.parametrize("scale, offset", SCALES)
def test_a_model_answers_for_the_same_values_in_every_unit(tmp_path, scale, offset):
    frame, _ = frame_of(scale, offset)
    frame.to_csv(tmp_path / "t.csv", index=False)
    experiment = Experiment(data=config_of(tmp_path / "t.csv"), search_space={"family": "mlp"})
    model = write_model(tmp_path / "final_model.pkl", experiment, {"family": "mlp", "width": 4, "depth": 1})
    dataset = load_development(config_of(tmp_path / "t.csv"), 1, 0)
    asked = model.predict(frame.drop(columns="y")).iloc[: len(dataset.x)]
    known = model.predict_probabilities(dataset, np.arange(len(dataset.x)))
    np.testing.assert_array_equal(asked[["probability_0", "probability_1"]], known)
    other = tmp_path / "later.csv"
    frame.assign(day=frame.day + pd.Timedelta(days=N)).to_csv(other, index=False)
    judged, *_ = load_other(config_of(tmp_path / "t.csv"), 1, other, dataset, 0)
    assert judged.references == dataset.references and np.unique(judged.x[:, 0]).size > 100


def test_columns_that_are_kept_relative_are_named_and_others_stay_as_they_were(tmp_path):
    frame, _ = frame_of(1e-4, 50_000.0)
    frame.to_csv(tmp_path / "t.csv", index=False)
    dataset = load_development(config_of(tmp_path / "t.csv"), 1, 0)
    assert list(dataset.references) == ["x"]
    assert any("kept relative to their median" in note and "x (" in note for note in dataset.notes)
    assert (dataset.x[:, 1] == frame.z.to_numpy(np.float32)[: len(dataset.x)]).all()


@pytest.mark.parametrize("values", [
    np.random.default_rng(1).standard_normal(500),
    np.exp(10 * np.random.default_rng(1).standard_normal(500)),
    np.arange(1990.0, 2024.0),
    1e9 + 1e6 * np.random.default_rng(1).standard_normal(500),
    np.r_[np.zeros(400), np.random.default_rng(1).standard_normal(100)],
    np.r_[1e11, np.random.default_rng(1).standard_normal(100)],
    np.full(9, 0.1),
    np.array([0.0, 1.0]),
    np.array([np.nan]),
])  # fmt: skip
def test_ordinary_columns_have_no_reference(values):
    assert reference_of(values) is None


def test_an_exported_model_names_its_references(tmp_path):
    frame, _ = frame_of(1e-4, 50_000.0)
    frame.to_csv(tmp_path / "t.csv", index=False)
    experiment = Experiment(data=config_of(tmp_path / "t.csv"), search_space={"family": "mlp"})
    model = write_model(tmp_path / "final_model.pkl", experiment, {"family": "mlp", "width": 4, "depth": 1})
    assert export_model(model, "torch", tmp_path / "m.pt2") < 1e-6
    centre, unit = _schema(model)["references"]["x"]
    program = torch.export.load(tmp_path / "m.pt2").module()
    x = np.column_stack([(frame.x - centre) / unit, frame.z]).astype(np.float32)
    with torch.no_grad():
        made = program(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(
        made, model.predict(frame.drop(columns="y"))[["probability_0", "probability_1"]], atol=1e-6
    )
