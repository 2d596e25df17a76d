"""Work that is offered to other starts of the same command: a study of its own on the server, files beside it.

An *item*, tasks that train together, is a waiting trial of that study. Taking it is Optuna's own step from waiting to
running, which only one of many succeeds in; Optuna's heartbeats tell that whoever took it lives. The tasks and what was
reported of them lie in the shared run directory, since states of runs are too large for a database.
"""

from __future__ import annotations

import contextlib
import functools
import secrets
import shutil
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import fail_stale_trials
from optuna.trial import TrialState
from sqlalchemy import URL

from scripts.artifacts import MAX_TENSOR_BYTES, read_json, write_json
from scripts.durable_files import environment_errors, read_regular, write_bytes
from scripts.errors import EnvironmentFailed, MissingInputError
from scripts.execution.executor import Task, Update
from scripts.joining.packing import pack_tasks, pack_updates, unpack_tasks, unpack_updates
from scripts.patience import patiently
from scripts.run_dir import RunDir
from scripts.tuning.storage import DatabaseAway, Server, open_server

T = TypeVar("T")

HEARTBEAT_S = 5
_GRACE_S = 30  # without a heartbeat


class Withdrawn(Exception):
    """The item, or the whole board, is no longer there: whoever works on it may stop."""


@dataclass(frozen=True)
class Seen:
    """An item as it stands: whether somebody has it, who, and how many reports there are of it."""

    state: TrialState
    worker: str
    n_reports: int


class Board:
    """The items of one phase under one deciding process.

    Parameters
    ----------
    server : Server
        Names the study.
    folder : Path
        Of the files, on a file system that all starts share.
    tell : callable
        Takes a line for people where the server must be waited for.

    Raises
    ------
    Withdrawn
        There is no such study; also by every other call.
    EnvironmentFailed
        The server cannot be reached.
    """

    def __init__(self, server: Server, folder: Path, tell: Callable[[str], None]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.name, self._server, self._tell = server.study_name, server, tell
        self._all, self._folder = folder, folder / server.study_name
        try:
            self._backend = open_server(server, HEARTBEAT_S, _GRACE_S)
            self._study = optuna.load_study(study_name=server.study_name, storage=self._backend)
        except KeyError:
            raise Withdrawn from None
        except DatabaseAway as error:
            raise EnvironmentFailed(f"cannot be reached ({error})", str(server), "the same command goes on") from None
        self._storage, self._study_id = self._study._storage, self._study._study_id

    # --- for whoever decides ------------------------------------------------------------------------------------------

    def offer(self, tasks: Sequence[Task]) -> int:
        """Put up an item; its number."""
        token = secrets.token_hex(8)
        write_bytes(self._folder / f"{token}.tasks", pack_tasks(tasks))
        template = optuna.trial.create_trial(state=TrialState.WAITING, user_attrs={"token": token})

        def create() -> int:
            for trial in self._study.get_trials(deepcopy=False):
                if trial.user_attrs["token"] == token:
                    return trial.number  # the answer to an earlier attempt was lost
            self._storage.create_new_trial(self._study_id, template_trial=template)
            return create()

        return self._patiently(create)

    def look(self, numbers: Iterable[int]) -> dict[int, Seen]:
        """Items as they stand, after those have been ended whose worker shows no life."""
        self._patiently(lambda: _end_stale(self._study))
        trials = self._patiently(lambda: self._study.get_trials(deepcopy=False))
        found = {}
        for number in numbers:
            noted = trials[number].user_attrs
            found[number] = Seen(trials[number].state, noted.get("worker", ""), noted.get("n_reports", 0))
        return found

    def report_of(self, number: int, k: int) -> list[Update]:
        """The `k`-th report of an item, from 1.

        Raises
        ------
        EnvironmentFailed
            Its file is not there or damaged.
        """
        path = self._folder / f"{number}.{k}.updates"
        with environment_errors(path):
            content = read_regular(path, MAX_TENSOR_BYTES)
        try:
            updates = unpack_updates(content)
        except ValueError as error:
            remedy = "mend the shared file system; the same command goes on"
            raise EnvironmentFailed(str(error), str(path), remedy) from error
        path.unlink()
        return updates

    def end(self, number: int) -> None:
        """Take an item down, whether or not somebody has it."""
        self._step(number, TrialState.COMPLETE)

    def remove(self) -> None:
        """Take everything down; where the server is away, the next board does."""
        with contextlib.suppress(DatabaseAway):
            with contextlib.suppress(KeyError):  # gone already
                self._backend.delete_study(self._study_id)
            shutil.rmtree(self._all, ignore_errors=True)
        self.close()

    # --- for whoever works --------------------------------------------------------------------------------------------

    def take(self, worker: str) -> tuple[int, list[Task]] | None:
        """A waiting item that is this worker's from now on, if there is one."""
        for trial in self._patiently(lambda: self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))):
            if self.take_this(trial.number):
                self.beat([trial.number])
                self._note(trial.number, "worker", worker)
                return trial.number, self._tasks(trial.user_attrs["token"])
        return None

    def take_this(self, number: int) -> bool:
        """Whether the item was still to be had, and is now this process's."""
        return self._step(number, TrialState.RUNNING)

    def beat(self, numbers: Iterable[int]) -> None:
        """Show life for items."""
        for number in numbers:
            self._patiently(functools.partial(self._backend.record_heartbeat, self._id(number)))

    def report(self, number: int, k: int, updates: Sequence[Update]) -> None:
        """Hand in the `k`-th report of an item, from 1."""
        write_bytes(self._folder / f"{number}.{k}.updates", pack_updates(updates))
        self._note(number, "n_reports", k)

    def give_back(self, numbers: Iterable[int]) -> None:
        """End items unfinished, so that they are offered to others at once; in vain where the server is away."""
        try:
            for number in numbers:
                trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
                self._storage.set_trial_state_values(trial_id, TrialState.FAIL)
        except (DatabaseAway, KeyError, UpdateFinishedTrialError):
            return  # they are missed soon

    def close(self) -> None:
        """Close the connections."""
        self._backend.remove_session()
        self._backend.engine.dispose()

    def _tasks(self, token: str) -> list[Task]:
        path = self._folder / f"{token}.tasks"
        try:
            with environment_errors(path):
                return unpack_tasks(read_regular(path, MAX_TENSOR_BYTES))
        except EnvironmentFailed:
            if not path.exists():
                raise Withdrawn from None
            raise
        except ValueError as error:
            raise EnvironmentFailed(str(error), str(path), "mend the shared file system") from error

    def _id(self, number: int) -> int:
        return self._patiently(lambda: self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number))

    def _note(self, number: int, name: str, value: str | int) -> None:
        trial_id = self._id(number)
        self._patiently(lambda: self._storage.set_trial_user_attr(trial_id, name, value))

    def _step(self, number: int, state: TrialState) -> bool:
        """Change the state of an item; False where it has ended or, for RUNNING, where it is taken."""
        try:
            trial_id = self._id(number)
            return self._patiently(lambda: self._storage.set_trial_state_values(trial_id, state))
        except Withdrawn:
            return False

    def _patiently(self, call: Callable[[], T]) -> T:
        try:
            return patiently(call, self._server, self._tell)
        except (KeyError, UpdateFinishedTrialError):
            raise Withdrawn from None


