"""Typed records of what Hyper keeps in a study, each with a SHA-256 that is checked before it is used.

A database has no digest: a flipped bit in a hyperparameter or a score would be read as another one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from optuna.trial import FrozenTrial, TrialState
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from scripts.config.search_space import Model, PlainValues, Scalar
from scripts.storage.durable_files import sha256
from scripts.training.spec import Outcome
from scripts.tuning.stages import Proposal, Stage

_STARTED = ("stage", "values", "origin", "decision", "epochs", "gain")
_Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class _Start(Model):
    """Configuration with which a trial was started."""

    stage: Stage
    values: dict[str, Scalar]
    origin: str | None = None
    decision: int | None = Field(None, ge=0)
    epochs: int | None = Field(None, ge=1)
    gain: float | None = None


class _Epoch(Model):
    """An epoch of a learning curve, as far as it is read again."""

    model_config = ConfigDict(extra="allow")

    epoch: int = Field(ge=1)
    val_accuracy: _Fraction | None


class _Result(Model):
    """Result of a training."""

    outcome: Outcome
    history: list[_Epoch]
    before: int = Field(0, ge=0)


class Decision(Model):
    """A decision of a search with rungs that starts no trial."""

    kind: str = Field(pattern="^(continue|replicate)$")
    trial: int = Field(ge=0)
    split: int = Field(ge=0)
    epochs: int = Field(ge=1)


_RESULT = TypeAdapter(_Result)
_ADAPTERS: dict[str, TypeAdapter[Any]] = {
    "decision": TypeAdapter(Decision),
    "result": _RESULT,
    "config_hash": TypeAdapter(str),
    "data_fingerprint": TypeAdapter(str),
    "sealed_fingerprint": TypeAdapter(str),
}


@dataclass(frozen=True)
class StoredResult:
    """Result of a training as the study keeps it.

    Attributes
    ----------
    history : sequence of mappings
        Metrics of each epoch by name.
    before : int
        Epochs of the history that earlier decisions trained.
    """

    outcome: Outcome
    history: Sequence[Mapping[str, float | None]]
    before: int = 0

    @classmethod
    def of(cls, body: PlainValues) -> StoredResult:
        """Inverse of `body`."""
        return cls(Outcome(**body["outcome"]), body["history"], body.get("before", 0))

    def body(self) -> PlainValues:
        """Return the result as plain values."""
        return {"outcome": asdict(self.outcome), "history": [dict(e) for e in self.history], "before": self.before}


Attribute = str | Decision | StoredResult  # of a study: a hash of its start, or a part of a search with rungs


def digest(value: Any) -> str:
    """SHA-256 of plain values; the order of keys does not matter."""
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def signed(attribute: str, body: PlainValues) -> PlainValues:
    """The body with the digest of itself and of where it belongs."""
    return {**body, "sha256": digest([attribute, body])}


def started(number: int, proposal: Proposal, attributes: PlainValues) -> PlainValues:
    """Attributes of a trial that starts, with their digest and that of its parameters as the study gives them back."""
    parameters = {
        name: (kind := proposal.distributions[name]).to_external_repr(kind.to_internal_repr(value))
        for name, value in proposal.parameters.items()
    }
    return {**attributes, "start_sha256": digest([number, parameters, attributes])}


def check_trials(trials: Sequence[FrozenTrial]) -> None:
    """Raise ValueError, naming the trial, if one of them is not what was stored."""
    for position, trial in enumerate(trials):
        if trial.number != position:
            raise ValueError(f"trial {position} is missing")
        try:
            _check_trial(trial)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"trial {position}: {_first_line(error)}") from None


def check_attributes(attributes: PlainValues) -> dict[str, Attribute]:
    """Attributes of a study that are Hyper's own, without their digests; ValueError if one is not what was stored."""
    of_hyper: dict[str, Attribute] = {}
    for name, value in attributes.items():
        kind = name if name in _ADAPTERS else name.partition("_")[0]
        if (adapter := _ADAPTERS.get(kind)) is None:
            continue  # somebody else's, such as a dashboard's
        body = _unsigned(name, value) if isinstance(value, dict) else value
        try:
            checked = _validated(adapter, body)
        except ValidationError as error:
            raise ValueError(f"{name}: {_first_line(error)}") from None
        of_hyper[name] = StoredResult.of(body) if isinstance(checked, _Result) else checked
    decisions = sorted(name for name in of_hyper if name.startswith("decision_"))
    if any(not name.removeprefix("decision_").isdecimal() for name in decisions):
        raise ValueError("a decision has no number")
    return of_hyper


def result_of(trial: FrozenTrial) -> StoredResult | None:
    """Outcome and history of a trial, None where it has none."""
    result = trial.user_attrs.get("result")
    return None if result is None else StoredResult.of(result)


def _check_trial(trial: FrozenTrial) -> None:
    attributes = trial.user_attrs
    checked = {name: attributes[name] for name in _STARTED if name in attributes}
    if attributes.get("start_sha256") != digest([trial.number, trial.params, checked]):
        raise ValueError("the SHA-256 of what it was started with does not fit")
    _Start.model_validate(checked)
    result = attributes.get("result")
    if result is None:
        if trial.state.is_finished():
            raise ValueError("it has ended without an outcome")
        return
    body = _validated(_RESULT, _unsigned(f"trial {trial.number}", result))
    if trial.state.is_finished():
        failed = body.outcome.state == "failed"
        value = None if failed else [body.outcome.val_accuracy]
        if (trial.state == TrialState.FAIL) != failed or trial.values != value:
            raise ValueError("its state or value is not that of its outcome")


def _validated(adapter: TypeAdapter[Any], body: Any) -> Any:
    """Return the record as JSON; its strict mode reads dataclasses from objects."""
    return adapter.validate_json(json.dumps(body))


def _unsigned(attribute: str, value: PlainValues) -> PlainValues:
    body = {name: part for name, part in value.items() if name != "sha256"}
    if value.get("sha256") != digest([attribute, body]):
        raise ValueError(f"the SHA-256 of {attribute} does not fit")
    return body


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))[:80]}: {first['msg']}"
    return (str(error) or type(error).__name__).splitlines()[0][:200]
