"""A start of a command that finds its run directory held: trains for whoever holds it, until that ends."""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.artifacts import read_json
from scripts.cli import Session
from scripts.config import Experiment
from scripts.data.dataset import Dataset
from scripts.errors import BudgetEnded
from scripts.execution.executor import Task, Update
from scripts.execution.processes import ProcessExecutor
from scripts.experiments import EXTENDED, FINAL, TUNING, load_first, load_later
from scripts.joining.board import HEARTBEAT_S, Board, Withdrawn, board_name, board_of
from scripts.phases import claim, load_data
from scripts.run_dir import RunDir

_POLL_S, _IDLE_S = 0.2, 0.5  # while all processes train, and while some wait for work
_LOOK_S = 1.0  # between two looks at who decides
_BEFORE = {EXTENDED: TUNING, FINAL: EXTENDED}


def join(session: Session) -> bool:
    """Train for the process that holds the run directory.

    Returns
    -------
    bool
        Whether the phase is finished; otherwise nobody holds the run directory any more, and this process may.

    Raises
    ------
    InputError
        This start has other settings or other data.
    BudgetEnded
        The time budget ended.
    """
    run_dir, script, prepared = session.run_dir, session.answer["command"], None
    session.say("another start of this command decides; this one trains for it")
    while True:
        if all(path.exists() for path in _results(run_dir, script)):
            session.say("finished by another start of this command")
            return True
        if not run_dir.is_held():
            return False
        _check_time(session)
        board = None if session.storage is None else board_of(run_dir, session.storage, script, session.say)
        if board is None:
            time.sleep(_LOOK_S)
            continue
        prepared = prepared or _same_run(session, script)
        try:
            _Worker(session, board, *prepared).work(script)
        except Withdrawn:
            continue
        finally:
            board.close()


def _results(run_dir: RunDir, script: str) -> tuple[Path, ...]:
    return {
        TUNING: (run_dir.trials,),
        EXTENDED: (run_dir.extended_results, run_dir.best_config),
        FINAL: (run_dir.final_results, run_dir.final_model),
    }[script]


def _same_run(session: Session, script: str) -> tuple[Dataset, Mapping[str, str]]:
    """Data and own model families, after a check that data and settings are those that the phase was begun with."""
    folder = {TUNING: session.run_dir.tuning, EXTENDED: session.run_dir.extended, FINAL: session.run_dir.final}[script]
    begun = read_json(folder / "plan.json", script)["experiment"]
    experiment: Experiment = load_first(session) if script == TUNING else load_later(session, begun, _BEFORE[script])
    dataset = load_data(session, experiment)
    fingerprints = {"data_fingerprint": dataset.fingerprint, "sealed_fingerprint": dataset.sealed_fingerprint}
    claim(session, folder, script, experiment, fingerprints)
    return dataset, experiment.models


def _check_time(session: Session) -> None:
    if session.deadline is not None and time.monotonic() >= session.deadline:
        raise BudgetEnded("the time budget ended; others go on", "", "the same command joins again")


class _Worker:
    """Local processes that work on what a board offers."""

    def __init__(self, session: Session, board: Board, dataset: Dataset, models: Mapping[str, str]) -> None:
        self._session, self._board, self._models = session, board, models
        self._executor = ProcessExecutor(dataset, session.workers)
        self._items: dict[str, int] = {}  # item of each unfinished run
        self._n_reports: defaultdict[int, int] = defaultdict(int)
        self._name = f"process {os.getpid()} on {socket.gethostname()}"

    def work(self, script: str) -> None:
        """Take items and report on them, until the board is withdrawn or nobody holds the run directory."""
        run_dir, looked, beaten = self._session.run_dir, time.monotonic(), time.monotonic()
        try:
            while True:
                _check_time(self._session)
                while self._executor.n_idle and (item := self._board.take(self._name)) is not None:
                    self._begin(*item)
                self._executor.wait(_IDLE_S if self._executor.n_idle else _POLL_S)
                self._report()
                now = time.monotonic()
                if now - beaten >= HEARTBEAT_S:
                    self._board.beat(set(self._items.values()))
                    beaten = now
                if now - looked >= _LOOK_S:
                    if not run_dir.is_held() or board_name(run_dir, script) != self._board.name:
                        return
                    looked = now
        finally:
            self._executor.close()
            self._board.give_back(set(self._items.values()))

    def _begin(self, number: int, tasks: list[Task]) -> None:
        own: dict[str, Any] = {"device": self._session.device, "factories": self._models}
        self._items |= {task.spec.name: number for task in tasks}
        self._executor.submit(*(Task(dataclasses.replace(t.spec, **own), t.state) for t in tasks))

    def _report(self) -> None:
        """Hand in what has arrived, item by item."""
        arrived: defaultdict[int, list[Update]] = defaultdict(list)
        while self._executor.n_ready:
            update = self._executor.next_update()
            arrived[self._items[update.name]].append(update)
            if update.outcome is not None:
                del self._items[update.name]
        for number, updates in arrived.items():
            self._n_reports[number] += 1
            self._board.report(number, self._n_reports[number], updates)
