"""Estimated duration of a phase: measured epochs of similar configurations times the expected number of epochs.

Most trainings stop early, so that the epochs planned are far more than those spent; where nothing is known of a
configuration yet, its best epoch is assumed to be the tenth, as in measured runs (5th to 23rd).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from scripts.config.experiment import Experiment
from scripts.config.search_space import Choices, Hyperparameters, SearchSpace, Values
from scripts.data.dataset import Dataset
from scripts.training.run import TrainingRun
from scripts.training.spec import RunSpec

TYPICAL_BEST_EPOCH = 10
START_UP_S = 5.0  # of a command, until it trains: its imports, the data, the workers
_MAX_ROWS = 20_000  # that are trained on for a measurement; an epoch takes as much longer as it has more rows
_DECISION_S = 0.1  # of the search, with all that comes with it: proposal, storage, checkpoint
_MAX_MEASURED_S = 30.0  # after which no further configuration is measured
_SHARE_OF_FIRST = 0.9  # of the epochs: 77 to 98 % in three runs by default
_DRAWS = 3  # random configurations of a family


@dataclass(frozen=True)
class Measured:
    """Seconds that an epoch over one row takes, by family the mean of its configurations, and the epochs' shares."""

    per_row_s: dict[str, float]
    shares: dict[str, float]

    @property
    def mean_s(self) -> float:
        """Mean seconds of an epoch."""
        return sum(self.shares[family] * seconds for family, seconds in self.per_row_s.items())

    def in_words(self, n_rows: int) -> str:
        """Seconds of an epoch over so many rows, by family."""
        return ", ".join(f"{family} {seconds * n_rows:.2g} s" for family, seconds in self.per_row_s.items())


def measure_epochs(
    configurations: Sequence[Values],
    dataset: Dataset,
    experiment: Experiment,
    device: str,
    first: Sequence[Values] = (),
) -> Measured:
    """Train an epoch of each configuration, one of each family before others, as long as there is time.

    `first` are the initial ones of a search.
    """
    by_family: dict[str, list[float]] = {}
    start = time.monotonic()
    for values in _families_in_turn(configurations):
        hyperparameters = Hyperparameters.model_validate(values)
        durations = by_family.setdefault(hyperparameters.family, [])
        if not durations or time.monotonic() - start < _MAX_MEASURED_S:
            durations.append(_epoch_s(hyperparameters, dataset, experiment, device))
    return Measured(
        {family: float(np.mean(durations)) for family, durations in by_family.items()}, _shares(by_family, first)
    )


def _shares(families: Collection[str], first: Sequence[Values]) -> dict[str, float]:
    """Return the shares of epochs by family; nearly all go to families of the initial trials, if any."""
    known = _SHARE_OF_FIRST if first else 0.0
    counts = Counter(str(values.get("family", "mlp")) for values in first)
    return {f: known * counts[f] / max(1, len(first)) + (1.0 - known) / len(families) for f in families}


def one_of_each_family(configurations: Sequence[Values]) -> list[Values]:
    """The first configuration of each family."""
    return list({values.get("family", "mlp"): values for values in reversed(configurations)}.values())[::-1]


def _families_in_turn(configurations: Sequence[Values]) -> list[Values]:
    places: dict[object, int] = {}
    turns = []
    for values in configurations:
        family = values.get("family", "mlp")
        turns.append(places.get(family, 0))
        places[family] = turns[-1] + 1
    return [configurations[k] for k in np.argsort(turns, kind="stable")]


def _epoch_s(hyperparameters: Hyperparameters, dataset: Dataset, experiment: Experiment, device: str) -> float:
    """Seconds by row of an epoch with its validation, the second of a run, for the first one warms up."""
    train, validation = dataset.tail_split(experiment.tuning.validation_fraction, experiment.seed)
    share = min(1.0, _MAX_ROWS / len(train))
    n_validated = max(1, int(share * len(validation)))
    rows = train[-min(len(train), _MAX_ROWS) :], validation[:n_validated]
    spec = RunSpec("measured", (0,), hyperparameters, *rows, 2, factories=experiment.models, device=device)
    torch.set_num_threads(1)  # as a worker trains
    run = TrainingRun(spec, dataset)
    run.advance(2)
    return run.history[-1].duration_s / len(rows[0])


def likely_configurations(space: SearchSpace, first: Sequence[Values], draws: Sequence[Values]) -> list[Values]:
    """Configurations that a search is measured by: those it starts with, and random ones of the other families."""
    family = space.get("family", "mlp")
    chosen = list(first)
    for name in family.choices if isinstance(family, Choices) else (family,):
        if not any(values.get("family") == name for values in first):
            chosen += [values for values in draws if values.get("family", name) == name][:_DRAWS]
    return chosen


def search_s(measured: Measured, n_rows: int, epochs: int, decisions: int, workers: int) -> float:
    """Seconds of phase 1."""
    return measured.mean_s * n_rows * epochs / workers + _DECISION_S * decisions


def epochs_in(seconds: float, measured: Measured, n_rows: int, experiment: Experiment, workers: int) -> int:
    """Return the epochs of phases 1 and 2 that fit into some seconds, two thirds for phase 1; at least one.

    Phase 1 trains on `n_rows` rows and decides once a first rung; a fold has about as many.
    """
    share = 2.0 / 3.0
    trained = measured.mean_s * n_rows
    each = share * (trained / min(workers, experiment.tuning.proposal_lag) + _DECISION_S / experiment.tuning.rungs[0])
    each += (1.0 - share) * trained / workers
    return max(1, min(10**9, int(seconds / each)))


def extended_s(
    measured: Measured, n_rows: int, experiment: Experiment, n_trainings: int, best_epoch: float, workers: int
) -> float:
    """Seconds of phase 2: each training ends its patience after the best epoch, at the next evaluation."""
    config = experiment.extended
    stop = -(-(best_epoch + config.early_stopping_patience) // config.evaluation_frequency)
    epochs = min(config.extended_epochs, stop * config.evaluation_frequency)
    return measured.mean_s * n_rows * n_trainings * epochs / workers


def final_s(measured: Measured, n_rows: int, experiment: Experiment, best_epoch: float, workers: int) -> float:
    """Seconds of phase 3: for each seed a run to the end of its patience, and another one to its best epoch."""
    config = experiment.final
    best = min(config.epochs, best_epoch)
    epochs = min(config.epochs, best + config.early_stopping_patience) + best
    return measured.mean_s * n_rows * config.n_seeds * epochs / workers
