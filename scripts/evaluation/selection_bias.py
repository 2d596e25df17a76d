"""Multiple-testing corrections for the search and the selection, from the ledgers of both phases.

Phase 1 chooses among many trials on one split, phase 2 among a few configurations on folds. The first is corrected by
the effective number of trials and their real differences, the second by the variance of the means over dates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from scripts.extended_training.out_of_fold import scored_rows
from scripts.extended_training.selection import complete
from scripts.random_keys import numpy_generator
from scripts.statistics.backtest_overfitting import probability_of_backtest_overfitting
from scripts.statistics.intervals import difference_interval
from scripts.statistics.long_run_variance import joint_errors, mean_variance
from scripts.statistics.model_tests import corrected_resampled_ttest, model_confidence_set
from scripts.statistics.sharpe import (
    deflated_sharpe_ratio,
    effective_trials,
    mean_correlation,
    sharpe_moments,
)
from scripts.statistics.winners_curse import corrected_winner, cross_validation_selection_bias
from scripts.storage.credibility_record import ChoiceBias, SearchBias, Winner
from scripts.storage.extended_record import Extended
from scripts.storage.records import Trials

_BLOCKS = 16  # of dates, for the probability of backtest overfitting
_MIN_TRIALS, _MIN_DATES = 10, 4 * _BLOCKS  # below, the choice among trials cannot be assessed
_CONFIDENCE_SET_SIZE = 0.1
# Column of the ledger with the sums by date, and the sign that makes higher better.
_SCORES = {"accuracy": ("hits", 1), "log_loss": ("log_loss", -1), "auc": ("auc", 1)}


def assess_search(ledger: pd.DataFrame, horizon: int, seed: int, trials: Trials | None = None) -> SearchBias | None:
    """Correct the result of the best trial of phase 1; None with too few trials or dates.

    A trial that was given up at an early rung is not a rival of the winner: its low score would pass for a difference
    in skill, and to stay above the median of such trials takes little. Only `comparable` trials take part.

    Parameters
    ----------
    ledger : DataFrame
        Result of `validation_scores.validation_ledger`.
    horizon : int
        Dates that a label reads ahead.
    trials : Trials, optional
        For the epochs of each trial; by default all trials are comparable.
    """
    hits, rows = (ledger.pivot(index="date", columns="trial", values=name) for name in ("hits", "n_rows"))
    if hits.shape[1] < _MIN_TRIALS or hits.shape[0] < _MIN_DATES:
        return None
    counts = rows.iloc[:, 0].to_numpy()
    rivals = hits[_comparable_columns(hits, trials)]
    scores = {}
    for name, (column, sign) in _SCORES.items():
        sums = ledger.pivot(index="date", columns="trial", values=column)
        if not sums.isna().any(axis=None):
            scores[name] = _winner(sums, sign, counts, horizon, trials)
    return SearchBias(
        n_trials=hits.shape[1],
        n_comparable=rivals.shape[1],
        scores=scores,
        # Counts, which are exact: rounded shares would break ties at random.
        pbo=probability_of_backtest_overfitting(rivals.to_numpy(), _BLOCKS),
        deflated_sharpe=_deflated_sharpe(ledger),
    )


def comparable(winner: int, numbers: Sequence[int], trials: Trials | None) -> list[int]:
    """Return the trials of `numbers` that were trained as far as the winner, in their order.

    They stopped by their own patience, or reached the last rung that the winner reached. With fewer than ten of them
    the next lower rung counts. Without rungs all trials are comparable.
    """
    known = {} if trials is None else {trial.number: trial for trial in trials.trials}
    if trials is None or not trials.rungs or any(number not in known for number in numbers):
        return list(numbers)
    for rung in sorted((rung for rung in trials.rungs if rung <= known[winner].epochs), reverse=True):
        far = [n for n in numbers if known[n].epochs >= rung or known[n].state == "stopped"]
        if len(far) >= _MIN_TRIALS:
            return far
    return list(numbers)


def _comparable_columns(sums: pd.DataFrame, trials: Trials | None) -> list[int]:
    """Columns of the trials that are comparable to the one with the highest sum."""
    numbers = sums.columns.to_numpy().tolist()
    return comparable(numbers[int(sums.to_numpy().sum(axis=0).argmax())], numbers, trials)


def _winner(sums: pd.DataFrame, sign: int, counts: np.ndarray, horizon: int, trials: Trials | None) -> Winner:
    """Return the trial with the best mean score over all rows, and its expected score.

    `sums` is the sum of the score over the rows of each date (index) for each trial (column), `counts` the rows;
    `sign` makes higher better.
    """
    n_trials, sums = sums.shape[1], sign * sums
    sums = sums[_comparable_columns(sums, trials)]
    by_date = sums.to_numpy()
    score = by_date.sum(axis=0) / counts.sum()
    best = int(score.argmax())
    # The error of a score, as the mean over all trials: that of one trial would be a noisy estimate of it.
    deviations = (by_date - score * counts[:, None]) * (len(counts) / counts.sum())
    error = math.sqrt(np.mean([mean_variance(column, horizon).variance for column in deviations.T]))
    correlation = mean_correlation(by_date / counts[:, None]) or 0.0
    # What all trials share of their error cannot make one look better than another.
    independent = error * math.sqrt(max(0.0, 1.0 - correlation))
    return Winner(
        trial=int(sums.columns[best]),
        observed=sign * float(score[best]),
        expected=sign * corrected_winner(score, independent),
        se=error,
        mean_correlation=correlation,
        effective_trials=effective_trials(n_trials, correlation),
    )


def assess_choice(
    out_of_fold: pd.DataFrame, results: Extended, horizon: int, seed: int, by_spread: bool = False
) -> ChoiceBias:
    """Correct the result of the chosen configuration of phase 2, and return its ties.

    Only configurations that were trained on all folds take part. One with several networks per fold counts with the
    mean of their hits and losses. This is the expectation of a single network; the mean of networks would be better.

    Parameters
    ----------
    out_of_fold : DataFrame
        Columns trial_number, fold, seed, row, date, label and a probability_* per class.
    by_spread : bool
        True if the spread over the folds was part of the choice, so that its interval would be too short.
    """
    configurations = complete(results.configurations)
    numbers = [c.trial_number for c in configurations]
    scores = np.array([[fold.accuracy for fold in c.folds] for c in configurations], dtype=np.float64)
    _, bias = cross_validation_selection_bias(scores) if len(scores) > 1 else (0, 0.0)
    spread = corrected_resampled_ttest(scores[0], 1.0 / (scores.shape[1] - 1))
    correct, losses, label, date = _per_row(out_of_fold, numbers)
    constant = (label == np.bincount(label).argmax()).astype(np.float64)
    skill = difference_interval(correct[:, 0], constant, date, horizon)
    by_date = pd.DataFrame(losses).groupby(date).mean().to_numpy()
    confidence = model_confidence_set(by_date, _CONFIDENCE_SET_SIZE, horizon, numpy_generator(seed, "choice", "set"))
    return ChoiceBias(
        avg_accuracy=float(scores[0].mean()),
        expected_accuracy=float(scores[0].mean()) - bias,
        nadeau_bengio_ci95=None if by_spread else [max(0.0, spread.low), min(1.0, spread.high)],
        skill=skill.estimate,
        skill_ci95=[skill.low, skill.high],
        confidence_set=[numbers[k] for k in confidence.included],
        stability=stability(correct, date, horizon, numpy_generator(seed, "choice", "stability")),
    )


def in_words(search: SearchBias | None, choice: ChoiceBias) -> list[str]:
    """Return the corrections as sentences."""
    sentences = []
    if search is not None:
        best = search.scores["accuracy"]
        others = "; ".join(
            f"{name.replace('_', ' ')} {found.observed:.4f}, {found.expected:.4f} expected"
            for name, found in search.scores.items()
            if name != "accuracy"
        )
        sentences.append(
            f"The best of {search.n_trials} trials ({best.effective_trials:.1f} effective independent ones) has "
            f"{best.observed:.4f} on its single split; corrected for the winner's curse, {best.expected:.4f} is "
            f"expected{f' (best by {others})' if others else ''}. Among the {search.n_comparable} trials that were "
            f"trained as far as the best, a choice on one half of the dates is below the median on the other in "
            f"{search.pbo:.0%} of all splits (PBO)."
        )
        if search.deflated_sharpe is not None:
            sentences.append(
                f"The most profitable trial has a deflated Sharpe ratio of "
                f"{search.deflated_sharpe:.2f} (probability of a true Sharpe ratio above zero)."
            )
    interval = ""
    if choice.nadeau_bengio_ci95 is not None:
        low, high = choice.nadeau_bengio_ci95
        interval = f"The 95% interval of the mean over folds is {low:.4f} to {high:.4f}. "
    skill_low, skill_high = choice.skill_ci95
    sentences.append(
        f"The chosen configuration has {choice.avg_accuracy:.4f} over the folds; corrected for selection, "
        f"{choice.expected_accuracy:.4f} is expected. {interval}The difference to the best constant "
        f"is {choice.skill:+.4f} ({skill_low:+.4f} to {skill_high:+.4f})."
    )
    others = ", ".join(map(str, choice.confidence_set))
    sentences.append(
        f"90% model confidence set by log loss: {others}. On other dates of "
        f"the same kind, the chosen one would have the best accuracy in {choice.stability:.0%} of the cases."
    )
    return sentences


def _deflated_sharpe(ledger: pd.DataFrame) -> float | None:
    net = ledger.pivot(index="date", columns="trial", values="net_return").dropna().to_numpy()
    moments = [sharpe_moments(series) for series in net.T]
    ratios = np.array([m.sharpe for m in moments if m is not None])
    if len(ratios) < _MIN_TRIALS:
        return None
    best = max((m for m in moments if m is not None), key=lambda m: m.sharpe)
    n_effective = effective_trials(len(ratios), mean_correlation(net) or 0.0)
    return deflated_sharpe_ratio(best, max(1.0, n_effective), float(ratios.var(ddof=1)))


def _per_row(frame: pd.DataFrame, numbers: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Hits and log losses, shape (n_rows, n_configurations), labels and date positions of the same rows."""
    mean = scored_rows(frame, ["trial_number", "row", "fold"])
    blocks = [mean.loc[number] for number in numbers]
    correct, losses = (np.column_stack([block[name] for block in blocks]) for name in ("hit", "loss"))
    return correct, losses, blocks[0]["label"].to_numpy(), pd.factorize(blocks[0]["date"], sort=True)[0]


def stability(
    correct: np.ndarray, date: np.ndarray, horizon: int, rng: np.random.Generator, n_draws: int = 1000
) -> float:
    """Return the probability that the first column of hits (n_rows, m) has the best accuracy on other dates.

    The leads over the others, less joint draws of their errors (`joint_errors`), are what they may truly be.
    """
    by_date = pd.DataFrame(correct).groupby(date)
    sums, counts = by_date.sum().to_numpy(), by_date.size().to_numpy()
    leads = sums[:, :1] - sums[:, 1:]
    lead = leads.sum(axis=0) / counts.sum()
    errors = joint_errors((leads - lead * counts[:, None]) * (len(counts) / counts.sum()), horizon, n_draws, rng)
    return float((lead >= errors.draws * errors.se).all(axis=1).mean())
