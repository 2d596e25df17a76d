"""Record of the fold results of a configuration of phase 2.

A fold may have several networks of a configuration, which differ by their seed. Every figure is then the mean over
single networks, not that of their averaged predictions: an average is better than each, and would favour
the configuration that was given more of them. The spread over folds is likewise that of single networks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from scripts.config.search_space import Hyperparameters
from scripts.storage.extended_record import FoldResult, Trained
from scripts.storage.record_base import Curve
from scripts.storage.records import Trial
from scripts.training.spec import Outcome

Network = tuple[Outcome, Curve]  # outcome and learning curve


def configuration_record(
    trial: Trial,
    folds: Sequence[Sequence[Network]],
    stopped_after: int | None = None,
    racing_p_value: float | None = None,
) -> Trained:
    """Return the record of a configuration.

    Parameters
    ----------
    folds : sequence of sequence of (Outcome, Curve)
        For each fold that it was trained on, its networks, none of which failed.
    stopped_after : int or None
        Folds after which racing stopped it.
    racing_p_value : float or None
        Of its last comparison in the race.
    """
    outcomes = [[outcome for outcome, _ in networks] for networks in folds]
    every = [outcome for networks in outcomes for outcome in networks]
    records = [_fold_record(fold, networks) for fold, networks in enumerate(folds)]
    accuracies = [[o.val_accuracy for o in networks if o.val_accuracy is not None] for networks in outcomes]
    return Trained(
        trial_number=trial.number,
        config=Hyperparameters.model_validate(trial.hyperparameters).model_dump(),
        phase_1_accuracy=trial.accuracy,
        avg_accuracy=float(np.mean([np.mean(values) for values in accuracies if values])),
        std_accuracy=spread_of_single_networks([values for values in accuracies if values]),
        avg_val_loss=mean_known([record.val_loss for record in records]),
        avg_train_loss=mean_known([_mean_over(networks, lambda o: o.train_loss) for networks in outcomes]),
        avg_simulated_return=mean_known([record.simulated_return for record in records]),
        n_parameters=every[0].n_parameters,
        operations_per_row=every[0].operations_per_row,
        duration_s=sum(o.duration_s for o in every),
        inference_us_per_row=mean_known([o.inference_us_per_row for o in every]),
        seeds=[len(networks) for networks in folds],
        folds=records,
        state="complete" if stopped_after is None else "stopped",
        stopped_after_folds=stopped_after,
        racing_p_value=racing_p_value,
    )


def spread_of_single_networks(accuracies: Sequence[Sequence[float]]) -> float:
    """Standard deviation over folds that one network a fold shows, in the mean over which network each fold has.

    With several networks per fold, the means would vary less only because they are means. If one network is drawn from
    each of k folds, the expected variance (divisor k - 1) is the sum of two parts: the variance of the fold means,
    and the mean over folds of the variance within them (divisor: number of networks).

    Parameters
    ----------
    accuracies : sequence of sequence of float
        Of each fold, at least two, the accuracies of its networks.
    """
    between = np.var([np.mean(values) for values in accuracies], ddof=1)
    within = np.mean([np.var(values) for values in accuracies])
    return float(np.sqrt(between + within))


def mean_known(values: Sequence[float | None]) -> float | None:
    """Mean of what is known; None without anything."""
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def _fold_record(fold: int, networks: Sequence[Network]) -> FoldResult:
    """Means over the networks and the epochs of all; the best epoch and the learning curve are those of the first."""
    outcomes = [outcome for outcome, _ in networks]
    first, history = networks[0]
    return FoldResult(
        fold=fold,
        epochs=sum(o.epochs for o in outcomes),
        best_epoch=first.best_epoch,
        accuracy=_mean_over(outcomes, lambda o: o.val_accuracy),
        val_loss=_mean_over(outcomes, lambda o: o.val_loss),
        simulated_return=_mean_over(outcomes, lambda o: o.simulated_return),
        accuracies_by_seed=[o.val_accuracy for o in outcomes],
        history=history,
    )


def _mean_over(outcomes: Sequence[Outcome], value: Callable[[Outcome], float | None]) -> float | None:
    return mean_known([value(outcome) for outcome in outcomes])
