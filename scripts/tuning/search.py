"""Search of phase 1: propose trials, train them, store them in the study and write trials.json."""

from __future__ import annotations

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from scripts.execution.driver import RunMonitor, execute
from scripts.execution.executor import Executor, Update
from scripts.storage.artifacts import write_record
from scripts.storage.checkpoints import Checkpoints
from scripts.storage.durable_files import file_sha256, write_bytes
from scripts.storage.event_log import EventLog
from scripts.storage.record_base import Epoch, Made
from scripts.storage.records import Trial, Trials
from scripts.storage.run_dir import RunDir
from scripts.training.spec import RunSpec
from scripts.tuning.failures import all_failed, is_held, is_out_of_time, may_succeed_now
from scripts.tuning.initial_trials import origin_of
from scripts.tuning.rung_search import RungSearch, RungSummary
from scripts.tuning.search_context import SearchContext, check_failures, check_starts, run_name
from scripts.tuning.stages import n_visible, proposal_of, propose, stage_of
from scripts.tuning.study import TrialStudy
from scripts.tuning.study_records import StoredResult, result_of
from scripts.tuning.validation_scores import validation_ledger


class Search:
    """The trials of phase 1 as work for the driver."""

    def __init__(self, setting: SearchContext, study: TrialStudy, events: EventLog) -> None:
        self.setting, self.study, self._events = setting, study, events
        config = setting.experiment.tuning
        check_starts(setting, study)
        self._numbers: dict[str, int] = {}  # trial of each run
        self._split = setting.dataset.tail_split(config.validation_fraction, setting.experiment.seed)
        # Trials that an earlier process left running resume under the same number, from their checkpoints.
        left = [t for t in study.trials() if t.state == TrialState.RUNNING]
        self._left_running = [t for t in left if not is_held(t) or may_succeed_now(t, setting.max_trial_time_s)]
        self._again = {t.number for t in self._left_running}
        # Runs that failed for lack of time start again: their state is in the middle of an epoch.
        self.held = [run_name(t.number) for t in self._left_running if is_held(t) and is_out_of_time(t)]

    @property
    def validation_rows(self) -> np.ndarray:
        """Rows that every trial is validated on."""
        return self._split[1]

    @property
    def data_passes(self) -> float:
        """Epochs so far in passes over all development rows."""
        results = (result_of(trial) for trial in self.study.trials() if self._is_done(trial))
        epochs = sum(result.outcome.epochs for result in results if result is not None)
        return epochs * len(self._split[0]) / len(self.setting.dataset.rows)

    def next_spec(self) -> RunSpec | None:
        """An interrupted trial first, then a new one as soon as the results that it may see are in."""
        if self._left_running:
            return self._spec(self._left_running.pop(0))
        config, seed = self.setting.experiment.tuning, self.setting.experiment.seed
        trials = self.study.trials()
        number = len(trials)
        if number >= config.n_trials:
            return None
        if any(not self._is_done(t) for t in trials[: n_visible(number, config)]):
            return None
        first, (stage, epochs) = self.setting.first, stage_of(number, config)
        if number < len(first):
            proposal = proposal_of(self.setting.space, first[number].values)
        else:
            proposal = propose(number, self.setting.space, config, seed, trials)
        self.study.start(proposal, stage, origin=origin_of(number, stage, first))
        self._events.write("decision", decision=number, kind="start", trial=number, split=0, epochs=epochs)
        return self._spec(self.study.trials()[number])

    def finished(self, spec: RunSpec, update: Update) -> None:
        """Store the outcome."""
        if update.outcome is None:
            raise ValueError(f"{spec.name} has no outcome")
        number = self._numbers[spec.name]
        self._again.discard(number)
        self.study.finish(number, update.outcome, update.history)
        stage = stage_of(number, self.setting.experiment.tuning)[0]
        of_stage = [t for t in self.study.trials() if t.user_attrs["stage"] == stage and self._is_done(t)]
        check_failures(stage, [result.outcome for trial in of_stage if (result := result_of(trial)) is not None])

    def _is_done(self, trial: FrozenTrial) -> bool:
        return trial.state.is_finished() or (is_held(trial) and trial.number not in self._again)

    def spec_of(self, number: int) -> RunSpec:
        """The whole training of a trial."""
        return self._spec(self.study.trials()[number])

    def _spec(self, trial: FrozenTrial) -> RunSpec:
        setting = self.setting
        random_key, values = (setting.experiment.seed, "trial", trial.number), trial.user_attrs["values"]
        epochs = stage_of(trial.number, setting.experiment.tuning)[1]
        self._numbers[name := run_name(trial.number)] = trial.number
        return setting.spec(name, random_key, values, self._split, epochs)


