"""Content of the analysis report: the decision, its cost and reasons, and the search of phase 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scripts.extended_training.out_of_fold import FoldSpan
from scripts.reporting.charts.cross_validation import fold_figure, learning_curve_figure, rank_figure
from scripts.reporting.charts.hyperparameters import importance_figure, parallel_figure, slice_figure
from scripts.reporting.charts.search import rung_figure, rung_tables, search_figure
from scripts.reporting.figures import words
from scripts.reporting.page import (
    Column,
    Number,
    Page,
    Section,
    Table,
    duration,
    interval,
    number_cell,
    percent,
    points,
    present,
    provenance,
    table,
    text_column,
    with_content,
)
from scripts.reporting.sections.candidates import better_section, choice_section
from scripts.reporting.sections.shared import (
    NAIVE_EPOCHS,
    NAIVE_TRIALS,
    YARDSTICK,
    PhaseCost,
    cost_section,
    costs_of_search,
    total_cost,
    warnings_section,
)
from scripts.storage.extended_record import Configuration, Extended
from scripts.storage.records import BestConfig, Trial, Trials


@dataclass(frozen=True)
class AnalysisReport:
    """Data of the analysis report.

    Attributes
    ----------
    importance : mapping
        Share of the explained variation per hyperparameter, from 0 to 1.
    credibility : sequence of str
        Corrections for multiple testing, as sentences.
    confidence_set : sequence of int
        Model confidence set at 90%.
    warnings : sequence of str
        Warnings for the reader.
    """

    trials: Trials
    extended: Extended
    best: BestConfig
    importance: Mapping[str, float] = field(default_factory=dict)
    credibility: Sequence[str] = ()
    confidence_set: Sequence[int] = ()
    fold_spans: Sequence[FoldSpan] = ()
    warnings: Sequence[str] = ()

    @property
    def chosen(self) -> Configuration:
        """Return the configuration of best_config.json; the first one where phase 2 has no such trial."""
        number = self.best.selection.trial_number
        return next((c for c in self.extended.configurations if c.trial_number == number), self.extended.chosen)


def analysis_page(content: AnalysisReport) -> Page:
    """Put the analysis report together."""
    trials, extended, chosen = content.trials, content.extended, content.chosen
    candidates, constant = extended.configurations, extended.best_constant_accuracy
    costs = costs_of_search(trials, extended)
    finished = [c for c in candidates if c.is_complete]
    sections = (
        better_section(extended, chosen),
        cost_section(costs),
        choice_section(content.best.selection, extended, chosen, content.confidence_set),
        Section("Multiple-testing correction", tuple(content.credibility)),
        Section("Learning curves", figures=present([learning_curve_figure(candidates, constant)])),
        _search_section(trials, constant),
        _hyperparameter_section(content),
        Section("Phase 1 against phase 2", figures=present([rank_figure(finished, trials.trials)])),
        Section("Folds over time", figures=present([fold_figure(candidates, content.fold_spans, chosen.trial_number)])),
        warnings_section(content.warnings, ()),
    )
    return Page(
        title="Analysis of phases 1 and 2: which configuration to train",
        verdict=_verdict(chosen, extended.best_naive),
        tone="good" if _ahead(chosen) else "bad",
        warnings=tuple(content.warnings),
        numbers=_numbers(costs, chosen, constant),
        sections=with_content(sections),
        footer=provenance(content.best),
    )


def _search_section(trials: Trials, constant: float) -> Section:
    tables = (*rung_tables(trials), *_failure_tables(trials.trials))
    figures = present([search_figure(trials, constant), rung_figure(trials)])
    return Section("Rungs and promotions: the search of phase 1", _search_notes(trials), tables, figures)


def _hyperparameter_section(content: AnalysisReport) -> Section:
    usable, importance, chosen = content.trials.usable, content.importance, content.chosen
    space = content.best.experiment.search_space
    constant = content.extended.best_constant_accuracy
    figures = (
        importance_figure(importance),
        parallel_figure(usable, importance, space, chosen.trial_number),
        slice_figure(usable, importance, constant, space, chosen.config),
    )
    return Section("Hyperparameter importance", figures=present(figures))


def _ahead(candidate: Configuration) -> bool:
    """Return True if the 95% interval of its lead over the best naive rule is above zero; False if unknown."""
    return candidate.skill_ci95 is not None and candidate.skill_ci95[0] > 0


def _verdict(chosen: Configuration, best_naive: str | None) -> str:
    text = (
        f"Train the {chosen.family} of trial {chosen.trial_number}: validation accuracy {percent(chosen.avg_accuracy)} "
        f"with a standard error of {points(chosen.accuracy_se, signed=False)} (by blocks of dates, "
        f"{len(chosen.folds)} folds)"
    )
    bounds = interval(chosen.skill_ci95, signed=True)
    text += f"; it leads the best naive rule ({words(best_naive or 'a constant')}) by {points(chosen.skill)} ({bounds})"
    return text + ("." if _ahead(chosen) else ", which is not a significant lead.")


def _numbers(costs: tuple[PhaseCost, ...], chosen: Configuration, constant: float) -> tuple[Number, ...]:
    spent = total_cost(costs)
    share = f"{spent.epochs / YARDSTICK:.0%} of {NAIVE_TRIALS} trials x {NAIVE_EPOCHS} = {YARDSTICK:,}"
    error = f"standard error {points(chosen.accuracy_se, signed=False)}"
    return (
        Number("Validation accuracy", percent(chosen.avg_accuracy), error),
        Number("Best constant", percent(constant), "the best class of each fold in hindsight"),
        Number("Epochs spent", f"{spent.epochs:,}", share),
        Number("Training time", duration(spent.seconds), "summed over all workers"),
    )


def _search_notes(trials: Trials) -> tuple[str, ...]:
    records = trials.trials
    states = [record.state for record in records]
    counts = {state: states.count(state) for state in ("complete", "stopped", "failed")}
    note = f"{len(records)} trials: {counts['complete']} ran all their epochs"
    if rungs := trials.rungs:
        paused = sum(r.state == "complete" and r.epochs < rungs[-1] for r in records)
        note = f"{len(records)} trials: {paused} paused at a rung, {counts['complete'] - paused} reached the last one"
    return (f"{note}, {counts['stopped']} stopped early, {counts['failed']} failed and were not ranked.",)


def _failure_tables(trials: Sequence[Trial]) -> tuple[Table, ...]:
    failed = table(
        "Failed trials.",
        [t for t in trials if t.state == "failed"][:100],
        ("trial", lambda t: number_cell(t.number, "d")),
        (text_column("failure"), lambda t: t.failure or "-"),
        (Column("epochs", "spent before"), lambda t: number_cell(t.epochs)),
    )
    return (failed,) if failed.rows else ()
