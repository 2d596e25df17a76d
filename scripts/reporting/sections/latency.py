"""Section of the evaluation report on inference latency."""

from __future__ import annotations

from scripts.reporting.page import Cell, Column, Section, Table, TableRow
from scripts.storage.evaluation_record import Latency


def latency_section(latency: Latency | None) -> Section:
    """Median and 99% quantile of a call, for one row and for a batch; empty without measurements."""
    calls = {} if latency is None else latency.calls
    rows = tuple(
        TableRow((Cell(name), *(Cell(milliseconds(seconds), seconds) for seconds in (call.p50_s, call.p99_s))))
        for name, call in calls.items()
    )
    columns = (Column("call", numeric=False), Column("median"), Column("99% are faster than"))
    caption = "Time from raw features to probabilities with all networks, on the CPU of the evaluating machine."
    return Section("Inference latency", (), (Table(caption, columns, rows),))


def milliseconds(seconds: float) -> str:
    """Write a duration in milliseconds with three digits."""
    return f"{seconds * 1000:.3g} ms"
