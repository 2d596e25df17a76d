"""Section of the evaluation report on how long the model takes for an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from scripts.reporting.page import Cell, Column, Section, Table, TableRow


def latency_section(e: Mapping[str, Any]) -> Section:
    """Median and 99 % quantile of a call, for one row and for a batch; empty where nothing was timed."""
    latency = e.get("latency") or {}
    calls = [
        ("one row", latency.get("one_row")),
        (f"{(latency.get('batch') or {}).get('n_rows')} rows", latency.get("batch")),
    ]
    rows = tuple(
        TableRow((Cell(name), *(Cell(milliseconds(call[key]), call[key]) for key in ("p50_s", "p99_s"))))
        for name, call in calls
        if call is not None
    )
    columns = (Column("call", numeric=False), Column("median"), Column("99 % are faster than"))
    caption = "Time from raw features to probabilities on the CPU of the machine that evaluated, all networks together."
    return Section("Time for an answer", (), (Table(caption, columns, rows),))


def milliseconds(seconds: float) -> str:
    """Write a duration in milliseconds with three digits."""
    return f"{seconds * 1000:.3g} ms"
