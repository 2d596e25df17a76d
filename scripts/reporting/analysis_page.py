"""What the analysis report says: the decision, its cost, its reasons, and what the search of phase 1 found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scripts.reporting.charts.cross_validation import fold_figure, rank_figure
from scripts.reporting.charts.hyperparameters import importance_figure, parallel_figure, slice_figure
from scripts.reporting.charts.learning_curves import learning_curve_figure
from scripts.reporting.charts.search import rung_figure, rung_tables, search_figure
from scripts.reporting.figures import words
from scripts.reporting.page import (
    Cell,
    Column,
    Number,
    Page,
    Section,
    Table,
    TableRow,
    duration,
    interval,
    number_cell,
    percent,
    plain,
    points,
    present,
    provenance,
    with_content,
)
from scripts.reporting.sections.candidates import better_section, choice_section, standard_error
from scripts.reporting.sections.costs import (
    NAIVE_EPOCHS,
    NAIVE_TRIALS,
    YARDSTICK,
    PhaseCost,
    cost_section,
    costs_of_search,
    together,
)
from scripts.reporting.sections.warnings import warnings_section
from scripts.storage.record_base import Made


@dataclass(frozen=True)
class AnalysisReport:
    """What the analysis report is made of.

    Attributes
    ----------
    trials : mapping
        Content of trials.json; a trial may have a `history`.
    extended : mapping
        Content of extended_training_results.json.
    best : mapping
        Content of best_config.json.
    importance : mapping
        Share of the explained variation per hyperparameter, from 0 to 1.
    credibility : sequence of str
        How much of the result may be luck, in sentences.
    confidence_set : sequence of int
        Trials among which the best one is with 90 % probability.
    fold_spans : sequence of mappings
        What each fold tests: `fold`, `first_date`, `last_date`, `best_constant`.
    warnings : sequence of str
        What the reader must know before believing anything.
    """

    trials: Mapping[str, Any]
    extended: Mapping[str, Any]
    best: Mapping[str, Any]
    importance: Mapping[str, float] = field(default_factory=dict)
    credibility: Sequence[str] = ()
    confidence_set: Sequence[int] = ()
    fold_spans: Sequence[Mapping[str, Any]] = ()
    warnings: Sequence[str] = ()


def analysis_page(content: AnalysisReport) -> Page:
    """Put the analysis report together; whatever is missing from the artifacts is left out."""
    trials, extended, best = plain(content.trials), plain(content.extended), plain(content.best)
    candidates = extended.get("configurations") or []
    constant = extended.get("best_constant_accuracy")
    chosen = _chosen(candidates, best)
    costs = costs_of_search(trials, extended)
    finished = [c for c in candidates if c.get("state") != "stopped"]
    records = trials.get("trials") or []
    fold = fold_figure(candidates, plain(content.fold_spans), chosen.get("trial_number"))
    sections = (
        better_section(extended, chosen),
        cost_section(costs),
        choice_section(best, extended, chosen, content.confidence_set),
        Section("How much of it is luck", tuple(content.credibility)),
        Section("Learning curves", figures=present([learning_curve_figure(candidates, constant)])),
        _search_section(trials, constant),
        _hyperparameter_section(content, records, constant, chosen),
        Section("Phase 1 against phase 2", figures=present([rank_figure(finished, records)])),
        Section("Folds over time", figures=present([fold])),
        warnings_section(content.warnings, ()),
    )
    return Page(
        title="Which configuration to train: analysis of phases 1 and 2",
        verdict=_verdict(chosen, extended.get("best_naive")),
        tone="good" if _ahead(chosen) else "bad",
        warnings=tuple(str(w) for w in content.warnings),
        numbers=_numbers(costs, chosen, constant),
        sections=with_content(sections),
        footer=provenance(Made.model_validate(best)),
    )


def _search_section(trials: Mapping[str, Any], constant: float | None) -> Section:
    tables = (*rung_tables(trials), *_failure_tables(trials.get("trials") or []))
    figures = present([search_figure(trials, constant), rung_figure(trials)])
    return Section("Rungs and promotions: the search of phase 1", _search_notes(trials), tables, figures)


def _hyperparameter_section(
    content: AnalysisReport, records: Sequence[Mapping[str, Any]], constant: float | None, chosen: Mapping[str, Any]
) -> Section:
    importance = plain(content.importance)
    space = (plain(content.best).get("experiment") or {}).get("search_space") or {}
    figures = (
        importance_figure(importance),
        parallel_figure(records, importance, space, chosen.get("trial_number")),
        slice_figure(records, importance, constant, space, chosen.get("config") or {}),
    )
    return Section("What mattered", figures=present(figures))


def _chosen(candidates: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> Mapping[str, Any]:
    number = (best.get("selection") or {}).get("trial_number")
    matching = [c for c in candidates if c.get("trial_number") == number]
    return matching[0] if matching else {"trial_number": number, "config": best.get("hyperparameters") or {}}


def _ahead(candidate: Mapping[str, Any]) -> bool:
    """Whether the 95 % interval of its lead over the best naive rule lies above zero; False where it is unknown."""
    lowest = (candidate.get("skill_ci95") or [None])[0]
    return lowest is not None and lowest > 0


def _verdict(chosen: Mapping[str, Any], best_naive: str | None) -> str:
    family = (chosen.get("config") or {}).get("family", "model")
    text = f"Train the {family} of trial {chosen.get('trial_number', '?')}"
    if chosen.get("avg_accuracy") is None:
        return f"{text}; its accuracy is not recorded."
    text += (
        f": validation accuracy {percent(chosen['avg_accuracy'])} with a standard error of "
        f"{points(standard_error(chosen), signed=False)} (by blocks of dates, {len(chosen.get('folds') or ())} folds)"
    )
    if chosen.get("skill") is None:
        return f"{text}; the accuracy of the naive rules is not recorded."
    bounds = interval(chosen.get("skill_ci95"), signed=True)
    text += (
        f"; it leads the best naive rule ({words(best_naive or 'a constant')}) by {points(chosen['skill'])} ({bounds})"
    )
    return text + ("." if _ahead(chosen) else ", which shows no lead.")


def _numbers(costs: tuple[PhaseCost, ...], chosen: Mapping[str, Any], constant: float | None) -> tuple[Number, ...]:
    spent = together(costs)
    share = f"{(spent.epochs or 0) / YARDSTICK:.0%} of {NAIVE_TRIALS} trials x {NAIVE_EPOCHS} = {YARDSTICK:,}"
    known = [cost.seconds for cost in costs if cost.seconds is not None]
    error = f"standard error {points(standard_error(chosen), signed=False)}"
    return (
        Number("Validation accuracy", percent(chosen.get("avg_accuracy")), error),
        Number("Always one class", percent(constant), "the best for each fold, told afterwards"),
        Number("Epochs spent", f"{spent.epochs or 0:,}", share),
        Number("Training time", duration(sum(known) if known else None), "summed over all workers"),
    )


def _search_notes(trials: Mapping[str, Any]) -> tuple[str, ...]:
    records = trials.get("trials") or ()
    if not records:
        return ()
    states = [record.get("state") for record in records]
    counts = {state: states.count(state) for state in ("complete", "stopped", "failed")}
    told = f"{len(records)} trials: {counts['complete']} ran all their epochs"
    if rungs := trials.get("rungs"):
        paused = sum(r.get("state") == "complete" and (r.get("epochs") or 0) < rungs[-1] for r in records)
        told = f"{len(records)} trials: {paused} paused at a rung, {counts['complete'] - paused} came to the last one"
    return (f"{told}, {counts['stopped']} were stopped early, {counts['failed']} failed and were never ranked.",)


def _failure_tables(records: Sequence[Mapping[str, Any]]) -> tuple[Table, ...]:
    rows = tuple(
        TableRow((number_cell(r.get("number"), "d"), Cell(str(r.get("failure") or "-")), number_cell(r.get("epochs"))))
        for r in records
        if r.get("state") == "failed"
    )
    columns = (Column("trial"), Column("failure", numeric=False), Column("epochs", "spent before"))
    return (Table("Failed trials.", columns, rows[:100]),) if rows else ()
