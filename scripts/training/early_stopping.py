"""Early stopping with patience and a minimum improvement."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class EarlyStopping:
    """Stops when the monitored score has not improved by more than `min_delta` for `patience` epochs.

    Patience counts epochs, also where not every epoch is evaluated. Scores are higher-is-better.
    """

    patience: int
    min_delta: float
    best: float | None = None
    best_epoch: int = 0

    def update(self, epoch: int, score: float) -> bool:
        """Record the score of an epoch; True if it is the new best."""
        if self.best is None or score > self.best + self.min_delta:
            self.best, self.best_epoch = score, epoch
            return True
        return False

    def should_stop(self, epoch: int) -> bool:
        """Return True if the patience is exhausted after `epoch`."""
        return epoch - self.best_epoch >= self.patience
