"""Config keys without effect: those of the data are refused, the others get a note."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from scripts.config.experiment import Experiment
from scripts.config.search_space import Choices, PlainValues, SearchSpace

_FAMILIES_OF = {"window": {"gru", "tcn", "transformer"}, "patch_length": {"transformer"}, "n_members": {"tabm"}}


@dataclass(frozen=True)
class Rule:
    """Keys that have no effect under a condition.

    Attributes
    ----------
    keys : tuple of str
        Dotted keys.
    has_no_effect : callable
        Returns True if they have no effect in an experiment.
    """

    keys: tuple[str, ...]
    has_no_effect: Callable[[Experiment], bool]
    reason: str


def _data(*names: str) -> tuple[str, ...]:
    return tuple(f"data.{name}" for name in names)


def _tuning(*names: str) -> tuple[str, ...]:
    return tuple(f"tuning.{name}" for name in names)


def _of_families(name: str, families: set[str]) -> Rule:
    def has_no_effect(experiment: Experiment) -> bool:
        return not experiment.models and not families & _families(experiment.search_space)

    return Rule((f"search_space.{name}",), has_no_effect, f"it is for the families {', '.join(sorted(families))}")


RULES = (
    Rule(
        _data("path"),
        lambda e: e.data.source == "synthetic",
        "data.source is synthetic, which reads no file: set data.source to market or table",
    ),
    Rule(
        ("data.synthetic",),
        lambda e: e.data.source != "synthetic",
        "it is for data.source: synthetic",
    ),
    Rule(
        _data("label_column", "text_columns", "time_column", "group_column", "forward_return_column"),
        lambda e: e.data.source != "table",
        "it is for data.source: table",
    ),
    Rule(_data("fill", "holding"), lambda e: e.data.source == "table", "it is for markets"),
    Rule(
        _data(
            *("cost_bps", "ticker_cost_bps", "cost_bps_column"),
            *("borrow_bps", "position", "max_weight", "periods_per_year"),
        ),
        lambda e: e.data.source == "table" and e.data.forward_return_column is None,
        "a table has returns only with data.forward_return_column",
    ),
    Rule(
        _data("cost_bps", "ticker_cost_bps"),
        lambda e: e.data.cost_bps_column is not None,
        "data.cost_bps_column replaces it",
    ),
    Rule(_data("cost_bps_column"), lambda e: e.data.source == "synthetic", "it is for data.source: market and table"),
    Rule(
        _data("horizon", "embargo"),
        lambda e: e.data.source == "table" and e.data.time_column is None,
        "a table has time only with data.time_column",
    ),
    Rule(
        _data("label_price", "ties"),
        lambda e: e.data.label not in ("next_direction", "k_bar_direction"),
        "it is for data.label: next_direction and k_bar_direction",
    ),
    Rule(_data("barrier_width"), lambda e: e.data.label != "triple_barrier", "it is for data.label: triple_barrier"),
    Rule(
        _data("regime_window"), lambda e: e.data.label != "volatility_regime", "it is for data.label: volatility_regime"
    ),
    Rule(
        _tuning("rungs", "epoch_budget", "stop"),
        lambda e: e.tuning.scheduler != "rungs",
        "it is for tuning.scheduler: rungs",
    ),
    Rule(
        _tuning("epochs_per_trial_random", "epochs_per_trial_bayesian", "epochs_per_trial_fine_tune"),
        lambda e: e.tuning.scheduler != "guide",
        "it is for tuning.scheduler: guide",
    ),
    Rule(_tuning("epoch_budget"), lambda e: e.epoch_budget is not None, "epoch_budget replaces it"),
    Rule(
        _tuning("fine_tune_top", "fine_tune_widen"),
        lambda e: e.tuning.n_fine_tune_trials == 0,
        "tuning.n_fine_tune_trials is 0",
    ),
    Rule(
        ("extended.racing_error_rate", "extended.racing_most_seeds"),
        lambda e: not e.extended.racing,
        "extended.racing is false",
    ),
    *(_of_families(name, families) for name, families in _FAMILIES_OF.items()),
)


def keys_without_effect(experiment: Experiment, given: PlainValues) -> Iterator[tuple[str, str]]:
    """Yield the given keys that have no effect, with the reason.

    A key that is set to its default is skipped.
    """
    default = Experiment().model_dump(mode="json")
    for key, value in _leaves(given):
        # A range may be limited to families by `when`.
        if value == _at(default, key) or (key.startswith("search_space.") and isinstance(value, dict)):
            continue
        for rule in RULES:
            if any(key == rule_key or key.startswith(f"{rule_key}.") for rule_key in rule.keys) and rule.has_no_effect(
                experiment
            ):
                yield key, rule.reason
                break


def _families(space: SearchSpace) -> set[str]:
    family = space.get("family", "mlp")
    return set(map(str, family.choices)) if isinstance(family, Choices) else {str(family)}


def _leaves(values: PlainValues, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and their values; an entry of the search space is a single value."""
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and not prefix.startswith("search_space."):
            yield from _leaves(value, f"{key}.")
        else:
            yield key, value


def _at(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values
