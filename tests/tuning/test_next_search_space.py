"""The suggested search space narrows, widens and fixes for the reasons it gives, and loads as a config."""

from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.config.search_space import Choices, FloatRange, IntRange, Range, default_search_space
from scripts.config.yaml_files import load_experiment
from scripts.tuning.next_search_space import suggested_space, to_yaml

SPACE = {
    "family": Choices(choices=("mlp", "resnet", "gru")),
    "learning_rate": FloatRange(low=1e-4, high=1e-2, log=True),
    "dropout": FloatRange(low=0.0, high=0.5),
    "depth": IntRange(low=1, high=3),
    "activation": Choices(choices=("relu", "gelu")),
    "width": Choices(choices=(32, 64, 128)),
    "batch_size": 256,
    "window": IntRange(low=2, high=10, when={"family": ("gru", "tcn")}),
}
BEST = [
    {"family": "mlp", "learning_rate": 1e-2, "dropout": 0.24, "depth": 3, "activation": "relu", "width": 64},
    {"family": "resnet", "learning_rate": 6e-3, "dropout": 0.26, "depth": 2, "activation": "gelu", "width": 32},
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
    assert suggestions["activation"] == ("relu", "fixed at the best value: explains 0.1% of the differences")
    assert suggestions["width"][0].choices == (32, 64)
    assert suggestions["batch_size"] == (256, "fixed as before")


def test_a_number_that_does_not_matter_is_fixed_at_the_best_value():
    suggestions = suggested_space(SPACE, BEST, {"dropout": 0.01, "learning_rate": 0.3})
    assert suggestions["dropout"] == (0.24, "fixed at the best value: explains 1.0% of the differences")
    assert isinstance(suggestions["learning_rate"][0], FloatRange)


def test_choices_of_numbers_go_on_beyond_the_edge():
    best = [BEST[0] | {"width": 128}, BEST[1]]
    width, reason = suggested_space(SPACE, best, {})["width"]
    assert width.choices == (32, 128, 256)
    assert "widened by 256" in reason and "dropped, as none of the best has it: 64" in reason
    assert suggested_space(SPACE, [BEST[0] | {"width": 32}], {})["width"][0].choices == (16, 32)


def test_a_value_that_does_not_exist_for_a_configuration_counts_for_nothing():
    """Records of phase 2 name every hyperparameter, with its default where it has no meaning."""
    best = [BEST[0] | {"window": 1}, {"family": "gru", "window": 6}]
    window, reason = suggested_space(SPACE, best, {})["window"]
    assert (window.low, window.high) == (4, 8)
    assert reason == "narrowed: the best are in [6, 6]"


def test_what_exists_for_no_configuration_any_more_is_left_out():
    window, reason = suggested_space(SPACE, [values | {"window": 1} for values in BEST], {})["window"]
    assert window == 1
    assert "exists for no configuration" in reason


def test_bounds_stay_where_values_are_allowed():
    best = [{"dropout": 0.0, "depth": 1}]
    suggestions = suggested_space(SPACE, best, {})
    assert suggestions["dropout"][0].low == 0.0
    assert suggestions["depth"][0].low == 1
    space = {"dropout": FloatRange(low=0.0, high=0.9)}
    for _ in range(3):  # from run to run
        space = {
            name: kept for name, (kept, _) in suggested_space(space, [{"dropout": space["dropout"].high}], {}).items()
        }
    assert 0.9 < space["dropout"].high < 1.0
    space = {"width": IntRange(low=1, high=8)}
    assert suggested_space(space, [{"width": 1}], {})["width"][1].startswith("as before")


@st.composite
def searched(draw):
    """A few configurations of the default search space, and how much each hyperparameter matters."""
    space = default_search_space()
    best = []
    for _ in range(draw(st.integers(1, 4))):
        values = {}
        for name, dimension in space.items():
            if isinstance(dimension, Choices):
                values[name] = draw(st.sampled_from(dimension.choices))
            elif isinstance(dimension, IntRange):
                values[name] = draw(st.integers(dimension.low, dimension.high))
            else:
                values[name] = draw(st.floats(dimension.low, dimension.high))
        best.append(values)
    importance = {name: draw(st.floats(0, 1)) for name in space if name != "window"}
    return best, importance


@settings(max_examples=25)
@given(searched())
def test_every_suggestion_is_a_config_that_still_holds_the_best(tmp_path_factory, found):
    best, importance = found
    suggestions = suggested_space(default_search_space(), best, importance)
    path = tmp_path_factory.mktemp("suggested") / "suggested.yaml"
    path.write_text(to_yaml(suggestions))
    experiment = load_experiment(path, [])
    for name, dimension in experiment.search_space.items():
        assert suggestions[name][1]
        if isinstance(dimension, Choices):
            assert best[0][name] in dimension.choices
        elif isinstance(dimension, Range) and dimension.applies(best[0]):
            rounding = 1e-3 * abs(best[0][name])
            assert dimension.low - rounding <= best[0][name] <= dimension.high + rounding
