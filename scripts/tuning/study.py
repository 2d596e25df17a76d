"""The study of phase 1 in Optuna's SQLite storage: made whole or not at all, written by one process alone.

A trial is stored with all its parameters in one transaction when it starts and told once when it has finished; what
happens in between lives in its checkpoint. A trial found running at start is therefore simply carried on.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from scripts.artifacts import replace_file
from scripts.errors import InputError
from scripts.training.spec import Outcome
from scripts.tuning.stages import Proposal

STUDY_NAME = "hyper"


class TrialStudy:
    """Trials in the order of their numbers.

    Parameters
    ----------
    path : Path
        SQLite file; made under a temporary name first if it does not exist.
    attributes : mapping
        What the study was started with, such as config_hash; stored when it is made.
    """

    def __init__(self, path: Path, attributes: Mapping[str, Any]) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        if not path.exists():
            _create(path, attributes)
        try:
            self._storage = _open(path)
            self._study = optuna.load_study(study_name=STUDY_NAME, storage=self._storage)
            self._study_id = self._storage.get_study_id_from_name(STUDY_NAME)
        except (SQLAlchemyError, KeyError, optuna.exceptions.OptunaError) as error:
            raise InputError(
                f"is no readable study: {type(error).__name__}",
                str(path),
                "start anew with --fresh, which keeps it aside",
            ) from error

    @property
    def attributes(self) -> dict[str, Any]:
        """What the study was started with."""
        return dict(self._study.user_attrs)

    def trials(self) -> list[FrozenTrial]:
        """All trials in the order of their numbers."""
        return self._study.get_trials(deepcopy=False)

    def note(self, name: str, value: Any) -> None:
        """Store an attribute of the study in one transaction."""
        self._study.set_user_attr(name, value)

    def start(self, proposal: Proposal, stage: str, **attributes: Any) -> int:
        """Store a running trial with its parameters and attributes in one transaction; its number."""
        trial = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            params=proposal.parameters,
            distributions=proposal.distributions,
            user_attrs={"stage": stage, "values": proposal.values} | attributes,
        )
        # By the storage, which tells the new trial from its identity: the study would read all trials for its number.
        trial_id = self._storage.create_new_trial(self._study_id, template_trial=trial)
        return self._storage.get_trial_number_from_id(trial_id)

    def finish(self, number: int, outcome: Outcome, history: Sequence[Mapping[str, Any]]) -> None:
        """Store curve, outcome and value of a trial; doing it again after an interruption changes nothing."""
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        for report in history:
            if report["val_accuracy"] is not None:
                self._storage.set_trial_intermediate_value(trial_id, report["epoch"], report["val_accuracy"])
        self._storage.set_trial_user_attr(trial_id, "outcome", asdict(outcome))
        self._storage.set_trial_user_attr(trial_id, "history", list(history))
        if outcome.state == "failed":
            self._study.tell(number, state=TrialState.FAIL)
        else:
            self._study.tell(number, outcome.val_accuracy)

    def importance(self, seed: int) -> dict[str, float]:
        """Share of the differences in accuracy that each hyperparameter explains (fANOVA, Hutter et al. 2014).

        Empty where there are too few trials, or no differences.
        """
        values = [t.value for t in self.trials() if t.state == TrialState.COMPLETE]
        if len(values) < 4 or len(set(values)) == 1:
            return {}
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed % 2**32)
        return dict(optuna.importance.get_param_importances(self._study, evaluator=evaluator))

    def close(self) -> None:
        """Close the database."""
        self._storage.remove_session()
        self._storage.engine.dispose()


def _open(path: Path) -> RDBStorage:
    # A creator and no URL: in a URL, a `?`, `%` or `{` of the path would silently name another file.
    connect = functools.partial(sqlite3.connect, path, timeout=60.0, check_same_thread=False)
    return RDBStorage("sqlite://", engine_kwargs={"creator": connect, "poolclass": QueuePool})


def _create(path: Path, attributes: Mapping[str, Any]) -> None:
    """Build the whole database under another name: a kill while SQLite makes its tables would spoil it for ever."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    storage = _open(new)
    study = optuna.create_study(study_name=STUDY_NAME, storage=storage, direction="maximize")
    for name, value in attributes.items():
        study.set_user_attr(name, value)
    storage.remove_session()
    storage.engine.dispose()
    replace_file(new, path)