def _end_stale(study: optuna.Study) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        fail_stale_trials(study)


def new_board(run_dir: RunDir, url: URL, phase: str, tell: Callable[[str], None]) -> Board:
    """A board in the place of the one that a process left which decided before, if any.

    Raises
    ------
    EnvironmentFailed
        The server cannot be reached.
    """
    if (left := board_of(run_dir, url, None, tell)) is not None:
        left.remove()
    server = Server(f"hyper-work-{secrets.token_hex(8)}", url)
    try:
        storage = open_server(server)
    except DatabaseAway as error:
        raise EnvironmentFailed(f"cannot be reached ({error})", str(server), "the same command goes on") from None
    make = lambda: optuna.create_study(study_name=server.study_name, storage=storage, load_if_exists=True)  # noqa: E731
    patiently(make, server, tell)
    storage.remove_session()
    storage.engine.dispose()
    board = Board(server, run_dir.joining, tell)
    write_json(run_dir.joining / "board.json", {"study_name": server.study_name, "phase": phase})
    return board


def board_of(run_dir: RunDir, url: URL, phase: str | None, tell: Callable[[str], None]) -> Board | None:
    """The board that is up, of any phase if `phase` is None; None if there is none."""
    name = board_name(run_dir, phase)
    try:
        return None if name is None else Board(Server(name, url), run_dir.joining, tell)
    except Withdrawn:
        return None


def board_name(run_dir: RunDir, phase: str | None) -> str | None:
    """Name of the study of the board that is up.

    Raises
    ------
    InputError
        Its file is damaged, or the name, which is also that of a folder, is not a plain one.
    """
    try:
        body = read_json(run_dir.joining / "board.json", "the deciding process")
    except MissingInputError:
        return None
    return str(body["study_name"]) if phase in (None, body["phase"]) else None
