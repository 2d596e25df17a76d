"""Engine by explicit backward passes, for populations of models that read single rows.

A single run is a population of one, and every operation treats each slot separately in the same way. So on the CPU
the result of a run is bitwise independent of its population. This requires products of equal size on equally aligned
memory, elementwise work on whole vectors, sums by slot, and random numbers of each run's own. Batches are therefore
filled up to a multiple of `_ROWS`, with rows of weight 0. On a GPU it is true up to rounding.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from scripts.random_keys import torch_generator
from scripts.training.engines.cuda_graphs import CudaGraphStep, Step
from scripts.training.engines.explicit_backward import ExplicitBackward
from scripts.training.engines.flat_parameters import FlatParameters
from scripts.training.inputs import take
from scripts.training.models.layers import dropout_layers
from scripts.training.models.mlp import MLP
from scripts.training.models.resnet import ResNet
from scripts.training.models.tabm import TabM
from scripts.training.optimisation import average_weight, loss_factors

if TYPE_CHECKING:
    from scripts.training.run import TrainingRun

# Batches are filled up to a multiple of this, which with any width gives whole vectors and the alignment that matrix
# products need for equal bits. Without it 8% of 3,000 shapes differed (docs/log.md, 2026-11-24, "Same bits").
_ROWS = 32
# Of a run, gathered at a time: few calls, and on the CPU still in the cache when they are used.
_BLOCK_ROWS = {"cpu": 4096, "cuda": 16_384}
_PRODUCTS = {"bfloat16": torch.bfloat16}  # else float32


class ExplicitEngine:
    """Trains runs together, each of which keeps its own data, randomness, settings and number of steps.

    Parameters
    ----------
    runs : sequence of TrainingRun
        Whose `shape` is the same. Neighbours share more steps if those with more rows come first.
    """

    def __init__(self, runs: Sequence[TrainingRun]) -> None:
        self.runs = list(runs)
        hp = runs[0].spec.hyperparameters
        self._flat = FlatParameters(
            [run.parameters for run in runs],
            [run.optimiser for run in runs],
            [run.average for run in runs],
            [run.spec.hyperparameters.gradient_clip for run in runs],
            _PRODUCTS.get(hp.precision, torch.float32),
        )
        self._full = _filled(hp.batch_size)
        self._programs: dict[tuple[int, int], ExplicitBackward] = {}  # by the first and last of the runs that step
        self._steps: dict[tuple[int, int], Step] = {}

    @staticmethod
    def shape(run: TrainingRun) -> tuple[object, ...] | None:
        """Properties that runs must share to train together; None for a run that this engine cannot train."""
        hp = run.spec.hyperparameters
        # A subclass may compute something else in `forward`, so the type must be exactly one of these.
        if run.in_parts or type(run.model) not in (MLP, ResNet, TabM):
            return None
        shapes = (p.shape for p in run.parameters)
        return type(run.model), run.device, hp.precision, hp.activation, hp.batch_size, *shapes

    # Inference mode and settings bound once save 16% of an MLP epoch (docs/log.md, 2026-11-24, "Views, kernels").
    @torch.inference_mode()
    def epoch(self) -> list[float]:
        """Train an epoch; for each run the mean loss of its steps.

        Raises
        ------
        OutOfTime
            A run has used its allowed seconds.
        """
        start = time.perf_counter()
        slots = [_Slot(run) for run in self.runs]
        for program in self._programs.values():
            program.redraw()
        losses = list[tuple[slice, torch.Tensor]]()
        settings = _settings(slots)
        block_steps = max(1, _BLOCK_ROWS[settings.device.type] // self._full)
        for step in range(max(len(slot.sizes) for slot in slots)):
            row = step % block_steps * self._full
            if row == 0:
                block = _gathered(slots, step, block_steps)
            for group, size in _groups(slots, step):
                if len(self.runs) == 1:  # no other has a time limit
                    self.runs[0].check_time(start)
                inputs, factors = (part[group, row : row + size] for part in block)
                masks = self._program(group).masks(step, size)
                losses.append((group, self._step(group, size)(inputs, factors, settings[step, :, group], *masks)))
        # One copy to the CPU: each would wait for all that a GPU has still to do.
        values = torch.cat([values for _, values in losses]).tolist()
        for slot, value in zip(itertools.chain(*(slots[group] for group, _ in losses)), values, strict=True):
            slot.losses.append(value)
        return [slot.mean_loss() for slot in slots]

    def _program(self, group: slice) -> ExplicitBackward:
        if (group.start, group.stop) not in self._programs:
            models = [cast(MLP | ResNet | TabM, run.model) for run in self.runs[group]]
            self._programs[group.start, group.stop] = ExplicitBackward(models, self._flat.stacked(group))
        return self._programs[group.start, group.stop]

    def _step(self, group: slice, size: int) -> Step:
        """A step of some runs; those of whole batches are worth recording, where that can be done."""
        step = partial(_take_step, self._program(group), self._flat, group)
        if size != self._full or self._flat.values.device.type != "cuda":
            return step
        return self._steps.setdefault((group.start, group.stop), CudaGraphStep(step))


def _take_step(
    program: ExplicitBackward,
    flat: FlatParameters,
    group: slice,
    inputs: torch.Tensor,
    factors: torch.Tensor,
    settings: torch.Tensor,
    *masks: torch.Tensor,
) -> torch.Tensor:
    """Losses of the models in a step."""
    losses = program.losses(inputs, factors, masks)
    flat.step(group, settings)
    return losses


class _Slot:
    """Batches of an epoch of one run, each filled up with rows that count nothing; all but the last are full."""

    def __init__(self, run: TrainingRun) -> None:
        hp, epoch = run.spec.hyperparameters, run.epoch + 1
        generator = torch_generator(*run.spec.random_key, epoch, "dropout", device=run.device)
        for layer in dropout_layers(run.model):
            layer.redraw(generator)
        self.inputs, self.losses = run.inputs, list[float]()
        steps = range(run.epoch * len(run.bounds), epoch * len(run.bounds))
        self.rates = [run.learning_rate(step) for step in steps]
        self.average_weights = [average_weight(run.spec.ema_decay, step) if run.average else 0.0 for step in steps]
        self.counts = [b - a for a, b in run.bounds]
        self.sizes = [_filled(count) for count in self.counts]
        self.starts = [0, *itertools.accumulate(self.sizes)]
        self.table = loss_factors(run.n_classes, run.class_weights, hp.label_smoothing, run.device)
        self._place(run, run.order(epoch).to(run.device))

    def _place(self, run: TrainingRun, order: torch.Tensor) -> None:
        device = run.device
        counts, starts, firsts = torch.tensor(
            [self.counts, self.starts[:-1], [first for first, _ in run.bounds]], device=device
        )
        step = torch.arange(len(counts), device=device).repeat_interleave(counts, output_size=len(order))
        place = torch.arange(len(order), device=device) + (starts - firsts)[step]
        rows_of_steps = order.new_zeros(self.starts[-1]).index_copy_(0, place, order)
        self._rows, self._targets = run.train_rows[rows_of_steps], run.targets[rows_of_steps]
        # Losses are means by weight, as in PyTorch: weighted classes count by the sum of their weights in the batch.
        masses = counts.float()
        if run.class_weights is not None:
            masses = torch.zeros_like(masses).index_add_(0, step, run.class_weights[run.targets[order]])
        weights = masses.new_ones(len(order)) if run.sample_weights is None else run.sample_weights[order]
        self._scale = masses.new_zeros(self.starts[-1]).index_copy_(0, place, weights / masses[step])

    def fill(self, first: int, n_steps: int, inputs: torch.Tensor, factors: torch.Tensor) -> None:
        """Write some batches to the first rows of `inputs` and `factors` (see `ExplicitBackward.losses`)."""
        rows_of_steps = self.rows_of_steps(first, n_steps)
        n = rows_of_steps.stop - rows_of_steps.start
        take(self.inputs, self._rows[rows_of_steps], inputs[:n])
        torch.index_select(self.table, 0, self._targets[rows_of_steps], out=factors[:n])
        factors[:n] *= self._scale[rows_of_steps, None]

    def rows_of_steps(self, first: int, n_steps: int) -> slice:
        """Places of some batches among those of the epoch."""
        last = len(self.sizes)
        return slice(self.starts[min(first, last)], self.starts[min(first + n_steps, last)])

    def mean_loss(self) -> float:
        """Mean of the steps' losses, by their rows."""
        return sum(loss * n for loss, n in zip(self.losses, self.counts, strict=True)) / sum(self.counts)