class _Again:
    """Trials that are trained again only for their checkpoints, as work for the driver."""

    def __init__(self, specs: list[RunSpec]) -> None:
        self._specs = specs

    def next_spec(self) -> RunSpec | None:
        """Return the next trial."""
        return self._specs.pop(0) if self._specs else None

    def finished(self, spec: RunSpec, update: Update) -> None:
        """Ignore the outcome."""


def run_search(
    setting: SearchContext,
    study: TrialStudy,
    executor: Executor,
    run_dir: RunDir,
    watch: RunMonitor,
    deadline: float | None,
    provenance: Made,
) -> Trials:
    """Run what is left of phase 1 and write trials.json; its content.

    Raises
    ------
    InputError
        No trial gave a usable result.
    BudgetEnded
        The time budget ended first.
    """
    checkpoints = Checkpoints(run_dir.tuning / "checkpoints")
    on_rungs = setting.experiment.tuning.scheduler == "rungs"
    search = (RungSearch if on_rungs else Search)(setting, study, watch.events)
    for name in search.held:
        checkpoints.discard(name)
    execute(search, executor, checkpoints, watch, deadline)
    if isinstance(search, RungSearch):
        search.settle()
    summary = search.summary() if isinstance(search, RungSearch) else None
    trials = recorded_trials(study.trials(), summary)
    if all(trial.state == "failed" for trial in trials):
        raise all_failed(trials, run_dir.study)
    usable = [trial.number for trial in trials if trial.state != "failed"]
    lost = [number for number in usable if not checkpoints.has(run_name(number))]
    if lost:
        watch.warn(f"{len(lost)} trials have no checkpoint and are trained again, for the predictions by date")
        execute(_Again([search.spec_of(number) for number in lost]), executor, checkpoints, watch, deadline)
    runs = {number: run_name(number) for number in usable}
    ledger = validation_ledger(runs, checkpoints, setting.dataset, search.validation_rows, setting.experiment.data)
    write_bytes(run_dir.ledger, ledger.to_parquet(index=False))
    replicates = [replicate for trial in trials for replicate in trial.replicates]
    results = Trials(
        **provenance.as_fields(),
        seed=setting.experiment.seed,
        epochs_spent=sum(t.epochs for t in trials) + sum(r.epochs for r in replicates),
        duration_s=sum(t.duration_s for t in trials) + sum(r.duration_s for r in replicates),
        trials=trials,
        **({} if summary is None else dict(summary.of_search)),
        data_passes=search.data_passes,
        files={run_dir.ledger.name: file_sha256(run_dir.ledger)},
    )
    write_record(run_dir.trials, results)
    return results


def recorded_trials(trials: list[FrozenTrial], summary: RungSummary | None = None) -> list[Trial]:
    """Return the records of the finished trials of a study, with ranks and replicates of a search on rungs."""
    records = [_record(trial) for trial in trials if trial.state.is_finished() or is_held(trial)]
    if summary is None:
        return records
    rank = {number: position for position, number in enumerate(summary.ranking, 1)}
    return [
        record.model_copy(
            update={"rank": rank.get(record.number), "replicates": summary.replicates.get(record.number, [])}
        )
        for record in records
    ]


def _record(trial: FrozenTrial) -> Trial:
    result = StoredResult.of(trial.user_attrs["result"])
    return Trial(
        number=trial.number,
        stage=trial.user_attrs["stage"],
        origin=trial.user_attrs["origin"],
        hyperparameters=trial.user_attrs["values"],
        history=[Epoch.model_validate(epoch) for epoch in result.history],
        **vars(result.outcome),
    )
