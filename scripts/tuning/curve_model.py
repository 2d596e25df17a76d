"""Gaussian process over configurations and epochs, with noise of splits and epochs.

The score of configuration x on split s after rung t is modelled as

    m + f(x) + g(x, t) - b(x) (1 - t) + h(t) + [s > 0] u(s) + v(x, s) + e

- t is the logarithm of the epochs, 1 at the last rung.
- f is a process over configurations, and g one over configurations and rungs.
- b is the slope of a configuration's curve: a slow learner is not a bad one.
- h is the course that all curves share, and u the offset that all scores on a repeat split share.
- v is the offset of a configuration on a split, and e the error of a mean over epochs.

Kernels are Matern 5/2. Parameters are the most probable ones under log-normal priors. Similar models are freeze-thaw
(Swersky, Snoek and Adams 2014) and DyHPO (Wistuba, Kadra and Grabocka 2022).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize

# On the diagonal: with little noise, scores of one configuration have nearly equal rows, and Cholesky fails.
_JITTER = 1e-6
_MAX_STEPS = 25
# Means and standard deviations of the logarithms of, in this order: variance of f, g, h, length in log-epochs, variance
# of u, v, e, b. Scores are standardised before.
_PRIOR_MEAN = np.array([0.0, -1.5, -1.0, math.log(0.5), -3.0, -3.0, -4.0, -1.0])
_PRIOR_SD = np.array([1.0, 1.0, 1.5, 0.7, 1.5, 1.5, 1.5, 1.5])
_LENGTH_MEAN, _LENGTH_SD = math.log(1.5), 1.0


@dataclass(frozen=True)
class Observations:
    """Scores, each the mean over some epochs of one run.

    Attributes
    ----------
    inputs : ndarray of shape (n_configurations, n_columns)
        Encoded configurations.
    column_of : ndarray of int, shape (n_columns,)
        Hyperparameter of each column; the columns of one hyperparameter share a length scale.
    log_epochs : ndarray of shape (n_rungs,)
        Logarithms of the rungs' epochs, scaled so that the last is 1.
    configuration, rung, run, split : ndarray of int, shape (n,)
        Configuration, rung, run and split of each score; `run` is its identity.
    n_epochs : ndarray of shape (n,)
        Epochs that each score is the mean of.
    scores : ndarray of shape (n,)
    """

    inputs: np.ndarray
    column_of: np.ndarray
    log_epochs: np.ndarray
    configuration: np.ndarray
    rung: np.ndarray
    run: np.ndarray
    split: np.ndarray
    n_epochs: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class _Parameters:
    """Kernel parameters on their natural scale."""

    inverse_lengths: np.ndarray
    f: float
    g: float
    h: float
    length_epochs: float
    u: float
    v: float
    e: float
    b: float

    @classmethod
    def from_logs(cls, logs: np.ndarray, column_of: np.ndarray) -> _Parameters:
        """Inverse of the logarithms that the fit works with."""
        n = column_of.max() + 1
        return cls(np.exp(-logs[:n])[column_of], *np.exp(logs[n:]))


def _matern(distance: np.ndarray) -> np.ndarray:
    """Matern 5/2 correlation (Rasmussen and Williams 2006, equation 4.17)."""
    s = math.sqrt(5.0) * distance
    return (1.0 + s + s * s / 3.0) * np.exp(-s)


def _matern_slope(distance: np.ndarray) -> np.ndarray:
    """Derivative of the correlation by the squared distance."""
    s = math.sqrt(5.0) * distance
    return -5.0 / 6.0 * (1.0 + s) * np.exp(-s)


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    # By one matrix product instead of all differences at once, which would take n_columns times the memory. Rounding
    # makes the distance of a point to itself slightly negative.
    squared = (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1)[None] - 2.0 * a @ b.T
    return np.sqrt(np.maximum(squared, 0.0))


def default_parameters(data: Observations) -> np.ndarray:
    """Logarithms of the kernel parameters before anything was fitted."""
    return np.concatenate([np.full(int(data.column_of.max()) + 1, _LENGTH_MEAN), _PRIOR_MEAN])


def fit_parameters(data: Observations) -> np.ndarray:
    """Logarithms of the most probable kernel parameters, by L-BFGS from the prior's mean."""
    objective = _Objective(data)
    start = objective.prior_mean
    # Within three standard deviations of the prior: a few scores can be explained by an absurd length or noise.
    bounds = [(m - 3.0 * s, m + 3.0 * s) for m, s in zip(start, objective.prior_sd, strict=True)]
    options = {"maxiter": _MAX_STEPS, "gtol": 1e-2}
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return np.asarray(found.x)


