"""Leak check of data, features and models: a short one before phase 1, the full one with --check-leaks.

It never reads sealed rows and depends only on data and configuration: size limits its extent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd

from scripts.commands.session import Session
from scripts.config.experiment import Experiment
from scripts.config.search_space import longest_window
from scripts.data.dataset import Dataset
from scripts.data.loading import Development
from scripts.data.preprocessing import Preprocessor
from scripts.data.splits import Split
from scripts.data.table import Table
from scripts.errors import InputError
from scripts.evaluation.leaks.changed_future import Finding, cut_dates, moment, moved_past, telling_columns
from scripts.evaluation.leaks.peeking_models import families, peeking_models
from scripts.random_keys import numpy_generator
from scripts.storage.artifacts import read_record, write_json
from scripts.storage.record_base import Made
from scripts.storage.records import Plan
from scripts.storage.run_dir import Command
from scripts.training.models.registry import applicable_space

MAX_WARNINGS = 10
_MORE = 50  # times as many rows, of a table that memory has no room for
COMPARED_ROWS = 20_000  # of the quick models that compare folds


@dataclass(frozen=True)
class Scope:
    """Extent of the check: maximum cells and rows of the table, cut dates, and the comparison of folds."""

    name: str
    max_rows: int
    max_cells: int
    n_cuts: int
    compares_folds: bool


QUICK = Scope("quick", 20_000, 1_000_000, 3, False)
FULL = Scope("full", 200_000, 20_000_000, 6, True)


@dataclass(frozen=True)
class FoldComparison:
    """Accuracies of a quick model on shuffled folds and on folds that separate dates (groups, without time)."""

    model: str
    n_rows: int
    n_folds: int
    majority: float
    shuffled: float
    apart: float
    apart_by: str

    @property
    def words(self) -> str:
        """Interpretation of the difference."""
        # Three standard errors of a difference between two accuracies near a half, and no less than a hundredth.
        tells = self.shuffled - self.apart > max(0.01, 3 * math.sqrt(0.5 / self.n_rows))
        means = "the difference is leakage between neighbouring rows, not skill" if tells else "no relevant difference"
        return (
            f"shuffled folds {self.shuffled:.3f}, {self.apart_by} folds {self.apart:.3f}: {means} "
            f"({self.model} on {self.n_rows} rows; most frequent class {self.majority:.3f})"
        )


@dataclass(frozen=True)
class LeakReport:
    """Extent and findings of the check.

    Attributes
    ----------
    n_rows, n_features : int
        Of the rows looked at.
    cuts : tuple of str
        Last dates that stayed as they are; empty without time.
    strongest_column : (str, float)
        Column that predicts the label best, and its AUC on training rows.
    notes : tuple of str
        What could not be looked at.
    """

    scope: str
    n_rows: int
    n_features: int
    cuts: tuple[str, ...]
    families: tuple[str, ...]
    strongest_column: tuple[str, float]
    findings: tuple[Finding, ...]
    folds: FoldComparison | None
    notes: tuple[str, ...]

    @property
    def warnings(self) -> list[str]:
        """Return the findings as text, proven leaks first, up to a maximum number."""
        ordered = sorted(self.findings, key=lambda finding: not finding.proven)
        lines = [("leak: " if finding.proven else "may be a leak: ") + finding.words for finding in ordered]
        more = len(lines) - MAX_WARNINGS
        return [*lines[:MAX_WARNINGS], f"and {more} more in leak_check.json"] if more > 0 else lines

    @property
    def leaks(self) -> list[str]:
        """The warnings of proven leaks."""
        return self.warnings[: min(MAX_WARNINGS, sum(finding.proven for finding in self.findings))]

    def lines(self) -> list[str]:
        """The report for people."""
        data = [f for f in self.findings if f.kind not in ("column", "model")]
        moved = f"{len(data)} quantities move" if data else "nothing moves"
        cuts = f"{moved} in rows up to {', '.join(self.cuts)}" if self.cuts else "rows without time have no past"
        name, area = self.strongest_column
        peeking = {f.name for f in self.findings if f.kind == "model"}
        steady = [name for name in self.families if name not in peeking]
        lines = {
            "rows": f"{self.n_rows} development rows, {self.n_features} features",
            "changed future": cuts,
            "single columns": f"{name} predicts the label best, AUC {area:.3f}",
            "models": f"same output for a row in any batch: {', '.join(steady) or 'none'}",
            "shuffled rows": self.folds.words if self.folds else "",
        }
        return [f"{what:>17}  {text}" for what, text in lines.items() if text] + [f"note: {n}" for n in self.notes]


def check_leaks(session: Session, experiment: Experiment, development: Development, origin: Made) -> None:
    """Run the whole check as a command.

    Raises
    ------
    InputError
        A leak was found; with --strict, also for what may be one.
    """
    report = leak_report(development, experiment, FULL)
    _write(session, report, origin)
    for line in report.lines():
        session.echo(line)
    for warning in report.warnings:
        session.echo(f"WARNING {warning}")
    session.echo(f"results in {session.run_dir.leak_check}")
    session.keep([session.run_dir.leak_check], warnings=report.warnings)
    _stop(report.warnings if session.arguments.strict else report.leaks)
    session.conclude(session.same_command("--check-leaks"), [session.run_dir.leak_check])


def leak_warnings(session: Session, experiment: Experiment, development: Development, origin: Made) -> list[str]:
    """The short check before phase 1: its warnings; those of the plan if the phase was started before.

    Raises
    ------
    InputError
        With --strict, if there is any warning.
    """
    plan = session.run_dir.tuning / "plan.json"
    if plan.exists():
        warnings = read_record(plan, Command.TUNING, Plan).warnings
    elif experiment.data.placebo is not None:  # its labels are other rows' on purpose
        return []
    else:
        report = leak_report(development, experiment, QUICK)
        _write(session, report, origin)
        warnings = report.warnings
        if not warnings:
            looked = f"{report.n_features} features and {', '.join(report.families)} on {report.n_rows} rows"
            session.echo(f"leak check: nothing found ({looked}); --check-leaks checks more")
    for warning in warnings:
        session.echo(f"WARNING {warning}")
    _stop(warnings if session.arguments.strict else [])
    return warnings


def leak_report(development: Development, experiment: Experiment, scope: Scope) -> LeakReport:
    """Look for leaks; the arguments decide the result."""
    config, seed, table = experiment.data, experiment.seed, development.table
    development = replace(development, config=config.model_copy(update={"placebo": None}))
    window = longest_window(experiment.search_space)
    time, group = ("date", "ticker") if config.source != "table" else (config.time_column, config.group_column)

    def build(frame: pd.DataFrame) -> Dataset:
        return development.dataset(window, frame)

    most = min(scope.max_rows, max(1000, scope.max_cells // len(table.columns)))
    try:
        frame = _whole(table, part_of(table.frame, time, group, most))
        dataset = build(frame)
        train = dataset.tail_split(experiment.tuning.validation_fraction, seed)[0]
    except InputError:  # such as a missing rare class; problems of all rows are reported when they are built
        frame = _whole(table, part_of(table.frame, time, group, _MORE * most))
        dataset = build(frame)
        train = dataset.tail_split(experiment.tuning.validation_fraction, seed)[0]
    cuts = cut_dates(dataset, scope.n_cuts)
    findings, notes = moved_past(frame, build, [c for c in (time, group) if c], cuts, seed) if cuts else ([], [])
    columns, strongest = telling_columns(dataset, train, config.source == "table" and dataset.ordered)
    space = applicable_space(experiment.search_space, dataset.ordered)[0]
    peeks = peeking_models(dataset, space, experiment.models, cuts[len(cuts) // 2] if cuts else None, seed)
    folds = None
    if scope.compares_folds and (cuts or dataset.groups):
        try:
            small = build(part_of(frame, time, group, COMPARED_ROWS))
            folds = compare_folds(small, experiment.extended.cross_validation_folds, seed)
        except InputError as error:  # too few dates or groups for the folds, which phase 2 will also report
            notes = [*notes, f"folds are not compared: {error}"]
    return LeakReport(
        scope.name,
        len(dataset.y),
        len(dataset.feature_names),
        tuple(moment(cut) for cut in cuts),
        tuple(families(space)),
        strongest,
        (*findings, *columns, *peeks),
        folds,
        tuple(notes),
    )


def _whole(table: Table, part: pd.DataFrame) -> pd.DataFrame:
    """Return all columns of a part of the rows."""
    return table.take(part.index.to_numpy()).whole()


def part_of(frame: pd.DataFrame, time: str | None, group: str | None, most: int) -> pd.DataFrame:
    """Return at most `most` rows of whole series, from the longest to the shortest; of two or fewer the last rows."""
    if len(frame) > most and group is not None:
        sizes = frame[group].value_counts()
        count = max(2, int(most / sizes.mean()))
        named = sizes.index[np.linspace(0, len(sizes) - 1, min(count, len(sizes))).astype(int)]
        frame = frame[frame[group].isin(named)]
    if len(frame) <= most:
        return frame
    if time is None:
        return frame.iloc[:: math.ceil(len(frame) / most)]
    return frame[frame[time] > np.sort(frame[time].to_numpy())[-most - 1]]


def compare_folds(dataset: Dataset, n_folds: int, seed: int) -> FoldComparison:
    """Quick models on shuffled folds and on those of phase 2; the model whose accuracy differs most."""
    order = numpy_generator(seed, "leak check", "shuffled folds").permutation(dataset.rows)
    parts = np.array_split(order, n_folds)
    shuffled = _accuracies(dataset, [(np.setdiff1d(order, part), part) for part in parts], seed)
    apart = _accuracies(dataset, dataset.folds("kfold", n_folds, seed), seed)
    model = max(apart, key=lambda name: shuffled[name] - apart[name])
    majority = float(np.bincount(dataset.y[order]).max() / len(order))
    by = "dated" if dataset.has_time else "grouped"
    return FoldComparison(model, len(order), n_folds, majority, shuffled[model], apart[model], by)


def _accuracies(dataset: Dataset, folds: Sequence[Split], seed: int) -> dict[str, float]:
    """Share of hits over the test rows of all folds, by model."""
    from scripts.evaluation.reference_models import untuned_models  # scikit-learn takes a second to import

    hits: dict[str, list[np.ndarray]] = {}
    for train, test in folds:
        scaling = Preprocessor.fit(dataset.x, dataset.categorical, train)
        x_train, x_test = (scaling.transform(dataset.x[rows]) for rows in (train, test))
        predictions = untuned_models(x_train, dataset.y[train], x_test, seed % 2**32, dataset.n_classes)
        for name, probabilities in predictions.items():
            hits.setdefault(name, []).append(probabilities.argmax(axis=1) == dataset.y[test])
    return {name: float(np.concatenate(parts).mean()) for name, parts in hits.items()}


def _write(session: Session, report: LeakReport, origin: Made) -> None:
    write_json(session.run_dir.leak_check, origin.body() | asdict(report) | {"warnings": report.warnings})


def _stop(warnings: Sequence[str]) -> None:
    """Raise InputError if there is a reason to stop."""
    if warnings:
        more = f" ({len(warnings) - 1} more)" if len(warnings) > 1 else ""
        raise InputError(warnings[0] + more, "leak check", f"fix it, then run {Command.TUNING} --check-leaks")
