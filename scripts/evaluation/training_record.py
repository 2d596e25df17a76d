"""Training record of an evaluated model, from the artifacts of its run directory."""

from __future__ import annotations

from pathlib import Path

from scripts.errors import HyperError
from scripts.reporting.evaluation_page import TrainingRecord
from scripts.storage.artifacts import R, read_record
from scripts.storage.durable_files import file_sha256
from scripts.storage.records import Extended, Trials
from scripts.storage.result_records import Final
from scripts.storage.run_dir import Command, RunDir


def read_training_record(run_dir: RunDir, model_sha256: str) -> TrainingRecord:
    """Return the training record of the run directory; empty for a model from elsewhere."""
    try:
        final = _read(run_dir.final_results, Command.FINAL, Final)
        if final is None or final.files.get(run_dir.final_model.name) != model_sha256:
            return TrainingRecord()
        durations, warnings = _earlier(run_dir, final)
        seeds = [seed for member in final.members for seed in member.seeds]
        return TrainingRecord(durations | {"final": final.duration_s}, seeds, warnings)
    except HyperError as error:  # the model is evaluated anyway: the record is not a part of its result
        return TrainingRecord(note=f"the training record is not available: {error}")


def _earlier(run_dir: RunDir, final: Final) -> tuple[dict[str, float], list[str]]:
    """Seconds of phases 1 and 2 and the warnings of phase 1, if they are the ones that led to this model."""
    best = run_dir.best_config
    if not best.exists() or final.inputs.get(best.name) != file_sha256(best):
        return {}, []
    searched = {run_dir.trials.name: file_sha256(run_dir.trials)} if run_dir.trials.exists() else {}
    trials = _read(run_dir.trials, Command.TUNING, Trials)
    extended = _read(run_dir.extended_results, Command.EXTENDED, Extended)
    if trials is None or extended is None or extended.inputs != searched:
        return {}, []
    long = sum(configuration.duration_s for configuration in extended.configurations)
    return {"tuning": trials.duration_s, "extended": long}, trials.warnings


def _read(path: Path, made_by: str, record: type[R]) -> R | None:
    return read_record(path, made_by, record) if path.exists() else None
