"""What the analysis report says: the decision, its cost, its reasons, and what the search of phase 1 found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scripts.reporting.analysis_figures import (
    importance_figure,
    learning_curve_figure,
    rank_figure,
    slice_figure,
)
from scripts.reporting.page import (
    Cell,
    Column,
    Number,
    Page,
    Section,
    Table,
    TableRow,
    duration,
    number_cell,
    percent,
    percent_cell,
    plain,
    points,
    present,
    provenance,
    value_cell,
)
from scripts.reporting.racing_section import race_state, racing_in_words
from scripts.reporting.search_figures import rung_figure, rung_tables, search_figure

_NAIVE_TRIALS, _NAIVE_EPOCHS = 60, 50  # the search without phases that the cost is held against


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
    warnings : sequence of str
        What the reader must know before believing anything.
    """

    trials: Mapping[str, Any]
    extended: Mapping[str, Any]
    best: Mapping[str, Any]
    importance: Mapping[str, float] = field(default_factory=dict)
    credibility: Sequence[str] = ()
    confidence_set: Sequence[int] = ()
    warnings: Sequence[str] = ()


def analysis_page(content: AnalysisReport) -> Page:
    """Put the analysis report together; whatever is missing from the artifacts is left out."""
    trials, extended, best = plain(content.trials), plain(content.extended), plain(content.best)
    importance = plain(content.importance)
    records = trials.get("trials") or []
    candidates = extended.get("configurations") or []
    constant = extended.get("best_constant_accuracy")
    chosen = _chosen(candidates, best)
    phase_1 = present(
        [
            search_figure(trials, constant),
            rung_figure(trials),
            importance_figure(importance),
            slice_figure(records, importance, constant, (best.get("experiment") or {}).get("search_space") or {}),
            rank_figure([c for c in candidates if c.get("state") != "stopped"], records),
        ]
    )
    tables = (*rung_tables(trials), *_failure_tables(records))
    sections = (
        Section("What it cost", _cost_notes(), (_cost_table(trials, extended),)),
        Section(
            "Why this configuration",
            _reasons(best, extended),
            (_candidate_table(candidates, chosen, constant, content.confidence_set),),
        ),
        Section("How much of it is luck", tuple(content.credibility)),
        Section("The candidates' settings", tables=(_settings_table(candidates, chosen),)),
        Section("Learning curves", figures=present([learning_curve_figure(candidates, constant)])),
        Section("The search of phase 1", _search_notes(trials), tables, phase_1),
    )
    return Page(
        title="Which configuration to train: analysis of phases 1 and 2",
        verdict=_verdict(chosen, constant),
        tone="good" if _lead(chosen, constant) > 0 else "bad",
        warnings=tuple(str(w) for w in content.warnings),
        numbers=_numbers(trials, extended, chosen, constant),
        sections=tuple(s for s in sections if s.paragraphs or s.figures or any(t.rows for t in s.tables)),
        footer=provenance(best) or provenance(extended),
    )


def _chosen(candidates: Sequence[Mapping[str, Any]], best: Mapping[str, Any]) -> Mapping[str, Any]:
    number = (best.get("selection") or {}).get("trial_number")
    matching = [c for c in candidates if c.get("trial_number") == number]
    return matching[0] if matching else {"trial_number": number, "config": best.get("hyperparameters") or {}}


def _standard_error(candidate: Mapping[str, Any]) -> float | None:
    if candidate.get("accuracy_se") is not None:
        return float(candidate["accuracy_se"])
    folds, spread = len(candidate.get("folds") or ()), candidate.get("std_accuracy")
    return spread / math.sqrt(folds) if folds and spread is not None else None


def _lead(candidate: Mapping[str, Any], constant: float | None) -> float:
    """Accuracy above always answering one class, less two standard errors; not positive where anything is unknown."""
    accuracy, error = candidate.get("avg_accuracy"), _standard_error(candidate)
    return -1.0 if accuracy is None or error is None or constant is None else accuracy - 2 * error - constant


