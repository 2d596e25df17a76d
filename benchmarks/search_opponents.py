"""Opponents of the search: Optuna's samplers and pruners as commonly used, and the fixed plan of `scheduler: guide`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from benchmarks.lcbench import EPOCHS, Problem, RecordedRun
from scripts.config.experiment import ExtendedConfig, TuningConfig
from scripts.config.search_space import FloatRange, IntRange, Scalar, SearchSpace, Values
from scripts.training.early_stopping import EarlyStopping
from scripts.tuning.stages import Proposal, propose, stage_of

BUDGET = 3000  # epochs: 60 trials of 50
_TRIAL_EPOCHS = 50
Steps = list[tuple[int, float]]  # (epochs spent, regret from then on)


@dataclass
class Trace:
    """What a contender would ship after how many epochs; every epoch of every split is counted.

    Attributes
    ----------
    steps : list of (int, float)
        Epochs spent and regret of the configuration that would be shipped from then on.
    """

    problem: Problem
    epochs: int = 0
    steps: Steps = field(default_factory=list)
    _shipped: Values | None = None

    def ship(self, values: Values) -> None:
        """`values` would be shipped if the search ended now."""
        if values != self._shipped:
            self._shipped = values
            self.steps.append((self.epochs, self.problem.regret(values)))


def regret_at(steps: Steps, epochs: int) -> float:
    """Regret after `epochs` epochs; 1, the median, before anything was trained."""
    return next((regret for spent, regret in reversed(steps) if spent <= epochs), 1.0)


Contender = Callable[[Problem, Sequence[Values]], Trace]


def optuna_search(
    make_sampler: Callable[[int], BaseSampler],
    make_pruner: Callable[[], BasePruner],
    problem: Problem,
    start: Sequence[Values],
) -> Trace:
    """A study of Optuna with trials of 50 epochs on one split, until 3,000 epochs are spent; ships the best seen."""
    study = optuna.create_study(
        direction="maximize",
        sampler=make_sampler(problem.sampler_seed("optuna")),
        pruner=make_pruner(),
    )
    for values in start:
        study.enqueue_trial(dict(values))
    trace, best = Trace(problem), -np.inf
    while trace.epochs < BUDGET:
        trial = study.ask()
        values = _suggest(trial, problem.space)
        run, reached, state = RecordedRun(problem, values, split=0), -np.inf, TrialState.COMPLETE
        while run.epoch < _TRIAL_EPOCHS and trace.epochs < BUDGET:
            (score,) = run.advance()
            trace.epochs += 1
            reached = max(reached, score)
            if reached > best:
                best = reached
                trace.ship(values)
            trial.report(score, run.epoch)
            if trial.should_prune():
                state = TrialState.PRUNED
                break
        study.tell(trial, reached if state == TrialState.COMPLETE else None, state=state)
    return trace


def guide(problem: Problem, start: Sequence[Values]) -> Trace:
    """The guide's plan as phases 1 and 2 run it: 20 + 40 + 15 trials with patience, then the best 5 on 3 folds."""
    config, seed = TuningConfig(), problem.sampler_seed("guide")
    trace, history = Trace(problem), list[FrozenTrial]()
    best = -np.inf
    for number in range(config.n_trials):
        _, epochs = stage_of(number, config)
        proposal = propose(number, problem.space, config, seed, history)
        values = proposal.values
        if number < len(start):
            values = dict(start[number])
        run = RecordedRun(problem, values, split=0)
        stopping = EarlyStopping(config.early_stopping_patience, config.early_stopping_min_delta)
        scores = _train(run, epochs, 1, stopping, trace)
        if max(scores) > best:
            best = max(scores)
            trace.ship(values)
        history.append(_frozen(number, values, proposal, max(scores)))
    _cross_validate(problem, trace, history)
    return trace


def _cross_validate(problem: Problem, trace: Trace, history: Sequence[FrozenTrial]) -> None:
    """Phase 2 on splits that phase 1 has not used; each configuration's mean counts once its folds are in."""
    config = ExtendedConfig()
    best = -np.inf
    for trial in sorted(history, key=lambda t: (-(t.value or 0.0), t.number))[: config.top_n]:
        folds = []
        for fold in range(config.cross_validation_folds):
            run = RecordedRun(problem, trial.params, split=1 + fold)
            stopping = EarlyStopping(config.early_stopping_patience, config.early_stopping_min_delta)
            folds.append(max(_train(run, EPOCHS, config.evaluation_frequency, stopping, trace)))
        if np.mean(folds) > best:
            best = float(np.mean(folds))
            trace.ship(trial.params)


def _train(run: RecordedRun, epochs: int, frequency: int, stopping: EarlyStopping, trace: Trace) -> list[float]:
    """Evaluated accuracies of a run of up to `epochs` epochs, evaluated every `frequency` epochs."""
    scores = []
    while run.epoch < epochs:
        advanced = run.advance(min(frequency, epochs - run.epoch))
        trace.epochs += len(advanced)
        scores.append(advanced[-1])
        stopping.update(run.epoch, scores[-1])
        if stopping.should_stop(run.epoch):
            break
    return scores


def _frozen(number: int, values: dict[str, Scalar], proposal: Proposal, value: float) -> FrozenTrial:
    trial = optuna.trial.create_trial(value=value, params=values, distributions=proposal.distributions)
    trial.number = number
    return trial


def _suggest(trial: optuna.Trial, space: SearchSpace) -> dict[str, Scalar]:
    values: dict[str, Scalar] = {}
    for name, dimension in space.items():
        if isinstance(dimension, IntRange):
            values[name] = trial.suggest_int(name, dimension.low, dimension.high, log=dimension.log)
        elif isinstance(dimension, FloatRange):
            values[name] = trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log)
    return values


def _random(seed: int) -> BaseSampler:
    return RandomSampler(seed=seed)


def _tpe(seed: int) -> BaseSampler:
    return TPESampler(seed=seed)


def _gp(seed: int) -> BaseSampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return GPSampler(seed=seed, deterministic_objective=False)


OPPONENTS: dict[str, Contender] = {
    "random 60x50": partial(optuna_search, _random, NopPruner),
    "tpe 60x50": partial(optuna_search, _tpe, NopPruner),
    "gp 60x50": partial(optuna_search, _gp, NopPruner),
    "tpe median": partial(optuna_search, _tpe, MedianPruner),
    "tpe hyperband": partial(optuna_search, _tpe, HyperbandPruner),
    "tpe halving": partial(optuna_search, _tpe, SuccessiveHalvingPruner),
    "random halving": partial(optuna_search, _random, SuccessiveHalvingPruner),
    "guide": guide,
}
