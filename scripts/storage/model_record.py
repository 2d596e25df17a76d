"""Typed record of a final model without its weights, with checks of consistent sizes."""

from __future__ import annotations

import itertools
import math
from typing import Annotated

import torch
from pydantic import ConfigDict, Field, model_validator

from scripts.storage.record_base import ChosenHyperparameters, Count, Made, Pair, Record, RecordedExperiment
from scripts.storage.result_records import Replaced, Selection

_VECTORS = ("numeric", "median", "mean", "scale", "indicator", "category_column", "category_code")


class Tensors(Record):
    """Record with tensors."""

    model_config = ConfigDict(arbitrary_types_allowed=True)


class MemberContent(Tensors):
    """A configuration of the model: `weights` of each of its networks, and its calibration."""

    trial_number: Count | None = None
    weight: Annotated[float, Field(gt=0, le=1)]
    hyperparameters: ChosenHyperparameters
    epochs_spent: Count = 0
    temperature: Annotated[float, Field(gt=0)]
    bias: list[float]
    weights: Annotated[list[dict[str, torch.Tensor]], Field(min_length=1)]
    replaced: Replaced = Field({})


class PreprocessorContent(Tensors):
    """Fields of `Preprocessor`, each a vector."""

    numeric: torch.Tensor
    median: torch.Tensor
    mean: torch.Tensor
    scale: torch.Tensor
    indicator: torch.Tensor
    category_column: torch.Tensor
    category_code: torch.Tensor

    @model_validator(mode="after")
    def _check(self) -> PreprocessorContent:
        for name in _VECTORS:
            vector = getattr(self, name)
            exact = name in ("numeric", "indicator", "category_column", "category_code")
            if vector.dim() != 1 or vector.dtype.is_complex or exact == vector.dtype.is_floating_point:
                raise ValueError(f"{name} is not a vector of its type")
            if not bool(torch.isfinite(vector).all()):
                raise ValueError(f"{name} is not finite")
        n_numeric = len(self.numeric)
        if {len(self.median), len(self.mean), len(self.scale)} != {n_numeric} or bool((self.scale <= 0).any()):
            raise ValueError("median, mean and scale do not fit the numeric columns")
        if len(self.category_column) != len(self.category_code) or not _within(self.indicator, n_numeric):
            raise ValueError("indicator or category_code does not fit the columns")
        return self


class ReferenceContent(Tensors):
    """Distribution of each feature in training: bounds and shares of its bins, one feature after the other."""

    n_rows: Annotated[int, Field(ge=1)]
    n_edges: list[Count]
    edges: torch.Tensor
    shares: torch.Tensor

    @model_validator(mode="after")
    def _check(self) -> ReferenceContent:
        n_edges = sum(self.n_edges)
        if self.edges.shape != (n_edges,) or self.shares.shape != (n_edges + 2 * len(self.n_edges),):
            raise ValueError("edges and shares do not fit n_edges")
        if not all(
            expected.dtype == torch.float64 and bool(torch.isfinite(expected).all())
            for expected in (self.edges, self.shares)
        ):
            raise ValueError("edges and shares are not finite numbers")
        return self


class Span(Record):
    """The rows that the model was trained on."""

    n_rows: Count
    n_tickers: Count
    first_date: str | None
    last_date: str | None


class FinalModelContent(Made, Tensors):
    """Content of final_model.pkl."""

    members: Annotated[list[MemberContent], Field(min_length=1)]
    preprocessor: PreprocessorContent
    experiment: RecordedExperiment
    features: Annotated[list[str], Field(min_length=1)]
    vocabularies: dict[str, list[str]]
    classes: Annotated[list[str], Field(min_length=2)]
    class_positions: list[float] | None
    class_shares: list[float]
    dropped_columns: list[str] | None = None
    tickers: list[str] | None = None
    references: dict[str, Pair] = Field({})
    reference: ReferenceContent | None = None
    trained_on: Span | None = None
    selection: Selection
    epochs_spent: dict[str, Count]

    @model_validator(mode="after")
    def _check(self) -> FinalModelContent:
        n_features, n_classes, kept = len(self.features), len(self.classes), self.preprocessor
        by_class = [self.class_shares, self.class_positions, *(member.bias for member in self.members)]
        if any(expected is not None and len(expected) != n_classes for expected in by_class):
            raise ValueError("classes do not fit class_shares, class_positions or the bias of a member")
        if len(set(self.features)) < n_features or len(set(self.classes)) < n_classes:
            raise ValueError("a feature or a class is there twice")
        if not self.vocabularies.keys() <= set(self.features):
            raise ValueError("vocabularies names what is not among the features")
        used = sorted({*kept.numeric.tolist(), *kept.category_column.tolist()})
        if not _within(kept.numeric, n_features) or not _within(kept.category_column, n_features) or not used:
            raise ValueError("preprocessor does not fit the features")
        if self.reference is not None and len(self.reference.n_edges) != n_features:
            raise ValueError("reference does not fit the features")
        if not math.isclose(sum(member.weight for member in self.members), 1.0):
            raise ValueError("the weights of its members are not shares")
        return self


def check_weights(network: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Raise ValueError unless `weights` fit a network that was built without memory (on the device "meta")."""
    expected = network.state_dict()
    if odd := sorted(expected.keys() ^ weights.keys()):
        raise ValueError(f"weights do not fit the hyperparameters: {str(odd[0])[:60]!r}")
    for name, value in expected.items():
        given = weights[name]
        if given.shape != value.shape or given.dtype != value.dtype:
            raise ValueError(f"weights do not fit the hyperparameters: {name} is not of shape {tuple(value.shape)}")


def _within(positions: torch.Tensor, n: int) -> bool:
    return all(0 <= position < n for position in itertools.chain(positions.tolist()))
