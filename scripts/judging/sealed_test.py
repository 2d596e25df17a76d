"""The sealed test: opened by evaluate_model.py alone, counted each time, reported with baselines and uncertainty."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scripts.analysis import GUIDE_EPOCHS
from scripts.artifacts import read_json, read_tensors, write_json
from scripts.carrying_on import inherit_openings, n_inherited
from scripts.cli import Session
from scripts.config import DataConfig, Experiment
from scripts.data.dataset import Dataset
from scripts.data.loading import data_sha256, load_development, load_other, load_sealed
from scripts.data.mapped_rows import MemoryBound
from scripts.data.preprocessing import Preprocessor
from scripts.deployment import FinalModel, make_model
from scripts.durable_files import append_line, file_sha256, write_bytes
from scripts.evaluation.references import Fold, ReferenceModel, reference_models
from scripts.experiments import FINAL, load_later, new_file_config
from scripts.inert_cells import class_cells, inert
from scripts.judging.caveats import openings_caveat
from scripts.judging.latency import measure_latency, measure_members
from scripts.judging.making import known_making
from scripts.judging.scores import Predictions, score
from scripts.phases import check_data, make_fresh, memory_bound
from scripts.plans import show_plan_table
from scripts.random_keys import key
from scripts.reporting.ensemble_section import ensemble_in_words
from scripts.reporting.model_card import write_model_card
from scripts.reporting.report import EvaluationReport, figures_for_tensorboard, write_evaluation_report
from scripts.reporting.tensorboard_log import TensorBoardLog
from scripts.reporting.tensorboard_pages import write_figures_as_images
from scripts.run_dir import RunDir
from scripts.search_space import longest_window

COMMAND = "evaluate_model.py"
_RECORDED = ("accuracy", "skill", "skill_ci95", "verdict")  # of a result, in the ledger of openings
_MOST_REFERENCE_ROWS = 10**6  # that reference models learn from, of a table that memory has no room for
MAX_REFERENCE_FOLDS = 5


@dataclass(frozen=True)
class Judged:
    """The rows that are judged, what the model was trained on, and whether judging them opens the sealed test set."""

    development: Dataset
    dataset: Dataset
    opens_seal: bool
    notes: tuple[str, ...] = ()


def evaluate(session: Session) -> None:
    """Evaluate the final model; write predictions.csv, report.html, model_card.md and, last, the results."""
    run_dir = session.run_dir
    path, other = session.arguments.model or run_dir.final_model, session.arguments.data
    content = read_tensors(path, FINAL, kind="final_model")
    # Refuses flags that would have no effect; what is left is the model's own experiment, its data perhaps moved.
    experiment = load_later(session, content["experiment"], FINAL)
    model = make_model(content, path, experiment.models)
    if session.arguments.dry_run:
        rows = {"opens": str(other or "the sealed test set"), "model": str(path), "trains": "two reference models"}
        files = [run_dir.evaluation_results, run_dir.predictions, run_dir.evaluation / "report.html", run_dir.openings]
        show_plan_table(session, rows, files)
        return
    make_fresh(session, run_dir.evaluation)
    opened = {"model_sha256": file_sha256(path), "data": "sealed" if other is None else data_sha256(other)}
    if run_dir.evaluation_results.exists():
        before = read_json(run_dir.evaluation_results, COMMAND)
        if before["opened"] == opened:
            session.say(f"this evaluation is finished: {run_dir.evaluation_results}")
            _summarise(session, before, model)
            _conclude(session, experiment, before)
            return
    written = new_file_config(session, content["experiment"])
    judged = _load(experiment, model, other, written, memory_bound(session, experiment))
    plan = run_dir.tuning / "plan.json"
    earlier = read_json(plan, "run_hyperparameter_tuning.py").get("warm_start", []) if plan.exists() else []
    looks = inherit_openings(run_dir, earlier, experiment, judged.development)
    for note in (*judged.notes, *([looks] if looks else [])):
        session.say(f"note: {note}")
    body = _judge(session, experiment, model, judged, opened)
    _summarise(session, body, model)
    _conclude(session, experiment, body)


def _conclude(session: Session, experiment: Experiment, results: dict[str, Any]) -> None:
    """What comes next: a success is doubted, anything else is carried on."""
    run_dir, found = session.run_dir, results["verdict"] == "skill"
    doubt = session.next_command("run_placebo.py", "--n", "20", models=experiment.models)
    figures = ("n_rows", "accuracy", "accuracy_ci95", "skill", "skill_ci95", "verdict", "test_openings")
    session.conclude(
        doubt if found else session.next_run(),
        [run_dir.evaluation_results, run_dir.predictions, run_dir.evaluation / "report.html"],
        epochs=results["epochs_spent_total"],
        **{name: results[name] for name in figures},
    )


def _judge(
    session: Session, experiment: Experiment, model: FinalModel, judged: Judged, opened: dict[str, str]
) -> dict[str, Any]:
    """Predict, score and write; the content of evaluation_results.json."""
    run_dir, development, dataset = session.run_dir, judged.development, judged.dataset
    model.check_schema(dataset)
    openings = _count_openings(run_dir, opened, judged.opens_seal)
    session.steady(at_once=True)  # a look at the seal counts on every machine, whatever becomes of this one
    references = _references(development, dataset, experiment)
    predictions = Predictions(
        model=model.predict_probabilities(dataset, dataset.rows),
        by_seed=model.predict_by_seed(dataset, dataset.rows),
        references={name: reference.probabilities for name, reference in references.items()},
    )
    scores = score(development, dataset, predictions, model.content["selection"], experiment)
    table = _prediction_table(dataset, predictions.model, scores.position)
    write_bytes(run_dir.predictions, table.to_csv(index=False, lineterminator="\n").encode())
    fields = scores.fields
    warnings = [*openings_caveat(fields, openings), *judged.notes, *fields["warnings"]]
    latency = measure_latency(model, dataset)
    body = {name: model.content[name] for name in ("config_hash", "data_fingerprint", "sealed_fingerprint")}
    body |= fields | {
        "warnings": warnings,
        "reference_tuning": {name: asdict(reference.record) for name, reference in references.items()},
        "reference_rows": {"fitted": len(_in_memory(development, development.rows)), "of": len(development.rows)},
        "epochs_spent_total": sum(model.content["epochs_spent"].values()),
        "epochs_spent": model.content["epochs_spent"],
        "test_openings": openings,
        "latency": latency,
        **_ensemble_fields(model, dataset, latency),
        "opened": opened,
        "files": {run_dir.predictions.name: file_sha256(run_dir.predictions)},
    }
    making = known_making(run_dir, opened["model_sha256"])
    report = EvaluationReport(
        evaluation=body,
        dates=scores.dates,
        curves=scores.curves,
        reliability=scores.reliability,
        confusion=scores.confusion,
        class_names=dataset.classes,
        warnings=warnings,
        model=model.description,
        making=making,
    )
    figures = write_evaluation_report(run_dir.evaluation / "report.html", report)
    if run_dir.tensorboard.exists():
        write_figures_as_images(TensorBoardLog(run_dir.tensorboard), figures_for_tensorboard(figures))
    write_model_card(run_dir.evaluation / "model_card.md", model.description, body)
    # The results come last: once they are there, the evaluation is finished.
    write_json(run_dir.evaluation_results, body)
    if judged.opens_seal:
        _record(run_dir, {"event": "result"} | opened | {name: fields[name] for name in _RECORDED})
    return body


def _ensemble_fields(model: FinalModel, dataset: Dataset, latency: dict[str, Any]) -> dict[str, Any]:
    """What the selection of an ensemble has told, and what each member costs; empty for a single configuration."""
    if (told := model.content["selection"].get("ensemble")) is None:
        return {}
    members = [
        {"trial_number": kept["trial_number"], "family": member.hyperparameters.family, "weight": member.weight}
        | {"epochs_spent": kept["epochs_spent"], "n_parameters": member.n_parameters, "one_row_p50_s": seconds}
        for kept, member, seconds in zip(
            model.content["members"], model.members, measure_members(model, dataset), strict=True
        )
    ]
    return {"ensemble": told | {"members": members, "one_row_p50_s": latency["one_row"]["p50_s"]}}


def _load(
    experiment: Experiment, model: FinalModel, other: Path | None, written: DataConfig, bound: MemoryBound
) -> Judged:
    """The sealed rows, or those rows of another file, in the notation `written`, that the model was not trained on."""
    window = longest_window(experiment.search_space)
    development = load_development(experiment.data, window, experiment.seed, bound)
    check_data(development, model.content, FINAL)
    if other is None:
        sealed = load_sealed(experiment.data, window, development, experiment.seed, bound)
        new = tuple(note for note in sealed.notes if note not in development.notes)
        return Judged(development, sealed, opens_seal=True, notes=new)
    dataset, n_trained, n_sealed = load_other(
        experiment.data, window, other, development, experiment.seed, bound, written
    )
    notes = [note for note in dataset.notes if note not in development.notes]
    if n_trained:
        notes.append(f"{n_trained} rows of {other.name} are development rows and were left out")
    if n_sealed:
        notes.append(f"{n_sealed} rows of {other.name} are sealed rows: this opens the test set")
    return Judged(development, dataset, opens_seal=n_sealed > 0, notes=tuple(notes))


def _count_openings(run_dir: RunDir, opened: dict[str, str], opens_seal: bool) -> int:
    """Add this opening to the ledger before anything is seen; how often the sealed test set has been opened.

    An evaluation that was interrupted before it had a result goes on with the opening that it has already noted.
    """
    entry = {"event": "opening"} | opened
    lines = run_dir.openings.read_text().splitlines() if run_dir.openings.exists() else []
    if opens_seal and not (lines and lines[-1].endswith(json.dumps(entry)[1:])):
        _record(run_dir, entry)
        lines.append(json.dumps(entry))
    return sum('"event": "opening"' in line for line in lines)


def _record(run_dir: RunDir, entry: dict[str, Any]) -> None:
    """Append a line to the ledger beside the run."""
    append_line(run_dir.openings, json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds")} | entry))


def _references(development: Dataset, dataset: Dataset, experiment: Experiment) -> dict[str, ReferenceModel]:
    """Logistic regression and boosted trees, tuned on the folds of phase 2 and fitted on the development rows."""
    preprocessor = Preprocessor.fit(development.x, development.categorical, development.rows)
    rows = _in_memory(development, development.rows)
    return reference_models(
        _reference_folds(development, experiment),
        preprocessor.transform(development.x[rows]),
        development.y[rows],
        preprocessor.transform(dataset.x[dataset.rows]),
        key(experiment.seed, "references") % 2**32,
        development.n_classes,
    )


def _in_memory(development: Dataset, rows: np.ndarray) -> np.ndarray:
    """The rows themselves, or evenly spaced ones of a table that memory has no room for."""
    most = len(rows) if development.mapped is None else min(len(rows), _MOST_REFERENCE_ROWS)
    return rows[np.arange(most) * len(rows) // most]


def _reference_folds(development: Dataset, experiment: Experiment) -> Iterator[Fold]:
    """The folds of phase 2, evenly chosen ones where there are many, each preprocessed by its own training rows."""
    config = experiment.extended
    splits = development.folds(config.cv, config.cross_validation_folds, experiment.seed)
    for train, test in splits[:: math.ceil(len(splits) / MAX_REFERENCE_FOLDS)]:
        preprocessor = Preprocessor.fit(development.x, development.categorical, train)
        train, test = (_in_memory(development, rows) for rows in (train, test))
        inputs = preprocessor.transform(development.x[train]), preprocessor.transform(development.x[test])
        yield Fold(inputs[0], development.y[train], inputs[1], development.y[test])


def _prediction_table(dataset: Dataset, probabilities: np.ndarray, position: np.ndarray | None) -> pd.DataFrame:
    """One line per row; text cells that a spreadsheet would take for a formula are quoted."""
    rows = dataset.rows
    columns: dict[str, Any] = {}
    if dataset.dates is not None:
        columns["date"] = dataset.dates[dataset.date[rows]]
    columns["ticker"] = inert(np.array(dataset.tickers, dtype=object)[dataset.ticker[rows]])
    columns["label"] = class_cells(dataset.classes, dataset.y[rows])
    columns["predicted"] = class_cells(dataset.classes, probabilities.argmax(axis=1))
    columns |= {f"probability_{name}": probabilities[:, k] for k, name in enumerate(dataset.classes)}
    if position is not None:
        columns |= {"position": position, "forward_return": dataset.forward_return[rows]}
    return pd.DataFrame(columns)


def _summarise(session: Session, results: dict[str, Any], model: FinalModel) -> None:
    """What the whole run came to, in a few lines."""
    selection, spent = model.content["selection"], results["epochs_spent_total"]
    low, high = results["accuracy_ci95"]
    ceiling = "" if results["ceiling"] is None else f"; best possible {results['ceiling']:.4f}"
    naive = ", ".join(f"{name} {value:.4f}" for name, value in results["naive"].items())
    references = ", ".join(f"{name} {value:.4f}" for name, value in results["references"].items())
    session.say()
    session.say(f"epochs        {spent} against 60 x 50 = {GUIDE_EPOCHS}, every fold counted")
    session.say(f"chosen        {selection['reason']}")
    session.say(
        f"test          accuracy {results['accuracy']:.4f} (s.e. {results['accuracy_se']:.4f}, 95 % {low:.4f} to "
        f"{high:.4f}) on {results['n_rows']} rows worth {results['n_effective'] or 0:.0f} independent ones{ceiling}"
    )
    session.say(f"beside it     {naive}; {references}")
    skill_low, skill_high = results["skill_ci95"]
    session.say(
        f"verdict       {results['verdict']}: {results['skill']:+.4f} (95 % {skill_low:+.4f} to {skill_high:+.4f}) "
        "against the best naive rule"
    )
    versus = results["versus_reference"]
    low, high = versus["ci95"]
    worth, reference = "clearly" if low > 0 else "not clearly", versus["name"].replace("_", " ")
    lead = f"{versus['difference']:+.4f} (95 % {low:+.4f} to {high:+.4f})"
    session.say(f"              {worth} better than tuned {reference}: {lead}")
    if (returns := results["returns"]) is not None:
        cost = "-" if returns["break_even_cost_bps"] is None else f"{returns['break_even_cost_bps']:.1f}"
        session.say(
            f"returns       gross {returns['gross']:+.1%}, net {returns['net']:+.1%}, break-even cost {cost} bps"
        )
    if (ensemble := results.get("ensemble")) is not None:
        session.say(f"ensemble      {ensemble_in_words(ensemble)}")
    for warning in results["warnings"]:
        session.say(f"warning       {warning}")
    inherited = n_inherited(session.run_dir)
    by_others = f", {inherited} of them by earlier runs" if inherited else ""
    session.say(f"opened        {results['test_openings']} time(s) so far{by_others}")
    if (latency := results.get("latency")) is not None:
        one, batch = (latency[call]["p50_s"] * 1000 for call in ("one_row", "batch"))
        session.say(
            f"latency       {one:.2g} ms for one row, {batch:.2g} ms for {latency['batch']['n_rows']} (medians)"
        )
    session.say(f"report        {session.run_dir.evaluation / 'report.html'}; model_card.md beside it")
    session.say(f"TensorBoard   ./start_tensorboard.sh --run-dir {session.run_dir.path}")
