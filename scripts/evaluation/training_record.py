"""How a judged model was made, as far as the artifacts beside it tell: time by phase, curves of its networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.errors import HyperError
from scripts.storage.artifacts import read_json
from scripts.storage.durable_files import file_sha256
from scripts.storage.run_dir import Command, RunDir


def known_making(run_dir: RunDir, model_sha256: str) -> dict[str, Any]:
    """What the run directory holds on the making of a model; empty where the model does not come from it.

    Returns
    -------
    dict
        `durations_s`: seconds of training by phase (tuning, extended, final), summed over all workers. `seeds`: for
        each network `history` (hold-out) and `history_all` (all development rows). `warnings`: those of phase 1, about
        leaks in the data. `note`: why something is missing.
    """
    try:
        final = _read(run_dir.final_results, Command.FINAL)
        if final is None or final["files"].get(run_dir.final_model.name) != model_sha256:
            return {}
        seeds = [seed for member in final["members"] for seed in member["seeds"]]
        durations, warnings = _earlier(run_dir, final)
        return {"seeds": seeds, "durations_s": durations | {"final": final["duration_s"]}, "warnings": warnings}
    except HyperError as error:  # the model is judged all the same: nothing of this is a part of its result
        return {"note": f"how the model was made is not told: {error}"}


def _earlier(run_dir: RunDir, final: dict[str, Any]) -> tuple[dict[str, float], list[str]]:
    """Seconds of phases 1 and 2 and the warnings of phase 1, if they are the ones that led to this model."""
    best = run_dir.best_config
    if not best.exists() or final["inputs"].get(best.name) != file_sha256(best):
        return {}, []
    searched = {run_dir.trials.name: file_sha256(run_dir.trials)} if run_dir.trials.exists() else {}
    trials, extended = _read(run_dir.trials, Command.TUNING), _read(run_dir.extended_results, Command.EXTENDED)
    if trials is None or extended is None or extended["inputs"] != searched:
        return {}, []
    long = sum(configuration["duration_s"] for configuration in extended["configurations"])
    return {"tuning": trials["duration_s"], "extended": long}, trials["warnings"]


def _read(path: Path, made_by: str) -> dict[str, Any] | None:
    return read_json(path, made_by) if path.exists() else None
