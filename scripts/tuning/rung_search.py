"""Phase 1 with rungs: decisions of the scheduler as runs for the driver, stored before they start."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from optuna.trial import TrialState
from threadpoolctl import threadpool_limits

from scripts.config.experiment import Experiment
from scripts.config.search_space import Scalar, Values
from scripts.data.dataset import Split
from scripts.execution.executor import Update
from scripts.storage import records
from scripts.storage.event_log import EventLog
from scripts.training.spec import RunSpec
from scripts.tuning.decisions import Action, Continue, Entry, Replicate, Result, Start, Stop
from scripts.tuning.initial_trials import origin_of
from scripts.tuning.scheduler import RungConfig, Scheduler
from scripts.tuning.search_context import SearchContext, check_failures, check_starts, run_name
from scripts.tuning.stages import draw, proposal_of
from scripts.tuning.study import TrialStudy
from scripts.tuning.study_records import Decision, StoredResult

_MAX_INITIAL = 8  # random trials before the model proposes


def rung_config(experiment: Experiment, n_splits: int) -> RungConfig:
    """The scheduler's configuration."""
    config = experiment.tuning
    return RungConfig(
        rungs=config.rungs,
        n_initial=max(1, min(config.n_random_trials, _MAX_INITIAL)),
        replicate_epochs=config.rungs[len(config.rungs) // 2],
        n_splits=n_splits,
        max_trials=config.n_trials,
        max_epochs=experiment.search_epochs,
        stop_auto=config.stop == "auto",
        lag=config.proposal_lag,
    )


@dataclass(frozen=True)
class RungSummary:
    """Results of a search on rungs: its fields in trials.json, the ranking of its trials, their replicates."""

    of_search: records.SearchOnRungs
    ranking: list[int]
    replicates: dict[int, list[records.Replicate]]


class RungSearch:
    """The decisions of the scheduler as work for the driver.

    The journal is in the study: a start with its trial, every other decision and every result as a separate
    attribute. A decision without a result is executed first when the search resumes.
    """

    def __init__(self, setting: SearchContext, study: TrialStudy, events: EventLog) -> None:
        self.setting, self.study, self._events = setting, study, events
        experiment = setting.experiment
        self._splits: list[Split] = [
            setting.dataset.tail_split(experiment.tuning.validation_fraction, experiment.seed),
            *setting.dataset.folds(experiment.extended.cv, experiment.extended.cross_validation_folds, experiment.seed),
        ]
        self.config = rung_config(experiment, len(self._splits))
        self.scheduler = Scheduler(setting.space, self.config, experiment.seed, _beginning(setting, self.config))
        self.stopped_because = ""
        # In memory, because a decision must not cost a look at all trials.
        self._values: list[dict[str, Scalar]] = []  # of each trial
        self._numbers: dict[str, int] = {}  # decision that a run carries out now
        self._results: dict[str, StoredResult] = {}  # latest of each run
        check_starts(setting, study)
        journal = _stored_journal(study, self.config)
        self.held = list[str]()  # runs that failed for lack of time, and start again
        for number, (entry, result) in enumerate(journal):
            # A failure for lack of time, memory or a worker is not a property of the configuration. Its decision is
            # executed again, as if it had no result, if the present limits may suffice.
            if result and result.outcome.may_succeed_now(setting.max_trial_time_s):
                journal[number] = (Entry(entry.action, None), None)
                self.held += [_name(entry.action)] if result.outcome.failure_kind == "out_of_time" else []
        self.scheduler.replay(entry for entry, _ in journal)
        for number, (entry, result) in enumerate(journal):
            if isinstance(entry.action, Start):
                self._values.append(entry.action.values)
            if result is not None:
                self._results[_name(entry.action)] = result
            else:
                self._numbers[_name(entry.action)] = number
        self._left = [entry.action for entry, _ in journal if entry.result is None]

    @property
    def validation_rows(self) -> np.ndarray:
        """Rows of split 0."""
        return self._splits[0][1]

    @property
    def data_passes(self) -> float:
        """Epochs so far, of all splits, in passes over all development rows."""
        n_rows = len(self.setting.dataset.rows)
        shares = [len(train) / n_rows for train, _ in self._splits]
        runs = self.scheduler.curves.runs
        return sum(shares[split] * self._results[run_name(trial, split)].outcome.epochs for trial, split in runs)

    def next_spec(self) -> RunSpec | None:
        """A decision that was cut short first, then the next one as soon as what it depends on is known."""
        if self._left:
            return self._spec(self._left.pop(0))
        # Linear algebra rounds differently with each number of threads. One thread makes decisions the same on every
        # machine and for every number of workers.
        with threadpool_limits(1):
            action = self.scheduler.next_action()
        if action is None:
            return None
        if isinstance(action, Stop):
            self.stopped_because = action.reason
            return None
        number = len(self.scheduler.actions) - 1
        self._numbers[_name(action)] = number
        if isinstance(action, Start):
            self._values.append(action.values)
            proposal = proposal_of(self.setting.space, action.values)
            origin = origin_of(action.trial, action.stage, self.setting.first)
            attributes = {"decision": number, "epochs": action.epochs, "gain": action.gain, "origin": origin}
            # Stored before it is trained: a search that is killed here resumes with this decision.
            self.study.start(proposal, action.stage, **attributes)
        else:
            self.study.note(f"decision_{number:06d}", described(action).body())
        self._events.write("decision", decision=number, **described(action).body())
        return self._spec(action)

    def finished(self, spec: RunSpec, update: Update) -> None:
        """Store the result of a decision."""
        if update.outcome is None:
            raise ValueError(f"{spec.name} has no outcome")
        number = self._numbers.pop(spec.name)
        # A resumed run reports its whole history; the scheduler takes only the epochs of this decision.
        before = self._results[spec.name].outcome.epochs if spec.name in self._results else 0
        result = StoredResult(update.outcome, update.history, before)
        self.study.note(f"result_{number:06d}", result.body())
        action = self.scheduler.actions[number]
        if not action.split:
            self.study.report(action.trial, result.history[before:])
        self.scheduler.record(number, _result(result, self.config.rungs[-1]))
        self._results[spec.name] = result
        # Only a further failure can make failures the majority, once there are enough runs.
        if update.outcome.is_environment or len(self._results) <= 4:
            check_failures("finished", [one.outcome for one in self._results.values()])

    def settle(self) -> None:
        """End all trials in the study with the outcome of their run on split 0."""
        self.scheduler.conclude()
        for trial in self.study.trials():
            if trial.state == TrialState.RUNNING:
                result = self._results[run_name(trial.number)]
                self.study.finish(trial.number, result.outcome, result.history, trial.intermediate_values)

    def summary(self) -> RungSummary:
        """Return the other parts of trials.json: decisions, ranks, replicates, epochs of each split."""
        replicates: dict[int, list[records.Replicate]] = {}
        epochs = {f"split_{k}": 0 for k in range(len(self._splits))}
        for trial, split in sorted(self.scheduler.curves.runs):
            outcome = self._results[run_name(trial, split)].outcome
            epochs[f"split_{split}"] += outcome.epochs
            if split:
                repeat = records.Replicate(
                    split=split,
                    epochs=outcome.epochs,
                    val_accuracy=outcome.val_accuracy,
                    duration_s=outcome.duration_s,
                )
                replicates.setdefault(trial, []).append(repeat)
        decisions = [described(action) for action in self.scheduler.actions]
        rungs = records.SearchOnRungs(
            epoch_ledger=epochs,
            rungs=list(self.config.rungs),
            stopped_because=self.stopped_because,
            decisions=decisions,
        )
        return RungSummary(rungs, self.scheduler.ranking(), replicates)

    def spec_of(self, number: int) -> RunSpec:
        """The whole training of a trial on split 0."""
        actions = [a for a in self.scheduler.actions if a.trial == number and a.split == 0]
        return self._spec(actions[-1])

    def _spec(self, action: Action) -> RunSpec:
        replicate = ("split", action.split) if action.split else ()
        random_key = (self.setting.experiment.seed, "trial", action.trial, *replicate)
        values, split = self._values[action.trial], self._splits[action.split]
        spec = self.setting.spec(_name(action), random_key, values, split, action.epochs)
        # The learning rate follows the schedule of the last rung: a run that pauses at a rung has not decayed it.
        return replace(spec, schedule_epochs=self.config.rungs[-1], pauses=True)


def _beginning(setting: SearchContext, config: RungConfig) -> list[Values]:
    """Return the first trials of the scheduler; few given configurations are followed by random ones."""
    given: list[Values] = [trial.values for trial in setting.first]
    random: list[Values] = [
        draw(setting.space, setting.experiment.seed, k) for k in range(len(given), config.n_initial)
    ]
    return given + random if given else []


def _name(action: Action) -> str:
    return run_name(action.trial, action.split)


def described(action: Action) -> records.Decision:
    """Return a decision as its record."""
    kind = "start" if isinstance(action, Start) else "continue" if isinstance(action, Continue) else "replicate"
    return records.Decision(kind=kind, trial=action.trial, split=action.split, epochs=action.epochs)


def _result(stored: StoredResult, last_rung: int) -> Result:
    """Return the parts of a stored result that the scheduler needs."""
    outcome = stored.outcome
    failed = outcome.state == "failed"
    scores = tuple(
        math.nan if report["val_accuracy"] is None else float(report["val_accuracy"])
        for report in stored.history[stored.before :]
    )
    # A failure without a history still cost its epochs.
    missing = outcome.epochs - stored.before - len(scores)
    return Result(
        scores + (math.nan,) * max(0, missing),
        ended=failed or outcome.state == "stopped" or outcome.epochs >= last_rung,
        failed=failed,
    )


def _stored_journal(study: TrialStudy, config: RungConfig) -> list[tuple[Entry, StoredResult | None]]:
    """Decisions in their order, each with its stored result.

    Raises
    ------
    InputError
        They are not those of a search with these rungs.
    """
    attributes = study.attributes
    actions: dict[int, Action] = {}
    for trial in study.trials():
        a = trial.user_attrs
        actions[a.get("decision", -1)] = Start(trial.number, a["stage"], a["values"], a.get("epochs", 0), a.get("gain"))
    for name, value in attributes.items():
        if isinstance(value, Decision):
            run = value.trial, value.split, value.epochs
            action = Continue(*run) if value.kind == "continue" else Replicate(*run)
            actions[int(name.removeprefix("decision_"))] = action
    # A received study may contain anything, and the scheduler takes any decision as its own. So each one is checked.
    journal, started = [], set[tuple[int, int]]()
    for number in range(len(actions)):
        if (decided := actions.get(number)) is None:
            raise study.unreadable(f"decision {number} is missing")
        if not _is_possible(decided, started, config):
            raise study.unreadable(f"decision {number} is not one of a search with these rungs")
        started.add((decided.trial, decided.split))
        found = attributes.get(f"result_{number:06d}")
        stored = found if isinstance(found, StoredResult) else None
        journal.append((Entry(decided, _result(stored, config.rungs[-1]) if stored else None), stored))
    return journal


def _is_possible(action: Action, started: set[tuple[int, int]], config: RungConfig) -> bool:
    """Return True if a decision may follow those that started these runs."""
    run = action.trial, action.split
    if action.epochs not in config.rungs or action.split >= config.n_splits:
        return False
    if isinstance(action, Start):
        return run not in started
    if isinstance(action, Replicate):
        return run not in started and action.split > 0 and (action.trial, 0) in started
    return run in started and action.epochs != config.rungs[0]
