"""Phase 2: cross-validation of the best trials, and the choice among them."""

from scripts.extended_training.trainer import ExtendedTrainer

__all__ = ["ExtendedTrainer"]
