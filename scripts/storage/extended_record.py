"""Typed record of extended_training_results.json: the configurations of phase 2 and the race between them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from scripts.storage.record_base import ChosenValues, Count, Curve, Files, Made, Pair, Record
from scripts.storage.result_records import DecisionRule


class FoldResult(Record):
    """A configuration on one fold."""

    fold: Count
    epochs: Count = 0
    best_epoch: Count = 0
    accuracy: float | None
    val_loss: float | None = None
    simulated_return: float | None = None
    accuracies_by_seed: list[float | None] = Field([])
    history: Curve = Field([])


class Ranked(Record):
    """Place of a configuration."""

    rank: Count


class Trained(Record):
    """A configuration of phase 2 as it was trained."""

    trial_number: Count
    config: ChosenValues
    phase_1_accuracy: float
    avg_accuracy: float
    std_accuracy: float
    avg_val_loss: float | None
    avg_train_loss: float | None = None
    avg_simulated_return: float | None
    n_parameters: Count
    operations_per_row: Count | None
    duration_s: float
    inference_us_per_row: float | None
    seeds: Annotated[list[Count], Field(min_length=1)]
    folds: Annotated[list[FoldResult], Field(min_length=1)]
    state: str = "complete"
    stopped_after_folds: Count | None = None
    racing_p_value: float | None = None

    @property
    def is_complete(self) -> bool:
        """Return whether it was trained on all folds."""
        return self.state != "stopped"

    @property
    def family(self) -> str:
        """Return the model family."""
        return str(self.config["family"])


class PooledAccuracy(Record):
    """Accuracy of a configuration against the best naive rule and against the best configuration, out of fold."""

    pooled_accuracy: float | None = None
    accuracy_se: float
    skill: float | None
    skill_se: float | None
    skill_ci95: Pair | None
    behind: float | None
    behind_se: float | None


class Configuration(PooledAccuracy, Trained, Ranked):
    """A configuration of phase 2. The fields of its last base come first, as in the JSON file."""

    tied: bool = False
    decision: DecisionRule | None

    @model_validator(mode="after")
    def _check(self) -> Configuration:
        if self.is_complete:
            needed = (self.skill, self.skill_se, self.skill_ci95, self.behind, self.behind_se)
            if None in (*needed, *(fold.accuracy for fold in self.folds)):
                raise ValueError("a figure of a configuration that was trained on all folds is missing")
        elif self.stopped_after_folds is None:
            raise ValueError("stopped_after_folds is missing")
        return self


class ProbabilityOfRace(Record):
    """A configuration at a look of the race: bound of the probability to look so bad if it is the best."""

    trial_number: Count
    p_value: float


class Look(Record):
    """One comparison of the configurations that were still running.

    Attributes
    ----------
    level : float
        Error that this look may spend; a configuration with a smaller p-value is stopped.
    """

    after_folds: Count
    level: float
    p_values: Annotated[list[ProbabilityOfRace], Field(min_length=1)]

    @property
    def by_trial(self) -> dict[int, float]:
        """Return the p-values by trial number."""
        return {found.trial_number: found.p_value for found in self.p_values}

    @property
    def behind(self) -> list[int]:
        """Return the trials that can hardly be the best."""
        return [trial for trial, p in self.by_trial.items() if p < self.level]


class Race(Record):
    """Decisions and reallocations of racing."""

    error_rate: float
    looks: list[Look]
    n_trainings_spared: Count
    n_further_seeds: Count
    epochs_of_further_seeds: Count


class Extended(Made):
    """extended_training_results.json; the chosen configuration comes first."""

    n_folds: Annotated[int, Field(ge=2)]
    epochs_spent: Count
    data_passes: float
    best_constant_accuracy: float
    best_naive: str | None = None
    n_failed_configurations: Count = 0
    n_duplicates: Count | None = None
    racing: Race | None = None
    configurations: Annotated[list[Configuration], Field(min_length=1)]
    reason: str
    files: Files

    @model_validator(mode="after")
    def _check(self) -> Extended:
        if not self.chosen.is_complete:
            raise ValueError("the chosen configuration was stopped")
        if len({c.trial_number for c in self.configurations}) < len(self.configurations):
            raise ValueError("a configuration is duplicated")
        for configuration in self.configurations:
            numbers = [fold.fold for fold in configuration.folds]
            of_all = not configuration.is_complete or len(numbers) == self.n_folds
            if numbers != sorted(set(numbers)) or numbers[-1] >= self.n_folds or not of_all:
                raise ValueError(f"the folds of trial {configuration.trial_number} are not those of n_folds")
        return self

    @property
    def chosen(self) -> Configuration:
        """Return the chosen configuration."""
        return self.configurations[0]
