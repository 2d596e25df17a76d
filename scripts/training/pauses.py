"""Outcome of a run at an earlier pause, from its learning curve."""

from __future__ import annotations

from scripts.training.early_stopping import EarlyStopping
from scripts.training.run import TrainingRun
from scripts.training.spec import Outcome


def outcome_at(run: TrainingRun, epochs: int) -> Outcome:
    """Return the outcome that a run reported when it paused after `epochs` epochs; it has trained more since."""
    spec, history = run.spec, run.history[:epochs]
    stopping = EarlyStopping(spec.patience, spec.min_delta)
    for report in history:
        if (score := report.score(spec.monitor)) is not None:
            stopping.update(report.epoch, score)
    best, latest = history[(stopping.best_epoch or epochs) - 1], run.outcome
    return Outcome(
        state="complete",
        epochs=epochs,
        best_epoch=best.epoch,
        train_loss=best.train_loss,
        val_loss=best.val_loss,
        val_accuracy=best.val_accuracy,
        simulated_return=best.simulated_return,
        n_parameters=sum(p.numel() for p in run.parameters),
        duration_s=sum(report.duration_s for report in history),
        inference_us_per_row=latest.inference_us_per_row if latest else None,
        operations_per_row=latest.operations_per_row if latest else None,
    )
