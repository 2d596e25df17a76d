"""What both ways of searching are given, and what they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scripts.config import Experiment
from scripts.data.dataset import Dataset, Split
from scripts.errors import EnvironmentFailed
from scripts.search_space import Hyperparameters, SearchSpace, Values
from scripts.training.spec import Outcome, RunSpec
from scripts.tuning.first_trials import FirstTrial


@dataclass(frozen=True)
class Setting:
    """What does not change during the search."""

    experiment: Experiment
    dataset: Dataset
    space: SearchSpace
    device: str
    max_trial_time_s: float | None
    first: tuple[FirstTrial, ...] = ()

    def spec(self, name: str, address: tuple[str | int, ...], values: Values, split: Split, epochs: int) -> RunSpec:
        """A run of phase 1: a configuration on a split, for up to so many epochs."""
        config = self.experiment.tuning
        train, validation = split
        return RunSpec(
            name=name,
            address=address,
            hyperparameters=Hyperparameters.model_validate(values),
            train_rows=train,
            validation_rows=validation,
            epochs=epochs,
            patience=config.early_stopping_patience,
            min_delta=config.early_stopping_min_delta,
            monitor=config.monitor,
            trading=self.experiment.data.trading,
            factories=self.experiment.models,
            device=self.device,
            max_duration_s=self.max_trial_time_s,
        )


def run_name(number: int, split: int = 0) -> str:
    """Name of a trial's run on a split."""
    return f"trial_{number:04d}" if split == 0 else f"trial_{number:04d}_split_{split}"


def check_failures(what: str, outcomes: Sequence[Outcome]) -> None:
    """Raise EnvironmentFailed when workers die again and again: that is the machine, not the configurations."""
    killed = [outcome for outcome in outcomes if outcome.is_environment]
    if len(outcomes) >= 4 and len(killed) > len(outcomes) / 2:
        raise EnvironmentFailed(
            f"{len(killed)} of {len(outcomes)} {what} trials were killed or ran out of memory",
            "workers",
            "use fewer --workers",
        )
