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
from scripts.storage.extended_record import Extended
from scripts.storage.record_base import (
    ChosenValues,
    Count,
    Curve,
    Files,
    Made,
    Record,
    RecordedExperiment,
    SearchedValues,
    first_problem,
)
from scripts.storage.result_records import Final, Selection


class FirstTrial(Record):
    """Initial configuration of phase 1.

    Attributes
    ----------
    origin : str
        "warm start" or "portfolio".
    source : str
        The earlier trial that it was, in words; empty for the portfolio.
    """

    model_config = ConfigDict(extra="forbid")

    origin: str
    source: str
    values: dict[str, Scalar]


class Started(Made):
    """Origin of the artifacts of phase 1."""

    warnings: list[str] = Field([])
    warm_start: list[str] = Field([])
    starting: list[FirstTrial] = Field([])


class Planned(Record):
    """Experiment of a phase."""

    experiment: RecordedExperiment


class Plan(Started, Planned):
    """plan.json of a phase. A record with several bases has the fields of its last base first, as the JSON file."""

    device: Annotated[str, Field(pattern=r"^(cpu|cuda(:\d{1,3})?|ray)$")] | None = None


class Replicate(Record):
    """A repeat of a trial on another split."""

    split: Count
    epochs: Count
    val_accuracy: float | None = None
    duration_s: float = 0.0


class Decision(Record):
    """A step of the search on rungs."""

    kind: str = ""
    trial: Count
    split: Count
    epochs: Count


class Trial(Record):
    """A trial of phase 1."""

    number: Count
    stage: str = "random"
    origin: str = ""
    state: Literal["complete", "stopped", "failed"]
    hyperparameters: SearchedValues
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
    failure_kind: str | None = None
    max_duration_s: float | None = None
    history: Curve = Field([])
    rank: Count | None = None
    replicates: list[Replicate] = Field([])

    @model_validator(mode="after")
    def _check(self) -> Trial:
        if self.state != "failed" and self.val_accuracy is None:
            raise ValueError("a trial that did not fail needs a val_accuracy")
        return self

    @property
    def accuracy(self) -> float:
        """Validation accuracy; below all others where the trial failed."""
        return -1.0 if self.state == "failed" or self.val_accuracy is None else self.val_accuracy


class SearchOnRungs(Record):
    """Course of a search on rungs."""

    epoch_ledger: dict[str, Count] = Field({})
    rungs: list[Count] = Field([])
    stopped_because: str = ""
    decisions: list[Decision] = Field([])


class SearchResults(Record):
    """Trials of phase 1 and their cost."""

    seed: int = 0
    epochs_spent: Count
    duration_s: float = 0.0
    trials: Annotated[list[Trial], Field(min_length=1)]


class Trials(SearchOnRungs, SearchResults, Started):
    """trials.json."""

    data_passes: float
    files: Files

    @model_validator(mode="after")
    def _check(self) -> Trials:
        if not self.usable:
            raise ValueError("contains no usable trial")
        if len({trial.number for trial in self.trials}) < len(self.trials):
            raise ValueError("a trial number is duplicated")
        return self

    @property
    def usable(self) -> list[Trial]:
        """Return the trials that did not fail."""
        return [trial for trial in self.trials if trial.state != "failed"]

    @property
    def best(self) -> Trial:
        """Return the first of the usable trials with the best accuracy."""
        return max(self.usable, key=lambda trial: trial.accuracy)


class BestConfig(Made):
    """best_config.json."""

    hyperparameters: ChosenValues
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
