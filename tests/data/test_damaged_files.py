"""A damaged file of bars is refused or read exactly as an independent reader does."""

import csv
import io
import re
from datetime import datetime
from decimal import Decimal

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.errors import InputError
from tests.data.source_files import BARS, HEADER, market, write

# Fuzz: a damaged file is refused, or read as an independent reader reads it

NUMBERS = ["inf", "nan", "NA", "1e400", "1_0", "E5", "e", "0", "9", "1,5", ".", "-", "+", "$", "\u0661", "\u00b2"]
DATES = ["T00:00", "Z", "2020-01-03", "03/01/2020"]
MARKS = [",", ";", "'", '"', "\n", "\r", "\0", "\t", "\x0b", " ", "\ufeff", "A", "é"]
SNIPPETS = NUMBERS + DATES + MARKS
SHARE = st.floats(0, 1, exclude_max=True)
KINDS = st.sampled_from(["insert", "delete", "copy line", "drop line", "swap"])
MUTATIONS = st.lists(st.tuples(KINDS, SHARE, SHARE, st.sampled_from(SNIPPETS)), min_size=1, max_size=4)


def mutate(text, mutations):
    for kind, a, b, snippet in mutations:
        lines = text.splitlines(keepends=True) or [""]
        at, i, j = int(a * len(text)), int(a * len(lines)), int(b * len(lines))
        if kind == "insert":
            text = text[:at] + snippet + text[at:]
        elif kind == "delete":
            text = text[:at] + text[at + 1 + int(3 * b) :]
        elif kind == "copy line":
            text = "".join([*lines[:i], lines[j], *lines[i:]])
        elif kind == "drop line":
            text = "".join(lines[:i] + lines[i + 1 :])
        else:
            lines[i], lines[j] = lines[j], lines[i]
            text = "".join(lines)
    return text


def header_of(text):
    return records_of(text)[0]


def records_of(text):
    """Records from the header on: the first with a date and a close, whose names are compared without punctuation."""
    records = [r for r in csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline="")) if r]
    plain = [[re.sub(r"[\W_]+", "", name).lower() for name in record] for record in records]
    first = next((k for k, names in enumerate(plain) if {"date", "close"} <= set(names)), 0)
    return [plain[first], *records[first + 1 :]]


SHORT = {"o": "open", "h": "high", "l": "low", "c": "close", "v": "volume", "vol": "volume", "tic": "ticker"}


def role_of(name):
    """Prices and volumes may have short names, volumes also that of their unit."""
    role = "volume" if name.startswith("volume") else SHORT.get(name, name)
    return role if role in ("open", "high", "low", "close", "volume") else None


def independent_reading(text):
    """Rows by the csv module, numbers by Decimal, dates by datetime."""
    header, *records = records_of(text)
    dated = header.index("date") if "date" in header else 0
    # Last lines without a date, such as totals, are left out.
    while records and len(records[-1]) > dated and re.fullmatch(r"[^\W\d]+", records[-1][dated].strip()):
        records.pop()
    rows = set()
    for record in records:
        assert len(record) == len(header)
        cells = {name: cell.strip() for name, cell in zip(header, record, strict=True)}
        # Dates in the first column are the dates, whatever its name; a currency sign is not part of a number.
        date = datetime.fromisoformat(record[dated].strip()).replace(tzinfo=None)
        numbers = [float(Decimal(cells[name].strip("$"))) for name in header if role_of(name)]
        rows.add((cells.get("ticker", cells.get("tic", "fuzz")), date, *numbers))
    return sorted(rows)


@given(MUTATIONS)
@settings(max_examples=400, deadline=None, derandomize=True)
def test_damaged_file_is_refused_or_read_exactly(tmp_path_factory, mutations):
    text = mutate(HEADER + BARS, mutations)
    path = tmp_path_factory.mktemp("fuzz") / "fuzz.csv"
    path.write_bytes(text.encode())
    try:
        frame = market(path, repair="strict").frame
    except InputError:
        return
    order = [role for name in header_of(text) if (role := role_of(name))]
    assert len(order) == len(frame.columns) - 2
    read = [(r["ticker"], r["date"].to_pydatetime(), *(r[c] for c in order)) for _, r in frame.iterrows()]
    expected = independent_reading(text)
    assert len(read) == len(expected)
    for got, want in zip(read, expected, strict=True):
        assert got[:2] == want[:2]
        # A range off by rounding is widened, so high and low may differ by as much.
        assert got[2:] == pytest.approx(want[2:], rel=1e-4)
        assert all(g == w for g, w, c in zip(got[2:], want[2:], order, strict=True) if c not in ("high", "low"))


def test_independent_reading_agrees_on_the_undamaged_file(tmp_path):
    frame = market(write(tmp_path, HEADER + BARS)).frame
    assert [tuple(row) for row in frame[["ticker", "date", "open"]].itertuples(index=False)] == [
        (ticker, pd.Timestamp(date), opening) for ticker, date, opening, *_ in independent_reading(HEADER + BARS)
    ]
