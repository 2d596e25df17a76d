"""Initial trials of a search: configurations of earlier runs, then of the portfolio."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scripts.config.experiment import Experiment
from scripts.config.search_space import SearchSpace
from scripts.storage.artifacts import recorded_plan
from scripts.storage.records import FirstTrial
from scripts.storage.run_dir import RunDir
from scripts.tuning.portfolio import SIZE, portfolio
from scripts.tuning.space_transfer import Change, in_words, translate
from scripts.tuning.warm_start import best_of_run


@dataclass(frozen=True)
class FirstTrials:
    """Initial trials of a search.

    Attributes
    ----------
    trials : tuple of FirstTrial
        Distinct, the first to be tried first.
    warm_start : tuple of str
        Directories of the earlier runs, relative to the run directory.
    notes : tuple of str
        Lines for people: what was taken and what had to be changed.
    """

    trials: tuple[FirstTrial, ...] = ()
    warm_start: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())


def first_trials(
    run_dir: RunDir,
    warm_start: Sequence[Path],
    experiment: Experiment,
    space: SearchSpace,
    data_fingerprint: str,
    fresh: bool,
) -> FirstTrials:
    """Initial trials of phase 1: those of its plan if it was started, else of earlier runs and the portfolio.

    Parameters
    ----------
    run_dir : RunDir
        Of this run; its plan decides unless `fresh`.
    warm_start : sequence of Path
        Directories of earlier runs.
    space : SearchSpace
        What is searched on these data.
    data_fingerprint : str
        Of this run's development rows.

    Raises
    ------
    MissingInputError, InputError
        An earlier run has no results, or they are damaged.
    """
    runs = {Path(os.path.relpath(run.path, run_dir.path)).as_posix(): run for run in map(RunDir, warm_start)}
    if (plan := recorded_plan(run_dir, fresh)) is not None:
        # A plan of an earlier revision has none; the claim then names the keys that differ.
        return FirstTrials(tuple(plan.starting), tuple(runs))
    chosen, notes = _of_earlier_runs(runs, space, data_fingerprint)
    if experiment.tuning.starts_from_portfolio:
        known = [trial.values for trial in chosen]
        entries = [entry for entry in portfolio(space, experiment.models) if entry.values not in known]
        entries = entries[: max(0, SIZE - len(chosen))]
        chosen += [FirstTrial(origin="portfolio", source="", values=dict(entry.values)) for entry in entries]
        notes.append(_of_portfolio(len(entries), sum(entry.changed for entry in entries)))
    max_trials = experiment.tuning.n_random_trials
    if len(chosen) > max_trials:
        notes.append(
            f"only the first {max_trials} of {len(chosen)} configurations to start with: tuning.n_random_trials"
        )
    return FirstTrials(tuple(chosen[:max_trials]), tuple(runs), tuple(notes))


def origin_of(number: int, stage: str, first: Sequence[FirstTrial]) -> str:
    """Return the source of the configuration of a trial: "warm start", "portfolio", "random" or "model"."""
    if number < len(first):
        return first[number].origin
    return "random" if stage == "random" else "model"


def _of_earlier_runs(
    runs: Mapping[str, RunDir], space: SearchSpace, data_fingerprint: str
) -> tuple[list[FirstTrial], list[str]]:
    """Return the best configuration of each run, then the second of each, and so on, with notes."""
    notes: list[str] = []
    lists: list[list[FirstTrial]] = []
    changes: list[Change] = []
    for name, run in runs.items():
        best, fingerprint = best_of_run(run)
        of_source = []
        for number, values in best:
            kept, changed = translate(values, space)
            of_source.append(FirstTrial(origin="warm start", source=f"trial {number} of {name}", values=kept))
            changes += changed
        lists.append(of_source)
        if fingerprint != data_fingerprint:
            notes.append(f"warm start: {name} has other data; none of them may be rows that this run seals")
    chosen: list[FirstTrial] = []
    for trial in itertools.chain.from_iterable(itertools.zip_longest(*lists)):
        if trial is not None and all(trial.values != other.values for other in chosen):
            chosen.append(trial)
    if runs:
        notes.insert(0, f"warm start: {len(chosen)} configurations of {', '.join(runs)}")
    return chosen, notes + [f"warm start: {line}" for line in in_words(changes)]


def _of_portfolio(n_added: int, n_changed: int) -> str:
    changed = f", {n_changed} of them changed to fit the search space" if n_changed else ""
    return f"portfolio: {n_added} configurations to start with{changed}; tuning.portfolio=false leaves them out"
