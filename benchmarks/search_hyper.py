"""Hyper's scheduler on recorded learning curves, by the protocol of real training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.lcbench import Problem, RecordedRun
from benchmarks.search_opponents import Trace
from scripts.config.search_space import Values
from scripts.tuning.decisions import Result, Start, Stop
from scripts.tuning.scheduler import RungConfig, Scheduler

BUDGET = 1500  # epochs: half of 60 trials of 50


def hyper(problem: Problem, start: Sequence[Values], config: RungConfig | None = None) -> Trace:
    """Rungs with pause and promotion; ships the trial with the best expected score at the last rung."""
    config = replace(config or RungConfig(), max_epochs=BUDGET)
    scheduler = Scheduler(problem.space, config, problem.sampler_seed("hyper"), start)
    trace, trials = Trace(problem), list[Values]()
    runs: dict[tuple[int, int], RecordedRun] = {}
    while not isinstance(action := scheduler.next_action(), Stop):
        if action is None:
            raise RuntimeError("every result was given, and the scheduler waits for one")
        if isinstance(action, Start):
            trials.append(action.values)
        key = (action.trial, action.split)
        run = runs.setdefault(key, RecordedRun(problem, trials[action.trial], action.split))
        scores = run.advance(action.epochs - run.epoch)
        trace.epochs += len(scores)
        scheduler.record(len(scheduler.actions) - 1, Result(tuple(scores), ended=run.epoch >= config.rungs[-1]))
        trace.ship(trials[(scheduler.ranking() or [action.trial])[0]])
    return trace