def _settings(slots: Sequence[_Slot]) -> torch.Tensor:
    """Learning rates, and weights in the averages, shape (steps, 2, slots); zeros after a slot's last step."""
    settings = np.zeros((max(len(slot.rates) for slot in slots), 2, len(slots)))
    for k, slot in enumerate(slots):
        settings[: len(slot.rates), 0, k], settings[: len(slot.rates), 1, k] = slot.rates, slot.average_weights
    return torch.from_numpy(settings).to(slots[0].table.device)


def _filled(count: int) -> int:
    return -(-count // _ROWS) * _ROWS


def _gathered(slots: Sequence[_Slot], first: int, n_steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and factors of some steps, shapes (slots, rows, n_features) and (slots, rows, n_classes)."""
    rows_of_steps = [slot.rows_of_steps(first, n_steps) for slot in slots]
    shape = len(slots), max(s.stop - s.start for s in rows_of_steps)
    like = slots[0].table
    inputs, factors = (like.new_empty(*shape, part.shape[1]) for part in (slots[0].inputs, like))
    for slot, *places in zip(slots, inputs, factors, strict=True):
        slot.fill(first, n_steps, *places)
    return inputs, factors


def _groups(slots: Sequence[_Slot], step: int) -> Iterator[tuple[slice, int]]:
    """Neighbours whose batches at a step have the same rows, and how many."""
    sizes = [slot.sizes[step] if step < len(slot.sizes) else 0 for slot in slots]
    start = 0
    for size, same in itertools.groupby(sizes):
        stop = start + len(list(same))
        if size:
            yield slice(start, stop), size
        start = stop
