"""Selection of the final configurations: a single one, or an ensemble chosen on out-of-fold predictions.

The candidates are the configurations of phase 2. The logits of each are the mean over its networks, as in the final
model. All have the same number of networks per fold, because more networks would make a candidate look better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scripts.config.experiment import Experiment
from scripts.config.search_space import Hyperparameters, Values
from scripts.data.dataset import Dataset
from scripts.errors import InputError
from scripts.extended_training.out_of_fold import decision_on, pooled_accuracies
from scripts.extended_training.selection import complete
from scripts.statistics.greedy_ensemble import fit_ensemble, on_other_folds
from scripts.statistics.intervals import Interval, mean_intervals
from scripts.statistics.metrics import log_losses
from scripts.storage.artifacts import read_record
from scripts.storage.extended_record import Configuration, Extended
from scripts.storage.records import BestConfig
from scripts.storage.result_records import Ensemble, EnsembleMember, Gain, Selection
from scripts.storage.run_dir import Command, RunDir
from scripts.storage.table_artifacts import read_out_of_fold

_MIN_PROBABILITY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class PlannedMember:
    """A configuration that phase 3 trains.

    Attributes
    ----------
    weight : float
        Of its probabilities in those of the final model; those of all members add up to 1.
    trial_number : int or None
        Trial of phase 1 that it comes from, if that is known.
    name : str
        Part of the names of its runs and of their random keys: empty for the configuration that phase 2 chose, so that
        it is trained as a single configuration.
    """

    hyperparameters: Hyperparameters
    weight: float = 1.0
    trial_number: int | None = None
    name: str = ""


@dataclass(frozen=True)
class OutOfFold:
    """Predictions that the configurations of phase 2 made for the same tested rows.

    Attributes
    ----------
    configurations : sequence of Configuration
        Those that were trained on all folds, the chosen one first.
    logits : ndarray, shape (n_configurations, n, n_classes)
    fold, row : ndarray of int, shape (n,)
        Fold that tests a row, and the row of the data set.
    """

    configurations: Sequence[Configuration]
    logits: np.ndarray
    fold: np.ndarray
    row: np.ndarray

    @classmethod
    def of(cls, table: pd.DataFrame, configurations: Sequence[Configuration], classes: Sequence[str]) -> OutOfFold:
        """Read the out-of-fold table of phase 2, see `out_of_fold.prediction_table`."""
        numbers = [c.trial_number for c in configurations]
        columns = [f"probability_{name}" for name in classes]
        table = table[table["trial_number"].isin(numbers)]
        networks = table.groupby(["fold", "trial_number"])["seed"].nunique().groupby("fold").min()
        logits, fold, row = [], [], []
        for k, n_networks in networks.items():
            tested = table[(table["fold"] == k) & (table["seed"] < n_networks)]
            blocks = [tested[tested["trial_number"] == number] for number in numbers]
            shares = np.array([block[columns].to_numpy(np.float64) for block in blocks])
            shape = (len(numbers), int(n_networks), -1, len(columns))
            logits.append(np.log(np.maximum(shares, _MIN_PROBABILITY)).reshape(shape).mean(axis=1))
            row.append(blocks[0]["row"].to_numpy()[: logits[-1].shape[1]])
            fold.append(np.full(len(row[-1]), k))
        return cls(configurations, np.concatenate(logits, axis=1), np.concatenate(fold), np.concatenate(row))


def chosen_alone(values: Values, trial_number: int | None = None) -> list[PlannedMember]:
    """Return the chosen configuration as the only member."""
    return [PlannedMember(Hyperparameters.model_validate(values), trial_number=trial_number)]


def choose_members(
    run_dir: RunDir, best: BestConfig, experiment: Experiment, dataset: Dataset
) -> tuple[list[PlannedMember], Selection]:
    """Return the members of the final model, and their selection.

    Parameters
    ----------
    experiment : Experiment
        With `final.ensemble`, the most draws; 1 takes the chosen configuration.
    dataset : Dataset
        The development data.

    Raises
    ------
    MissingInputError, InputError
        Phase 2 left no predictions, or others than those of the configuration in `best`.
    """
    if experiment.final.ensemble == 1:
        return chosen_alone(best.hyperparameters, best.selection.trial_number), best.selection
    results = read_record(run_dir.extended_results, Command.EXTENDED, Extended)
    table = read_out_of_fold(run_dir, results)
    configurations = complete(results.configurations)
    places = [k for k, c in enumerate(configurations) if c.config == best.hyperparameters]
    if not places or results.data_fingerprint != best.data_fingerprint:
        what = (
            "does not contain the predictions of the configuration in best_config.json, which the ensemble starts from"
        )
        raise InputError(what, str(run_dir.extended), "name the best_config.json of this run directory, or none")
    ordered = [configurations.pop(places[0]), *configurations]
    return ensemble_of(OutOfFold.of(table, ordered, dataset.classes), best.selection, experiment, dataset)


def ensemble_of(
    predictions: OutOfFold, chosen: Selection, experiment: Experiment, dataset: Dataset
) -> tuple[list[PlannedMember], Selection]:
    """Choose the members as `choose_members`, from predictions and the selection of phase 2."""
    y, max_draws = dataset.y[predictions.row], experiment.final.ensemble
    weights = fit_ensemble(y, predictions.logits, max_draws).weights
    members = [_member(predictions.configurations, k, weight) for k, weight in weights.items()]
    of_ensemble, alone = on_other_folds(y, predictions.logits, predictions.fold, predictions.row, max_draws)
    hits = (of_ensemble.argmax(axis=1) == y).astype(np.float64)
    by_fold = [hits[predictions.fold == k].mean() for k in np.unique(predictions.fold)]
    number = predictions.configurations[0].trial_number
    evaluated = pooled_accuracies(dataset, predictions.row, {number: hits}, number)[1][number]
    accuracy, log_loss = _gains(predictions, of_ensemble, alone[0], dataset)
    ensemble = Ensemble(
        most_draws=max_draws,
        members=[
            EnsembleMember(trial_number=c.trial_number, family=c.family, weight=weight)
            for c, weight in ((predictions.configurations[k], weight) for k, weight in weights.items())
        ],
        single_trial_number=number,
        n_rows=len(y),
        accuracy=accuracy,
        log_loss=log_loss,
        is_better=log_loss.gain_ci95[0] > 0 and accuracy.gain_ci95[1] >= 0,
    )
    changed = {
        "reason": in_words(ensemble),
        "avg_accuracy": float(np.mean(by_fold)),
        "std_accuracy": float(np.std(by_fold, ddof=1)),
        "skill": evaluated.skill,
        "skill_se": evaluated.skill_se,
        "decision": decision_on(dataset, predictions.row, of_ensemble, experiment),
        "ensemble": ensemble,
    }
    return members, chosen.model_copy(update=changed)


def _member(configurations: Sequence[Configuration], k: int, weight: float) -> PlannedMember:
    number = configurations[k].trial_number
    hyperparameters = Hyperparameters.model_validate(configurations[k].config)
    return PlannedMember(hyperparameters, weight, number, f"trial_{number:04d}" if k else "")


def _gains(predictions: OutOfFold, of_ensemble: np.ndarray, single: np.ndarray, dataset: Dataset) -> tuple[Gain, Gain]:
    """Accuracy and log loss of the ensemble and of the chosen configuration, and the gains, by blocks of dates."""
    y = dataset.y[predictions.row]
    hits = [(p.argmax(axis=1) == y).astype(np.float64) for p in (of_ensemble, single)]
    losses = [log_losses(y, p) for p in (of_ensemble, single)]
    gains = mean_intervals(
        {"accuracy": hits[0] - hits[1], "log_loss": losses[1] - losses[0]},
        dataset.date[predictions.row] if dataset.has_time else None,
        dataset.horizon,
    )
    return _compared(hits, gains["accuracy"]), _compared(losses, gains["log_loss"])


def _compared(values: Sequence[np.ndarray], gain: Interval) -> Gain:
    """Means of the ensemble and of the single configuration; `gain` is positive where the ensemble is better."""
    of_ensemble, single = (float(own.mean()) for own in values)
    return Gain(ensemble=of_ensemble, single=single, gain=gain.estimate, gain_ci95=[gain.low, gain.high])


def in_words(ensemble: Ensemble) -> str:
    """Return the members of the ensemble and its gain as a sentence without a full stop."""
    members = ", ".join(f"trial {m.trial_number} ({m.family}) {m.weight:.2g}" for m in ensemble.members)
    single = ensemble.single_trial_number
    if [m.trial_number for m in ensemble.members] == [single]:
        return f"in up to {ensemble.most_draws} draws the ensemble is only trial {single}: no other improves it"
    gains = [
        f"{own.gain:+.4f} (95 % {own.gain_ci95[0]:+.4f} to {own.gain_ci95[1]:+.4f})"
        for own in (ensemble.log_loss, ensemble.accuracy)
    ]
    verdict = "better than" if ensemble.is_better else "not clearly better than"
    return (
        f"ensemble with the weights {members}; selected on other folds than tested, it is {verdict} trial "
        f"{single}, the choice of phase 2: it gains {gains[0]} in log loss and {gains[1]} in accuracy"
    )
