"""Context of a search: experiment, data set, search space, device and initial trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from scripts.config.experiment import Experiment
from scripts.config.search_space import Hyperparameters, SearchSpace, Values
from scripts.data.dataset import Dataset, Split
from scripts.errors import MORE_MEMORY, EnvironmentFailed
from scripts.training.spec import Outcome, RunSpec
from scripts.tuning.initial_trials import FirstTrial
from scripts.tuning.stages import draw
from scripts.tuning.study import TrialStudy


@dataclass(frozen=True)
class SearchContext:
    """Constants of a search."""

    experiment: Experiment
    dataset: Dataset
    space: SearchSpace
    device: str
    max_trial_time_s: float | None
    first: tuple[FirstTrial, ...] = ()

    def spec(self, name: str, random_key: tuple[str | int, ...], values: Values, split: Split, epochs: int) -> RunSpec:
        """A run of phase 1: a configuration on a split, for up to so many epochs."""
        experiment, limit = self.experiment, self.max_trial_time_s
        run = (name, random_key, values, split, epochs, self.device)
        return RunSpec.of(experiment, experiment.tuning, *run, max_duration_s=limit)


def run_name(number: int, split: int = 0) -> str:
    """Name of a trial's run on a split."""
    return f"trial_{number:04d}" if split == 0 else f"trial_{number:04d}_split_{split}"


def check_starts(setting: SearchContext, study: TrialStudy) -> None:
    """Raise InputError if a stored trial could not have been started by this search.

    A random trial is drawn again; of every other one the values must at least be a configuration of the space.
    """
    for trial in study.trials():
        values, number = trial.user_attrs["values"], trial.number
        try:
            Hyperparameters.model_validate(values)
        except ValidationError:
            raise study.unreadable(f"trial {number} has hyperparameters that no model has") from None
        if unknown := [name for name in values if name not in setting.space]:
            raise study.unreadable(f"trial {number} has {unknown[0]!a}, which is not searched")
        if number < len(setting.first):
            expected: Values = setting.first[number].values
        elif trial.user_attrs["stage"] == "random":
            expected = draw(setting.space, setting.experiment.seed, number)
        else:
            continue
        if values != expected:
            raise study.unreadable(f"trial {number} has other hyperparameters than this search starts it with")


def check_failures(what: str, outcomes: Sequence[Outcome]) -> None:
    """Raise EnvironmentFailed when workers die again and again: that is the machine, not the configurations."""
    killed = [outcome for outcome in outcomes if outcome.is_environment]
    if len(outcomes) >= 4 and len(killed) > len(outcomes) / 2:
        raise EnvironmentFailed(
            f"{len(killed)} of {len(outcomes)} {what} trials were killed or ran out of memory",
            "workers",
            MORE_MEMORY,
        )
