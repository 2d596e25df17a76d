"""Recorded plan of phase 1 of a run directory."""

from __future__ import annotations

from typing import Any

from scripts.storage.artifacts import read_json
from scripts.storage.run_dir import Command, RunDir


def recorded_plan(run_dir: RunDir, fresh: bool) -> dict[str, Any] | None:
    """Return the plan with which phase 1 of this run was started; None before the first start."""
    plan = run_dir.tuning / "plan.json"
    return read_json(plan, Command.TUNING) if plan.exists() and not fresh else None
