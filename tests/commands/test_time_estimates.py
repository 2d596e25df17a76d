"""How long phases are likely to take: what a prediction adds up, and that the dry run shows it."""

import pytest

from scripts.commands.placement import fastest
from scripts.commands.time_estimates import (
    Measured,
    epochs_in,
    extended_s,
    final_s,
    likely_configurations,
    measure_epochs,
    search_s,
)
from scripts.config.experiment import Experiment
from scripts.config.search_space import Choices
from tests.training.test_training import DATA

EXPERIMENT = Experiment()
TWO = Measured({"mlp": 1e-3, "gru": 9e-3}, {"mlp": 0.75, "gru": 0.25})  # an epoch over 1,000 rows: 3 s


def test_seconds_are_those_of_the_epochs_that_are_likely_and_workers_share_them():
    assert search_s(TWO, 1000, 500, 0, 1) == pytest.approx(1500.0)
    assert search_s(TWO, 1000, 500, 0, 2) == pytest.approx(750.0)
    assert search_s(TWO, 1000, 500, 100, 2) > 750.0
    # Patience of 10 after epoch 12, at the next evaluation: epoch 25; never more than planned.
    assert extended_s(TWO, 1000, EXPERIMENT, 15, 12, 1) == pytest.approx(15 * 25 * 3.0)
    assert extended_s(TWO, 1000, EXPERIMENT, 15, 99, 1) == pytest.approx(15 * 100 * 3.0)
    # Three seeds: patience of 15 after epoch 10, then 10 epochs.
    assert final_s(TWO, 1000, EXPERIMENT, 10, 3) == pytest.approx((25 + 10) * 3.0)


def test_a_time_is_as_many_epochs_as_it_lasts_for():
    # An epoch of 1,000 rows takes 3 s, and two thirds of them wait 0.1 s for every fourth.
    assert epochs_in(3016.6, TWO, 1000, EXPERIMENT, 1) == 999
    assert 1.9 < epochs_in(3600.0, TWO, 1000, EXPERIMENT, 2) / epochs_in(3600.0, TWO, 1000, EXPERIMENT, 1) < 2.0
    assert epochs_in(0.0, TWO, 1000, EXPERIMENT, 1) == 1


def test_each_family_is_measured_and_those_that_a_search_begins_with_count_most():
    space = {"family": Choices(choices=("mlp", "resnet")), "width": 8}
    first, draws = [{"family": "mlp", "width": 8}], [{"family": f, "width": 8} for f in ("mlp", "resnet", "resnet")]
    chosen = likely_configurations(space, first, draws)
    assert [values["family"] for values in chosen] == ["mlp", "resnet", "resnet"]
    measured = measure_epochs(chosen, DATA, EXPERIMENT, "cpu", first)
    assert set(measured.per_row_s) == {"mlp", "resnet"} and min(measured.per_row_s.values()) > 0
    assert measured.shares == pytest.approx({"mlp": 0.95, "resnet": 0.05})
    assert measure_epochs(chosen, DATA, EXPERIMENT, "cpu").shares == {"mlp": 0.5, "resnet": 0.5}


def test_the_device_that_trains_more_at_once_is_faster_if_an_epoch_takes_the_same():
    configurations = [{"family": family, "width": 8} for family in ("mlp", "resnet", "mlp")]
    for busy in ("cpu", "cpu:0"):  # two names of one device
        best, why = fastest(EXPERIMENT, DATA, configurations, {"cpu": 1, "cpu:0": 1} | {busy: 10**6})
        assert best == busy
        assert why.count("mlp") == why.count("resnet") == 2