class _Objective:
    """Negative log posterior density of the kernel parameters, with its gradient."""

    def __init__(self, data: Observations) -> None:
        self.data = data
        n = int(data.column_of.max()) + 1
        self.prior_mean = default_parameters(data)
        self.prior_sd = np.concatenate([np.full(n, _LENGTH_SD), _PRIOR_SD])
        # Squared differences of each hyperparameter, its columns added up: the columns of a choice share one length.
        squared = (data.inputs[:, None, :] - data.inputs[None, :, :]) ** 2
        self.squared = np.stack([squared[:, :, data.column_of == k].sum(axis=2) for k in range(n)])
        self.gaps = np.abs(data.log_epochs[:, None] - data.log_epochs[None, :])
        self.same_run = (data.run[:, None] == data.run[None, :]).astype(float)
        self.same_repeat = ((data.split[:, None] == data.split[None, :]) & (data.split > 0)[:, None]).astype(float)
        self.scores = _standardised(data.scores)[0]
        self.pairs = data.configuration[:, None] * len(data.inputs) + data.configuration[None, :]
        left = 1.0 - data.log_epochs[data.rung]
        self.slopes = np.outer(left, left)
        self.rungs = (data.rung[:, None], data.rung[None, :])

    def __call__(self, logs: np.ndarray) -> tuple[float, np.ndarray]:
        n = len(self.squared)
        weights = np.exp(-2.0 * logs[:n])
        f, g, h, length, u, v, e, b = np.exp(logs[n:])
        distance = np.sqrt(np.tensordot(weights, self.squared, axes=1))
        configurations = _matern(distance).ravel()[self.pairs]
        courses = _matern(self.gaps / length)[self.rungs]
        noise = e / self.data.n_epochs
        per_configuration = f + g * courses + b * self.slopes
        covariance = configurations * per_configuration + h * courses + u * self.same_repeat + v * self.same_run
        covariance[np.diag_indices(len(noise))] += noise + _JITTER
        lower = cholesky(covariance, lower=True, check_finite=False)
        solved = cho_solve((lower, True), self.scores, check_finite=False)
        away = (logs - self.prior_mean) / self.prior_sd
        value = 0.5 * self.scores @ solved + np.log(np.diag(lower)).sum() + 0.5 * away @ away
        inverse = cho_solve((lower, True), np.eye(len(noise)), check_finite=False)
        outer = 0.5 * (inverse - np.outer(solved, solved))  # derivative of the value by the covariance
        stretch = _matern_slope(self.gaps / length) * -2.0 * (self.gaps / length) ** 2
        gradient = np.array(
            [
                f * (outer * configurations).sum(),
                g * (outer * configurations * courses).sum(),
                h * (outer * courses).sum(),
                (outer * (g * configurations + h) * stretch[self.rungs]).sum(),
                u * (outer * self.same_repeat).sum(),
                v * (outer * self.same_run).sum(),
                np.diag(outer) @ noise,
                b * (outer * configurations * self.slopes).sum(),
            ]
        )
        # The length scales act on pairs of configurations; all their scores are added up first.
        size = len(self.data.inputs) ** 2
        by_pair = np.bincount(self.pairs.ravel(), (outer * per_configuration).ravel(), minlength=size)
        by_pair *= _matern_slope(distance).ravel()
        lengths = -2.0 * weights * (self.squared.reshape(n, -1) @ by_pair)
        return float(value), np.concatenate([lengths, gradient]) + away / self.prior_sd


def _standardised(scores: np.ndarray) -> tuple[np.ndarray, float, float]:
    mean, sd = float(scores.mean()), float(scores.std()) or 1.0
    return (scores - mean) / sd, mean, sd


