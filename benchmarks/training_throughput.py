"""Milliseconds of a training epoch: Hyper's run beside a plain PyTorch loop with a DataLoader, in turns, on one thread.

MLP 40-128-128-3 with dropout 0.1, batch 256, 60,000 rows and 12,000 validation rows, AdamW. Contenders take turns
epoch by epoch, so that a change in the machine's speed meets all of them; the validation accuracy at the end shows
that none is fast by not working.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.common import Result, arguments, show, summarised
from scripts.data.dataset import Dataset
from scripts.search_space import Hyperparameters
from scripts.training.run import TrainingRun
from scripts.training.spec import RunSpec

ROWS, VALIDATION, FEATURES, CLASSES, BATCH, RATE = 60_000, 12_000, 40, 3, 256, 1e-3


class Contender(Protocol):
    """Something that trains one epoch at a time."""

    def epoch(self) -> None:
        """Train and validate one epoch."""

    def accuracy(self) -> float:
        """Validation accuracy now."""


class HyperRun:
    """The training run of all three phases."""

    def __init__(self, data: Dataset, epochs: int, family: str, device: str) -> None:
        hyperparameters = Hyperparameters(
            family=family, width=128, depth=2, dropout=0.1, batch_size=BATCH, learning_rate=RATE, gradient_clip=0.0
        )
        rows = np.arange(ROWS + VALIDATION)
        spec = RunSpec("run", (0,), hyperparameters, rows[:ROWS], rows[ROWS:], epochs + 1, device=device)
        self.run = TrainingRun(spec, data)

    def epoch(self) -> None:
        """One epoch with validation."""
        self.run.advance()

    def accuracy(self) -> float:
        """Of the last epoch."""
        return float(self.run.history[-1].val_accuracy or 0.0)


class PlainLoop:
    """What a tutorial writes: TensorDataset, DataLoader, model, AdamW."""

    def __init__(self, data: Dataset, family: str, device: str) -> None:
        x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
        mean, scale = x[:ROWS].mean(0), x[:ROWS].std(0)
        x = (x - mean) / scale
        self.device = device
        self.train = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(x[:ROWS], y[:ROWS]), batch_size=BATCH, shuffle=True
        )
        self.validation = torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(x[ROWS:], y[ROWS:]), batch_size=1024
        )
        torch.manual_seed(0)
        self.model = nn.Sequential(
            nn.Linear(FEATURES, 128),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(128, 128),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(128, CLASSES),
        ).to(device)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), RATE, weight_decay=1e-2)
        self.loss = nn.CrossEntropyLoss()
        self.hits = 0

    def epoch(self) -> None:
        """One epoch with validation."""
        self.model.train()
        for x, y in self.train:
            self.optimiser.zero_grad()
            self.loss(self.model(x.to(self.device)), y.to(self.device)).backward()
            self.optimiser.step()
        self.model.eval()
        self.hits = 0
        with torch.no_grad():
            for x, y in self.validation:
                self.hits += int((self.model(x.to(self.device)).argmax(1).cpu() == y).sum())

    def accuracy(self) -> float:
        """Of the last epoch."""
        return self.hits / VALIDATION


def make_data() -> Dataset:
    """Three classes from a random two-layer network with noise."""
    generator = np.random.default_rng(0)
    n = ROWS + VALIDATION
    x = generator.standard_normal((n, FEATURES)).astype(np.float32)
    hidden = np.maximum(x @ generator.standard_normal((FEATURES, 32)) / np.sqrt(FEATURES), 0)
    y = (hidden @ generator.standard_normal((32, CLASSES)) + 0.3 * generator.standard_normal((n, CLASSES))).argmax(1)
    row = np.arange(n)
    return Dataset(
        x=x,
        feature_names=tuple(f"f{k}" for k in range(FEATURES)),
        categorical=np.zeros(FEATURES, dtype=bool),
        vocabularies={},
        y=y,
        classes=("a", "b", "c"),
        date=row,
        dates=None,
        ticker=np.zeros(n, dtype=np.int64),
        tickers=("all",),
        feature_start=row,
        label_end=row,
        forward_return=np.full(n, np.nan),
        class_positions=None,
        naive={},
        rows=row,
        horizon=1,
        embargo=0,
        groups=False,
        ordered=True,
        fingerprint="",
        sealed_fingerprint="",
    )


def main() -> None:
    """Measure and print."""
    given = arguments(__doc__, models="mlp", device="cpu", epochs=9)
    torch.set_num_threads(1)
    data, results = make_data(), list[Result]()
    for family in given.models.split(","):
        contenders: dict[str, Contender] = {
            f"{family} plain loop": PlainLoop(data, family, given.device),
            f"{family} hyper": HyperRun(data, given.epochs, family, given.device),
        }
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for epoch in range(given.epochs + 1):
            for name, contender in contenders.items():
                start = time.process_time() if given.device == "cpu" else time.perf_counter()
                contender.epoch()
                end = time.process_time() if given.device == "cpu" else time.perf_counter()
                if epoch:  # the first epoch warms up
                    times[name].append((end - start) * 1e3)
        reference = times[f"{family} plain loop"]
        for name, contender in contenders.items():
            ratios = [a / b for a, b in zip(reference, times[name], strict=True)]
            results.append(summarised(name, "ms per epoch", times[name]))
            results.append(summarised(name, "times the plain loop", ratios))
            results.append(Result(name, "validation accuracy", contender.accuracy(), None, 1))
    show(
        "Training throughput, CPU time on one thread" if given.device == "cpu" else "Training throughput",
        results,
        given.json,
    )


if __name__ == "__main__":
    main()
