"""The sealed test: opened by evaluate_model.py alone, counted each time, reported with baselines and uncertainty."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scripts.analysis import GUIDE_EPOCHS
from scripts.artifacts import RunDir, append_line, file_sha256, read_json, set_aside, write_bytes, write_json
from scripts.cli import Session
from scripts.config import Experiment
from scripts.config_files import load_experiment
from scripts.data.dataset import Dataset, load_development, load_other, load_sealed
from scripts.data.preprocessing import Preprocessor
from scripts.deployment import FinalModel, load_model
from scripts.errors import InputError
from scripts.evaluation.baselines import reference_models
from scripts.phases import yaml_file
from scripts.random_keys import key
from scripts.reporting.report import EvaluationReport, write_evaluation_report
from scripts.scores import score
from scripts.search_space import longest_window

COMMAND = "evaluate_model.py"


def evaluate(session: Session) -> None:
    """Evaluate the final model and write evaluation_results.json, predictions.csv and report.html."""
    run_dir = session.run_dir
    path = session.arguments.model or run_dir.final_model
    model = load_model(path, _factories(session))
    experiment, other = model.experiment, session.arguments.data
    if session.arguments.dry_run:
        session.say(f"opens {other or 'the sealed test set'} for {path} and writes {run_dir.evaluation}")
        return
    if session.arguments.fresh and (aside := set_aside(run_dir.evaluation)) is not None:
        session.say(f"kept aside: {aside}")
    opened = {"model_sha256": file_sha256(path), "data": str(other) if other else "sealed"}
    if run_dir.evaluation_results.exists():
        before = read_json(run_dir.evaluation_results, COMMAND)
        if before["opened"] == opened:
            session.say(f"this evaluation is finished: {run_dir.evaluation_results}")
            _summarise(session, before, model)
            return
    development, dataset = _load(experiment, other, model)
    model.check_schema(dataset)
    probabilities = model.predict_probabilities(dataset, dataset.rows)
    openings = _count_opening(run_dir, opened)
    references = _references(development, dataset, key(experiment.seed, "references"))
    scores = score(development, dataset, probabilities, references, experiment)
    predictions = _predictions(dataset, probabilities, scores.position)
    write_bytes(run_dir.predictions, predictions.to_csv(index=False, lineterminator="\n").encode())
    body = {
        name: model.content[name] for name in ("config_hash", "data_fingerprint", "sealed_fingerprint")
    } | scores.fields
    body |= {
        "epochs_spent_total": sum(model.content["epochs_spent"].values()),
        "epochs_spent": model.content["epochs_spent"],
        "test_openings": openings,
        "opened": opened,
        "files": {run_dir.predictions.name: file_sha256(run_dir.predictions)},
    }
    write_json(run_dir.evaluation_results, body)
    report = EvaluationReport(
        evaluation=body,
        dates=scores.dates,
        net_equity=scores.net_equity,
        buy_and_hold=scores.buy_and_hold,
        reliability=scores.reliability,
        confusion=scores.confusion,
        class_names=dataset.classes,
        warnings=scores.fields["warnings"],
    )
    write_evaluation_report(run_dir.evaluation / "report.html", report)
    _summarise(session, body, model)


def _factories(session: Session) -> dict[str, str]:
    """The user's own families from this call's config and flags."""
    return load_experiment(yaml_file(session), session.arguments.set).models


def _load(experiment: Experiment, other: Path | None, model: FinalModel) -> tuple[Dataset, Dataset]:
    """Development data, and the rows to be judged."""
    window = longest_window(experiment.search_space)
    development = load_development(experiment.data, window, experiment.seed)
    if other is not None:
        return development, load_other(experiment.data, window, other, development)
    sealed = load_sealed(experiment.data, window, experiment.seed)
    for part in ("fingerprint", "sealed_fingerprint"):
        if getattr(sealed, part) != model.content["data_" * (part == "fingerprint") + part]:
            name = "development" if part == "fingerprint" else "sealed"
            raise InputError(
                f"the {name} rows of the data changed since the model was trained",
                str(experiment.data.path or experiment.data.source),
                "restore the data, or give the new file with --data",
            )
    return development, sealed


def _count_opening(run_dir: RunDir, opened: dict[str, Any]) -> int:
    """Add this opening to the ledger beside the run; how often the test set has been opened."""
    if opened["data"] == "sealed":
        append_line(run_dir.openings, json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds")} | opened))
    return len(run_dir.openings.read_text().splitlines()) if run_dir.openings.exists() else 0


def _references(development: Dataset, dataset: Dataset, seed: int) -> dict[str, np.ndarray]:
    """Probabilities of logistic regression and boosted trees, fitted on the development rows."""
    preprocessor = Preprocessor.fit(development.x[development.rows], development.categorical)
    return reference_models(
        preprocessor.transform(development.x[development.rows]),
        development.y[development.rows],
        preprocessor.transform(dataset.x[dataset.rows]),
        seed % 2**32,
        development.n_classes,
    )


def _predictions(dataset: Dataset, probabilities: np.ndarray, position: np.ndarray | None) -> pd.DataFrame:
    """One line per row; text cells that a spreadsheet would take for a formula are quoted."""
    rows = dataset.rows
    columns: dict[str, Any] = {}
    if dataset.dates is not None:
        columns["date"] = dataset.dates[dataset.date[rows]]
    columns["ticker"] = _inert(np.array(dataset.tickers, dtype=object)[dataset.ticker[rows]])
    columns["label"] = _inert(np.array(dataset.classes, dtype=object)[dataset.y[rows]])
    columns["predicted"] = _inert(np.array(dataset.classes, dtype=object)[probabilities.argmax(axis=1)])
    columns |= {f"probability_{name}": probabilities[:, k] for k, name in enumerate(dataset.classes)}
    if position is not None:
        columns |= {"position": position, "forward_return": dataset.forward_return[rows]}
    return pd.DataFrame(columns)


def _inert(cells: np.ndarray) -> list[str]:
    """Text cells that begin like a formula get a leading quote (OWASP ASVS 1.2.10)."""
    return [f"'{cell}" if str(cell)[:1] in "=+-@\t\r" else str(cell) for cell in cells]


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
        f"{high:.4f}) on {results['n_rows']} rows{ceiling}"
    )
    session.say(f"beside it     {naive}; {references}")
    skill_low, skill_high = results["skill_ci95"]
    session.say(
        f"verdict       {results['verdict']}: {results['skill']:+.4f} (95 % {skill_low:+.4f} to {skill_high:+.4f}) "
        "against the best naive rule"
    )
    if (returns := results["returns"]) is not None:
        cost = "-" if returns["break_even_cost_bps"] is None else f"{returns['break_even_cost_bps']:.1f}"
        session.say(
            f"returns       gross {returns['gross']:+.1%}, net {returns['net']:+.1%}, break-even cost {cost} bps"
        )
    for warning in results["warnings"]:
        session.say(f"warning       {warning}")
    session.say(f"opened        {results['test_openings']} time(s) so far")
    session.say(f"report        {session.run_dir.evaluation / 'report.html'}")
    session.say(f"TensorBoard   ./start_tensorboard.sh --run-dir {session.run_dir.path}")
