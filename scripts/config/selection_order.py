"""Selection criteria of phase 2, their default order, and the named orders of `--select`."""

from __future__ import annotations

from typing import Literal

Criterion = Literal[
    "std_accuracy",
    "avg_simulated_return",
    "n_parameters",
    "operations_per_row",
    "avg_accuracy",
    "avg_val_loss",
    "inference_us_per_row",
    "duration_s",
]
DEFAULT_ORDER: tuple[Criterion, ...] = ("avg_accuracy", "n_parameters", "operations_per_row")
# Named orders; each chooses among configurations that tie with the best mean accuracy.
PREFERENCES: dict[str, tuple[Criterion, ...]] = {
    "rule": DEFAULT_ORDER,
    "accuracy": ("avg_accuracy",),
    "spread": ("std_accuracy", "avg_simulated_return", "n_parameters", "operations_per_row"),
    "return": ("avg_simulated_return",),
    "size": ("n_parameters", "operations_per_row"),
    "latency": ("inference_us_per_row",),
}
