"""Base of all typed records: frozen, no conversions, finite numbers, no code in experiments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from scripts.config.experiment import NOT_RECORDED, Experiment
from scripts.config.recorded import recorded_data
from scripts.config.search_space import Hyperparameters, Scalar

Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Pair = Annotated[list[float], Field(min_length=2, max_length=2)]
Files = dict[str, str]  # SHA-256 by name
IfGiven = Field(exclude_if=lambda value: value is None or value == {})  # of a field that is omitted without a value
# Of `Made` and of `Started`; the header of an artifact has `created_by`.
_ORIGIN = ("config_hash", "data_fingerprint", "sealed_fingerprint", "inputs", "warnings", "warm_start", "starting")
_SHOWN = 90  # characters of a field's name


def _without_code(values: Any) -> Any:
    if isinstance(values, Mapping) and (named := NOT_RECORDED & values.keys()):
        raise ValueError(f"contains {' and '.join(sorted(named))}, which artifacts must not: it names code to import")
    if isinstance(values, Mapping) and isinstance(values.get("data"), Mapping):
        return {**values, "data": recorded_data(values["data"])}
    return values


def _plain(values: Any) -> Any:
    if isinstance(values, Mapping) and not all(isinstance(value, Scalar) for value in values.values()):
        raise ValueError("a hyperparameter is not a plain value")
    return values


def _named(values: Any) -> Any:
    if isinstance(values, Mapping) and "family" not in values:
        raise ValueError("family is missing")
    return values


def _of_a_model(values: dict[str, Scalar]) -> dict[str, Scalar]:
    try:
        Hyperparameters(**values)  # type: ignore[arg-type]
    except ValidationError as error:
        raise ValueError(first_problem(error)) from error
    return values


RecordedExperiment = Annotated[Experiment, BeforeValidator(_without_code), PlainSerializer(Experiment.recorded)]
ChosenHyperparameters = Annotated[
    Hyperparameters, BeforeValidator(_plain), BeforeValidator(_named), PlainSerializer(Hyperparameters.model_dump)
]
SearchedValues = Annotated[dict[str, Scalar], BeforeValidator(_plain), AfterValidator(_of_a_model)]
ChosenValues = Annotated[SearchedValues, BeforeValidator(_named)]


class Record(BaseModel):
    """Base of all records: frozen, no conversions, only finite numbers, further fields allowed."""

    # Strict, because a string in place of a number is damage. Further fields are allowed, so that files of a later
    # version can be read.
    model_config = ConfigDict(frozen=True, strict=True, extra="allow", allow_inf_nan=False, defer_build=True)

    @classmethod
    def from_object(cls, source: object) -> Self:
        """Return the record of an object that has its fields as attributes."""
        return cls(**{name: getattr(source, name) for name in cls.model_fields})

    def body(self) -> dict[str, Any]:
        """Return the fields that were given, as plain values in the order of the JSON file."""
        return self.model_dump(exclude_unset=True, by_alias=True)


class Epoch(Record):
    """Metrics of an epoch; None where it was not evaluated or diverged."""

    epoch: Count
    train_loss: float | None = None
    val_loss: float | None = None
    val_accuracy: float | None = None
    simulated_return: float | None = None
    duration_s: float | None = None
    examples_per_s: float | None = None


Curve = list[Epoch]


class CreatedBy(Record):
    """Versions of the program and libraries that wrote an artifact."""

    version: str | None = None
    git_revision: str | None = None
    libraries: dict[str, str] = Field({})


class Made(Record):
    """Provenance that all artifacts of the phases record."""

    config_hash: str
    data_fingerprint: str
    sealed_fingerprint: str
    inputs: Files
    created_by: CreatedBy = CreatedBy()

    def as_fields(self) -> dict[str, Any]:
        """Return the given fields of the provenance, for another artifact of the same phase."""
        return {name: getattr(self, name) for name in _ORIGIN if name in self.model_fields_set}


def first_problem(error: ValidationError) -> str:
    """Return field and message of the first problem, without its value, which may be untrusted text."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"] if str(part).replace("_", "").isalnum())
    problem = first["msg"].removeprefix("Value error, ").splitlines()[0]
    return f"{place[:_SHOWN] or 'content'}: {problem[:200]}"