def _verdict(chosen: Mapping[str, Any], constant: float | None) -> str:
    family = (chosen.get("config") or {}).get("family", "model")
    text = f"Train the {family} of trial {chosen.get('trial_number', '?')}"
    if chosen.get("avg_accuracy") is None:
        return f"{text}; its accuracy is not recorded."
    text += (
        f": validation accuracy {percent(chosen['avg_accuracy'])} with a standard error of "
        f"{points(_standard_error(chosen), signed=False)} (by blocks of dates, {len(chosen.get('folds') or ())} folds)"
    )
    if constant is None:
        return f"{text}; the accuracy of always answering one class is not recorded."
    difference = points(chosen["avg_accuracy"] - constant)
    text += f"; always answering one class reaches {percent(constant)}, so the lead is {difference}"
    return text + ("." if _lead(chosen, constant) > 0 else ", which is within two standard errors of none.")


def _numbers(
    trials: Mapping[str, Any], extended: Mapping[str, Any], chosen: Mapping[str, Any], constant: float | None
) -> tuple[Number, ...]:
    spent = (trials.get("epochs_spent") or 0) + (extended.get("epochs_spent") or 0)
    naive = _NAIVE_TRIALS * _NAIVE_EPOCHS
    seconds = _seconds(trials, extended)
    error = _standard_error(chosen)
    return (
        Number(
            "Validation accuracy",
            percent(chosen.get("avg_accuracy")),
            f"standard error {points(error, signed=False)}",
        ),
        Number("Always one class", percent(constant), "the baseline, on the same rows"),
        Number(
            "Epochs spent", f"{spent:,}", f"{spent / naive:.0%} of {_NAIVE_TRIALS} trials x {_NAIVE_EPOCHS} = {naive:,}"
        ),
        Number("Training time", duration(seconds), "summed over all workers"),
    )


def _seconds(trials: Mapping[str, Any], extended: Mapping[str, Any]) -> float | None:
    parts = [trials.get("duration_s"), *(c.get("duration_s") for c in extended.get("configurations") or ())]
    known = [p for p in parts if p is not None]
    return sum(known) if known else None


def _reasons(best: Mapping[str, Any], extended: Mapping[str, Any]) -> tuple[str, ...]:
    selection = best.get("selection") or {}
    reason, failed = selection.get("reason"), extended.get("n_failed_configurations") or 0
    told = [f"The choice fell on {reason}." if reason else "The reason of the choice is not recorded."]
    if decision := selection.get("decision"):
        told.append(f"How its probabilities become decisions: {decision['reason']}.")
    if failed:
        told.append(f"{failed} further candidates failed in a fold and were left out.")
    if copies := extended.get("n_duplicates"):
        told.append(f"{copies:,} tested rows have exactly the features of a row that the same fold trained on.")
    return (*told, *racing_in_words(extended))


