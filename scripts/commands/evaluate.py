"""Evaluation on the sealed test set: opened only by evaluate_model.py, counted, reported with baselines."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from scripts.commands.dry_run import show_plan_table
from scripts.commands.evaluation_summary import summarise
from scripts.commands.experiment import load_later, new_file_config
from scripts.commands.lineage import check_lineage
from scripts.commands.next_experiment import inherit_openings
from scripts.commands.phase import check_data, make_fresh, memory_bound
from scripts.commands.session import Session
from scripts.config.experiment import DataConfig, Experiment
from scripts.config.search_space import longest_window
from scripts.data.dataset import Dataset
from scripts.data.files.mapped_rows import MemoryBound
from scripts.data.labels import FILLED_AT_CLOSE
from scripts.data.loading import data_sha256, load_development, load_other, load_sealed
from scripts.errors import InputError
from scripts.evaluation.latency import costed_ensemble, measure_latency
from scripts.evaluation.reference_models import ReferenceModel, in_memory, tuned_references
from scripts.evaluation.scores import Predictions, Scores, score
from scripts.evaluation.seal_openings import Look, count_opening, known_openings, record_result
from scripts.evaluation.trading_scores import TradedRows
from scripts.evaluation.training_record import read_training_record
from scripts.evaluation.warnings import fill_caveat, openings_caveat, shortfall
from scripts.execution.tensorboard import TensorBoardLog
from scripts.final_training.model import FinalModel, make_model, read_model
from scripts.reporting.evaluation_page import TrainingRecord
from scripts.reporting.figures import NO_PICTURES, can_draw
from scripts.reporting.model_card import write_model_card
from scripts.reporting.report import EvaluationReport, figures_for_tensorboard, write_evaluation_report
from scripts.reporting.tensorboard_images import write_figures_as_images
from scripts.storage.artifacts import read_record, write_record
from scripts.storage.durable_files import file_sha256, read_regular, sha256, write_bytes
from scripts.storage.evaluation_record import Evaluation, Opened, ReferenceRows
from scripts.storage.records import Plan
from scripts.storage.result_records import Selection
from scripts.storage.run_dir import Command, RunDir
from scripts.storage.score_records import Scored
from scripts.storage.spreadsheet_cells import class_cells, escape_formulas

# Fields of a result in the ledger of openings
_RECORDED = ("accuracy", "skill", "skill_ci95", "skill_p_value", "verdict", "corrected_for_openings")
_FILES = ("predictions.csv", "report.html", "model_card.md")  # besides the results, which contain their digests
_MAX_BYTES = 2**34


@dataclass(frozen=True)
class TestData:
    """Rows to evaluate.

    Attributes
    ----------
    development : Dataset
        Rows that the model was trained on.
    dataset : Dataset
        Test rows.
    opens_seal : bool
        Whether sealed rows are among them.
    notes : tuple of str
        Notes about the data that the earlier phases printed too.
    warnings : tuple of str
        Notes about the test rows only.
    """

    development: Dataset
    dataset: Dataset
    opens_seal: bool
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def evaluate(session: Session) -> None:
    """Evaluate the final model; write predictions.csv, report.html, model_card.md and, last, the results."""
    run_dir = session.run_dir
    path, other = session.arguments.model or run_dir.final_model, session.arguments.data
    content = read_model(path)
    # Refuses flags that would have no effect; what is left is the model's own experiment, its data perhaps moved.
    experiment = load_later(session, content.experiment, Command.FINAL)
    model = make_model(content, path, experiment.models)
    older = check_lineage(session, path, content)
    if session.arguments.dry_run:
        rows = {"opens": str(other or "the sealed test set"), "model": str(path), "trains": "two reference models"}
        files = [run_dir.evaluation_results, run_dir.predictions, run_dir.evaluation / "report.html", run_dir.openings]
        show_plan_table(session, rows, files)
        return
    opened = Opened(model_sha256=file_sha256(path), data="sealed" if other is None else data_sha256(other))
    if (before := _finished(session, opened)) is not None:
        session.echo(f"this evaluation is finished: {run_dir.evaluation_results}")
        look = _look(session, experiment, opened, before.sealed_fingerprint)
        warnings = [*_looks_since(run_dir, look, before), *older, *before.warnings]
        before = before.model_copy(update={"warnings": warnings})
        summarise(session, before, model)
        _conclude(session, experiment, before)
        return
    if other is None:
        _check_promise(session, content.selection)
    written = new_file_config(session, content.experiment)
    tested = _load(experiment, model, other, written, memory_bound(session, experiment))
    tested = replace(tested, warnings=(*older, *tested.warnings))
    make_fresh(session, run_dir.evaluation)
    plan = run_dir.tuning / "plan.json"
    earlier = read_record(plan, Command.TUNING, Plan).warm_start if plan.exists() else []
    looks = inherit_openings(run_dir, earlier, experiment, tested.development)
    for note in (*tested.warnings, *([looks] if looks else [])):
        session.echo(f"note: {note}")
    results = _evaluate(session, experiment, model, tested, opened)
    summarise(session, results, model)
    _conclude(session, experiment, results)


def _check_promise(session: Session, selection: Selection) -> None:
    """Print a warning before the test set is opened for a model without a lead in phase 2, or refuse.

    Raises
    ------
    InputError
        With --only-if-promising.
    """
    if not (warning := shortfall(selection)):
        return
    if session.arguments.only_if_promising:
        remedy = f"search further with {session.next_run()}, or leave the flag out"
        raise InputError(f"the test set stays sealed: {warning}", "--only-if-promising", remedy)
    session.echo(f"warning: {warning}")


def _finished(session: Session, opened: Opened) -> Evaluation | None:
    """Return the results of this evaluation if they and all their files are intact; else None, and they are made again.

    The same model on the same rows gives the same results: making them again is not a further look at the test set.
    """
    path = session.run_dir.evaluation_results
    if session.arguments.fresh or not path.exists():
        return None
    try:
        before = read_record(path, Command.EVALUATION, Evaluation)
    except InputError as error:
        if path.is_symlink() or not path.is_file():
            raise
        session.echo(f"note: the evaluation is repeated: {error}")
        return None
    if before.opened != opened:
        return None
    if lost := [name for name in _FILES if _digest(path.with_name(name)) != before.files.get(name)]:
        session.echo(f"note: missing or damaged, so it is repeated: {', '.join(lost)}")
        return None
    return before


def _digest(path: Path) -> str | None:
    """Return the SHA-256 of a file; None if it is missing or not a file."""
    try:
        return sha256(read_regular(path, _MAX_BYTES))
    except (FileNotFoundError, InputError):
        return None


def _look(session: Session, experiment: Experiment, opened: Opened, sealed: str, sketch: str = "") -> Look:
    run, shared = str(session.answer.run_dir), experiment.data.placebo is None
    return Look(opened.model_sha256, opened.data, sealed, sketch, run, shared)


def _looks_since(run_dir: RunDir, look: Look, results: Evaluation) -> list[str]:
    """A warning if the same sealed rows were opened again since an evaluation."""
    later = known_openings(run_dir, look).number - results.test_openings
    if later <= 0:
        return []
    return [f"the sealed test set was opened {later} more time(s) since this evaluation, which is not corrected for it"]


def _conclude(session: Session, experiment: Experiment, results: Evaluation) -> None:
    """Print the next command: a placebo test after a success, otherwise a new search."""
    run_dir, found = session.run_dir, results.verdict == "skill"
    doubt = session.next_command(Command.PLACEBO, "--n", "20", models=experiment.models)
    figures = (
        *("n_rows", "accuracy", "accuracy_ci95", "skill", "skill_ci95", "skill_p_value", "verdict", "test_openings"),
        *(
            "openings_by_other_runs",
            "corrected_for_openings",
            "skill_ci95_uncorrected",
            "verdict_uncorrected",
            "warnings",
        ),
    )
    session.conclude(
        doubt if found else session.next_run(),
        [run_dir.evaluation_results, run_dir.predictions, run_dir.evaluation / "report.html"],
        epochs=results.epochs_spent_total,
        **{name: getattr(results, name) for name in figures},
    )


def _evaluate(
    session: Session, experiment: Experiment, model: FinalModel, tested: TestData, opened: Opened
) -> Evaluation:
    """Predict, score and write; the content of evaluation_results.json."""
    run_dir, development, dataset = session.run_dir, tested.development, tested.dataset
    model.check_schema(dataset)
    look = _look(session, experiment, opened, development.sealed_fingerprint, dataset.sealed_sketch)
    again = session.arguments.fresh
    openings = count_opening(run_dir, look, again) if tested.opens_seal else known_openings(run_dir, look)
    session.publish_if_due(at_once=True)  # an opening is published before it happens
    references = tuned_references(development, dataset, experiment)
    predictions = _predicted(model, dataset, references)
    looks = openings.number if tested.opens_seal else 1
    scores = score(development, dataset, predictions, model.content.selection, experiment, looks)
    table = _prediction_table(dataset, predictions.model, scores.position)
    write_bytes(run_dir.predictions, table.to_csv(index=False, lineterminator="\n").encode())
    figures, record = _with_fill(scores.figures, tested, experiment), read_training_record(run_dir, opened.model_sha256)
    warnings = [*fill_caveat(figures, experiment.data.fill), *openings_caveat(figures, openings.words)]
    warnings += [*record.warnings, *tested.warnings, *figures.warnings, *openings.warnings]
    latency = measure_latency(model, dataset)
    kept = model.content
    results = Evaluation(
        config_hash=kept.config_hash,
        data_fingerprint=kept.data_fingerprint,
        sealed_fingerprint=kept.sealed_fingerprint,
        **dict(figures) | {"warnings": warnings},
        notes=list(tested.notes),
        reference_tuning={name: reference.record for name, reference in references.items()},
        reference_rows=ReferenceRows(fitted=len(in_memory(development, development.rows)), of=len(development.rows)),
        epochs_spent_total=sum(kept.epochs_spent.values()),
        epochs_spent=kept.epochs_spent,
        test_openings=openings.number,
        openings_by_other_runs=list(openings.by_others),
        opened_in_words=openings.words,
        latency=latency,
        ensemble=costed_ensemble(model, dataset, latency),
        opened=opened,
        files={},
    )
    _write_pages(session, model, scores, results, record)
    # The results come last: once they are there, the evaluation is finished.
    files = {name: file_sha256(run_dir.evaluation / name) for name in _FILES}
    results = results.model_copy(update={"files": files})
    write_record(run_dir.evaluation_results, results)
    if tested.opens_seal:
        record_result(run_dir, look, openings.id, {name: getattr(results, name) for name in _RECORDED})
    return results


def _with_fill(scored: Scored, tested: TestData, experiment: Experiment) -> Scored:
    """Figures of a market with the price at which positions are filled."""
    if scored.returns is None or experiment.data.source == "table":
        return scored
    fill = "close_to_close" if FILLED_AT_CLOSE in tested.notes else experiment.data.fill
    return scored.model_copy(update={"returns": scored.returns.model_copy(update={"fill": fill})})


def _predicted(model: FinalModel, dataset: Dataset, references: dict[str, ReferenceModel]) -> Predictions:
    """Probabilities of the model and of the reference models; those of all rows that can be traded, labelled or not."""
    rows = dataset.rows if dataset.predictable is None else dataset.predictable
    traded = TradedRows(rows, model.predict_probabilities(dataset, rows))
    return Predictions(
        model=traded.probabilities[traded.tested(dataset)],
        traded=traded,
        by_seed=model.predict_by_seed(dataset, dataset.rows),
        references={name: reference.probabilities for name, reference in references.items()},
    )


def _write_pages(
    session: Session, model: FinalModel, scores: Scores, results: Evaluation, record: TrainingRecord
) -> None:
    """Write the report, its figures for TensorBoard and the model card."""
    run_dir = session.run_dir
    report = EvaluationReport(
        evaluation=results,
        model=model.content,
        n_parameters=model.n_parameters,
        dates=scores.dates,
        curves=scores.curves,
        reliability=scores.reliability,
        confusion=scores.confusion,
        training_record=record,
    )
    figures = write_evaluation_report(run_dir.evaluation / "report.html", report)
    if not can_draw():
        session.echo(NO_PICTURES)
    elif run_dir.tensorboard.exists():
        write_figures_as_images(TensorBoardLog(run_dir.tensorboard), figures_for_tensorboard(figures))
    write_model_card(run_dir.evaluation / "model_card.md", model.content, model.n_parameters, results)


def _load(
    experiment: Experiment, model: FinalModel, other: Path | None, written: DataConfig, bound: MemoryBound
) -> TestData:
    """The sealed rows, or those rows of another file, in the notation `written`, that the model was not trained on."""
    window = longest_window(experiment.search_space)
    development = load_development(experiment.data, window, experiment.seed, bound)
    check_data(development, model.content, Command.FINAL)
    if other is None:
        sealed = load_sealed(experiment.data, window, development, experiment.seed, bound)
        return TestData(development, sealed, True, development.notes, _new_notes(sealed, development))
    dataset, n_trained, n_sealed = load_other(
        experiment.data, window, other, development, experiment.seed, bound, written
    )
    warnings = _new_notes(dataset, development)
    if n_trained:
        warnings += (f"{n_trained} rows of {other.name} are development rows and were left out",)
    if n_sealed:
        warnings += (f"{n_sealed} rows of {other.name} are sealed rows: this opens the test set",)
    return TestData(development, dataset, n_sealed > 0, development.notes, warnings)


def _new_notes(dataset: Dataset, development: Dataset) -> tuple[str, ...]:
    """Return notes about the test rows only."""
    return tuple(note for note in dataset.notes if note not in development.notes)


def _prediction_table(dataset: Dataset, probabilities: np.ndarray, position: np.ndarray | None) -> pd.DataFrame:
    """Write one line per row; text cells that a spreadsheet would read as a formula are quoted."""
    rows = dataset.rows
    columns: dict[str, np.ndarray | list[str]] = {}
    if dataset.dates is not None:
        columns["date"] = dataset.dates[dataset.date[rows]]
    columns["ticker"] = escape_formulas(np.array(dataset.tickers, dtype=object)[dataset.ticker[rows]])
    columns["label"] = class_cells(dataset.classes, dataset.y[rows])
    columns["predicted"] = class_cells(dataset.classes, probabilities.argmax(axis=1))
    columns |= {f"probability_{name}": probabilities[:, k] for k, name in enumerate(dataset.classes)}
    if position is not None:
        columns |= {"position": position, "forward_return": dataset.forward_return[rows]}
    return pd.DataFrame(columns)
