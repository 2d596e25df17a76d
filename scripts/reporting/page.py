"""Self-contained HTML page: its parts, number formats, rendering and content security policy."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import jinja2
import vl_convert
from markupsafe import Markup

from scripts.config.search_space import Values
from scripts.reporting.figures import Figure
from scripts.storage.printable import duration_in_words, printable
from scripts.storage.record_base import Made

_FOLDER = Path(__file__).parent
_GAP = "-"
T = TypeVar("T")


@dataclass(frozen=True)
class Cell:
    """Text of a table's cell, the number it is sorted by, and its shade from 0 to 1 (None: no shade)."""

    text: str
    value: float | None = None
    share: float | None = None


@dataclass(frozen=True)
class Column:
    """Heading of a column, its unit or meaning, and whether it is numeric."""

    name: str
    unit: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class TableRow:
    """Cells of a row; a chosen row is highlighted."""

    cells: tuple[Cell, ...]
    chosen: bool = False


@dataclass(frozen=True)
class Table:
    """A sortable table."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]


@dataclass(frozen=True)
class Number:
    """A key number with its name and what it has to be seen against."""

    name: str
    value: str
    remark: str = ""


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs, tables and figures, in this order unless the figures come first."""

    title: str
    paragraphs: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    figures_first: bool = False


@dataclass(frozen=True)
class Page:
    """A report. `tone` is good, bad or empty and colours the verdict."""

    title: str
    verdict: str
    tone: str
    warnings: tuple[str, ...]
    numbers: tuple[Number, ...]
    sections: tuple[Section, ...]
    footer: str = ""
    figures: tuple[Figure, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "figures", tuple(f for section in self.sections for f in section.figures))


def render(page: Page) -> str:
    """Render `page` as one HTML file that needs no network.

    Every text is escaped; the content security policy allows only the two scripts of this package, by their SHA-256,
    so that unescaped text could not run either.
    """
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, finalize=_shown
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    template = environment.from_string((_FOLDER / "report.html.j2").read_text(encoding="utf-8"))
    bundle, script = _chart_library(), (_FOLDER / "report.js").read_text(encoding="utf-8")
    hashes = " ".join(f"'sha256-{_digest(text)}'" for text in (bundle, script))
    policy = f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return template.render(page=page, policy=policy, bundle=Markup(bundle), script=Markup(script))


def _shown(value: Any) -> Any:
    """Text of a page as `printable` shows it; what is markup already comes from this package."""
    return printable(value, lines=True) if type(value) is str else value


@functools.cache
def _chart_library() -> str:
    # A browser reads CR as LF before it hashes a script, and "</script" would end it.
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("\r\n", "\n").replace("\r", "\n")
    return bundle.replace("</script", "<\\/script")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def percent(value: float | None, digits: int = 1) -> str:
    """Write a fraction as a percentage, a dash for None."""
    return _GAP if value is None else f"{value * 100:.{digits}f}%"


def points(value: float | None, *, signed: bool = True) -> str:
    """Write a difference of fractions in percentage points, a dash for None."""
    return _GAP if value is None else f"{value * 100:{'+' if signed else ''}.1f} pp"


def interval(bounds: Sequence[float] | None, *, signed: bool = False) -> str:
    """Write a 95% interval of fractions in per cent; a dash for None."""
    if not bounds or len(bounds) != 2 or any(b is None for b in bounds):
        return _GAP
    sign = "+" if signed else ""
    return f"{bounds[0] * 100:{sign}.1f} to {bounds[1] * 100:{sign}.1f}{'' if signed else '%'}"


def number(value: float | None, form: str = ".4g") -> str:
    """Write a number in the given format, a dash for None."""
    return _GAP if value is None else format(value, form)


def duration(seconds: float | None) -> str:
    """Write a duration in the unit that suits it."""
    if seconds is None:
        return _GAP
    return f"{seconds:.1f} s" if seconds < 60 else duration_in_words(seconds)


def value_cell(value: Any) -> Cell:
    """Cell for a value of unknown type."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Cell(_GAP if value is None else str(value))
    return Cell(number(value), value)


def percent_cell(value: float | None, digits: int = 1) -> Cell:
    """Cell for a fraction."""
    return Cell(percent(value, digits), value)


def number_cell(value: float | None, form: str = ".4g") -> Cell:
    """Cell for a number."""
    return Cell(number(value, form), value)


def bounds_cell(bounds: Sequence[float] | None, *, signed: bool = True) -> Cell:
    """Cell for a 95% interval of fractions, sorted by its lower bound."""
    return Cell(interval(bounds, signed=signed), bounds[0] if bounds else None)


def text_column(name: str) -> Column:
    """Return the heading of a column of text."""
    return Column(name, numeric=False)


def table(
    caption: str,
    entries: Iterable[T],
    *columns: tuple[Column | str, Callable[[T], Cell | str]],
    chosen: T | None = None,
) -> Table:
    """Return a table with a row for each entry.

    Parameters
    ----------
    *columns : tuples
        Heading of a column, or the name of one of numbers, and the function that writes its cell of an entry.
    chosen : object, optional
        Entry whose row is highlighted.
    """
    heads = tuple(Column(head) if isinstance(head, str) else head for head, _ in columns)
    rows = []
    for entry in entries:
        cells = (write(entry) for _, write in columns)
        rows.append(TableRow(tuple(Cell(c) if isinstance(c, str) else c for c in cells), entry is chosen))
    return Table(caption, heads, tuple(rows))


def settings_table(caption: str, names: Iterable[str], settings: Sequence[Values], heads: Iterable[Column]) -> Table:
    """Return a table of hyperparameters, with a column for each configuration."""
    rows = (TableRow((Cell(name), *(value_cell(values.get(name)) for values in settings))) for name in names)
    return Table(caption, (text_column("hyperparameter"), *heads), tuple(rows))


def present(items: Iterable[Figure | None]) -> tuple[Figure, ...]:
    """Return the figures that have data."""
    return tuple(item for item in items if item is not None)


def with_content(sections: Iterable[Section]) -> tuple[Section, ...]:
    """Return the sections that have a paragraph, a figure, or a table with rows."""
    return tuple(s for s in sections if s.paragraphs or s.figures or any(t.rows for t in s.tables))


def provenance(artifact: Made) -> str:
    """Return one line on the provenance of an artifact."""
    created = artifact.created_by
    parts = {
        "Hyper": created.version,
        "revision": created.git_revision,
        "libraries": ", ".join(f"{name} {version}" for name, version in created.libraries.items()),
        "config": artifact.config_hash[:12],
        "data": artifact.data_fingerprint[:12],
    }
    return "; ".join(f"{name} {value}" for name, value in parts.items() if value)
