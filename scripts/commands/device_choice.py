"""Which device trains a phase where none was named: the one that a short measurement shows to be faster."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from scripts.commands.executors import device as device_of
from scripts.commands.session import Session
from scripts.commands.time_estimates import measure_epochs, one_of_each_family
from scripts.config.experiment import Experiment
from scripts.config.search_space import Values
from scripts.data.dataset import Dataset
from scripts.storage.artifacts import read_json


def choose_device(
    session: Session,
    experiment: Experiment,
    dataset: Dataset,
    plan: Path,
    configurations: Callable[[], Sequence[Values]],
    most_runs: int,
) -> None:
    """Replace `--device auto` by a device, if there is a choice.

    A phase that was begun stays where it began, since other devices round differently.

    Parameters
    ----------
    session : Session
        Its arguments are changed.
    experiment : Experiment
    dataset : Dataset
    plan : Path
        What the phase was begun with, if it was.
    configurations : callable
        Hyperparameters like those that will be trained, the most likely first.
    most_runs : int
        Most trainings side by side.

    Raises
    ------
    InputError
        A device was named that is not there.
    """
    arguments = session.arguments
    device_of(session, experiment)  # refuses one that is not there, before anything is done
    if arguments.device != "auto" or arguments.execution == "ray" or not torch.cuda.is_available():
        return
    begun = read_json(plan, session.answer["command"]).get("device") if plan.exists() and not arguments.fresh else None
    if begun is not None:
        arguments.device = begun
        return
    n_gpus = torch.cuda.device_count()
    side_by_side = {"cpu": min(session.workers, most_runs), "cuda": min(n_gpus, most_runs)}
    arguments.device, why = fastest(experiment, dataset, configurations(), side_by_side)
    session.say(f"trains on {arguments.device}, which is faster here: {why}")


def fastest(
    experiment: Experiment, dataset: Dataset, configurations: Sequence[Values], side_by_side: Mapping[str, int]
) -> tuple[str, str]:
    """The device that trains most epochs in a time, and in words what an epoch takes on each.

    Parameters
    ----------
    experiment : Experiment
    dataset : Dataset
    configurations : sequence of mappings
        The first of each family is measured.
    side_by_side : mapping of str to int
        By device the trainings that it carries on at once.
    """
    chosen = one_of_each_family(configurations)
    measured = {device: measure_epochs(chosen, dataset, experiment, device) for device in side_by_side}
    best = min(measured, key=lambda device: measured[device].mean_s / side_by_side[device])
    told = (
        f"{n} at once on {device}, {measured[device].in_words(len(dataset.rows))}" for device, n in side_by_side.items()
    )
    return best, f"an epoch with {'; with '.join(told)}"
