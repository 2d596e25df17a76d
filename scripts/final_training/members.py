"""Members of the final model: the chosen configuration, or an ensemble selected on out-of-fold predictions.

The configurations are those of phase 2, the answer of each the mean of its networks' logits, as in the final model,
over as many networks a fold as each of them has: more of them would make one look better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from scripts.config.experiment import Experiment
from scripts.config.search_space import Hyperparameters
from scripts.data.dataset import Dataset
from scripts.errors import InputError
from scripts.extended_training.out_of_fold import decision_on, judge
from scripts.extended_training.selection import complete
from scripts.statistics.greedy_ensemble import fit_ensemble, on_other_folds
from scripts.statistics.intervals import Interval, mean_intervals
from scripts.statistics.metrics import log_losses
from scripts.storage.artifacts import read_json
from scripts.storage.run_dir import Command, RunDir
from scripts.storage.table_artifacts import read_out_of_fold

_LEAST_PROBABILITY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class PlannedMember:
    """A configuration that phase 3 trains.

    Attributes
    ----------
    hyperparameters : Hyperparameters
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
    configurations : sequence of dict
        Records of those that were trained on all folds, the chosen one first.
    logits : ndarray, shape (n_configurations, n, n_classes)
    fold, row : ndarray of int, shape (n,)
        Fold that tests a row, and the row of the data set.
    """

    configurations: Sequence[dict[str, Any]]
    logits: np.ndarray
    fold: np.ndarray
    row: np.ndarray

    @classmethod
    def of(cls, table: pd.DataFrame, configurations: Sequence[dict[str, Any]], classes: Sequence[str]) -> OutOfFold:
        """From the table that phase 2 has left, see `out_of_fold.prediction_table`."""
        numbers = [c["trial_number"] for c in configurations]
        columns = [f"probability_{name}" for name in classes]
        table = table[table["trial_number"].isin(numbers)]
        networks = table.groupby(["fold", "trial_number"])["seed"].nunique().groupby("fold").min()
        logits, fold, row = [], [], []
        for k, n_networks in networks.items():
            tested = table[(table["fold"] == k) & (table["seed"] < n_networks)]
            blocks = [tested[tested["trial_number"] == number] for number in numbers]
            shares = np.array([block[columns].to_numpy(np.float64) for block in blocks])
            shape = (len(numbers), int(n_networks), -1, len(columns))
            logits.append(np.log(np.maximum(shares, _LEAST_PROBABILITY)).reshape(shape).mean(axis=1))
            row.append(blocks[0]["row"].to_numpy()[: logits[-1].shape[1]])
            fold.append(np.full(len(row[-1]), k))
        return cls(configurations, np.concatenate(logits, axis=1), np.concatenate(fold), np.concatenate(row))


def chosen_alone(best: Mapping[str, Any]) -> list[PlannedMember]:
    """The configuration of best_config.json as the only member."""
    hyperparameters = Hyperparameters.model_validate(best["hyperparameters"])
    return [PlannedMember(hyperparameters, trial_number=best["selection"].get("trial_number"))]


def choose_members(
    run_dir: RunDir, best: dict[str, Any], experiment: Experiment, dataset: Dataset
) -> tuple[list[PlannedMember], dict[str, Any]]:
    """Return the members of the final model, and the record of their selection, in the form of best_config.json.

    Parameters
    ----------
    best : dict
        Content of best_config.json.
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
        return chosen_alone(best), best["selection"]
    results = read_json(run_dir.extended_results, Command.EXTENDED)
    table = read_out_of_fold(run_dir, results)
    configurations = complete(results["configurations"])
    places = [k for k, c in enumerate(configurations) if c["config"] == best["hyperparameters"]]
    if not places or results["data_fingerprint"] != best["data_fingerprint"]:
        what = (
            "does not contain the predictions of the configuration in best_config.json, which the ensemble starts from"
        )
        raise InputError(what, str(run_dir.extended), "name the best_config.json of this run directory, or none")
    ordered = [configurations.pop(places[0]), *configurations]
    return ensemble_of(OutOfFold.of(table, ordered, dataset.classes), best, experiment, dataset)


