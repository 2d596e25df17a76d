"""Racing in phase 2: choice of the next fold trainings, and stop of configurations that are clearly behind.

A race has rounds with a barrier. The decisions of a round depend on the results of the earlier rounds, not on their
order in time. So they are the same for any number of workers, and after an interruption.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scripts.random_keys import numpy_generator
from scripts.statistics.sequential_tests import p_values_of_being_best, run_noise, spent_level
from scripts.storage.extended_record import Look, ProbabilityOfRace

# One fold does not show how much chance there is in a single training, so nothing is decided after it.
_FIRST_LOOK = 2


class Network(NamedTuple):
    """One training of phase 2: a configuration, by its trial, on a fold with a seed."""

    trial: int
    fold: int
    seed: int = 0


@dataclass(frozen=True)
class Finished:
    """Result of a finished training for the race; `hits` (n_tested,) is None if it failed."""

    hits: np.ndarray | None
    epochs: int


class Race:
    """Rounds of trainings; `looks` has the decisions so far.

    The first two folds of all configurations are one round, then each round is one fold of those that may still win.
    With all folds trained, the saved trainings are given to the tied configurations as further seeds, fold by fold, for
    all of them alike. Neither trainings nor (as far as can be predicted)
    epochs exceed what was saved, so that the phase never needs more than without a race.

    Parameters
    ----------
    trials : sequence of int
        Trial numbers of the configurations, at least two.
    dates : sequence of ndarray of int
        Date of each tested row, by fold.
    has_time : bool
        False: the rows have no dates.
    horizon : int
        Dates that a label looks ahead.
    error_rate : float
        Largest probability, over all looks, that the best configuration is stopped.
    max_seeds : int
        Networks of a configuration on one fold, at most.
    """

    def __init__(
        self,
        trials: Sequence[int],
        dates: Sequence[np.ndarray],
        has_time: bool,
        horizon: int,
        error_rate: float,
        max_seeds: int,
        seed: int,
    ) -> None:
        self.trials, self.dates, self.has_time, self.horizon = list(trials), list(dates), has_time, horizon
        self.error_rate, self.max_seeds, self.seed = error_rate, max_seeds, seed
        self.looks: list[Look] = []
        self._running = list(trials)
        self._folds = 0  # of those still running
        self._further = 0  # rounds of further seeds

    @property
    def stopped_after(self) -> dict[int, int]:
        """After how many folds a configuration was stopped, by its trial."""
        last = len(self.dates)
        return {trial: look.after_folds for look in self.looks if look.after_folds < last for trial in look.behind}

    def p_value(self, trial: int) -> float | None:
        """Return the p-value of the last look in which a configuration took part."""
        return next((look.by_trial[trial] for look in reversed(self.looks) if trial in look.by_trial), None)

    def next_round(self, done: Mapping[Network, Finished]) -> list[Network]:
        """Trainings of the next round, all those of earlier rounds being in `done`; empty at the end."""
        if self._folds:
            self._running = [trial for trial in self._running if _usable(done, trial)]
        if self._folds >= _FIRST_LOOK and self._further == 0 and len(self._running) > 1:
            self.looks.append(self._look(done))
            self._running = [trial for trial in self._running if trial not in self.looks[-1].behind]
        if self._folds < len(self.dates):
            first, self._folds = self._folds, max(self._folds + 1, _FIRST_LOOK)
            # The folds of a configuration follow each other, so that they can train as one population.
            return [Network(trial, fold) for trial in self._running for fold in range(first, self._folds)]
        self._further += 1
        return self._further_seeds(done)

    def _look(self, done: Mapping[Network, Finished]) -> Look:
        folds, n_folds = range(self._folds), len(self.dates)
        scores = np.array([[_score(done, Network(trial, fold)) for fold in folds] for trial in self.trials])
        hits = np.column_stack(
            [np.concatenate([_hits(done, Network(trial, fold)) for fold in folds]) for trial in self._running]
        )
        tested = self.dates[: self._folds]
        p_values = p_values_of_being_best(
            hits,
            np.repeat(folds, [len(part) for part in tested]),
            np.concatenate(tested) if self.has_time else None,
            self.horizon,
            run_noise(scores),
            len(self.trials) - 1,
            numpy_generator(self.seed, "racing", self._folds),
        )
        before = spent_level(self.error_rate, self._folds_at_last_look / n_folds)
        level = spent_level(self.error_rate, self._folds / n_folds) - before
        found = zip(self._running, p_values.tolist(), strict=True)
        return Look(
            after_folds=self._folds,
            level=level,
            p_values=[ProbabilityOfRace(trial_number=trial, p_value=p) for trial, p in found],
        )

    @property
    def _folds_at_last_look(self) -> int:
        return self.looks[-1].after_folds if self.looks else 0

    def _further_seeds(self, done: Mapping[Network, Finished]) -> list[Network]:
        """Return a further seed on one fold for all ties, if the savings suffice."""
        seed, fold = divmod(self._further - 1, len(self.dates))
        seed += 1
        if len(self._running) < 2 or seed >= self.max_seeds:
            return []
        given = [network for network in done if network.seed > 0]
        spared = [t for t in self.trials for k in range(len(self.dates)) if Network(t, k) not in done]
        epochs_left = sum(_epochs(done, trial) for trial in spared) - sum(done[network].epochs for network in given)
        needed = sum(_epochs(done, trial) for trial in self._running)
        if len(self._running) > len(spared) - len(given) or needed > epochs_left:
            return []
        return [Network(trial, fold, seed) for trial in self._running]


def _usable(done: Mapping[Network, Finished], trial: int) -> bool:
    return all(finished.hits is not None for network, finished in done.items() if network.trial == trial)


def _hits(done: Mapping[Network, Finished], network: Network) -> np.ndarray:
    hits = done[network].hits
    if hits is None:
        raise ValueError(f"{network} failed")
    return hits


def _score(done: Mapping[Network, Finished], network: Network) -> float:
    finished = done.get(network)
    return float("nan") if finished is None or finished.hits is None else float(finished.hits.mean())


def _epochs(done: Mapping[Network, Finished], trial: int) -> float:
    """Mean epochs of a configuration's networks."""
    return float(np.mean([finished.epochs for network, finished in done.items() if network.trial == trial]))
