"""Hyperparameters and their search space: ranges, choices, conditions, narrowing around the best.

A search space has the shape of the hyperparameters, with values replaced by ranges; a plain value is fixed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import optuna
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator
from pydantic_core import ErrorDetails

from scripts.errors import nearest

FAMILY_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"  # also as `--set models.NAME=` takes it
Scalar = bool | int | float | str
Values = Mapping[str, Scalar]
PlainValues = dict[str, Any]
"""A mapping as JSON and YAML have it, before it is validated or after it is dumped."""


class Model(BaseModel):
    """Base of every typed record that is read from a file: frozen, strict, no unknown keys, only finite numbers."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Hyperparameters(Model):
    """Hyperparameters of one training run. A model of the user may take further values by name."""

    model_config = ConfigDict(extra="allow")

    family: str = Field(
        "mlp",
        pattern=FAMILY_PATTERN,
        description="model family: mlp, resnet, tabm, gru, tcn, transformer or a name declared under `models`",
    )
    learning_rate: float = Field(1e-3, gt=0, le=10, description="peak learning rate")
    weight_decay: float = Field(1e-2, ge=0, le=10, description="weight decay (decoupled for adamw)")
    optimizer: Literal["adamw", "adam", "sgd"] = Field("adamw", description="sgd has Nesterov momentum 0.9")
    batch_size: int = Field(256, ge=1, le=1_000_000, description="rows per step")
    width: int = Field(128, ge=1, le=16_384, description="hidden units per layer, channels for tcn")
    depth: int = Field(2, ge=1, le=64, description="hidden layers, residual blocks or recurrent layers")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of hidden activations set to zero in training")
    activation: Literal["relu", "gelu", "silu"] = Field("relu", description="non-linearity")
    window: int = Field(1, ge=1, le=2_000, description="rows of history that gru, tcn and transformer read")
    n_members: int = Field(16, ge=1, le=1024, description="number of perceptrons of a tabm that share their matrices")
    patch_length: int = Field(4, ge=1, le=2_000, description="rows of history in one patch of a transformer")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="weight of the uniform distribution in the target")
    schedule: Literal["constant", "cosine"] = Field("constant", description="learning rate over the planned epochs")
    gradient_clip: float = Field(1.0, ge=0, le=1e6, description="maximum gradient norm; 0 disables clipping")
    class_weights: Literal["none", "balanced"] = Field("none", description="weight of each class in the loss")
    sample_weights: Literal["none", "uniqueness"] = Field("none", description="weight of each training row in the loss")
    precision: Literal["float32", "tf32", "bfloat16"] = Field(
        "float32", description="precision of matrix products in training; tf32 is for GPUs; evaluation uses float32"
    )
    recency_half_life: float = Field(
        0.0, ge=0, le=1_000_000, description="dates after which the weight of a training row is halved; 0 disables it"
    )


class Range(Model):
    """Base of all ranges of a search space."""

    type: str
    when: dict[str, Annotated[tuple[Scalar, ...], Field(strict=False)]] = Field(
        default_factory=dict, description="applies only if each named categorical has one of these values"
    )

    def applies(self, values: Values) -> bool:
        """Return True if this dimension applies to a configuration with these `values`."""
        return all(values.get(name) in allowed for name, allowed in self.when.items())


class FloatRange(Range):
    """Real number in [low, high]."""

    type: Literal["float"] = "float"
    low: float = Field(description="minimum")
    high: float = Field(description="maximum")
    log: bool = Field(False, description="search on a logarithmic scale")

    @model_validator(mode="after")
    def _check(self) -> FloatRange:
        _check_bounds(self.low, self.high, self.log)
        return self

    @property
    def distribution(self) -> optuna.distributions.FloatDistribution:
        """Range as an Optuna distribution."""
        return optuna.distributions.FloatDistribution(self.low, self.high, log=self.log)

    def narrowed(self, best: Sequence[float], widen: float) -> FloatRange:
        """Return bounds around `best`, widened by the share `widen` of the old width, within the old bounds."""
        low, high = _narrow(self, best, widen)
        return self.model_copy(update={"low": low, "high": high})


class IntRange(Range):
    """Integer in [low, high]."""

    type: Literal["int"] = "int"
    low: int = Field(description="minimum")
    high: int = Field(description="maximum")
    log: bool = Field(False, description="search on a logarithmic scale")

    @model_validator(mode="after")
    def _check(self) -> IntRange:
        _check_bounds(self.low, self.high, self.log)
        return self

    @property
    def distribution(self) -> optuna.distributions.IntDistribution:
        """Range as an Optuna distribution."""
        return optuna.distributions.IntDistribution(self.low, self.high, log=self.log)

    def narrowed(self, best: Sequence[int], widen: float) -> IntRange:
        """Return bounds as `FloatRange.narrowed`, rounded outwards."""
        low, high = _narrow(self, best, widen)
        return self.model_copy(update={"low": max(self.low, math.floor(low)), "high": min(self.high, math.ceil(high))})


