"""Recorded plan of phase 1 of a run directory."""

from __future__ import annotations

from scripts.storage.artifacts import read_record
from scripts.storage.records import Plan
from scripts.storage.run_dir import Command, RunDir


def recorded_plan(run_dir: RunDir, fresh: bool) -> Plan | None:
    """Return the plan with which phase 1 of this run was started; None before the first start."""
    plan = run_dir.tuning / "plan.json"
    return read_record(plan, Command.TUNING, Plan) if plan.exists() and not fresh else None
