"""Check free disk space before a phase starts."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from scripts.config.search_space import Choices, FloatRange, Hyperparameters, IntRange, Scalar, SearchSpace
from scripts.data.dataset import Dataset
from scripts.data.preprocessing import Preprocessor
from scripts.errors import EnvironmentFailed
from scripts.training.models.registry import ROW_FAMILIES, WINDOW_FAMILIES, build_model

_RUNNING = 5  # weights, their average and best, two moments of the optimiser: copies in the checkpoint of a running run
_GENERATIONS = 3  # of a running run: two, and the next one while it is written
_FINISHED = 3  # copies of the weights of a finished run: two in its checkpoint, one in the final model
_FIXED = 64 * 2**10  # bytes of a checkpoint besides its numbers: names, sizes, alignment
_PER_EPOCH = 4 * 2**10  # bytes of learning curves in checkpoint, study and artifact, and of TensorBoard's events
_PER_PHASE = 4 * 2**20  # bytes of database, configuration and results


@dataclass(frozen=True)
class Workload:
    """Upper bound of the trainings and files of a phase.

    Attributes
    ----------
    n_runs, n_workers, epochs : int
        Runs altogether, at a time, and epochs of all runs together.
    n_parameters : int
        Of the largest model.
    n_validated : int
        Most rows that a run is validated on.
    n_table_rows : int
        Rows of the table by date or by row that the phase leaves.
    """

    n_runs: int
    n_workers: int
    epochs: int
    n_parameters: int
    n_validated: int
    n_table_rows: int
    n_classes: int

    @classmethod
    def of(
        cls,
        space: SearchSpace,
        dataset: Dataset,
        n_runs: int,
        n_workers: int,
        epochs: int,
        n_validated: int,
        n_table_rows: int,
    ) -> Workload:
        """Workload with the largest model of a search space."""
        n_parameters = largest_model(space, dataset)
        return cls(n_runs, n_workers, epochs, n_parameters, n_validated, n_table_rows, dataset.n_classes)

    @property
    def bytes_on_disk(self) -> int:
        """Upper bound of what the phase needs, with 4 bytes a number in checkpoints and 8 in tables."""
        weights, logits = 4 * self.n_parameters, 4 * self.n_validated * self.n_classes
        finished = self.n_runs * (_FINISHED * weights + logits + _FIXED)
        running = min(self.n_workers, self.n_runs) * _GENERATIONS * (_RUNNING * weights + logits + _FIXED)
        tables = 8 * self.n_table_rows * (8 + self.n_classes)
        return finished + running + tables + self.epochs * _PER_EPOCH + _PER_PHASE


def check_room(folder: Path, workload: Workload) -> None:
    """Raise EnvironmentFailed if the disk has no room for what is left to do of a phase.

    Parameters
    ----------
    folder : Path
        Folder of the phase; existing files need no further space.
    """
    # The bound includes the files of an interrupted start, which need no further space.
    there = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    needed, free = max(0, workload.bytes_on_disk - there), shutil.disk_usage(folder).free
    if needed > free:
        raise EnvironmentFailed(
            f"the disk is too small: this phase needs up to {needed / 2**20:.1f} MB, {free / 2**20:.1f} MB are free",
            str(folder),
            "free space or choose another --run-dir, then rerun the same command to resume",
        )


def largest_model(space: SearchSpace, dataset: Dataset) -> int:
    """Number of parameters of the largest built-in model of a search space.

    A user's own family is not built here, since that may take long: it counts as the largest multilayer perceptron.
    """
    n_inputs = Preprocessor.count_outputs(dataset.x, dataset.categorical, dataset.rows)
    family = space.get("family", "mlp")
    names = family.choices if isinstance(family, Choices) else (family,)
    built_in = ROW_FAMILIES | WINDOW_FAMILIES
    sizes = []
    for name in {str(n) if n in built_in else "mlp" for n in names}:
        values = {key: _largest(dimension) for key, dimension in space.items()} | {"family": name}
        with torch.device("meta"):  # counts without memory
            model = build_model(Hyperparameters.model_validate(values), n_inputs, dataset.n_classes, {})
        sizes.append(sum(parameter.numel() for parameter in model.parameters()))
    return max(sizes)


def _largest(dimension: object) -> Scalar:
    if isinstance(dimension, Choices):
        numbers = [c for c in dimension.choices if isinstance(c, int | float)]
        return max(numbers) if len(numbers) == len(dimension.choices) else dimension.choices[0]
    if isinstance(dimension, IntRange | FloatRange):
        return dimension.high
    if isinstance(dimension, bool | int | float | str):
        return dimension
    raise TypeError(type(dimension))