class Choices(Range):
    """One of several unordered values."""

    type: Literal["categorical"] = "categorical"
    choices: Annotated[tuple[Scalar, ...], Field(strict=False, min_length=1, max_length=1000)] = Field(
        description="allowed values"
    )

    @property
    def distribution(self) -> optuna.distributions.CategoricalDistribution:
        """Choices as an Optuna distribution."""
        return optuna.distributions.CategoricalDistribution(self.choices)

    def narrowed(self, best: Sequence[Scalar], widen: float) -> Choices:
        """Return only the choices that occur in `best`."""
        return self.model_copy(update={"choices": tuple(c for c in self.choices if c in best)})


def _kind(value: Any) -> str:
    """Return the form of a search space entry; it determines which errors the user sees."""
    if isinstance(value, dict):
        return str(value.get("type", "missing"))
    return str(value.type) if isinstance(value, Range) else "fixed"


Dimension = Annotated[
    Annotated[FloatRange, Tag("float")]
    | Annotated[IntRange, Tag("int")]
    | Annotated[Choices, Tag("categorical")]
    | Annotated[Scalar, Tag("fixed")],
    Discriminator(
        _kind, custom_error_type="range_type", custom_error_message="`type` must be float, int or categorical"
    ),
]
SearchSpace = dict[str, Dimension]


def default_search_space() -> SearchSpace:
    """Return the default ranges, for standardised market features."""
    windowed: dict[str, tuple[Scalar, ...]] = {"family": ("gru", "tcn")}
    return {
        "family": Choices(choices=("mlp", "resnet", "gru", "tcn")),
        "learning_rate": FloatRange(low=3e-4, high=1e-2, log=True),
        "weight_decay": FloatRange(low=1e-5, high=1e-1, log=True),
        "optimizer": Choices(choices=("adamw", "adam")),
        "batch_size": Choices(choices=(256, 512, 1024)),
        "width": Choices(choices=(32, 64, 128)),
        "depth": IntRange(low=1, high=3),
        "dropout": FloatRange(low=0.0, high=0.5),
        "activation": Choices(choices=("relu", "gelu", "silu")),
        "window": IntRange(low=2, high=10, when=windowed),
        "label_smoothing": FloatRange(low=0.0, high=0.1),
        "schedule": Choices(choices=("constant", "cosine")),
        "gradient_clip": FloatRange(low=0.5, high=5.0, log=True),
        "class_weights": Choices(choices=("none", "balanced")),
    }


def narrow(space: SearchSpace, best: Sequence[Values], widen: float) -> SearchSpace:
    """Return the search space around the configurations in `best`.

    Parameters
    ----------
    space : SearchSpace
        Full space; dimensions that no configuration in `best` has are unchanged.
    best : sequence of mappings
        Hyperparameters of the best trials so far.
    widen : float
        Share of the old width by which each bound is moved outwards.
    """
    narrowed: SearchSpace = {}
    for name, dimension in space.items():
        seen: Sequence[Any] = [values[name] for values in best if name in values]
        if isinstance(dimension, FloatRange | IntRange | Choices) and seen:
            narrowed[name] = dimension.narrowed(seen, widen)
        else:
            narrowed[name] = dimension
    return narrowed


def longest_window(space: SearchSpace) -> int:
    """Return the longest window in `space`, in rows; splits are the same for every configuration."""
    window = space.get("window", 1)
    if isinstance(window, FloatRange | IntRange):
        return int(window.high)
    if isinstance(window, Choices):
        return max(int(c) for c in window.choices)
    return int(window)


def check_dimension(space: SearchSpace, name: str, dimension: Any) -> None:
    """Raise ValueError if a value of `dimension` is not a valid hyperparameter, or `when` refers to no categorical."""
    extremes = [dimension]
    if isinstance(dimension, FloatRange | IntRange | Choices):
        extremes = list(dimension.choices) if isinstance(dimension, Choices) else [dimension.low, dimension.high]
        for other in dimension.when:
            if not isinstance(space.get(other), Choices | str | bool | int):
                raise ValueError(f"{name}.when names {other}, which is not a categorical of the search space")
    if name in Hyperparameters.model_fields:
        for value in extremes:
            try:
                Hyperparameters(**{name: value})
            except ValidationError as error:
                problem = error.errors(include_url=False)[0]
                message = f"{name}: {problem['msg']}, not {value!r}"
                raise ValueError(f"{message}; {hint}" if (hint := nearest_choice(problem)) else message) from None


def nearest_choice(problem: ErrorDetails) -> str:
    """Return a hint at the nearest allowed value of a key; empty for any other validation error."""
    given = problem.get("input")
    if problem["type"] != "literal_error" or not isinstance(given, str):
        return ""
    return nearest(given, re.findall(r"'([^']*)'", problem["ctx"]["expected"]))


def _check_bounds(low: float, high: float, log: bool) -> None:
    if low > high:
        raise ValueError(f"low {low} is above high {high}")
    if log and low <= 0:
        raise ValueError(f"a log scale needs low > 0, not {low}")


def _narrow(old: FloatRange | IntRange, best: Sequence[float], widen: float) -> tuple[float, float]:
    to, back = (math.log, math.exp) if old.log else (float, float)
    margin = widen * (to(old.high) - to(old.low))
    low, high = back(to(min(best)) - margin), back(to(max(best)) + margin)
    return max(old.low, low), min(old.high, high)
