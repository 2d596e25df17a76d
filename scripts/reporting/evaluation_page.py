"""Content of the evaluation report: the result of the model on the sealed test set, compared with baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scripts.reporting.charts.cross_validation import final_curve_figure
from scripts.reporting.figures import words
from scripts.reporting.page import (
    Number,
    Page,
    Section,
    interval,
    number,
    percent,
    points,
    present,
    provenance,
    with_content,
)
from scripts.reporting.sections.breakdown import calibration_section, confusion_section, part_sections
from scripts.reporting.sections.comparison import comparison_section
from scripts.reporting.sections.decisions import (
    abstention_section,
    decay_section,
    decision_cost_section,
    drift_section,
)
from scripts.reporting.sections.model import ensemble_section, model_section
from scripts.reporting.sections.returns import returns_section
from scripts.reporting.sections.shared import YARDSTICK, cost_section, costs_of_model, latency_section, warnings_section
from scripts.statistics.metrics import ReliabilityBin
from scripts.storage.evaluation_record import Evaluation
from scripts.storage.model_record import FinalModelContent
from scripts.storage.result_records import SeedCurves
from scripts.storage.trading_records import Returns

_TONES = {"skill": "good", "no skill": "bad", "worse than naive": "bad"}


@dataclass(frozen=True)
class TrainingRecord:
    """Training of an evaluated model, as far as known.

    Attributes
    ----------
    durations_s : mapping of str to float
        Seconds of training by phase (tuning, extended, final), summed over all workers.
    seeds : sequence of SeedCurves
        Learning curves of each network.
    warnings : sequence of str
        Warnings of phase 1 about leaks in the data.
    note : str
        Reason for missing data; empty if complete.
    """

    durations_s: Mapping[str, float] = field(default_factory=dict)
    seeds: Sequence[SeedCurves] = ()
    warnings: Sequence[str] = ()
    note: str = ""


@dataclass(frozen=True)
class EvaluationReport:
    """Data of the evaluation report.

    Attributes
    ----------
    n_parameters : sequence of int
        Number of parameters of each member of the model.
    dates : sequence of str
        ISO dates of the equity curves.
    curves : mapping of str to sequence of float
        Capital on each date as a multiple of the initial one, the model first; each as long as `dates`.
    confusion : sequence of sequences of int
        Rows of the test set by true class (rows) and predicted class (columns).
    """

    evaluation: Evaluation
    model: FinalModelContent
    n_parameters: Sequence[int]
    training_record: TrainingRecord = TrainingRecord()
    dates: Sequence[str] = ()
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    reliability: Sequence[ReliabilityBin] = ()
    confusion: Sequence[Sequence[int]] = ()


def evaluation_page(content: EvaluationReport) -> Page:
    """Return the evaluation report; parts without data are omitted."""
    e, training_record = content.evaluation, content.training_record
    sections = (
        comparison_section(e),
        ensemble_section(e.ensemble),
        cost_section(costs_of_model(e.epochs_spent, training_record.durations_s)),
        model_section(e, content.model, content.n_parameters),
        Section("Learning curves", figures=present([final_curve_figure(training_record.seeds)])),
        returns_section(e, content.dates, content.curves),
        abstention_section(e),
        decision_cost_section(e),
        calibration_section(e, content.reliability),
        confusion_section(content.confusion, content.model.classes),
        *part_sections(e),
        decay_section(e),
        drift_section(e),
        latency_section(e.latency),
        warnings_section(e.warnings, _notes(e, training_record.note)),
    )
    where = "the sealed test set" if _kind(e) == "sealed" else "other data"
    return Page(
        title=f"Evaluation of the model on {where}",
        verdict=verdict_sentence(e),
        tone=_TONES.get(e.verdict, ""),
        warnings=tuple(e.warnings),
        numbers=_numbers(e),
        sections=with_content(sections),
        footer=provenance(e),
    )


def _kind(e: Evaluation) -> str:
    """Return the kind of test rows: those of the sealed test set, or others given by the user."""
    return "sealed" if e.opened.data == "sealed" else "other"


def verdict_sentence(e: Evaluation) -> str:
    """Return the verdict of an evaluation with its uncertainty and its baselines as text."""
    sentences = {
        "skill": "The model has skill",
        "no skill": "No significant skill",
        "worse than naive": "The model is worse than a naive rule",
    }
    text = sentences[e.verdict]
    if (constant := e.constant_answer) is not None:
        text = f"The model predicts '{constant.name}' in {percent(constant.share)} of the rows. {text}"
    text += (
        f": {percent(e.accuracy)} of {number(e.n_rows, ',')} {_kind(e)} rows correct "
        f"(95% interval {interval(e.accuracy_ci95)})"
        f", against {percent(e.naive[e.best_naive])} for the best naive rule ({words(e.best_naive)})"
        f"; the difference is {points(e.skill)} (95% interval {interval(e.skill_ci95, signed=True)})"
        f"{_by_probabilities(e)}"
    )
    text += f"; the best possible accuracy is {percent(e.ceiling)}." if e.ceiling is not None else "."
    versus = e.versus_reference
    worth = "Clearly" if versus.ci95[0] > 0 else "Not clearly"
    bounds = interval(versus.ci95, signed=True)
    text += f" {worth} better than {words(versus.name)}: {points(versus.difference)} (95% {bounds})."
    return text + corrected_in_words(e)


def corrected_in_words(e: Evaluation) -> str:
    """A sentence on the correction for further openings of the test set; empty for the first one."""
    if e.corrected_for_openings < 2:
        return ""
    bounds = interval(e.skill_ci95_uncorrected, signed=True)
    return (
        f" Verdict and intervals are corrected for {e.corrected_for_openings} openings of the test set (uncorrected, "
        f"the interval of the difference is {bounds} pp)."
    )


def sure_of_return(returns: Returns) -> str:
    """The net return's 95% interval in words: that of the total where it is known, else that of the mean per date."""
    if returns.net_ci95 is not None:
        return f"95%: {interval(returns.net_ci95, signed=True)}%"
    bounds = returns.mean_net_ci95
    if bounds is None or None in bounds or returns.mean_net is None:
        return ""
    low, mean, high = (f"{100 * (value or 0.0):+.3f}" for value in (bounds[0], returns.mean_net, bounds[1]))
    return f"mean per date {mean}% (95%: {low} to {high})"


