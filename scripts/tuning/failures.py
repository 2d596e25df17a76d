"""Failures for lack of time, memory or a worker: such trials stay open and can be retried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from scripts.errors import MORE_MEMORY, EnvironmentFailed, HyperError, InputError
from scripts.storage.records import Trial
from scripts.tuning.study_records import result_of


def is_held(trial: FrozenTrial) -> bool:
    """Return True if a trial failed for lack of time, memory or a worker; the study keeps it as running."""
    result = result_of(trial) if trial.state == TrialState.RUNNING else None
    return result is not None and result.outcome.is_of_circumstances


def is_out_of_time(trial: FrozenTrial) -> bool:
    """Return True if an open trial was ended by --max-trial-time."""
    result = result_of(trial)
    return result is not None and result.outcome.failure_kind == "out_of_time"


def may_succeed_now(trial: FrozenTrial, max_trial_time_s: float | None) -> bool:
    """Return True if a retry of an open trial may succeed."""
    result = result_of(trial)
    return result is not None and result.outcome.may_succeed_now(max_trial_time_s)


def short_of_time(trials: Sequence[Trial], max_trial_time_s: float | None) -> list[int]:
    """Numbers of the trials that failed within less time than a trial has now."""
    out_of_time = [t for t in trials if t.failure_kind == "out_of_time" and t.state == "failed"]
    longer = [t for t in out_of_time if max_trial_time_s is None or max_trial_time_s > (t.max_duration_s or 0.0)]
    return [t.number for t in longer]


def all_failed(trials: Sequence[Trial], study: Path) -> HyperError:
    """Refusal of a search without a usable trial, by the most frequent kind of failure."""
    kind = Counter(trial.failure_kind for trial in trials).most_common(1)[0][0]
    first = next(trial for trial in trials if trial.failure_kind == kind)
    what = f"all {len(trials)} trials failed, the first with: {first.failure}"
    if kind == "out_of_time":
        remedy = "give more: the same command with a longer --max-trial-time, or without it, trains them again"
        return InputError(what, "--max-trial-time", remedy)
    if kind in ("out_of_memory", "worker_killed"):
        return EnvironmentFailed(what, str(study), MORE_MEMORY)
    if kind in ("model_error", "hung"):
        return InputError(what, str(study), "correct the model, then add --fresh")
    return InputError(what, str(study), "lower search_space.learning_rate or check the data, then add --fresh")
