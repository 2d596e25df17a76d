"""Best configurations of an earlier run, which may have other data and another search space."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from scripts.config.search_space import Model, Scalar
from scripts.errors import InputError
from scripts.storage.artifacts import read_json
from scripts.storage.durable_files import file_sha256
from scripts.storage.run_dir import Command, RunDir

MOST_OF_A_RUN = 5


class _Trial(Model):
    """Fields that are read of a trial of phase 1."""

    model_config = ConfigDict(extra="ignore")

    number: int
    state: str
    hyperparameters: dict[str, Scalar]
    val_accuracy: float | None
    rank: int | None = None


class _Configuration(Model):
    """Fields that are read of a configuration of phase 2."""

    model_config = ConfigDict(extra="ignore")

    trial_number: int
    avg_accuracy: float


_TRIALS, _CONFIGURATIONS = TypeAdapter(list[_Trial]), TypeAdapter(list[_Configuration])


def best_of_run(run_dir: RunDir, most: int = MOST_OF_A_RUN) -> tuple[list[tuple[int, dict[str, Scalar]]], str]:
    """Trial numbers and hyperparameters of the best distinct configurations, and the fingerprint of their data.

    Those of phase 2 come first, by their mean accuracy over the folds; then the trials of phase 1 by their rank, or by
    accuracy where the run gave no ranks. Results of phase 2 on another phase 1 do not count.

    Raises
    ------
    MissingInputError
        The directory has no finished phase 1.
    InputError
        An artifact is damaged, or no trial is usable.
    """
    body = read_json(run_dir.trials, Command.TUNING)
    trials = [t for t in _parsed(_TRIALS, body, "trials", run_dir.trials) if t.state != "failed"]
    means = _means_of_phase_2(run_dir)

    def place(trial: _Trial) -> tuple[float, ...]:
        last = float("inf")
        accuracy = -last if trial.val_accuracy is None else trial.val_accuracy
        rank = last if trial.rank is None else trial.rank
        return -means.get(trial.number, -last), rank, -accuracy, trial.number

    best: list[tuple[int, dict[str, Scalar]]] = []
    for trial in sorted(trials, key=place):
        if all(trial.hyperparameters != values for _, values in best):
            best.append((trial.number, trial.hyperparameters))
    if not best:
        raise InputError("contains no usable trial", str(run_dir.trials), "name another run")
    return best[:most], str(body.get("data_fingerprint"))


def _means_of_phase_2(run_dir: RunDir) -> dict[int, float]:
    """Mean accuracy over the folds by trial number; empty if phase 2 is not finished or was made from other trials."""
    if not run_dir.extended_results.exists():
        return {}
    body = read_json(run_dir.extended_results, Command.EXTENDED)
    if body.get("inputs") != {run_dir.trials.name: file_sha256(run_dir.trials)}:
        return {}
    found = _parsed(_CONFIGURATIONS, body, "configurations", run_dir.extended_results)
    return {c.trial_number: c.avg_accuracy for c in found}


def _parsed(adapter: TypeAdapter[Any], body: dict[str, Any], name: str, path: Any) -> list[Any]:
    try:
        parsed: list[Any] = adapter.validate_python(body.get(name))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        at = ".".join(map(str, (name, *first["loc"])))
        raise InputError(f"{at[:80]}: {first['msg']}", str(path), "name another run") from error
    return parsed
