"""Encoding of configurations as points of the unit cube, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from scripts.config.search_space import Choices, FloatRange, IntRange, Range, Scalar, SearchSpace, Values

_INACTIVE = 0.5  # coordinate of a hyperparameter that a configuration does not have


class UnitCube:
    """One coordinate per searched hyperparameter, each in [0, 1] along its own scale.

    Parameters
    ----------
    space : SearchSpace
        Fixed values and ranges of a single value take no coordinate.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        self.dimensions: dict[str, Range] = {
            name: d for name, d in space.items() if isinstance(d, Range) and not _is_single(d)
        }
        sizes = [len(d.choices) if isinstance(d, Choices) else 1 for d in self.dimensions.values()]
        # Hyperparameter of each column of `features`; choices have one column each.
        self.column_of = np.repeat(np.arange(len(sizes)), sizes)

    def __len__(self) -> int:
        return len(self.dimensions)

    def point(self, values: Values) -> np.ndarray:
        """Coordinates of a configuration, of shape (n_dimensions,)."""
        return np.array([_coordinate(d, values.get(name)) for name, d in self.dimensions.items()])

    def values(self, point: np.ndarray) -> dict[str, Scalar]:
        """The configuration at a point, with fixed values, without hyperparameters that do not apply to it."""
        coordinates = dict(zip(self.dimensions, point, strict=True))
        values: dict[str, Scalar] = {}
        for name, dimension in self.space.items():
            if not isinstance(dimension, Range):
                values[name] = dimension
            elif dimension.applies(values):
                values[name] = _value(dimension, float(coordinates.get(name, 0.0)))
        return values

    def snapped(self, points: np.ndarray) -> np.ndarray:
        """Return points rounded to their integers and choices, of shape (n, n_dimensions)."""
        moved = np.clip(points, 0.0, 1.0)
        for k, dimension in enumerate(self.dimensions.values()):
            if isinstance(dimension, IntRange):
                moved[:, k] = _grid(dimension, moved[:, k])
            elif isinstance(dimension, Choices):
                n = len(dimension.choices)
                moved[:, k] = (np.minimum(np.floor(moved[:, k] * n), n - 1) + 0.5) / n
        return moved

    def features(self, points: np.ndarray) -> np.ndarray:
        """Snapped points as inputs of a kernel: numbers as they are, choices as indicators at distance 1."""
        columns = []
        for k, dimension in enumerate(self.dimensions.values()):
            if isinstance(dimension, Choices):
                n = len(dimension.choices)
                chosen = np.minimum(np.floor(points[:, k] * n), n - 1).astype(int)
                columns.append(np.eye(n)[chosen] / math.sqrt(2.0))
            else:
                columns.append(points[:, k : k + 1])
        return np.concatenate(columns, axis=1) if columns else np.zeros((len(points), 0))


def _is_single(dimension: Range) -> bool:
    if isinstance(dimension, Choices):
        return len(dimension.choices) == 1
    return isinstance(dimension, FloatRange | IntRange) and dimension.low == dimension.high


def _coordinate(dimension: Range, value: Scalar | None) -> float:
    if value is None:
        return _INACTIVE
    if isinstance(dimension, Choices):
        return (dimension.choices.index(value) + 0.5) / len(dimension.choices)
    if isinstance(dimension, FloatRange | IntRange):
        low, high, at = dimension.low, dimension.high, float(value)
        if dimension.log:
            return math.log(at / low) / math.log(high / low)
        return (at - low) / (high - low)
    raise TypeError(type(dimension))


def _value(dimension: Range, coordinate: float) -> Scalar:
    coordinate = min(1.0, max(0.0, coordinate))
    if isinstance(dimension, Choices):
        return dimension.choices[min(int(coordinate * len(dimension.choices)), len(dimension.choices) - 1)]
    if isinstance(dimension, FloatRange | IntRange):
        low, high = dimension.low, dimension.high
        at = low * (high / low) ** coordinate if dimension.log else low + (high - low) * coordinate
        at = min(float(high), max(float(low), at))
        return round(at) if isinstance(dimension, IntRange) else at
    raise TypeError(type(dimension))


def _grid(dimension: IntRange, coordinates: np.ndarray) -> np.ndarray:
    """Coordinates of the nearest whole numbers."""
    low, high = dimension.low, dimension.high
    if dimension.log:
        whole = np.clip(np.round(low * (high / low) ** coordinates), low, high)
        return np.asarray(np.log(whole / low) / math.log(high / low))
    return np.asarray((np.round(low + (high - low) * coordinates) - low) / (high - low))


def stacked(points: Sequence[np.ndarray], n_dimensions: int) -> np.ndarray:
    """Points as one array of shape (n, n_dimensions), also of none."""
    return np.stack(points) if points else np.zeros((0, n_dimensions))