def ensemble_of(
    predictions: OutOfFold, best: dict[str, Any], experiment: Experiment, dataset: Dataset
) -> tuple[list[PlannedMember], dict[str, Any]]:
    """Choose the members as `choose_members`, from predictions."""
    y, most = dataset.y[predictions.row], experiment.final.ensemble
    weights = fit_ensemble(y, predictions.logits, most).weights
    members = [_member(predictions.configurations, k, weight) for k, weight in weights.items()]
    together, alone = on_other_folds(y, predictions.logits, predictions.fold, predictions.row, most)
    hits = (together.argmax(axis=1) == y).astype(np.float64)
    by_fold = [hits[predictions.fold == k].mean() for k in np.unique(predictions.fold)]
    number = predictions.configurations[0]["trial_number"]
    judged = judge(dataset, predictions.row, {number: hits}, number)[1][number]
    worth = _worth(predictions, together, alone[0], experiment, dataset)
    record = {
        "most_draws": most,
        "members": [
            {"trial_number": m.trial_number, "family": m.hyperparameters.family, "weight": m.weight} for m in members
        ],
        "single_trial_number": number,
        **worth,
    }
    selection = best["selection"] | {
        "reason": in_words(record),
        "avg_accuracy": float(np.mean(by_fold)),
        "std_accuracy": float(np.std(by_fold, ddof=1)),
        "skill": judged["skill"],
        "skill_se": judged["skill_se"],
        "decision": decision_on(dataset, predictions.row, together, experiment),
        "ensemble": record,
    }
    return members, selection


def _member(configurations: Sequence[Mapping[str, Any]], k: int, weight: float) -> PlannedMember:
    number = configurations[k]["trial_number"]
    hyperparameters = Hyperparameters.model_validate(configurations[k]["config"])
    return PlannedMember(hyperparameters, weight, number, f"trial_{number:04d}" if k else "")


def _worth(
    predictions: OutOfFold, together: np.ndarray, single: np.ndarray, experiment: Experiment, dataset: Dataset
) -> dict[str, Any]:
    """Accuracy and log loss of the ensemble and of the chosen configuration, and the gains, by blocks of dates."""
    y = dataset.y[predictions.row]
    hits = [(p.argmax(axis=1) == y).astype(np.float64) for p in (together, single)]
    losses = [log_losses(y, p) for p in (together, single)]
    gains = mean_intervals(
        {"accuracy": hits[0] - hits[1], "log_loss": losses[1] - losses[0]},
        dataset.date[predictions.row] if dataset.has_time else None,
        dataset.horizon,
    )
    return {
        "n_rows": len(y),
        "accuracy": _compared(hits, gains["accuracy"]),
        "log_loss": _compared(losses, gains["log_loss"]),
        "is_better": gains["log_loss"].low > 0 and gains["accuracy"].high >= 0,
    }


def _compared(values: Sequence[np.ndarray], gain: Interval) -> dict[str, Any]:
    """Means of the ensemble and of the single configuration; `gain` is positive where the ensemble is better."""
    together, single = (float(own.mean()) for own in values)
    return {"ensemble": together, "single": single, "gain": gain.estimate, "gain_ci95": [gain.low, gain.high]}


def in_words(record: Mapping[str, Any]) -> str:
    """Return the members of the ensemble and its gain as a sentence without a full stop."""
    members = ", ".join(f"trial {m['trial_number']} ({m['family']}) {m['weight']:.2g}" for m in record["members"])
    single = record["single_trial_number"]
    if [m["trial_number"] for m in record["members"]] == [single]:
        return f"in up to {record['most_draws']} draws the ensemble is only trial {single}: no other improves it"
    loss, accuracy = record["log_loss"], record["accuracy"]
    gains = [
        f"{own['gain']:+.4f} (95 % {own['gain_ci95'][0]:+.4f} to {own['gain_ci95'][1]:+.4f})"
        for own in (loss, accuracy)
    ]
    verdict = "better than" if record["is_better"] else "not clearly better than"
    return (
        f"ensemble with the weights {members}; selected on other folds than tested, it is {verdict} trial "
        f"{single}, the choice of phase 2: it gains {gains[0]} in log loss and {gains[1]} in accuracy"
    )
