"""Typed records of the two artifacts of the analysis, credibility.json and comparison.json."""

from __future__ import annotations

from typing import Literal

from scripts.storage.record_base import Count, Pair, Record


class Winner(Record):
    """The best of several trials by one score: the score that it showed and the score that is to be expected of it."""

    trial: Count
    observed: float
    expected: float
    se: float
    mean_correlation: float
    effective_trials: float


class SearchBias(Record):
    """Worth of the best trial of phase 1 after corrections for having tried many.

    Attributes
    ----------
    n_comparable : int
        Trials that were trained as far as the best one by accuracy.
    scores : dict of str to Winner
        By accuracy, log_loss and auc; those that are undefined are left out.
    pbo : float
        Probability of backtest overfitting, by accuracy.
    deflated_sharpe : float or None
        Probability that the most profitable trial's Sharpe ratio is above 0; None without returns.
    """

    n_trials: Count
    n_comparable: Count
    scores: dict[str, Winner]
    pbo: float
    deflated_sharpe: float | None


class ChoiceBias(Record):
    """Worth of the configuration that phase 2 chose.

    Attributes
    ----------
    expected_accuracy : float
        Mean accuracy less the bias of choosing the best mean.
    nadeau_bengio_ci95 : list of float or None
        Of the mean over folds.
    skill, skill_ci95
        Against the best constant, by dates.
    confidence_set : list of int
        Trials that may be the best, by log loss.
    stability : float
        Share of other dates of the same kind on which the choice would have the best accuracy.
    """

    avg_accuracy: float
    expected_accuracy: float
    nadeau_bengio_ci95: Pair | None
    skill: float
    skill_ci95: Pair
    confidence_set: list[Count]
    stability: float


class Credibility(Record):
    """credibility.json."""

    config_hash: str
    data_fingerprint: str
    sealed_fingerprint: str
    search: SearchBias | None
    choice: ChoiceBias


class Difference(Record):
    """A score of two runs on the same rows; the difference is positive where the other run is better."""

    first: float
    other: float
    difference: float
    se: float
    ci95: Pair
    p_value: float | None


class PairedTest(Record):
    """Paired tests of two runs, corrected for all comparisons that are made together (Bonferroni).

    Attributes
    ----------
    detectable : float
        Least difference in accuracy that these rows find with probability .8.
    """

    n_rows: Count
    n_rows_of_one_alone: Count
    n_comparisons: Count
    accuracy: Difference
    log_loss: Difference
    p_diebold_mariano: float | None
    detectable: float


class Compared(Record):
    """Differences between two runs.

    Attributes
    ----------
    reason : str or None
        Why no test was made; None where one was made.
    config : list of str
        Differing keys with both values.
    fingerprints : list of str
        Those that differ.
    openings : dict of str to int
        Openings of the sealed test set by run.
    """

    run: str
    verdict: Literal["better", "worse", "cannot be told apart", "not comparable"] = "not comparable"
    reason: str | None = None
    config: list[str]
    fingerprints: list[str]
    openings: dict[str, Count]


class TestedPair(PairedTest, Compared):
    """Differences between two runs with paired tests on the rows of both."""


class Comparison(Record):
    """comparison.json."""

    config_hash: str
    data_fingerprint: str
    sealed_fingerprint: str
    first: str
    comparisons: list[TestedPair | Compared]
