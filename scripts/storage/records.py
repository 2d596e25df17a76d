"""Typed records of the JSON artifacts: the fields that their readers need, checked on every read.

A digest detects damage, not intent: anyone who can write a file can also write its digest. So a reader gets either
the required content or a single message with the file and the field. Further fields are allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, ValidationError, model_validator

from scripts.config.experiment import NAME_PATTERN
from scripts.config.search_space import Scalar
from scripts.storage.evaluation_record import Evaluation
from scripts.storage.record_base import (
    ChosenHyperparameters,
    Count,
    Curve,
    Files,
    Made,
    Pair,
    Record,
    RecordedExperiment,
    RecordedHyperparameters,
    first_problem,
)
from scripts.storage.result_records import DecisionRule, Final, Selection


class FirstTrial(Record):
    """Initial configuration of phase 1."""

    model_config = ConfigDict(extra="forbid")

    origin: str
    source: str
    values: dict[str, Scalar]


class Plan(Made):
    """Plan with which a phase was started."""

    experiment: RecordedExperiment
    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d{1,3})?|ray)$")] | None = None
    warnings: list[str] = Field([])
    warm_start: list[str] = Field([])
    starting: list[FirstTrial] = Field([])


class Replicate(Record):
    """A repeat of a trial on another split."""

    split: Count
    epochs: Count


class Decision(Record):
    """A step of the search on rungs."""

    trial: Count
    split: Count
    epochs: Count


class Trial(Record):
    """A trial of phase 1."""

    number: Count
    stage: str = "random"
    state: Literal["complete", "stopped", "failed"]
    hyperparameters: RecordedHyperparameters
    epochs: Count
    best_epoch: Count = 0
    val_accuracy: float | None
    val_loss: float | None = None
    train_loss: float | None = None
    simulated_return: float | None = None
    n_parameters: Count = 0
    operations_per_row: Count | None = None
    duration_s: float = 0.0
    inference_us_per_row: float | None = None
    failure: str | None = None
    rank: Count | None = None
    replicates: list[Replicate] = Field([])
    history: Curve = Field([])

    @model_validator(mode="after")
    def _check(self) -> Trial:
        if self.state != "failed" and self.val_accuracy is None:
            raise ValueError("a trial that did not fail needs a val_accuracy")
        return self


class Trials(Made):
    """trials.json."""

    epochs_spent: Count
    data_passes: float
    duration_s: float = 0.0
    warnings: list[str] = Field([])
    files: Files
    trials: Annotated[list[Trial], Field(min_length=1)]
    rungs: list[Count] = Field([])
    decisions: list[Decision] = Field([])
    stopped_because: str = ""

    @model_validator(mode="after")
    def _check(self) -> Trials:
        if all(trial.state == "failed" for trial in self.trials):
            raise ValueError("contains no usable trial")
        if len({trial.number for trial in self.trials}) < len(self.trials):
            raise ValueError("a trial number is duplicated")
        return self


class FoldResult(Record):
    """A configuration on one fold."""

    fold: Count
    accuracy: float | None
    history: Curve = Field([])


class Configuration(Record):
    """A configuration of phase 2."""

    trial_number: Count
    rank: Count
    config: ChosenHyperparameters
    state: str = "complete"
    stopped_after_folds: Count | None = None
    phase_1_accuracy: float
    avg_accuracy: float
    std_accuracy: float
    accuracy_se: float
    avg_val_loss: float
    avg_train_loss: float | None = None
    avg_simulated_return: float | None
    n_parameters: Count
    operations_per_row: Count | None
    duration_s: float
    inference_us_per_row: float | None
    seeds: Annotated[list[Count], Field(min_length=1)]
    folds: Annotated[list[FoldResult], Field(min_length=1)]
    skill: float | None
    skill_se: float | None
    skill_ci95: Pair | None
    behind: float | None
    behind_se: float | None
    decision: DecisionRule | None

    @model_validator(mode="after")
    def _check(self) -> Configuration:
        if self.state != "stopped":
            needed = (self.skill, self.skill_se, self.skill_ci95, self.behind, self.behind_se)
            if None in (*needed, *(fold.accuracy for fold in self.folds)):
                raise ValueError("a figure of a configuration that was trained on all folds is missing")
        elif self.stopped_after_folds is None:
            raise ValueError("stopped_after_folds is missing")
        return self


class ProbabilityOfRace(Record):
    """A configuration at a look of the race."""

    trial_number: Count
    p_value: float


class Look(Record):
    """A look of the race."""

    after_folds: Count
    level: float
    p_values: Annotated[list[ProbabilityOfRace], Field(min_length=1)]


class Race(Record):
    """Results of racing."""

    looks: list[Look]
    error_rate: float
    n_trainings_spared: Count
    n_further_seeds: Count
    epochs_of_further_seeds: Count


class Extended(Made):
    """extended_training_results.json."""

    n_folds: Annotated[int, Field(ge=2)]
    epochs_spent: Count
    data_passes: float
    best_constant_accuracy: float
    best_naive: str | None = None
    n_failed_configurations: Count = 0
    n_duplicates: Count | None = None
    racing: Race | None = None
    reason: str
    files: Files
    configurations: Annotated[list[Configuration], Field(min_length=1)]

    @model_validator(mode="after")
    def _check(self) -> Extended:
        if self.configurations[0].state == "stopped":
            raise ValueError("the chosen configuration was stopped")
        if len({c.trial_number for c in self.configurations}) < len(self.configurations):
            raise ValueError("a configuration is duplicated")
        for configuration in self.configurations:
            numbers = [fold.fold for fold in configuration.folds]
            of_all = configuration.state == "stopped" or len(numbers) == self.n_folds
            if numbers != sorted(set(numbers)) or numbers[-1] >= self.n_folds or not of_all:
                raise ValueError(f"the folds of trial {configuration.trial_number} are not those of n_folds")
        return self


class BestConfig(Made):
    """best_config.json."""

    hyperparameters: ChosenHyperparameters
    experiment: RecordedExperiment
    selection: Selection
    epochs_spent: dict[str, Count]


class StudyName(Record):
    """study_on_server.json."""

    study_name: Annotated[str, Field(pattern=NAME_PATTERN)]


RECORDS: Mapping[str, type[Record]] = {
    "plan": Plan,
    "trials": Trials,
    "extended_training_results": Extended,
    "best_config": BestConfig,
    "final_training_results": Final,
    "evaluation_results": Evaluation,
    "study_on_server": StudyName,
}


R = TypeVar("R", bound=Record)


def kind_of(record: type[Record]) -> str:
    """Return the kind of artifact that a record describes."""
    return next(kind for kind, own in RECORDS.items() if own is record)


def parsed(record: type[R], body: dict[str, Any]) -> R:
    """Return `body` as a record.

    Raises
    ------
    ValueError
        A field is missing or of another type; the message contains it.
    """
    try:
        return record.model_validate(body)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from error


def checked(kind: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return `body` of an artifact of this kind, with its experiment in the present form; errors as `parsed`."""
    if kind not in RECORDS:
        return body
    experiment = getattr(parsed(RECORDS[kind], body), "experiment", None)
    return body if experiment is None else body | {"experiment": experiment.recorded()}
