"""Which configuration wins: best mean accuracy, and among those it cannot be told from, the steadiest.

Candidates are the configurations whose mean accuracy over the folds lies within one standard error of the best mean
(Breiman et al. 1984, 3.4.3). Among them, in this order: lower spread over the folds, higher simulated return, fewer
parameters, earlier trial. Nothing that is measured with a clock takes part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]


def rank(configurations: Sequence[Record]) -> tuple[list[Record], str]:
    """Configurations in order, the chosen one first, and the reason in words.

    Parameters
    ----------
    configurations : sequence of mappings
        With `avg_accuracy`, `std_accuracy`, `avg_simulated_return`, `n_parameters`, `trial_number` and `folds`.
    """
    by_mean = sorted(configurations, key=lambda c: (-c["avg_accuracy"], c["trial_number"]))
    best = by_mean[0]
    error = best["std_accuracy"] / math.sqrt(len(best["folds"]))
    threshold = best["avg_accuracy"] - error
    candidates = sorted((c for c in by_mean if c["avg_accuracy"] >= threshold), key=_steadiness)
    rest = [c for c in by_mean if c["avg_accuracy"] < threshold]
    return [*candidates, *rest], _reason(candidates, best, error)


def _steadiness(configuration: Record) -> tuple[float, float, int, int]:
    earned = configuration["avg_simulated_return"]
    return (
        configuration["std_accuracy"],
        -earned if earned is not None else 0.0,
        configuration["n_parameters"],
        configuration["trial_number"],
    )


def _reason(candidates: Sequence[Record], best: Record, error: float) -> str:
    chosen = candidates[0]
    told = (
        f"trial {chosen['trial_number']} ({chosen['config']['family']}): mean accuracy {chosen['avg_accuracy']:.4f}, "
        f"spread over folds {chosen['std_accuracy']:.4f}"
    )
    if len(candidates) == 1:
        return f"{told}; no other configuration lies within one standard error ({error:.4f}) of the best mean"
    others = f"{len(candidates)} configurations lie within one standard error ({error:.4f}) of the best mean"
    if chosen is best:
        return f"{told}; {others}, and it is both the best and the steadiest of them"
    return (
        f"{told}; {others} {best['avg_accuracy']:.4f} of trial {best['trial_number']}, and it is the steadiest of them"
    )