def _candidate_table(
    candidates: Sequence[Mapping[str, Any]],
    chosen: Mapping[str, Any],
    constant: float | None,
    confidence_set: Sequence[int],
) -> Table:
    columns = (
        Column("rank"), Column("trial"), Column("model", numeric=False), Column("racing", numeric=False),
        Column("accuracy", "mean of folds"),
        Column("standard error"), Column("behind the best", "paired"), Column("s.e. of it"),
        Column("tied", "90 % set", numeric=False), Column("spread", "s.d. of folds"), Column("lowest fold"),
        Column("highest fold"), Column("lead", "over one class"), Column("validation loss", "nats"),
        Column("training loss", "nats"), Column("return", "net of costs"), Column("parameters"),
        Column("operations", "per row"), Column("training"), Column("inference", "µs per row"),
    )  # fmt: skip
    rows = []
    for c in candidates:
        accuracy, seconds = c.get("avg_accuracy"), c.get("duration_s")
        folds = [f["accuracy"] for f in c.get("folds") or () if f.get("accuracy") is not None]
        # What was stopped was tested on fewer rows than the constant answer.
        lead = None
        if accuracy is not None and constant is not None and c.get("state") != "stopped":
            lead = accuracy - constant
        cells = (
            number_cell(c.get("rank"), "d"), number_cell(c.get("trial_number"), "d"),
            Cell(str((c.get("config") or {}).get("family", "-"))), Cell(race_state(c)), percent_cell(accuracy, 2),
            percent_cell(_standard_error(c), 2), Cell(points(c.get("behind"), signed=False), c.get("behind")),
            percent_cell(c.get("behind_se"), 2), Cell("yes" if c.get("trial_number") in confidence_set else "no"),
            percent_cell(c.get("std_accuracy"), 2),
            percent_cell(min(folds, default=None), 2), percent_cell(max(folds, default=None), 2),
            Cell(points(lead), lead), number_cell(c.get("avg_val_loss"), ".4f"),
            number_cell(c.get("avg_train_loss"), ".4f"), percent_cell(c.get("avg_simulated_return")),
            number_cell(c.get("n_parameters"), ",d"), number_cell(c.get("operations_per_row"), ",d"),
            Cell(duration(seconds), seconds),
            number_cell(c.get("inference_us_per_row"), ".2f"),
        )  # fmt: skip
        rows.append(TableRow(cells, chosen=c is chosen))
    baseline = "not recorded" if constant is None else percent(constant, 2)
    caption = (
        f"Cross-validated candidates, the chosen one shaded. Always answering one class: {baseline}. Standard errors "
        "are by blocks of dates; that of being behind counts what both models share. Tied: it may be the best by log "
        "loss. What racing stopped is never chosen, and its figures are of fewer folds; with several networks a fold, "
        "figures are means over single networks."
    )
    return Table(caption, columns, tuple(rows))


def _settings_table(candidates: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any]) -> Table:
    names = sorted({name for c in candidates for name in c.get("config") or ()})
    heads = (Column(f"trial {c.get('trial_number', '?')}", "chosen" if c is chosen else "") for c in candidates)
    rows = (
        TableRow((Cell(name), *(value_cell((c.get("config") or {}).get(name)) for c in candidates))) for name in names
    )
    caption = "Hyperparameters of each candidate."
    return Table(caption, (Column("hyperparameter", numeric=False), *heads), tuple(rows))


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


def _cost_notes() -> tuple[str, ...]:
    return (
        "Every training epoch of every trial and of every fold counts, also those of failed trials. "
        f"The comparison is {_NAIVE_TRIALS} trials of {_NAIVE_EPOCHS} epochs each, without phases.",
    )


def _cost_table(trials: Mapping[str, Any], extended: Mapping[str, Any]) -> Table:
    first, second = trials.get("epochs_spent"), extended.get("epochs_spent")
    passes = (trials.get("data_passes"), extended.get("data_passes"))
    both = None if None in passes else sum(p for p in passes if p is not None)
    parts = (
        ("phase 1: search", first, passes[0], _seconds(trials, {})),
        ("phase 2: cross-validation", second, passes[1], _seconds({}, extended)),
        ("together", (first or 0) + (second or 0), both, _seconds(trials, extended)),
    )
    naive = _NAIVE_TRIALS * _NAIVE_EPOCHS
    rows = [
        TableRow(
            (
                Cell(name),
                number_cell(epochs, ",d"),
                percent_cell(None if epochs is None else epochs / naive, 0),
                number_cell(done, ",.0f"),
                Cell(duration(seconds), seconds),
            )
        )
        for name, epochs, done, seconds in parts
    ]
    columns = (
        Column("part", numeric=False),
        Column("epochs"),
        Column("share", f"of {naive:,} epochs"),
        Column("passes", "over all development rows"),
        Column("training"),
    )
    return Table("Epochs and training time, summed over all workers.", columns, tuple(rows))
