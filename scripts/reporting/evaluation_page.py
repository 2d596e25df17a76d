"""What the evaluation report says: what the model is worth on the sealed test set, beside rules that need no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scripts.reporting.charts.learning_curves import final_curve_figure
from scripts.reporting.figures import words
from scripts.reporting.page import (
    Number,
    Page,
    Section,
    interval,
    number,
    percent,
    plain,
    points,
    present,
    provenance,
    with_content,
)
from scripts.reporting.sections.breakdown import part_sections
from scripts.reporting.sections.comparison import comparison_section
from scripts.reporting.sections.costs import YARDSTICK, cost_section, costs_of_model
from scripts.reporting.sections.decisions import (
    abstention_section,
    decay_section,
    decision_cost_section,
    drift_section,
)
from scripts.reporting.sections.ensemble import ensemble_section
from scripts.reporting.sections.latency import latency_section
from scripts.reporting.sections.model import model_section
from scripts.reporting.sections.probabilities import calibration_section, confusion_section
from scripts.reporting.sections.returns import returns_section
from scripts.reporting.sections.warnings import warnings_section

_TONES = {"skill": "good", "no skill": "bad", "worse than naive": "bad"}


@dataclass(frozen=True)
class EvaluationReport:
    """What the evaluation report is made of.

    Attributes
    ----------
    evaluation : mapping
        Content of evaluation_results.json. Beside the fixed fields: `references` (name -> accuracy, or a mapping with
        `accuracy` and `accuracy_ci95`), `by_group`, `by_year` and `by_volatility` (name -> accuracy, or a mapping with
        `accuracy`, `n_rows`, `accuracy_ci95`; a list of such mappings with `group` or `year` does too), `notes` (list
        of str).
    dates : sequence of str
        ISO dates of the equity curves.
    curves : mapping of str to sequence of float
        Capital on each date as a multiple of the initial one, the model first; each as long as `dates`.
    reliability : sequence of mappings
        Bins of the calibration: `confidence`, `accuracy`, `count`.
    confusion : sequence of sequences of int
        Rows of the test set by true class (rows) and predicted class (columns).
    class_names : sequence of str
        Names of the classes in the order of `confusion`.
    warnings : sequence of str
        What the reader must know before believing anything.
    model : mapping
        What the model's file says of it: `hyperparameters`, `selection`, `trained_on`, `n_parameters`.
    making : mapping
        What the run directory says of its making: `durations_s` by phase, `seeds` with their learning curves, `note`.
    """

    evaluation: Mapping[str, Any]
    dates: Sequence[str] = ()
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    reliability: Sequence[Mapping[str, Any]] = ()
    confusion: Sequence[Sequence[int]] = ()
    class_names: Sequence[str] = ()
    warnings: Sequence[str] = ()
    model: Mapping[str, Any] = field(default_factory=dict)
    making: Mapping[str, Any] = field(default_factory=dict)


def evaluation_page(content: EvaluationReport) -> Page:
    """Put the evaluation report together; whatever is missing is left out."""
    e, model, making = plain(content.evaluation), plain(content.model), plain(content.making)
    best = _best_naive(e)
    sections = (
        comparison_section(e),
        ensemble_section(e),
        cost_section(costs_of_model(e, making)),
        model_section(e, model),
        Section("Learning curves", figures=present([final_curve_figure(making.get("seeds") or ())])),
        returns_section(e, [str(d) for d in content.dates], content.curves),
        abstention_section(e),
        decision_cost_section(e),
        calibration_section(e, plain(content.reliability)),
        confusion_section(plain(content.confusion), content.class_names),
        *part_sections(e, best[1] if best else None),
        decay_section(e),
        drift_section(e),
        latency_section(e),
        warnings_section(content.warnings, _notes(e, making)),
    )
    where = "the sealed test set" if _kind(e) == "sealed" else "other data"
    return Page(
        title=f"What the model is worth: evaluation on {where}",
        verdict=verdict_sentence(e),
        tone=_TONES.get(str(e.get("verdict")), ""),
        warnings=tuple(str(w) for w in content.warnings),
        numbers=_numbers(e),
        sections=with_content(sections),
        footer=provenance(e),
    )


def _kind(e: Mapping[str, Any]) -> str:
    """Which rows were judged: those of the sealed test set, or others that the user named."""
    data = (e.get("opened") or {}).get("data", "sealed")
    return "sealed" if data == "sealed" else "other"


def _best_naive(e: Mapping[str, Any]) -> tuple[str, float] | None:
    known = [(name, value) for name, value in (e.get("naive") or {}).items() if value is not None]
    return max(known, key=lambda item: item[1]) if known else None


def verdict_sentence(e: Mapping[str, Any]) -> str:
    """The verdict of an evaluation with its uncertainty and what it is held beside, in words."""
    sentences = {
        "skill": "The model has skill",
        "no skill": "No skill could be shown",
        "worse than naive": "The model is worse than a naive rule",
    }
    text = sentences.get(str(e.get("verdict")), "The verdict is not recorded")
    if (constant := e.get("constant_answer")) is not None:
        text = f"The model answers '{constant['class']}' in {percent(constant['share'])} of the rows. {text}"
    text += (
        f": {percent(e.get('accuracy'))} of {number(e.get('n_rows'), ',')} {_kind(e)} rows right "
        f"(95 % interval {interval(e.get('accuracy_ci95'))})"
    )
    if (best := _best_naive(e)) is not None:
        text += f", against {percent(best[1])} for the best naive rule ({words(best[0])})"
    if e.get("skill") is not None:
        text += f"; the difference is {points(e['skill'])} (95 % interval {interval(e.get('skill_ci95'), signed=True)})"
        text += _by_probabilities(e)
    ceiling = e.get("ceiling")
    text += f"; the best possible is {percent(ceiling)}." if ceiling is not None else "."
    if versus := e.get("versus_reference"):
        worth = "Clearly" if versus["ci95"][0] > 0 else "Not clearly"
        bounds = interval(versus["ci95"], signed=True)
        text += f" {worth} better than {words(versus['name'])}: {points(versus['difference'])} (95 % {bounds})."
    return text + corrected_in_words(e)


def corrected_in_words(e: Mapping[str, Any]) -> str:
    """A sentence on the correction for further openings of the test set; empty for the first one."""
    count = e.get("corrected_for_openings") or 1
    if count < 2:
        return ""
    text = f" Verdict and intervals are corrected for {count} openings of the test set"
    if (bounds := e.get("skill_ci95_uncorrected")) is not None:
        text += f" (uncorrected, the difference lies between {interval(bounds, signed=True)} points)"
    return f"{text}."


def sure_of_return(returns: Mapping[str, Any]) -> str:
    """The net return's 95% interval in words: that of the total where it is known, else that of the mean per date."""
    if (bounds := returns.get("net_ci95")) is not None:
        return f"95 %: {interval(bounds, signed=True)} %"
    bounds = returns.get("mean_net_ci95")
    if bounds is None or any(bound is None for bound in bounds) or returns.get("mean_net") is None:
        return ""
    low, mean, high = (f"{100 * value:+.3f}" for value in (bounds[0], returns["mean_net"], bounds[1]))
    return f"mean per date {mean} % (95 %: {low} to {high})"


