"""Predictions for a file of new rows, read and written in parts, with a drift test; no run directory needed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from scripts.commands.experiment import load_later, new_file_config
from scripts.commands.session import Session
from scripts.data.files.raw_bytes import check_readable, is_parquet
from scripts.data.inference_rows import UnlabelledRows, file_rows
from scripts.data.known_categories import UnknownCells, unknown_in_words
from scripts.errors import InputError
from scripts.final_training.model import FinalModel, make_model, read_model
from scripts.statistics.drift import FeatureDrift, FeatureReference
from scripts.storage.durable_files import check_replaceable, replacing
from scripts.storage.printable import listed
from scripts.storage.run_dir import Command
from scripts.storage.spreadsheet_cells import class_cells, escape_formulas

DRIFTED = 0.25  # population stability index that is much by convention (Siddiqi 2006)
_GROUP_ROWS = 2**17  # of a row group of a Parquet file
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
_ENOUGH_DATES = 10_000  # for the drift test; more are not kept


@dataclass
class Summary:
    """Summary of the predictions of all parts.

    Attributes
    ----------
    n_rows, n_skipped : int
        Rows with a prediction, and rows without enough history.
    by_class : Counter
        Predicted classes.
    drifted : list of FeatureDrift or None
        Features that drifted since training; None if the model has no reference.
    unknown : dict of str to UnknownCells
        By feature, the cells with a category that was not there in training.
    """

    n_rows: int = 0
    n_skipped: int = 0
    by_class: Counter[str] = field(default_factory=Counter)
    drifted: list[FeatureDrift] | None = None
    notes: list[str] = field(default_factory=list)
    unknown: dict[str, UnknownCells] = field(default_factory=dict)


def load_for_use(session: Session) -> FinalModel:
    """Load the model of --model or of the run directory, with the user's model families of this call."""
    path = session.arguments.model or session.run_dir.final_model
    content = read_model(path)
    model = make_model(content, path, load_later(session, content.experiment, Command.FINAL).models)
    if session.arguments.predict is None:
        return model
    return replace(model, config=new_file_config(session, content.experiment))


def check_out(out: Path) -> None:
    """Raise InputError where --out cannot be a new or replaced file, before any work."""
    check_replaceable(out, "name a file, such as --out predictions.csv", "--out")
    if not out.parent.is_dir() and os.path.lexists(out.parent):
        raise InputError("is not a folder", f"--out {out.parent}", "name a file in a folder")
    if out.suffix.lower() in _PACKED:
        raise InputError(
            f"ends in {out.suffix}, but the file is not compressed", f"--out {out}", "leave the ending out"
        )


def predict(session: Session) -> None:
    """Predict for the rows of --predict and write them to --out."""
    source, out = session.arguments.predict, session.arguments.out
    if out is None:
        raise InputError("is missing", "--out", "name the file to write, such as --out predictions.csv")
    check_out(out)
    model = load_for_use(session)
    check_readable(source, "--predict")
    if out.resolve() in (source.resolve(), (session.arguments.model or session.run_dir.final_model).resolve()):
        raise InputError("is one of the files that are read", "--out", "choose another name")
    if session.arguments.dry_run:
        session.echo(f"predicts for the rows of {source} and writes {out}")
        return
    summary = predict_file(model, source, out)
    for line in model.positions_in_words:
        session.echo(line)
    for note in summary.notes:
        session.echo(f"note: {note}")
    if summary.n_skipped:
        session.echo(f"note: {summary.n_skipped:,} rows were skipped, because their history is too short for the model")
    shares = ", ".join(f"{name} {count / summary.n_rows:.1%}" for name, count in summary.by_class.most_common(10))
    session.echo(f"predicted {summary.n_rows:,} rows ({shares}) in {session.took}")
    unknown = unknown_in_words(summary.unknown, model.schema.vocabularies)
    for line in (*(f"warning: {line}" for line in unknown), *drift_in_words(summary)):
        session.echo(line)
    session.keep([out], rows=summary.n_rows, by_class=dict(summary.by_class), warnings=unknown)
    session.echo(f"predictions in {out}")


def predict_file(model: FinalModel, source: Path, out: Path) -> Summary:
    """Predict for every usable row of `source` and write `out`, CSV or by its suffix Parquet, in one step.

    A table takes as much memory as a part of it; a market is read as a whole. Columns as `FinalModel.predict_rows`.
    Text cells of a CSV that a spreadsheet would take for a formula are quoted.

    Raises
    ------
    InputError
        The file does not have the schema that the model was trained on, or no row has enough history.
    EnvironmentFailed
        `out` cannot be written.
    """
    try:
        return _predict_file(model, source, out, timed=False)
    except _TimesLaterError:  # after rows with plain dates: written again, so that all dates have one form
        return _predict_file(model, source, out, timed=True)


class _TimesLaterError(Exception):
    """Time of day after rows that were written as plain dates."""


