"""From logits on fixed rows of a data set to simulated returns: the one way there while training and afterwards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from scripts.data.dataset import Dataset
from scripts.evaluation.returns import ReturnSeries, ReturnSimulator, TradingRules


@dataclass(frozen=True)
class SimulatedTrading:
    """Trades the predictions of any model on the same rows.

    Attributes
    ----------
    simulator : ReturnSimulator
    class_positions : tuple of float
        Position held for each class.
    """

    simulator: ReturnSimulator
    class_positions: tuple[float, ...]

    @classmethod
    def of(cls, dataset: Dataset, rows: np.ndarray, rules: TradingRules) -> SimulatedTrading | None:
        """Trading on `rows`; None where no return is known, or the classes of the data set have no positions."""
        earned = dataset.forward_return[rows]
        if dataset.class_positions is None or not np.isfinite(earned).any():
            return None
        simulator = ReturnSimulator(dataset.date[rows], dataset.ticker[rows], earned, rules)
        return cls(simulator, dataset.class_positions)

    def returns(self, logits: torch.Tensor) -> ReturnSeries:
        """Returns of trading the class probabilities of `logits`, shape (n_rows, n_classes) on the CPU."""
        probabilities = logits.softmax(dim=1).numpy()
        return self.simulator.run(self.simulator.positions(probabilities, self.class_positions))
