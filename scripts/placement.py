"""Which device trains a phase where none was named: the one that a short measurement shows to be faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from scripts.artifacts import read_json
from scripts.cli import Session
from scripts.config import Experiment
from scripts.data.dataset import Dataset
from scripts.durations import measure_epochs, one_of_each_family
from scripts.search_space import Values


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
    """
    arguments = session.arguments
    if arguments.device != "auto" or arguments.execution == "ray" or not torch.cuda.is_available():
        return
    begun = read_json(plan, session.answer["command"]).get("device") if plan.exists() and not arguments.fresh else None
    if begun is not None:
        arguments.device = begun
        return
    chosen, n_gpus = one_of_each_family(configurations()), torch.cuda.device_count()
    side_by_side = {"cpu": min(session.workers, most_runs), "cuda": min(n_gpus, most_runs)}
    measured = {device: measure_epochs(chosen, dataset, experiment, device) for device in side_by_side}
    arguments.device = min(measured, key=lambda device: measured[device].mean_s / side_by_side[device])
    n_rows = len(dataset.rows)
    told = (f"{workers} x {device}: {measured[device].in_words(n_rows)}" for device, workers in side_by_side.items())
    session.say(f"trains on {arguments.device}, which is faster here (an epoch on {'; on '.join(told)})")
