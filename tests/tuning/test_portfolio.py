"""The portfolio: configurations of the shipped spaces that together lower the regret the most."""

import itertools

import numpy as np
import pandas as pd
import pytest

from benchmarks import build_portfolio
from scripts.config.search_space import (
    Choices,
    Hyperparameters,
    default_search_space,
)
from scripts.config.yaml_files import load_experiment
from scripts.training.models.registry import applicable_space
from scripts.tuning.portfolio import SIZE, portfolio, shipped
from scripts.tuning.space_transfer import translate
from tests.conftest import ROOT


def test_the_shipped_portfolio_lies_in_the_default_search_space():
    members = shipped()
    assert len(members.joint) == SIZE
    assert members.by_family.keys() == {"mlp", "resnet", "gru", "tcn"}
    for values in itertools.chain(members.joint, *members.by_family.values()):
        assert translate(values, default_search_space()) == (values, [])
    for family, own in members.by_family.items():
        assert len(own) == SIZE
        assert {values["family"] for values in own} == {family}
    assert [m.values for m in portfolio(default_search_space())] == members.joint
    assert not any(m.changed for m in portfolio(default_search_space()))


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_config_has_a_portfolio_of_distinct_configurations_of_its_space(path):
    experiment = load_experiment(path, [])
    space, _ = applicable_space(experiment.search_space, experiment.data.source != "table")
    values = [member.values for member in portfolio(space)]
    assert len(values) == SIZE
    assert all(a != b for a, b in itertools.combinations(values, 2))
    for member in values:
        assert translate(member, space) == (member, [])
        Hyperparameters(**member)


@pytest.mark.parametrize("families", [("mlp",), ("gru", "tcn"), ("resnet", "mine")])
def test_families_that_are_not_searched_are_left_out(families):
    members = portfolio(default_search_space() | {"family": Choices(choices=families)})
    assert len(members) == SIZE
    assert {m.values["family"] for m in members} == set(families) - {"mine"}


def test_nothing_is_known_of_a_family_of_the_users_own():
    space = default_search_space() | {"family": "mlp"}
    assert portfolio(space, own_families=["mlp"]) == []
    assert portfolio(space | {"family": "mine"}, own_families=["mine"]) == []


def test_the_shipped_portfolio_is_what_the_table_of_results_gives(tmp_path):
    table = build_portfolio.read_table(build_portfolio.RESULTS)
    build_portfolio.write_portfolio(build_portfolio.chosen_from(table), tmp_path / "portfolio.json")
    assert (tmp_path / "portfolio.json").read_bytes() == build_portfolio.PORTFOLIO.read_bytes()


def test_each_member_lowers_the_mean_of_the_lowest_regret_most():
    values = np.random.default_rng(2).uniform(size=(12, 5))
    values[3, 2] = np.nan  # not trained there
    index = pd.MultiIndex.from_tuples([("mlp", k) for k in range(12)])
    chosen = [m["number"] for m in build_portfolio.choose(pd.DataFrame(values, index=index))]
    full = np.where(np.isnan(values), np.inf, values)
    for k, number in enumerate(chosen):
        costs = [full[[*chosen[:k], j]].min(axis=0).mean() for j in range(12)]
        assert costs[number] == min(costs)
    assert len(set(chosen)) == SIZE


def test_the_expected_lowest_is_the_mean_over_all_subsets():
    values = np.random.default_rng(3).normal(size=7)
    subsets = [min(subset) for subset in itertools.combinations(values, 3)]
    assert build_portfolio.expected_lowest(values, 3) == pytest.approx(np.mean(subsets))
