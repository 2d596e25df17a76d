"""Warnings about an evaluation, as sentences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from scripts.statistics.drift import DRIFT_LEVEL
from scripts.storage.extended_record import Configuration
from scripts.storage.result_records import Selection
from scripts.storage.score_records import Promise, Scored

_FEW_DATES = 60  # below this many dates an interval by blocks of dates is unreliable
_FEW_BLOCKS = 10
_UNCALIBRATED = 0.05  # expected calibration error worth a warning, where a test shows that it is not chance
_LEVEL = 0.05
_RARE = 0.35  # share of the rarest of two classes below which accuracy misleads
_BROKEN = 2.0  # standard errors between the skill out of fold and on the test set
_DRIFTED = 0.25  # population stability index of a feature


def caveats(scored: Scored) -> list[str]:
    """Return warnings from the figures of an evaluation, the most serious first."""
    found: list[str] = []
    for find in _FINDERS:
        found += find(scored)
    return found


def shortfall(selection: Selection | Promise | Configuration) -> str:
    """Return a warning that a chosen configuration does not lead the best naive rule out of fold, else nothing."""
    skill, error = selection.skill, selection.skill_se
    if skill is None or skill > 0:
        return ""
    behind = f"{-100 * skill:.1f} pp behind" if skill < 0 else "level with"
    error_text = "" if error is None else f" (s.e. {100 * error:.1f} pp)"
    return (
        f"out of fold the model is {behind} the best naive rule{error_text}: opening the sealed test set for it "
        "counts as an opening; a further search may be the better next step"
    )


def is_imbalanced(shares: Sequence[float]) -> bool:
    """Return True if one class is so rare that accuracy misleads."""
    return bool(min(shares) < _RARE * 2 / len(shares))


def fill_caveat(scored: Scored, asked: str) -> list[str]:
    """Return a warning if positions are filled at another price than configured."""
    if scored.returns is None or scored.returns.fill == asked:
        return []
    return [
        "simulated returns are filled at the deciding close, because the data have no open: no one can trade at "
        f"it (data.fill is {asked})"
    ]


def openings_caveat(scored: Scored, words: str) -> list[str]:
    """Return the warning that the figures are corrected for all openings (Bonferroni); `words` is their number."""
    if (count := scored.corrected_for_openings) < 2:
        return []
    low, high = scored.skill_ci95_uncorrected
    p, single = scored.skill_p_value, scored.skill_p_value_uncorrected
    p_text = "" if p is None else f", p-value {single:.3f}"
    return [
        f"the sealed test set was opened {words}: verdict, intervals and p-values are corrected for {count} openings "
        f"(without the correction: {scored.verdict_uncorrected}, skill {low:+.4f} to {high:+.4f}{p_text})"
    ]


def _constant(scored: Scored) -> Iterator[str]:
    if (answer := scored.constant_answer) is not None:
        yield (
            f"the model predicts {answer.name!r} in {answer.share:.1%} of the rows: its accuracy is that of a constant"
        )


def _few_dates(scored: Scored) -> Iterator[str]:
    if scored.n_dates is None:
        return
    n_blocks = int(scored.n_dates / max(1.0, scored.block_length_dates))
    if scored.n_dates < _FEW_DATES or n_blocks < _FEW_BLOCKS:
        yield (
            f"{scored.n_dates} dates ({n_blocks} effective independent ones) are too few: intervals may be too narrow"
        )


def _regime_break(scored: Scored) -> Iterator[str]:
    promised, error = scored.promised.skill, scored.promised.skill_se
    if promised is None or error is None:
        return
    gap, combined_se = promised - scored.skill, math.hypot(error, scored.skill_se)
    if combined_se > 0 and abs(gap) > _BROKEN * combined_se:
        yield (
            f"regime break: cross-validation and test disagree, skill {promised:+.4f} (s.e. {error:.4f}) out of fold "
            f"and {scored.skill:+.4f} (s.e. {scored.skill_se:.4f}) on the test rows; what was learned "
            f"{'is no longer valid' if gap > 0 else 'is not what decided'} there"
        )


def _shortfall(scored: Scored) -> Iterator[str]:
    if warning := shortfall(scored.promised):
        yield warning.partition(":")[0]


def _independence(scored: Scored) -> Iterator[str]:
    if scored.skill_se == 0:
        yield "the model makes the same predictions as the best naive rule"
        return
    if scored.verdict == "no skill" and scored.detectable_skill is not None:
        detectable, effective = scored.detectable_skill, scored.n_effective
        worth = "" if effective is None else f" (effective sample size {effective:,.0f})"
        yield f"with {scored.n_rows:,} rows{worth}, a skill below {detectable:.3f} is not detectable (80% power)"


def _profit(scored: Scored) -> Iterator[str]:
    returns = scored.returns
    if scored.verdict == "skill" and returns is not None and returns.net <= 0:
        yield "more accurate than the naive rules, but not profitable after costs"


def _calibration(scored: Scored) -> Iterator[str]:
    error, p = scored.ece, scored.calibration_p_value
    if error is not None and error > _UNCALIBRATED and p < _LEVEL:
        yield f"probabilities are not calibrated (expected calibration error {error:.3f}, p = {p:.2g})"


def _balance(scored: Scored) -> Iterator[str]:
    if is_imbalanced(scored.class_shares):
        precision = scored.average_precision
        extra = "" if precision is None else f", average precision {precision:.3f}"
        yield (
            f"classes are imbalanced (the rarest {min(scored.class_shares):.1%}): look at balanced accuracy "
            f"{scored.balanced_accuracy:.3f}, MCC {scored.mcc:.3f}{extra} first"
        )


def _drift(scored: Scored) -> Iterator[str]:
    far = [feature for feature in scored.drift if feature.psi > _DRIFTED and feature.p_value < DRIFT_LEVEL]
    if far:
        named = ", ".join(f"{feature.feature} {feature.psi:.2f}" for feature in far[:3])
        yield (
            f"drift between development and test: {len(far)} features have a population stability index above "
            f"{_DRIFTED} ({named})"
        )


def _duplicates(scored: Scored) -> Iterator[str]:
    if scored.n_duplicates:
        yield (
            f"duplicates across splits: {scored.n_duplicates} of {scored.n_rows:,} test rows have exactly the "
            "features of a development row"
        )


_FINDERS: tuple[Callable[[Scored], Iterator[str]], ...] = (
    _constant,
    _regime_break,
    _shortfall,
    _few_dates,
    _independence,
    _profit,
    _balance,
    _calibration,
    _drift,
    _duplicates,
)
