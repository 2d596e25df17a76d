"""Last section of both reports: all warnings and notes in one place."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.page import Cell, Column, Section, Table, TableRow


def warnings_section(warnings: Sequence[str], notes: Sequence[str]) -> Section:
    """List of the warnings, which are also at the top, and of the notes."""
    rows = tuple(
        TableRow((Cell(kind), Cell(str(text))))
        for kind, texts in (("warning", warnings), ("note", notes))
        for text in texts
    )
    table = Table("", (Column("kind", numeric=False), Column("text", numeric=False)), rows)
    lines = () if warnings else ("There are no warnings.",)
    return Section("Warnings and notes", lines, (table,))
