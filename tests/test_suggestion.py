"""The suggested search space narrows, widens and fixes for the reasons it gives, and loads as a config."""

from scripts.config_files import load_experiment
from scripts.search_space import Choices, FloatRange, IntRange, default_search_space
from scripts.suggestion import suggested_space, to_yaml

SPACE = {
    "family": Choices(choices=("mlp", "resnet", "gru")),
    "learning_rate": FloatRange(low=1e-4, high=1e-2, log=True),
    "dropout": FloatRange(low=0.0, high=0.5),
    "depth": IntRange(low=1, high=3),
    "activation": Choices(choices=("relu", "gelu")),
    "batch_size": 256,
}
BEST = [
    {"family": "mlp", "learning_rate": 1e-2, "dropout": 0.24, "depth": 3, "activation": "relu"},
    {"family": "resnet", "learning_rate": 6e-3, "dropout": 0.26, "depth": 2, "activation": "gelu"},
]


def test_settled_ranges_narrow_and_edges_widen():
    suggestions = suggested_space(SPACE, BEST, {"family": 0.5, "activation": 0.001})
    rate, reason = suggestions["learning_rate"]
    assert rate.high > 1e-2
    assert "upper edge" in reason
    dropout, reason = suggestions["dropout"]
    assert 0.0 < dropout.low < 0.24 < 0.26 < dropout.high < 0.5
    assert reason.startswith("narrowed")
    assert suggestions["depth"][0].high > 3
    assert suggestions["family"][0].choices == ("mlp", "resnet")
    assert "gru" in suggestions["family"][1]
    assert suggestions["activation"] == ("relu", "fixed: explains 0.1% of the differences")
    assert suggestions["batch_size"] == (256, "as before")


def test_bounds_of_quantities_that_cannot_be_negative_stay_so():
    best = [{"dropout": 0.0, "depth": 1}]
    suggestions = suggested_space(SPACE, best, {})
    assert suggestions["dropout"][0].low == 0.0
    assert suggestions["depth"][0].low == 1


def test_the_suggestion_is_a_config(tmp_path):
    path = tmp_path / "suggested.yaml"
    path.write_text(to_yaml(suggested_space(default_search_space(), BEST, {})))
    experiment = load_experiment(path, [])
    assert isinstance(experiment.search_space["learning_rate"], FloatRange)
    assert experiment.search_space["family"].choices == ("mlp", "resnet")
