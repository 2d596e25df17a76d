"""Cross-validation of phase 2: the trials that enter, their fold trainings, and those that a race stops."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence

import numpy as np
import torch

from scripts.config.experiment import Experiment
from scripts.data.dataset import Dataset, Split
from scripts.errors import InputError
from scripts.execution.executor import Update
from scripts.extended_training.out_of_fold import choose_decision, pooled_accuracies
from scripts.extended_training.race import Finished, Network, Race
from scripts.extended_training.records import configuration_record
from scripts.extended_training.selection import best_by_mean, complete
from scripts.storage.artifacts import unpack_tensors
from scripts.storage.extended_record import Configuration, Trained
from scripts.storage.extended_record import Race as RaceRecord
from scripts.storage.record_base import Curve, Epoch
from scripts.storage.records import Trial, Trials
from scripts.storage.result_records import DecisionRule
from scripts.training.spec import Outcome, RunSpec

# A population saves a tenth of its runs' time at most; with few trainings, an idle worker costs more.
_POPULATIONS_A_WORKER = 6
_MAX_INPUT_BYTES = 2**29  # of a population


class CrossValidation:
    """Trainings of phase 2 as work for the driver, with their results.

    Parameters
    ----------
    epochs_left : int, optional
        Epochs of all trainings together, at most.

    Raises
    ------
    InputError
        There are fewer epochs than trainings.
    """

    def __init__(
        self,
        experiment: Experiment,
        dataset: Dataset,
        trials: Sequence[Trial],
        device: str,
        epochs_left: int | None = None,
    ) -> None:
        self.experiment, self.dataset, self.trials, self.device = experiment, dataset, list(trials), device
        self._epochs_left = epochs_left
        self.folds: list[Split] = dataset.folds(
            experiment.extended.cv, experiment.extended.cross_validation_folds, experiment.seed
        )
        self._by_number = {trial.number: trial for trial in self.trials}
        self._done: dict[Network, tuple[Outcome, Curve, torch.Tensor]] = {}
        self._in_flight: dict[str, Network] = {}
        if epochs_left is not None and epochs_left < self.n_planned:
            raise InputError(
                f"leaves {epochs_left} epochs for {self.n_planned} trainings of phase 2",
                "--epoch-budget",
                "raise it, or lower --top-n",
            )
        self._race = self._start_race()
        every = [Network(number, fold) for number in self._by_number for fold in range(self.n_folds)]
        self._waiting = [] if self._race else every
        self._epochs_each = self._share_of_epochs()

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return len(self.folds)

    @property
    def outcomes(self) -> list[Outcome]:
        """Outcome of each finished training."""
        return [outcome for outcome, _, _ in self._done.values()]

    @property
    def n_planned(self) -> int:
        """Maximum number of trainings; a race only redistributes them."""
        return len(self.trials) * self.n_folds

    @property
    def max_parallel_runs(self) -> int:
        """Most trainings that can run side by side."""
        return 2 * len(self.trials) if self._race else self.n_planned

    def group_size(self, workers: int) -> int:
        """Most folds of a configuration that train as one population; 1 where workers would be left idle for it.

        Parameters
        ----------
        workers : int
            Populations that train at a time. Several share the populations out evenly only if there are many.
        """
        enough = workers == 1 or len(self.trials) >= _POPULATIONS_A_WORKER * workers
        # Each fold has its own inputs, because they are scaled by its training rows.
        return self.n_folds if enough and self.n_folds * self.dataset.x.nbytes <= _MAX_INPUT_BYTES else 1

    @property
    def epochs_planned(self) -> int:
        """Most epochs that can be spent."""
        planned = self.n_planned * self.experiment.extended.extended_epochs
        return planned if self._epochs_left is None else min(planned, self._epochs_left)

    @property
    def data_passes(self) -> float:
        """Epochs of every training in passes over all development rows."""
        n_rows = len(self.dataset.rows)
        # Exactly rounded, so that it does not depend on who finished first.
        return math.fsum(o.epochs * len(self.folds[n.fold][0]) / n_rows for n, (o, _, _) in self._done.items())

    @property
    def epochs_spent(self) -> int:
        """Epochs of every training."""
        return sum(outcome.epochs for outcome in self.outcomes)

    def next_spec(self) -> RunSpec | None:
        """The next training; in a race None also until a round is finished."""
        if not self._waiting and not self._in_flight and self._race:
            further = self._race.next_round({network: self._seen(network) for network in self._done})
            # Only a round of further seeds can find too little left.
            enough = self._epochs_left is None or self._epochs_left - self.epochs_spent >= len(further)
            self._waiting = further if enough else []
            self._epochs_each = self._share_of_epochs()
        if not self._waiting:
            return None
        network = self._waiting.pop(0)
        spec = self._spec(self._by_number[network.trial], network.fold, network.seed)
        self._in_flight[spec.name] = network
        return spec

    def finished(self, spec: RunSpec, update: Update) -> None:
        """Keep outcome, learning curve and predictions."""
        if update.outcome is None:
            raise ValueError(f"{spec.name} has no outcome")
        logits = unpack_tensors(update.state)["validation_logits"] if update.state else torch.empty(0)
        self._done[self._in_flight.pop(spec.name)] = (
            update.outcome,
            [Epoch.model_validate(epoch) for epoch in update.history],
            logits,
        )

    def trained(self) -> list[Trained]:
        """Return a record of each configuration of which no training failed."""
        found = [self._trained(trial) for trial in self.trials]
        return [record for record in found if record is not None]

    def probabilities(self, trial_number: int) -> list[list[np.ndarray]]:
        """Class probabilities of the tested rows of each fold it was trained on, by each of its networks."""
        networks = self._networks(trial_number)
        return [[self._done[network][2].softmax(dim=1).numpy() for network in fold] for fold in networks]

    def evaluated(self, trained: Sequence[Trained]) -> tuple[str, list[Configuration]]:
        """Return the name of the best naive rule and the uncertain accuracy of each configuration."""
        rows = np.concatenate([test for _, test in self.folds])
        correct = {c.trial_number: self._mean_hits(c.trial_number) for c in trained}
        name, found = pooled_accuracies(self.dataset, rows, correct, best_by_mean(complete(trained)).trial_number)
        return name, [
            Configuration(
                rank=rank, **dict(c), **dict(found[c.trial_number]), tied=False, decision=self.decision(c.trial_number)
            )
            for rank, c in enumerate(trained, 1)
        ]

    def decision(self, trial_number: int) -> DecisionRule | None:
        """Threshold and margin for a configuration, from its out-of-fold predictions; None where racing stopped it.

        By the first network of each fold, so that all configurations are treated alike.
        """
        networks = self._networks(trial_number)
        if len(networks) < self.n_folds:
            return None
        logits = [self._done[fold[0]][2].numpy() for fold in networks]
        return choose_decision(self.dataset, [test for _, test in self.folds], logits, self.experiment)

    def race_record(self) -> RaceRecord | None:
        """Return the decisions and reallocations of the race; None without a race."""
        if self._race is None:
            return None
        further = [outcome for network, (outcome, _, _) in self._done.items() if network.seed > 0]
        return RaceRecord(
            error_rate=self.experiment.extended.racing_error_rate,
            looks=self._race.looks,
            n_trainings_spared=self.n_planned - (len(self._done) - len(further)),
            n_further_seeds=len(further),
            epochs_of_further_seeds=sum(outcome.epochs for outcome in further),
        )

    def _share_of_epochs(self) -> int:
        """Epochs that each waiting training has at most.

        Most trainings stop early, so those of a later round are counted half; what is left always suffices for them.
        """
        max_epochs, now = self.experiment.extended.extended_epochs, len(self._waiting)
        if self._epochs_left is None or not now:
            return max_epochs
        later = max(0, self.n_planned - len(self._done) - now)
        return min(max_epochs, max(1, int((self._epochs_left - self.epochs_spent) / (now + later / 2))))

    def _start_race(self) -> Race | None:
        config, dataset = self.experiment.extended, self.dataset
        if not config.racing or len(self.trials) < 2:
            return None
        return Race(
            trials=[trial.number for trial in self.trials],
            dates=[dataset.date[test] for _, test in self.folds],
            has_time=dataset.has_time,
            horizon=dataset.horizon,
            error_rate=config.racing_error_rate,
            max_seeds=config.racing_most_seeds,
            seed=self.experiment.seed,
        )

    def _seen(self, network: Network) -> Finished:
        """Return the result of a finished training for the race."""
        outcome = self._done[network][0]
        return Finished(None if outcome.state == "failed" else self._hits(network), outcome.epochs)

    def _hits(self, network: Network) -> np.ndarray:
        predicted = self._done[network][2].softmax(dim=1).numpy().argmax(axis=1)
        hits: np.ndarray = predicted == self.dataset.y[self.folds[network.fold][1]]
        return hits

    def _mean_hits(self, trial_number: int) -> np.ndarray:
        """Share of a configuration's networks that are right on each row, fold by fold."""
        networks = self._networks(trial_number)
        return np.concatenate([np.mean([self._hits(network) for network in fold], axis=0) for fold in networks])

    def _networks(self, trial_number: int) -> list[list[Network]]:
        """Finished trainings of a configuration, by fold."""
        networks = sorted(network for network in self._done if network.trial == trial_number)
        return [list(fold) for _, fold in itertools.groupby(networks, key=lambda network: network.fold)]

    def _spec(self, trial: Trial, fold: int, seed: int) -> RunSpec:
        experiment, number = self.experiment, trial.number
        return RunSpec.of(
            experiment,
            experiment.extended,
            f"extended_{number:04d}_fold_{fold}" + (f"_seed_{seed}" if seed else ""),
            (experiment.seed, "extended", number, "fold", fold, *(("seed", seed) if seed else ())),
            trial.hyperparameters,
            self.folds[fold],
            self._epochs_each,
            self.device,
            schedule_epochs=experiment.extended.extended_epochs,
        )

    def _trained(self, trial: Trial) -> Trained | None:
        number = trial.number
        folds = [[self._done[network][:2] for network in fold] for fold in self._networks(number)]
        if any(outcome.state == "failed" for fold in folds for outcome, _ in fold):
            return None
        stopped_after = self._race.stopped_after.get(number) if self._race else None
        return configuration_record(trial, folds, stopped_after, self._race.p_value(number) if self._race else None)


def top_trials(trials: Trials, top_n: int) -> list[Trial]:
    """Return the best `top_n` trials with distinct hyperparameters; fewer if there are no more.

    By the rank that a search with rungs gave them, else by the accuracy on the one split.
    """
    last = len(trials.trials) + 1
    chosen: dict[str, Trial] = {}
    for trial in sorted(trials.usable, key=lambda t: (t.rank or last, -t.accuracy, t.number)):
        chosen.setdefault(json.dumps(trial.hyperparameters, sort_keys=True), trial)
    return list(chosen.values())[:top_n]