def _by_probabilities(e: Evaluation) -> str:
    """The test that a verdict of skill rests on where the interval of the accuracy does not show it; else empty."""
    test, p = e.primary_test, e.primary_test.p_value
    if e.verdict != "skill" or e.skill_ci95[0] > 0 or p is None:
        return ""
    value = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    return f"; significant by the probabilities ({test.name} test, {value}), not by accuracy alone"


def _numbers(e: Evaluation) -> tuple[Number, ...]:
    spent = e.epochs_spent_total
    numbers = [
        Number("Accuracy", percent(e.accuracy), f"95%: {interval(e.accuracy_ci95)}"),
        Number("Best naive rule", percent(e.naive[e.best_naive]), words(e.best_naive)),
        Number("Difference", points(e.skill), f"95%: {interval(e.skill_ci95, signed=True)} pp"),
        Number("Epochs spent", number(spent, ",d"), f"{spent / YARDSTICK:.0%} of 60 trials x 50 = 3,000"),
    ]
    if (returns := e.returns) is not None:
        even, sure = returns.break_even_cost_bps, sure_of_return(returns)
        remark = f"{sure}; " if sure else ""
        remark += f"buy and hold {percent(returns.buy_and_hold)}"
        remark += "" if even is None else f"; break-even at {even:.1f} bps"
        numbers.append(Number("Return after costs", percent(returns.net), remark))
    if e.imbalanced:
        numbers[:0] = [
            Number("Balanced accuracy", percent(e.balanced_accuracy), "mean over the classes"),
            Number("MCC", number(e.mcc, ".3f"), "0 is chance, 1 is perfect"),
            Number(
                "Average precision", number(e.average_precision, ".3f"), "chance level is the share of the rarer class"
            ),
        ]
    if e.first_date is not None:
        rows = f"{e.first_date} to {e.last_date}"
        numbers.insert(0, Number(f"{_kind(e).capitalize()} rows", number(e.n_rows, ",d"), rows))
    return tuple(numbers)


def _notes(e: Evaluation, note: str) -> tuple[str, ...]:
    """Return notes: openings of the sealed test set, skipped rows."""
    return (*_opening_notes(e), *e.notes, *([note] if note else []))


def _opening_notes(e: Evaluation) -> tuple[str, ...]:
    if e.test_openings == 0:
        return ("The sealed test set has not been opened.",)
    if e.test_openings == 1:
        return ("The sealed test set has been opened once.",)
    return (
        f"The sealed test set has been opened {e.opened_in_words}. After a choice that used an earlier opening, these "
        "numbers are too good: each opening is a further chance of a lucky result.",
    )
