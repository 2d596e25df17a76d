"""Study of phase 1 in Optuna's storage, a SQLite file or a PostgreSQL server, written by a single process.

A trial is stored with all its parameters in one transaction when it starts and once when it has finished. The state
in between is in its checkpoint. A trial found running at the start is therefore resumed. Every call is
such that it may be repeated: a server that is restarted leaves open whether it carried out the last one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from scripts.config.search_space import PlainValues
from scripts.errors import EnvironmentFailed, HyperError, InputError
from scripts.storage.database import (
    FILE_STUDY_NAME,
    DatabaseUnreachable,
    Server,
    StudyLocation,
    open_file,
    open_server,
    storage_in_memory,
)
from scripts.storage.database_errors import failure_of_the_disk
from scripts.storage.durable_files import back_up, file_sha256, write_bytes
from scripts.storage.retry import LONGEST_WAIT_S, retry_until_available
from scripts.training.spec import Outcome
from scripts.tuning.stages import Proposal
from scripts.tuning.study_file import UnreadableStudy, check_study_file, side_files, unreadable
from scripts.tuning.study_records import Attribute, check_attributes, check_trials, signed, started

T = TypeVar("T")


class TrialStudy:
    """Trials in the order of their numbers.

    Parameters
    ----------
    location : Path or Server
        SQLite file, made in one step if it does not exist; or where on a server.
    attributes : mapping
        What the study was started with, such as config_hash; stored when it is made.
    notify : callable
        Takes a line for people where a server must be waited for.
    longest_wait_s : float
        Seconds that a server may be away.
    """

    def __init__(
        self,
        location: StudyLocation,
        attributes: Mapping[str, str],
        notify: Callable[[str], None] = print,
        longest_wait_s: float = LONGEST_WAIT_S,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # damaged files are reported in one line below
        self._location, self._notify, self._longest_wait_s = location, notify, longest_wait_s
        if isinstance(location, Path) and not location.exists():
            _create_file(location, attributes)
        try:
            self._open_or_refuse(location, attributes)
        except UnreadableStudy:
            if not isinstance(location, Path):
                raise
            file_sha256(location)  # a sector that cannot be read is the disk's failure; SQLite calls it damage
            self._open_or_refuse(location, attributes)

    def _open_or_refuse(self, location: StudyLocation, attributes: Mapping[str, str]) -> None:
        try:
            self._open(location, attributes)
        except DatabaseUnreachable as error:
            what = f"unreachable ({error})"
            raise EnvironmentFailed(what, str(location), "rerun the same command to resume") from None
        except (HyperError, MemoryError):
            raise
        except Exception as error:  # Optuna raises a different class for each kind of damage
            if (failed := failure_of_the_disk(error, location)) is not None:
                raise failed from error
            raise unreadable(location, str(error).splitlines()[0] if str(error) else type(error).__name__) from error

    def _open(self, location: StudyLocation, attributes: Mapping[str, str]) -> None:
        if isinstance(location, Path):
            self._retried(lambda: check_study_file(location))
            self._storage = self._retried(lambda: open_file(location))
        else:
            self._storage = _open_server(location, attributes)
        name = location.study_name if isinstance(location, Server) else FILE_STUDY_NAME
        self._study = self._retried(lambda: optuna.load_study(study_name=name, storage=self._storage))
        self._study_id = self._retried(lambda: self._storage.get_study_id_from_name(name))
        trials = self.trials()
        check_trials(trials)
        found = self.attributes
        if changed := [key for key, value in attributes.items() if found.get(key, value) != value]:
            remedy = "give the --config and flags of its first start, or add --fresh to back it up and start over"
            raise InputError(f"was started with another {', '.join(changed)}", str(location), remedy)
        self._n_trials = len(trials)

    @property
    def attributes(self) -> dict[str, Attribute]:
        """Attributes of the start of the study, and notes."""
        return check_attributes(self._retried(lambda: dict(self._study.user_attrs)))

    def unreadable(self, reason: str) -> InputError:
        """Refusal of this study."""
        return unreadable(self._location, reason)

    def trials(self) -> list[FrozenTrial]:
        """All trials in the order of their numbers."""
        return self._retried(lambda: self._study.get_trials(deepcopy=False))

    def note(self, name: str, value: str | PlainValues) -> None:
        """Store an attribute of the study in one transaction; a mapping with its digest."""
        kept = signed(name, value) if isinstance(value, dict) else value
        self._retried(lambda: self._study.set_user_attr(name, kept))

    def start(self, proposal: Proposal, stage: str, **attributes: Any) -> int:
        """Store a running trial with its parameters and attributes in one transaction; its number."""
        number, tried = self._n_trials, False
        trial = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=proposal.parameters,
            distributions=proposal.distributions,
            user_attrs=started(number, proposal, {"stage": stage, "values": proposal.values} | attributes),
        )

        def create() -> None:
            nonlocal tried
            if not tried or not self._has(number):
                tried = True
                # Through the storage, which returns the id of the new trial: the study would read all trials.
                trial_id = self._storage.create_new_trial(self._study_id, template_trial=trial)
                if self._storage.get_trial_number_from_id(trial_id) != number:
                    raise InputError(
                        "another command writes this study too", str(self._location), "end it, or use --fresh"
                    )

        self._retried(create)
        self._n_trials += 1
        return number

    def report(self, number: int, history: Sequence[Mapping[str, float | None]]) -> None:
        """Store the curve of a trial, or a part of it."""
        self._retried(lambda: self._report(self._id(number), history))

    def finish(
        self,
        number: int,
        outcome: Outcome,
        history: Sequence[Mapping[str, float | None]],
        reported: Collection[int] = (),
    ) -> None:
        """Store curve, outcome and value of a trial; doing it again after an interruption changes nothing.

        The curve's epochs in `reported` are there already.
        """
        left = [report for report in history if report["epoch"] not in reported]
        self._retried(lambda: self._finish(number, outcome, history, left))

    def close(self) -> None:
        """Close the database."""
        self._storage.remove_session()
        self._storage.engine.dispose()

    def _retried(self, call: Callable[[], T]) -> T:
        return retry_until_available(call, self._location, self._notify, self._longest_wait_s)

    def _has(self, number: int) -> bool:
        try:
            self._id(number)
        except KeyError:
            return False
        return True

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def _report(self, trial_id: int, history: Sequence[Mapping[str, float | None]]) -> None:
        for report in history:
            epoch, accuracy = report["epoch"], report["val_accuracy"]
            if epoch is not None and accuracy is not None:
                self._storage.set_trial_intermediate_value(trial_id, int(epoch), accuracy)

    def _finish(
        self,
        number: int,
        outcome: Outcome,
        history: Sequence[Mapping[str, float | None]],
        left: Sequence[Mapping[str, float | None]],
    ) -> None:
        # By the storage: the study would read the whole trial before and after.
        trial_id = self._id(number)
        value = None if outcome.state == "failed" else outcome.val_accuracy
        state = TrialState.FAIL if value is None else TrialState.COMPLETE
        try:
            self._report(trial_id, left)
            body = {"outcome": asdict(outcome), "history": list(history)}
            self._storage.set_trial_user_attr(trial_id, "result", signed(f"trial {number}", body))
            if outcome.is_of_circumstances:
                return  # stays open: a finished trial could not be trained again
            self._storage.set_trial_state_values(trial_id, state, None if value is None else [value])
        except optuna.exceptions.UpdateFinishedTrialError:
            return  # the call that was cut short did it


def _create_file(path: Path, attributes: Mapping[str, str]) -> None:
    """Make the database in memory and write it in one step: a kill while SQLite makes its tables would spoil it."""
    for orphan in side_files(path):
        back_up(orphan)  # of a deleted file: SQLite would apply it to the new one
    storage, connection = storage_in_memory()
    study = optuna.create_study(study_name=FILE_STUDY_NAME, storage=storage, direction="maximize")
    for name, value in attributes.items():
        study.set_user_attr(name, value)
    storage.remove_session()
    content = connection.serialize()
    storage.engine.dispose()
    write_bytes(path, content)


def _open_server(server: Server, attributes: Mapping[str, str]) -> RDBStorage:
    """Create the study if it does not exist; its name is unique, so an existing study was created by this run."""
    storage = open_server(server)
    study = optuna.create_study(
        study_name=server.study_name, storage=storage, direction="maximize", load_if_exists=True
    )
    for name, value in attributes.items():
        study.set_user_attr(name, value)
    return storage
