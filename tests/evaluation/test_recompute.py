"""The independent recomputation agrees with a finished run, and notices a single number that was changed."""

from copy import deepcopy
from dataclasses import replace

import pytest

from benchmarks.cash_book import Bar, Slice, fills_of, run_book, total
from benchmarks.recompute import read_run, recompute

CHANGES = (
    ("evaluation", "ece", "ece"),
    ("evaluation", "returns.max_drawdown", "returns.max_drawdown"),
    ("evaluation", "returns.beside.buy_and_hold.net", "returns.beside.buy_and_hold.net"),
    ("extended", "configurations.0.std_accuracy", "trial_{trial}.std_accuracy"),
)


@pytest.fixture(scope="module")
def run(finished_run):
    """The artifacts of the finished run."""
    return read_run(finished_run.folder)


@pytest.fixture(scope="module")
def agreed(run):
    """All figures of the finished run."""
    return recompute(run)


def test_all_figures_of_a_finished_run_agree(agreed):
    assert len(agreed) > 50
    assert [(one.name, one.reported, one.recomputed) for one in agreed if not one.agrees] == []


@pytest.mark.parametrize(("artifact", "place", "name"), CHANGES)
def test_a_changed_number_is_noticed(run, artifact, place, name):
    changed = deepcopy(dict(getattr(run, artifact)))
    *parts, last = place.split(".")
    holder = changed
    for part in parts:
        holder = holder[int(part)] if isinstance(holder, list) else holder[part]
    holder[last] += 1e-6
    name = name.format(trial=run.extended["configurations"][0]["trial_number"])
    differing = [one.name for one in recompute(replace(run, **{artifact: changed})) if not one.agrees]
    assert name in differing


def test_the_book_gives_the_returns_of_a_calculation_by_hand():
    bars = [Bar(day, price, price, price, price, 0.01) for day, price in enumerate((100.0, 110.0, 99.0))]
    fills = {day: {"a": fill} for day, fill in fills_of(bars, [Slice(1.0, 0, 0), Slice(-1.0, 1, 1)], True).items()}
    book = run_book(fills, {0: 1, 1: 1, 2: 1})
    # 1 is bought for 0.01; 1.09 are left, of which 1.1 are sold and as many shares as 1.09 are worth are sold short.
    first, second = 1.1 - 0.01 - 1.0, 0.1 - 0.01 * (1.1 + 1.09) / 1.09
    third = -0.01 * 0.9 * 1.09 / (1.09 * (1 + second))
    assert book.net == pytest.approx([first, second, third])
    assert total(book.net) == pytest.approx(1.09 * (1 + second) * (1 + third) - 1)
