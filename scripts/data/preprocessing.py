"""Imputation, scaling and one-hot encoding, fitted on the training rows of one split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

import numpy as np
import torch

CLIP = 8.0  # standard deviations; one bad print must not saturate a network
_BLOCK = 65_536  # rows per block, so that a transform needs no second copy in float64
_COLUMNS = 4  # fitted in one pass over the rows, which are stored row by row


@dataclass(frozen=True)
class Preprocessor:
    """Transform from raw columns to network inputs.

    Raw rows have numeric columns (NaN = missing) and categorical columns (codes into the data set's vocabulary,
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
    def fit(cls, x: np.ndarray, categorical: np.ndarray, rows: np.ndarray | None = None) -> Preprocessor:
        """Fit on training rows, one column at a time.

        Parameters
        ----------
        x : ndarray of float32, shape (n, n_columns)
        categorical : ndarray of bool, shape (n_columns,)
        rows : ndarray of int64, optional
            Training rows; all if None.
        """
        numeric = np.flatnonzero(~categorical)
        median, mean, scale = np.zeros((3, len(numeric)))
        indicator = np.zeros(len(numeric), dtype=bool)
        for k, values in enumerate(_columns(x, numeric, rows)):
            missing = np.isnan(values)
            indicator[k] = missing.any()
            median[k] = 0.0 if missing.all() else np.nanmedian(values)
            values[missing] = median[k]
            mean[k], scale[k] = values.mean(), values.std()
        constant = scale <= 1e-12 * np.abs(mean)  # relative: a column may be of any unit
        columns, codes = _categories(x, categorical, rows)
        return cls(
            numeric=numeric,
            median=median.astype(np.float32),
            mean=mean.astype(np.float32),
            scale=np.where(constant, 1.0, scale).astype(np.float32),
            indicator=np.flatnonzero(indicator),
            category_column=columns,
            category_code=codes,
        )

    @staticmethod
    def count_outputs(x: np.ndarray, categorical: np.ndarray, rows: np.ndarray | None = None) -> int:
        """Number of network inputs of a preprocessor fitted on these rows, without fitting it; arguments as `fit`."""
        numeric = np.flatnonzero(~categorical)
        n_indicators = sum(bool(np.isnan(values).any()) for values in _columns(x, numeric, rows))
        return len(numeric) + n_indicators + len(_categories(x, categorical, rows)[0])

    def transform(self, x: np.ndarray) -> np.ndarray:
        """Network inputs, float32 of shape (n_rows, n_outputs), all finite."""
        out = np.empty((len(x), self.n_outputs), dtype=np.float32)
        n_numeric, n_known = len(self.numeric), len(self.numeric) + len(self.indicator)
        for start in range(0, len(x), _BLOCK):
            block, made = x[start : start + _BLOCK], out[start : start + _BLOCK]
            values = block if n_numeric == x.shape[1] else np.take(block, self.numeric, axis=1)
            missing, scaled = np.isnan(values), made[:, :n_numeric]
            np.copyto(scaled, values)
            np.copyto(scaled, self.median, where=missing)
            scaled -= self.mean
            scaled /= self.scale
            np.clip(scaled, -CLIP, CLIP, out=scaled)
            made[:, n_numeric:n_known] = missing[:, self.indicator]
            made[:, n_known:] = block[:, self.category_column] == self.category_code
        return out

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Plain tensors by name."""
        return {f.name: torch.from_numpy(getattr(self, f.name)) for f in fields(self)}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, torch.Tensor]) -> Preprocessor:
        """Inverse of `state_dict`."""
        return cls(**{f.name: state[f.name].numpy() for f in fields(cls)})


def _columns(x: np.ndarray, columns: np.ndarray, rows: np.ndarray | None) -> Iterator[np.ndarray]:
    """Values of each of the columns in some rows, float64, one column at a time."""
    for start in range(0, len(columns), _COLUMNS):
        block = np.empty((min(_COLUMNS, len(columns) - start), len(x) if rows is None else len(rows)), dtype=np.float64)
        some = columns[start : start + _COLUMNS]
        for first in range(0, block.shape[1], _BLOCK):
            part = slice(first, first + _BLOCK)
            block[:, part] = (x[part] if rows is None else x[rows[part]])[:, some].T
        yield from block


def _categories(x: np.ndarray, categorical: np.ndarray, rows: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Raw column and code of each category that is seen in training, each of shape (n_categories,)."""
    text = np.flatnonzero(categorical)
    seen = zip(text, _columns(x, text, rows), strict=True)
    pairs = [(c, code) for c, values in seen for code in np.unique(values) if code >= 0]
    columns, codes = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return columns, codes
