"""The last section of both reports: everything to bear in mind, once more and in one place."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.reporting.page import Cell, Column, Section, Table, TableRow


def warnings_section(warnings: Sequence[str], notes: Sequence[str]) -> Section:
    """List of the warnings, which also stand at the top, and of the notes, which do not."""
    rows = tuple(
        TableRow((Cell(kind), Cell(str(text))))
        for kind, texts in (("warning", warnings), ("note", notes))
        for text in texts
    )
    table = Table("", (Column("kind", numeric=False), Column("what to bear in mind", numeric=False)), rows)
    told = () if warnings else ("There are no warnings.",)
    return Section("Warnings and notes", told, (table,))
