"""Search of `scheduler: guide` in three stages: random, Bayesian, fine-tune.

A proposal is a pure function of the seed, the trial number and the results that it may use. Trial k of the last two
stages uses the results of trials 0 to k - lag, in the order of their numbers. So the search is the same for any number
of workers up to the lag, and after any interruption.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from scripts.config.experiment import TuningConfig
from scripts.config.search_space import (
    Choices,
    FloatRange,
    IntRange,
    Range,
    Scalar,
    SearchSpace,
    Values,
    narrow,
)
from scripts.random_keys import key, numpy_generator

Stage = Literal["random", "bayesian", "fine_tune"]


@dataclass(frozen=True)
class Proposal:
    """Hyperparameters of a trial: `parameters` were searched, `values` add the fixed ones."""

    parameters: dict[str, Scalar]
    values: dict[str, Scalar]
    distributions: dict[str, BaseDistribution]


def stage_of(number: int, config: TuningConfig) -> tuple[Stage, int]:
    """Stage and epochs of trial `number`."""
    if number < config.n_random_trials:
        return "random", config.epochs_per_trial_random
    if number < config.n_random_trials + config.n_bayesian_trials:
        return "bayesian", config.epochs_per_trial_bayesian
    return "fine_tune", config.epochs_per_trial_fine_tune


def n_visible(number: int, config: TuningConfig) -> int:
    """Return the number of trials, from trial 0 on, that must have finished before trial `number` is proposed."""
    stage, _ = stage_of(number, config)
    return 0 if stage == "random" else max(0, number - config.proposal_lag + 1)


def propose(
    number: int, space: SearchSpace, config: TuningConfig, seed: int, history: Sequence[FrozenTrial]
) -> Proposal:
    """Hyperparameters of trial `number`.

    Parameters
    ----------
    history : sequence of FrozenTrial
        Trials 0 to number - 1; only results of the first `n_visible` are read, the rest count as running.
    """
    stage, _ = stage_of(number, config)
    visible = n_visible(number, config)
    finished = [t for t in history[:visible] if t.state == TrialState.COMPLETE]
    if stage == "random" or not finished:
        return proposal_of(space, draw(space, seed, number))
    pending = [t for t in history if t.number >= visible]
    around = space
    if stage == "fine_tune":
        best = sorted(finished, key=lambda t: (-_score(t), t.number))[: config.fine_tune_top]
        around = narrow(space, [t.params for t in best], config.fine_tune_widen)
    sampler = _sampler(config, key(seed, "trial", number, "sampler"))
    return proposal_of(space, _ask(around, sampler, finished, pending))


def draw(space: SearchSpace, seed: int, number: int) -> dict[str, Scalar]:
    """Random configuration with the number `number`, each parameter from its own address."""
    values: dict[str, Scalar] = {}
    for name, dimension in space.items():
        if not isinstance(dimension, Range):
            values[name] = dimension
        elif dimension.applies(values):
            values[name] = _draw_one(dimension, numpy_generator(seed, "trial", number, name))
    return values


def _draw_one(dimension: Range, generator: np.random.Generator) -> Scalar:
    if isinstance(dimension, Choices):
        return dimension.choices[int(generator.integers(len(dimension.choices)))]
    if isinstance(dimension, IntRange) and not dimension.log:
        return int(generator.integers(dimension.low, dimension.high + 1))
    if isinstance(dimension, IntRange):
        low, high = math.log(dimension.low - 0.5), math.log(dimension.high + 0.5)
        return int(np.clip(round(math.exp(generator.uniform(low, high))), dimension.low, dimension.high))
    if isinstance(dimension, FloatRange):
        if not dimension.log:
            return float(generator.uniform(dimension.low, dimension.high))
        drawn = math.exp(generator.uniform(math.log(dimension.low), math.log(dimension.high)))
        return float(np.clip(drawn, dimension.low, dimension.high))
    raise TypeError(type(dimension))


def _ask(
    space: SearchSpace,
    sampler: optuna.samplers.BaseSampler,
    finished: Sequence[FrozenTrial],
    pending: Sequence[FrozenTrial],
) -> dict[str, Scalar]:
    """Propose a trial with a fresh sampler, from a study in memory with the visible trials only."""
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for trial in finished:
        if (inside := _inside(space, trial)) is not None:
            study.add_trial(inside)
    for trial in pending:
        if (inside := _inside(space, trial)) is not None:
            study.add_trial(
                optuna.trial.create_trial(
                    state=TrialState.RUNNING, params=inside.params, distributions=inside.distributions
                )
            )
    trial_now = study.ask()
    values: dict[str, Scalar] = {}
    for name, dimension in space.items():
        if not isinstance(dimension, Range):
            values[name] = dimension
        elif dimension.applies(values):
            values[name] = _suggest(trial_now, name, dimension)
    return values


def _sampler(config: TuningConfig, seed: int) -> optuna.samplers.BaseSampler:
    seed %= 2**32
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if config.sampler == "gp":
            independent = optuna.samplers.RandomSampler(seed=seed)
            return optuna.samplers.GPSampler(
                seed=seed,
                independent_sampler=independent,
                deterministic_objective=False,
                warn_independent_sampling=False,
            )
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


def _inside(space: SearchSpace, trial: FrozenTrial) -> FrozenTrial | None:
    """Return the trial as a member of `space`; None if one of its values is outside."""
    distributions: dict[str, BaseDistribution] = {}
    for name, value in trial.params.items():
        dimension = space.get(name)
        if not isinstance(dimension, FloatRange | IntRange | Choices):
            continue
        distribution = dimension.distribution
        if isinstance(dimension, Choices):
            if value not in dimension.choices:
                return None
        elif not dimension.low <= value <= dimension.high:
            return None
        distributions[name] = distribution
    return optuna.trial.create_trial(
        state=TrialState.COMPLETE,
        value=_score(trial) if trial.state == TrialState.COMPLETE else 0.0,
        params={name: trial.params[name] for name in distributions},
        distributions=distributions,
    )


def _score(trial: FrozenTrial) -> float:
    if trial.value is None:
        raise ValueError(f"trial {trial.number} has no value")
    return trial.value


def _suggest(trial: optuna.Trial, name: str, dimension: Range) -> Scalar:
    if isinstance(dimension, FloatRange):
        return trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log)
    if isinstance(dimension, IntRange):
        return trial.suggest_int(name, dimension.low, dimension.high, log=dimension.log)
    if isinstance(dimension, Choices):
        return cast(Scalar, trial.suggest_categorical(name, dimension.choices))
    raise TypeError(type(dimension))


def proposal_of(space: SearchSpace, values: Values) -> Proposal:
    """Split into searched and fixed values, with the distributions of the whole space, as the study needs them."""
    searched: dict[str, Scalar] = {}
    distributions: dict[str, BaseDistribution] = {}
    for name, value in values.items():
        dimension = space[name]
        if isinstance(dimension, FloatRange | IntRange | Choices):
            searched[name] = value
            distributions[name] = dimension.distribution
    return Proposal(searched, dict(values), distributions)
