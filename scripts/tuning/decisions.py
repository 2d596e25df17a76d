"""Decisions and results of a search with rungs; further decisions depend only on them."""

from __future__ import annotations

from dataclasses import dataclass

from scripts.config.search_space import Scalar
from scripts.tuning.stages import Stage


@dataclass(frozen=True)
class Start:
    """Start trial `trial` on split 0 and pause it after `epochs` epochs.

    `gain` is what the model expects of it beyond the best trial so far, in standard deviations of the noise between
    splits; None for a random trial.
    """

    trial: int
    stage: Stage
    values: dict[str, Scalar]
    epochs: int
    gain: float | None = None

    split = 0


@dataclass(frozen=True)
class Continue:
    """Resume a paused run until it has `epochs` epochs."""

    trial: int
    split: int
    epochs: int


@dataclass(frozen=True)
class Replicate:
    """Start a leading trial on another split and pause it after `epochs` epochs."""

    trial: int
    split: int
    epochs: int


@dataclass(frozen=True)
class Stop:
    """End of the search: nothing more is started."""

    reason: str


Action = Start | Continue | Replicate


@dataclass(frozen=True)
class Result:
    """Result of an action.

    Attributes
    ----------
    scores : tuple of float
        Accuracy after each epoch that the action trained, as fractions.
    ended : bool
        The run has ended: all epochs trained, stopped early, or failed.
    failed : bool
        The run has no usable result.
    """

    scores: tuple[float, ...]
    ended: bool = False
    failed: bool = False


@dataclass(frozen=True)
class Entry:
    """Decision with its result, None while it is executed."""

    action: Action
    result: Result | None
