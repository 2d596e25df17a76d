"""A configuration of one search space becomes one of another, and every change is named."""

import math

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.config.search_space import (
    Choices,
    FloatRange,
    Hyperparameters,
    IntRange,
    Range,
    default_search_space,
)
from scripts.tuning.space_transfer import Change, in_words, translate
from scripts.tuning.stages import draw, proposal_of

SPACE = {
    "family": Choices(choices=("mlp", "gru")),
    "learning_rate": FloatRange(low=1e-4, high=1e-2, log=True),
    "batch_size": Choices(choices=(64, 128)),
    "width": IntRange(low=8, high=64, log=True),
    "window": IntRange(low=2, high=6, when={"family": ("gru",)}),
    "depth": 1,
    "gate": FloatRange(low=1.0, high=4.0, log=True),
    "tap": Choices(choices=("a", "b")),
}
GOOD = {
    "family": "gru",
    "learning_rate": 1e-3,
    "batch_size": 64,
    "width": 16,
    "window": 3,
    "depth": 1,
    "gate": 2.0,
    "tap": "b",
}

scalars = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=5))
numbers = st.floats(0.01, 1e6)


@st.composite
def ranges(draw_one):
    """A float range, a range of whole numbers or choices."""
    kind = draw_one(st.sampled_from(["float", "int", "categorical", "fixed"]))
    if kind == "categorical":
        return Choices(choices=tuple(draw_one(st.lists(scalars, min_size=1, max_size=4))))
    if kind == "fixed":
        return draw_one(scalars)
    low, high = sorted((draw_one(numbers), draw_one(numbers)))
    log = draw_one(st.booleans())
    if kind == "float":
        return FloatRange(low=low, high=high, log=log)
    return IntRange(low=max(1, math.floor(low)), high=max(1, math.ceil(high)), log=log)


def holds(dimension, value):
    """Whether a dimension has this value, as a configuration would."""
    if isinstance(dimension, Choices):
        return any(value is choice or (value == choice and type(value) is type(choice)) for choice in dimension.choices)
    if isinstance(dimension, Range):
        kind = float if isinstance(dimension, FloatRange) else int
        return type(value) is kind and dimension.low <= value <= dimension.high
    return value is dimension or value == dimension


@given(
    st.dictionaries(st.sampled_from("abcd"), ranges(), min_size=1),
    st.dictionaries(st.sampled_from("abcdef"), scalars | st.just(10**400)),
)
def test_whatever_an_earlier_run_had_becomes_a_configuration_of_the_space(space, values):
    kept, changes = translate(values, space)
    assert kept.keys() == space.keys()
    assert all(holds(space[name], value) for name, value in kept.items())
    assert {change.name for change in changes if change.kind == "ignored"} == values.keys() - space.keys()
    assert translate(kept, space) == (kept, [])
    in_words(changes)


@given(st.integers(0, 10**6), st.sampled_from([SPACE, default_search_space()]))
def test_a_configuration_of_the_same_space_stays_as_it_is(number, space):
    values = draw(space, 5, number)
    assert translate(values, space) == (values, [])


@given(st.dictionaries(st.sampled_from(list(default_search_space())), scalars))
def test_a_translated_configuration_can_be_trained_and_stored(values):
    space = default_search_space()
    kept, _ = translate(values, space)
    Hyperparameters(**kept)
    proposal = proposal_of(space, kept)
    optuna.trial.create_trial(value=0.5, params=proposal.parameters, distributions=proposal.distributions)
    assert ("window" in kept) == (kept["family"] in ("gru", "tcn"))


@pytest.mark.parametrize(
    ("changed", "name", "becomes", "kind"),
    [
        ({"learning_rate": 0.5}, "learning_rate", 1e-2, "clipped"),
        ({"learning_rate": "fast"}, "learning_rate", 1e-3, "replaced"),
        ({"learning_rate": None}, "learning_rate", 1e-3, "default"),
        ({"width": 7}, "width", 8, "clipped"),
        ({"width": 16.4}, "width", 16, "clipped"),
        ({"width": None}, "width", 23, "middle"),  # the default of 128 lies outside; sqrt(8 * 64) = 22.6
        ({"width": True}, "width", 23, "replaced"),
        ({"batch_size": 100}, "batch_size", 128, "replaced"),
        ({"batch_size": 10**400}, "batch_size", 128, "replaced"),
        ({"family": "resnet"}, "family", "mlp", "replaced"),
        ({"tap": "c"}, "tap", "a", "replaced"),
        ({"tap": None}, "tap", "a", "middle"),
        ({"gate": None}, "gate", 2.0, "middle"),  # the middle of the logarithms of 1 and 4
        ({"window": None}, "window", 4, "middle"),
        ({"depth": 3}, "depth", 1, "fixed"),
    ],
)
def test_each_kind_of_difference_has_its_rule(changed, name, becomes, kind):
    values = {n: v for n, v in (GOOD | changed).items() if v is not None}
    kept, changes = translate(values, SPACE)
    assert kept[name] == pytest.approx(becomes) if isinstance(becomes, float) else kept[name] == becomes
    assert type(kept[name]) is type(becomes)
    assert [(c.kind, c.name, c.old) for c in changes] == [(kind, name, changed[name])]


def test_a_window_goes_with_its_family():
    kept, changes = translate(GOOD | {"family": "mlp"}, SPACE)
    assert "window" not in kept
    assert changes == []


def test_a_kind_of_change_is_one_line_and_no_text_of_a_file_reaches_the_terminal_raw():
    changes = [
        Change("ignored", "momentum", 0.9, None),
        Change("ignored", "\x1b[2J", 1, None),
        Change("clipped", "learning_rate", 0.5, 0.01),
        Change("clipped", "learning_rate", 0.5, 0.01),
    ]
    lines = in_words(changes)
    assert len(lines) == 2
    assert "momentum, " in lines[0]
    assert lines[1].count("learning_rate 0.5 -> 0.01") == 1
    assert all(line.isprintable() for line in lines)