def _by_probabilities(e: Mapping[str, Any]) -> str:
    """The test that a verdict of skill rests on where the interval of the accuracy does not show it; else empty."""
    test, bounds = e.get("primary_test"), e.get("skill_ci95")
    if e.get("verdict") != "skill" or not test or not bounds or bounds[0] > 0:
        return ""
    p = test["p_value"]
    told = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    return f"; accuracy alone does not show it, the probabilities do ({test['name']} test, {told})"


def _numbers(e: Mapping[str, Any]) -> tuple[Number, ...]:
    best = _best_naive(e)
    returns = e.get("returns") or {}
    spent = e.get("epochs_spent_total")
    share = "over all phases and folds" if spent is None else f"{spent / YARDSTICK:.0%} of 60 trials x 50 = 3,000"
    numbers = [
        Number("Accuracy", percent(e.get("accuracy")), f"95 %: {interval(e.get('accuracy_ci95'))}"),
        Number("Best naive rule", percent(best[1] if best else None), words(best[0]) if best else "not recorded"),
        Number("Difference", points(e.get("skill")), f"95 %: {interval(e.get('skill_ci95'), signed=True)} points"),
        Number("Epochs spent", number(spent, ",d"), share),
    ]
    if returns:
        even = returns.get("break_even_cost_bps")
        sure = sure_of_return(returns)
        remark = f"{sure}; " if sure else ""
        remark += f"buy and hold {percent(returns.get('buy_and_hold'))}"
        remark += "" if even is None else f"; nothing left at {even:.1f} basis points"
        numbers.append(Number("Return after costs", percent(returns.get("net")), remark))
    if e.get("imbalanced"):
        numbers[:0] = [
            Number("Balanced accuracy", percent(e.get("balanced_accuracy")), "mean over the classes"),
            Number("MCC", number(e.get("mcc"), ".3f"), "0 is chance, 1 is perfect"),
            Number("Average precision", number(e.get("average_precision"), ".3f"), "the rarer class's share is chance"),
        ]
    if e.get("first_date") is not None:
        rows = f"{e['first_date']} to {e.get('last_date')}"
        numbers.insert(0, Number(f"{_kind(e).capitalize()} rows", number(e.get("n_rows"), ",d"), rows))
    return tuple(numbers)


def _notes(e: Mapping[str, Any], making: Mapping[str, Any]) -> tuple[str, ...]:
    """What is no warning but has to be said: openings of the sealed set, rows left out."""
    found = [*_opening_notes(e), *(str(note) for note in e.get("notes") or ())]
    return (*found, making["note"]) if making.get("note") else tuple(found)


def _opening_notes(e: Mapping[str, Any]) -> tuple[str, ...]:
    openings = e.get("test_openings")
    if openings is None:
        return ()
    count = len(openings) if isinstance(openings, list) else openings
    if count == 0:
        return ("The sealed test set has not been opened.",)
    if count == 1:
        return ("The sealed test set has been opened once.",)
    told = e.get("opened_in_words") or f"{count} times"
    return (
        f"The sealed test set has been opened {told}. If a choice was made after an earlier look, these numbers are "
        "too good: the more looks, the more likely one of them was lucky.",
    )
