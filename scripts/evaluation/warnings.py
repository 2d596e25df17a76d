"""What the reader of an evaluation must know before believing its figures, as sentences."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from scripts.evaluation.shortfall import shortfall
from scripts.statistics.drift import DRIFT_LEVEL

_FEW_DATES = 60  # below this many dates an interval by blocks of dates says little
_FEW_BLOCKS = 10
_UNCALIBRATED = 0.05  # expected calibration error worth a warning, where a test shows that it is not chance
_LEVEL = 0.05
_RARE = 0.35  # share of the rarest of two classes below which accuracy misleads
_BROKEN = 2.0  # standard errors between the skill out of fold and on the test set
_DRIFTED = 0.25  # population stability index of a feature

Fields = Mapping[str, Any]


def caveats(fields: Fields) -> list[str]:
    """Sentences from the figures of an evaluation, the gravest first."""
    said: list[str] = []
    for find in _FINDERS:
        said += find(fields)
    return said


def is_imbalanced(fields: Fields) -> bool:
    """Whether one class is so rare that accuracy misleads."""
    shares = fields["class_shares"]
    return bool(min(shares) < _RARE * 2 / len(shares))


def fill_caveat(fields: Fields, asked: str) -> list[str]:
    """Warning that positions are filled at another price than the config asks for."""
    fill = (fields["returns"] or {}).get("fill", asked)
    if fill == asked:
        return []
    return [
        "simulated returns are filled at the very close that decides, since the data have no open: nobody can trade at "
        f"it (data.fill is {asked})"
    ]


def openings_caveat(fields: Fields, words: str) -> list[str]:
    """Warning that the figures are corrected for all looks at the test set (Bonferroni); `words` says how many."""
    if (count := fields["corrected_for_openings"]) < 2:
        return []
    low, high = fields["skill_ci95_uncorrected"]
    p, single = fields["skill_p_value"], fields["skill_p_value_uncorrected"]
    told = "" if p is None else f", p-value {single:.3f}"
    return [
        f"the sealed test set was opened {words}: verdict, intervals and p-values are corrected for {count} openings "
        f"(of a first look they would be: {fields['verdict_uncorrected']}, skill {low:+.4f} to {high:+.4f}{told})"
    ]


def _constant(fields: Fields) -> Iterator[str]:
    if (answer := fields["constant_answer"]) is not None:
        yield (
            f"the model answers {answer['class']!r} in {answer['share']:.1%} of the rows: "
            "its accuracy is that of a constant answer"
        )


def _few_dates(fields: Fields) -> Iterator[str]:
    if fields["n_dates"] is None:
        return
    n_blocks = int(fields["n_dates"] / max(1.0, fields["block_length_dates"]))
    if fields["n_dates"] < _FEW_DATES or n_blocks < _FEW_BLOCKS:
        yield (
            f"{fields['n_dates']} dates with the dependence of {n_blocks} independent ones are too few: "
            "intervals may be too narrow"
        )


def _regime_break(fields: Fields) -> Iterator[str]:
    promised, error = fields["promised"]["skill"], fields["promised"]["skill_se"]
    if promised is None or error is None:
        return
    gap, together = promised - fields["skill"], math.hypot(error, fields["skill_se"])
    if together > 0 and abs(gap) > _BROKEN * together:
        yield (
            f"regime break: cross-validation and test disagree, skill {promised:+.4f} (s.e. {error:.4f}) out of fold "
            f"and {fields['skill']:+.4f} (s.e. {fields['skill_se']:.4f}) on the test rows; what was learned "
            f"{'no longer holds' if gap > 0 else 'is not what decided'} there"
        )


def _shortfall(fields: Fields) -> Iterator[str]:
    if warning := shortfall(fields["promised"]):
        yield warning.partition(":")[0]


def _independence(fields: Fields) -> Iterator[str]:
    if fields["skill_se"] == 0:
        yield "the model gives the same answers as the best naive rule"
        return
    if fields["verdict"] == "no skill" and fields["detectable_skill"] is not None:
        least, effective = fields["detectable_skill"], fields["n_effective"]
        worth = "" if effective is None else f", worth {effective:,.0f} independent ones,"
        yield f"the accuracy on these {fields['n_rows']:,} rows{worth} shows a skill of {least:.3f} or more (80% power)"


def _profit(fields: Fields) -> Iterator[str]:
    returns = fields["returns"]
    if fields["verdict"] == "skill" and returns is not None and returns["net"] <= 0:
        yield "more accurate than the naive rules, but not profitable after costs"


def _calibration(fields: Fields) -> Iterator[str]:
    p = fields["calibration_p_value"]
    if fields["ece"] > _UNCALIBRATED and p < _LEVEL:
        yield f"probabilities are not calibrated (expected calibration error {fields['ece']:.3f}, p = {p:.2g})"


def _balance(fields: Fields) -> Iterator[str]:
    if is_imbalanced(fields):
        precision = fields["average_precision"]
        told = "" if precision is None else f", average precision {precision:.3f}"
        yield (
            f"classes are imbalanced (the rarest {min(fields['class_shares']):.1%}): look at balanced accuracy "
            f"{fields['balanced_accuracy']:.3f}, MCC {fields['mcc']:.3f}{told} first"
        )


def _drift(fields: Fields) -> Iterator[str]:
    far = [feature for feature in fields["drift"] if feature["psi"] > _DRIFTED and feature["p_value"] < DRIFT_LEVEL]
    if far:
        named = ", ".join(f"{feature['feature']} {feature['psi']:.2f}" for feature in far[:3])
        yield (
            f"drift between development and test: {len(far)} features have a population stability index above "
            f"{_DRIFTED} ({named})"
        )


def _duplicates(fields: Fields) -> Iterator[str]:
    if fields["n_duplicates"]:
        yield (
            f"duplicates across splits: {fields['n_duplicates']} of {fields['n_rows']:,} test rows have exactly the "
            "features of a development row"
        )


_FINDERS: tuple[Callable[[Fields], Iterator[str]], ...] = (
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
