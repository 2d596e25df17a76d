"""Selection among the configurations of phase 2, by default the best mean accuracy.

Any other order only breaks ties. Configurations tie if their out-of-fold accuracy is within one standard error
of that of the best mean (Breiman et al. 1984, 3.4.3). The standard error is that of the paired difference on the same
rows, by blocks of dates: the spread of three folds is mostly that of the periods, which all configurations share. In
simulated markets the best mean loses least (benchmarks/selection_rule.py). Nothing that is measured with a clock takes
part unless the order names it. What racing stopped before the last fold takes no part: it could hardly win.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from scripts.config.selection_order import DEFAULT_ORDER, Criterion
from scripts.storage.extended_record import Configuration, Trained

T = TypeVar("T", bound=Trained)
_OBJECTIVES = ("avg_accuracy", "avg_simulated_return", "n_parameters", "inference_us_per_row")
# After the order: a configuration is never chosen if another is better in one of these and equal in the others.
_FURTHER = (
    "avg_accuracy", "avg_val_loss", "std_accuracy", "avg_simulated_return", "n_parameters", "operations_per_row",
)  # fmt: skip
_HIGHER_IS_BETTER = {"avg_accuracy", "avg_simulated_return"}
_IN_WORDS: dict[str, str] = {
    "std_accuracy": "the lowest spread over the folds",
    "avg_simulated_return": "the highest net return",
    "n_parameters": "the fewest parameters",
    "operations_per_row": "the fewest operations a row",
    "avg_accuracy": "the highest mean accuracy",
    "avg_val_loss": "the lowest log loss",
    "inference_us_per_row": "the shortest time a row",
    "duration_s": "the shortest training",
}


def complete(configurations: Sequence[T]) -> list[T]:
    """The configurations that were trained on all folds."""
    return [c for c in configurations if c.is_complete]


def best_by_mean(configurations: Sequence[T]) -> T:
    """Configuration with the highest `avg_accuracy`, the earlier trial on a tie."""
    return min(configurations, key=lambda c: (-c.avg_accuracy, c.trial_number))


def rank(
    configurations: Sequence[Configuration], order: Sequence[Criterion] = DEFAULT_ORDER
) -> tuple[list[Configuration], str]:
    """Configurations in order, the chosen one first, with `rank` and `tied` (it is a candidate); the reason in words.

    Those that racing stopped come last, the later ones and then the better ones first.

    Parameters
    ----------
    configurations : sequence of Configuration
        `behind` is by how much the out-of-fold accuracy is below that of the best mean, a fraction, and `behind_se`
        the standard error of this difference.
    order : sequence of str
        What decides among the ties, the first criterion that differs; then the mean accuracy, the other criteria, and
        the earlier trial. A value that is unknown (None) counts as the worst.
    """
    finished = complete(configurations)
    best = best_by_mean(finished)
    tied = [c for c in finished if c is best or (c.behind or 0.0) <= (c.behind_se or 0.0)]
    candidates = sorted(tied, key=lambda c: _place(c, order))
    rest = sorted((c for c in finished if c not in tied), key=lambda c: _place(c, ("avg_accuracy",)))
    stopped = [c for c in configurations if c not in finished]
    stopped.sort(key=lambda c: (-len(c.folds), *_place(c, ("avg_accuracy",))))
    ranked = [
        c.model_copy(update={"rank": position, "tied": position <= len(candidates)})
        for position, c in enumerate((*candidates, *rest, *stopped), 1)
    ]
    return ranked, _reason(candidates, best, order) + _stopped_in_words(stopped)


def pareto_set(configurations: Sequence[Configuration]) -> list[int]:
    """Trial numbers of the configurations that no other beats in one objective without losing in another.

    Objectives are mean accuracy, simulated return, parameters and time a row; one that a configuration does not know is
    the worst. What racing stopped takes no part.
    """
    objectives = {c.trial_number: [_worth(c, name) for name in _OBJECTIVES] for c in complete(configurations)}

    def beaten(scores: list[float]) -> bool:
        return any(
            other != scores and all(a <= b for a, b in zip(other, scores, strict=True)) for other in objectives.values()
        )

    return [number for number, scores in objectives.items() if not beaten(scores)]


def _worth(configuration: Configuration, name: str) -> float:
    """Value of a criterion such that lower is better."""
    value: float | None = getattr(configuration, name)
    return float("inf") if value is None else -value if name in _HIGHER_IS_BETTER else value


def _place(configuration: Configuration, order: Sequence[str]) -> tuple[float, ...]:
    keys = [_worth(configuration, name) for name in (*order, *_FURTHER)]
    return (*keys, configuration.trial_number)


def _stopped_in_words(stopped: Sequence[Configuration]) -> str:
    if not stopped:
        return ""
    numbers = ", ".join(str(c.trial_number) for c in stopped)
    return f"; racing had stopped trial{'s' if len(stopped) > 1 else ''} {numbers} before the last fold"


def _reason(candidates: Sequence[Configuration], best: Configuration, order: Sequence[str]) -> str:
    chosen = candidates[0]
    text = (
        f"trial {chosen.trial_number} ({chosen.family}): mean accuracy {chosen.avg_accuracy:.4f}, "
        f"spread over folds {chosen.std_accuracy:.4f}"
    )
    if len(candidates) == 1:
        return f"{text}, the highest; no other configuration is within one standard error of it on the same rows"
    decided = next(
        (n for n in (*order, *_FURTHER) if any(getattr(c, n) != getattr(chosen, n) for c in candidates)), "trial_number"
    )
    won = f"{text}; {len(candidates)} configurations tie (within one standard error on the same rows)"
    if decided == "avg_accuracy":
        small = min(candidates, key=lambda c: _place(c, ("n_parameters",)))
        smaller = small.n_parameters < chosen.n_parameters
        hint = f"; the smallest of them is trial {small.trial_number} (--select size)" if smaller else ""
        return f"{won}, and it has {_IN_WORDS[decided]}{hint}"
    won += f", and of these it has {_IN_WORDS.get(decided, 'the lowest number')}"
    if chosen is best:
        return won
    return f"{won}; the highest mean is {best.avg_accuracy:.4f} of trial {best.trial_number}"