class CurveModel:
    """The process given what was observed; all scores it takes and gives are standardised by the observations.

    Parameters
    ----------
    logs : ndarray
        Logarithms of the kernel parameters, from `fit_parameters` on these or earlier observations.
    scale : (float, float), optional
        Mean and standard deviation that scores are standardised by; those of the observations by default.
    """

    def __init__(self, data: Observations, logs: np.ndarray, scale: tuple[float, float] | None = None) -> None:
        self.data, self._logs = data, logs
        self.parameters = _Parameters.from_logs(logs, data.column_of)
        # A fantasised model keeps the scale of the real scores, otherwise its expected scores would rescale them.
        self._mean, self._sd = scale or _standardised(data.scores)[1:]
        p, gaps = self.parameters, np.abs(data.log_epochs[:, None] - data.log_epochs[None, :])
        self._courses = _matern(gaps / p.length_epochs)
        self._scaled = self._scale(data.inputs)
        self._prior_variance = p.f + p.g + p.h
        self._lower = cholesky(self._covariance(), lower=True, check_finite=False)
        scores = (data.scores - self._mean) / self._sd
        self._weights = cho_solve((self._lower, True), scores, check_finite=False)

    @property
    def offset_sd(self) -> float:
        """Standard deviation of the offset of a configuration on a split: the noise between splits."""
        return math.sqrt(self.parameters.v)

    def expected(self, inputs: np.ndarray) -> np.ndarray:
        """Mean of the noise-free score at the last rung, of shape (len(inputs),)."""
        return np.asarray(self._nearness(inputs) @ (self._basis @ self._weights))

    def posterior(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the noise-free score at the last rung, each of shape (len(inputs),)."""
        near = self._nearness(inputs)
        variance = self._prior_variance - ((near @ self._explained) * near).sum(axis=1)
        return near @ (self._basis @ self._weights), np.sqrt(np.maximum(variance, 1e-12))

    def gain(self, inputs: np.ndarray, incumbent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the lead over `incumbent` at the last rung.

        The two scores share their uncertainty where they are close, so the expected gain vanishes next to it.
        """
        near, other = self._nearness(inputs), self._nearness(incumbent[None])[0]
        difference = near - other
        alike = _matern(_distances(self._scale(inputs), self._scale(incumbent[None])))[:, 0]
        p = self.parameters
        prior = 2.0 * (p.f + p.g) * (1.0 - alike)
        # Rounding can make the variance next to the incumbent negative.
        variance = prior - ((difference @ self._explained) * difference).sum(axis=1)
        return difference @ (self._basis @ self._weights), np.sqrt(np.maximum(variance, 1e-12))

    def fantasized(self, runs: np.ndarray) -> CurveModel:
        """The model once the given runs (numbers as in `data.run`) are at the last rung with the expected scores."""
        data, last = self.data, len(self.data.log_epochs) - 1
        _, first_of = np.unique(data.run, return_index=True)
        first = first_of[np.searchsorted(data.run[first_of], runs)]
        configuration, split = data.configuration[first], data.split[first]
        cross = self._nearness(data.inputs[configuration]) @ self._basis
        cross += self.parameters.v * (runs[:, None] == data.run[None, :])
        cross += self.parameters.u * ((split[:, None] == data.split[None, :]) & (split > 0)[:, None])
        expected = (cross @ self._weights) * self._sd + self._mean
        believed = replace(
            data,
            configuration=np.concatenate([data.configuration, configuration]),
            rung=np.concatenate([data.rung, np.full(len(runs), last)]),
            run=np.concatenate([data.run, runs]),
            split=np.concatenate([data.split, split]),
            # As certain as a mean over ten epochs, so that the neighbourhood of a running trial is not proposed again.
            n_epochs=np.concatenate([data.n_epochs, np.full(len(runs), 10.0)]),
            scores=np.concatenate([data.scores, expected]),
        )
        return CurveModel(believed, self._logs, (self._mean, self._sd))

    def _covariance(self) -> np.ndarray:
        """Covariance of the observations."""
        data, p = self.data, self.parameters
        configurations = _matern(_distances(self._scaled, self._scaled))[
            data.configuration[:, None], data.configuration[None, :]
        ]
        courses = self._courses[data.rung[:, None], data.rung[None, :]]
        left = 1.0 - data.log_epochs[data.rung]
        covariance = configurations * (p.f + p.g * courses + p.b * np.outer(left, left)) + p.h * courses
        covariance += p.v * (data.run[:, None] == data.run[None, :])
        covariance += p.u * ((data.split[:, None] == data.split[None, :]) & (data.split > 0)[:, None])
        covariance[np.diag_indices(len(covariance))] += p.e / data.n_epochs + _JITTER
        return np.asarray(covariance)

    def _scale(self, inputs: np.ndarray) -> np.ndarray:
        return inputs * self.parameters.inverse_lengths

    def _nearness(self, inputs: np.ndarray) -> np.ndarray:
        """Correlation with each observed configuration, and a 1 for the common course."""
        near = _matern(_distances(self._scale(inputs), self._scaled))
        return np.concatenate([near, np.ones((len(near), 1))], axis=1)

    @cached_property
    def _basis(self) -> np.ndarray:
        """Factors that turn `_nearness` into the covariance of the score at the last rung with the observations.

        The slope has no part in it there. Few configurations have many scores: all that a new configuration needs is
        kept per configuration, of shape (n_configurations + 1, n).
        """
        data, p = self.data, self.parameters
        courses = self._courses[-1][data.rung]
        basis = np.zeros((len(data.inputs) + 1, len(data.rung)))
        basis[data.configuration, np.arange(len(data.rung))] = p.f + p.g * courses
        basis[-1] = p.h * courses
        return basis

    @cached_property
    def _explained(self) -> np.ndarray:
        """Quadratic form of `_nearness` that gives the variance which the observations take away."""
        whitened = solve_triangular(self._lower, self._basis.T, lower=True, check_finite=False)
        return np.asarray(whitened.T @ whitened)
