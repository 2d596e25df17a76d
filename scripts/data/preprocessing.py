"""Imputation, scaling and one-hot encoding, fitted on the training rows of one split alone."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

CLIP = 8.0  # standard deviations; one bad print must not saturate a network
_BLOCK = 65_536  # rows per block, so that a transform never holds a second copy in float64


@dataclass(frozen=True)
class Preprocessor:
    """What turns raw columns into network inputs.

    Raw rows hold numeric columns (NaN = missing) and categorical columns (codes into the data set's vocabulary,
    -1 = unknown). Outputs are, in this order: numeric columns imputed with the training median, standardised and
    clipped; one indicator for each numeric column with missing training cells; one column for each category seen
    in training.

    Attributes
    ----------
    numeric : ndarray of int64, shape (n_numeric,)
        Positions of the numeric columns.
    median, mean, scale : ndarray of float32, shape (n_numeric,)
        Of the training rows; a constant column has scale 1.
    indicator : ndarray of int64
        Positions, among the numeric columns, of those with an indicator.
    category_column, category_code : ndarray of int64, shape (n_categories,)
        Raw column and code of each one-hot output.
    """

    numeric: np.ndarray
    median: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    indicator: np.ndarray
    category_column: np.ndarray
    category_code: np.ndarray

    @property
    def n_outputs(self) -> int:
        """Number of network inputs."""
        return len(self.numeric) + len(self.indicator) + len(self.category_code)

    @classmethod
    def fit(cls, train: np.ndarray, categorical: np.ndarray) -> Preprocessor:
        """Fit on training rows.

        Parameters
        ----------
        train : ndarray of float32, shape (n_train, n_columns)
        categorical : ndarray of bool, shape (n_columns,)
        """
        numeric = np.flatnonzero(~categorical)
        values = train[:, numeric].astype(np.float64)
        missing = np.isnan(values)
        median = np.zeros(len(numeric))
        known = ~missing.all(axis=0)
        median[known] = np.nanmedian(values[:, known], axis=0)
        values = np.where(missing, median, values)
        mean, scale = values.mean(axis=0), values.std(axis=0)
        constant = scale <= 1e-12 * np.maximum(1.0, np.abs(mean))
        columns, codes = _categories(train, categorical)
        return cls(
            numeric=numeric,
            median=median.astype(np.float32),
            mean=mean.astype(np.float32),
            scale=np.where(constant, 1.0, scale).astype(np.float32),
            indicator=np.flatnonzero(missing.any(axis=0)),
            category_column=columns,
            category_code=codes,
        )

    @staticmethod
    def count_outputs(train: np.ndarray, categorical: np.ndarray) -> int:
        """Number of network inputs of a preprocessor fitted on these rows, without fitting it; arguments as `fit`."""
        n_indicators = sum(bool(np.isnan(train[:, c]).any()) for c in np.flatnonzero(~categorical))
        return int((~categorical).sum()) + n_indicators + len(_categories(train, categorical)[0])

    def transform(self, x: np.ndarray) -> np.ndarray:
        """Network inputs, float32 of shape (n_rows, n_outputs), all finite."""
        out = np.empty((len(x), self.n_outputs), dtype=np.float32)
        for start in range(0, len(x), _BLOCK):
            block = x[start : start + _BLOCK]
            values = block[:, self.numeric]
            missing = np.isnan(values)
            scaled = (np.where(missing, self.median, values) - self.mean) / self.scale
            parts = [np.clip(scaled, -CLIP, CLIP), missing[:, self.indicator]]
            parts.append(block[:, self.category_column] == self.category_code)
            np.concatenate(parts, axis=1, out=out[start : start + _BLOCK], casting="unsafe")
        return out

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors by name."""
        return {f.name: torch.from_numpy(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> Preprocessor:
        """Inverse of `state_dict`."""
        return cls(**{f.name: state[f.name].numpy() for f in fields(cls)})


def _categories(train: np.ndarray, categorical: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Raw column and code of each category that is seen in training, each of shape (n_categories,)."""
    pairs = [(c, code) for c in np.flatnonzero(categorical) for code in np.unique(train[:, c]) if code >= 0]
    columns, codes = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return columns, codes