def _predict_file(model: FinalModel, source: Path, out: Path, timed: bool) -> Summary:
    summary = Summary()
    drift = None if model.reference is None else _Drift(model.reference)
    with replacing(out) as file, _writer(file, out, model.classes, timed) as write:
        for part in file_rows(source, model.schema):
            predictions = model.predict_rows(part)
            write(predictions)
            _count(summary, part, predictions)
            if drift is not None:
                drift.add(part)
        if summary.n_rows == 0:
            what = f"none of {summary.n_skipped} rows has the history that the model reads"
            raise InputError(what, str(source), "give more earlier rows")
    if drift is not None:
        summary.drifted = drift.found(model.content.features)
    return summary


def drift_in_words(summary: Summary) -> list[str]:
    """Return the message about drift, if any."""
    if summary.drifted is None:
        return [
            "note: the model has no distribution of its training data, so drift cannot be assessed; "
            f"{Command.FINAL} --fresh makes one that does"
        ]
    if not summary.drifted:
        return []
    shown = listed([f"{f.feature} (index {f.psi:.2f}, distance {f.ks:.2f})" for f in summary.drifted])
    return [f"warning: drift since training, population stability index above {DRIFTED}: {shown}"]


class _Drift:
    """Counts of the rows of all parts. Rows of one date are much alike, and count together as one."""

    def __init__(self, reference: FeatureReference) -> None:
        self.reference, self.counts = reference, reference.counts(np.empty((0, len(reference.edges)), np.float32))
        self.dates: set[np.datetime64] = set()
        self.n_rows = 0

    def add(self, part: UnlabelledRows) -> None:
        """Count the usable rows of a part."""
        seen = self.reference.counts(part.x[part.rows])
        self.counts = [a + b for a, b in zip(self.counts, seen, strict=True)]
        self.n_rows += len(part.rows)
        if part.date is not None and len(self.dates) < _ENOUGH_DATES:
            self.dates.update(np.unique(part.date))

    def found(self, names: Sequence[str]) -> list[FeatureDrift]:
        """Return the features that drifted since training."""
        return self.reference.drifted(self.counts, names, DRIFTED, len(self.dates) or self.n_rows)


def _count(summary: Summary, part: UnlabelledRows, predictions: pd.DataFrame) -> None:
    summary.n_rows += len(predictions)
    summary.n_skipped += part.n_skipped
    summary.by_class.update(predictions["predicted"].tolist())
    summary.notes += part.notes
    for name, cells in part.unknown.items():
        summary.unknown[name] = summary.unknown.get(name, UnknownCells(0, 0)) + cells


@contextmanager
def _writer(file: BinaryIO, out: Path, classes: tuple[str, ...], timed: bool) -> Iterator[Any]:
    """Return a function that appends predictions to `file`, in the format of the name `out`."""
    writer = _ParquetWriter(file) if is_parquet(out) else _CsvWriter(file, classes, timed)
    yield writer.write
    writer.close()


class _CsvWriter:
    """Lines of text."""

    def __init__(self, file: BinaryIO, classes: tuple[str, ...], timed: bool) -> None:
        self.file, self.classes, self.started, self.timed = file, classes, False, timed

    def write(self, predictions: pd.DataFrame) -> None:
        """Append rows; the first ones with a header."""
        cells = predictions.copy()
        if "date" in cells and len(cells):
            days = bool((cells["date"] == cells["date"].dt.normalize()).all())
            if not days and self.started and not self.timed:
                raise _TimesLaterError
            self.timed |= not days
            if days and self.timed:
                cells["date"] = cells["date"].dt.strftime("%Y-%m-%d %H:%M:%S")
        if "ticker" in cells:
            cells["ticker"] = escape_formulas(cells["ticker"])
        for name in ("predicted", "decision"):
            cells[name] = class_cells(self.classes, pd.Index(self.classes).get_indexer(pd.Index(cells[name])))
        text = cells.to_csv(index=False, lineterminator="\n", header=not self.started)
        self.file.write(text.encode())
        self.started = True

    def close(self) -> None:
        """Do nothing."""


class _ParquetWriter:
    """Yield row groups of a suitable size, for any size of the parts."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.waiting, self.n_waiting = file, list[pa.Table](), 0
        self.writer: pyarrow.parquet.ParquetWriter | None = None

    def write(self, predictions: pd.DataFrame) -> None:
        """Append rows."""
        table = pa.Table.from_pandas(predictions, preserve_index=False)
        for place, name in enumerate(table.schema.names):
            if name in ("ticker", "predicted", "decision"):  # a part without rows has no type
                table = table.set_column(place, name, table.column(name).cast(pa.string()))
        self.waiting.append(table.replace_schema_metadata(None))
        self.n_waiting += len(predictions)
        if self.n_waiting >= _GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        """Write what waits and the end of the file."""
        self._flush()
        if self.writer is not None:
            self.writer.close()

    def _flush(self) -> None:
        if not self.waiting:
            return
        table = pa.concat_tables(self.waiting)
        if self.writer is None:
            self.writer = pyarrow.parquet.ParquetWriter(self.file, table.schema)
        self.writer.write_table(table)
        self.waiting, self.n_waiting = [], 0
