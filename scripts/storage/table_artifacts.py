"""The two Parquet artifacts, read within bounds: numbers and dates only, and limited memory.

Text columns are not read: no command needs them, and a dictionary could repeat a long text in every row.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from scripts.errors import InputError
from scripts.storage.artifacts import read_listed
from scripts.storage.extended_record import Extended
from scripts.storage.parquet_bounds import check_footer, unpacked_sizes
from scripts.storage.records import Trials
from scripts.storage.run_dir import Command, RunDir

_ALWAYS_FINE = 2**29  # bytes
_WHOLE, _NUMBER, _DATE = "a whole number", "a number", "a date or a whole number"
_OUT_OF_FOLD = {"trial_number": _WHOLE, "fold": _WHOLE, "seed": _WHOLE, "row": _WHOLE, "label": _WHOLE, "date": _DATE}
_BY_DATE = {"trial": _WHOLE, "date": _DATE, "n_rows": _WHOLE}
_BY_DATE |= {"hits": _NUMBER, "log_loss": _NUMBER, "auc": _NUMBER, "net_return": _NUMBER}


def read_out_of_fold(run_dir: RunDir, extended: Extended) -> pd.DataFrame:
    """Read the out-of-fold predictions of phase 2, without the tickers (see `prediction_table`).

    Raises
    ------
    MissingInputError, InputError
        They are missing, damaged, or lack tested rows of a configuration that was trained on all folds.
    """
    path = run_dir.out_of_fold
    table = _table(read_listed(path, extended.files, Command.EXTENDED), _OUT_OF_FOLD, path, Command.EXTENDED)
    shares = table[[name for name in table.columns if name.startswith("probability_")]].to_numpy(dtype=np.float64)
    label, numbers = table["label"], [c.trial_number for c in extended.configurations if c.is_complete]
    of_all = table[table["trial_number"].isin(numbers)][["trial_number", "fold", "row"]].drop_duplicates()
    n_tested = of_all.groupby("trial_number").size()
    n_distinct = len(of_all[["fold", "row"]].drop_duplicates())
    wrong = {
        "the probabilities are not those of two or more classes": shares.shape[1] < 2
        or not bool(((shares >= 0) & (shares <= 1)).all()),
        "a label is not among the classes": not label.between(0, shares.shape[1] - 1).all(),
        "a position is negative": bool((table[["trial_number", "fold", "seed", "row"]] < 0).any(axis=None)),
        "the tested rows of the configurations differ": set(n_tested.index) != set(numbers)
        or bool((n_tested != n_distinct).any()),
    }
    _refuse(wrong, path, Command.EXTENDED)
    return table


def read_by_date(run_dir: RunDir, trials: Trials) -> pd.DataFrame:
    """Read the results of phase 1 by date (see `validation_ledger`).

    Raises
    ------
    MissingInputError, InputError
        They are missing, damaged, or do not contain every date of each trial once.
    """
    path = run_dir.ledger
    table = _table(read_listed(path, trials.files, Command.TUNING), _BY_DATE, path, Command.TUNING)
    usable = {trial.number for trial in trials.usable}
    counts = table.groupby("trial").size()
    rows = table.groupby("date")["n_rows"]
    wrong = {
        "its trials are not those of trials.json": not len(counts) or not set(counts.index) <= usable,
        "a date is missing or duplicated": bool(table.duplicated(["trial", "date"]).any())
        or bool((counts != table["date"].nunique()).any()),
        "the row counts of a date differ": not bool((table["n_rows"] > 0).all()) or bool((rows.nunique() > 1).any()),
        "hits or log loss are not numbers": not bool(np.isfinite(table[["hits", "log_loss"]]).all(axis=None)),
    }
    _refuse(wrong, path, Command.TUNING)
    return table


def _table(content: bytes, columns: Mapping[str, str], path: Any, made_by: str) -> pd.DataFrame:
    """Return numbers and dates of a Parquet file with at least `columns`."""
    try:
        check_footer(io.BytesIO(content), str(path))
        file = pq.ParquetFile(pa.BufferReader(content))
        fields = [field for field in file.schema_arrow if _kinds(field.type)]
        kinds = {field.name: _kinds(field.type) for field in fields}
        missing = [name for name, kind in columns.items() if kind not in kinds.get(name, ())]
        if missing or len(kinds) < len(fields):
            raise ValueError(f"column {missing[0]} is not {columns[missing[0]]}" if missing else "a duplicate column")
        unpacked = unpacked_sizes(io.BytesIO(content), file.metadata)[1]
        # A received file of some kilobytes can unpack to gigabytes.
        if max(unpacked, 8 * file.metadata.num_rows * len(fields)) > max(_ALWAYS_FINE, 10 * len(content)):
            raise ValueError("it would take far more memory than its size")
        read = file.read(columns=list(kinds))
        if any(read.column(name).null_count for name, kind in columns.items() if kind != _NUMBER):
            raise ValueError("a value is missing")
        # pandas metadata of a received file would choose the index and the types.
        return read.to_pandas(ignore_metadata=True)
    except (pa.ArrowException, ValueError, OSError, OverflowError) as error:
        reason = [*str(error).splitlines(), type(error).__name__][0][:200]
        raise InputError(f"has invalid content: {reason}", str(path), f"create it again with {made_by}") from error


def _kinds(kind: pa.DataType) -> Sequence[str]:
    """Return the kinds of values of a column of this type; empty for text and all other types that are not read."""
    if pa.types.is_integer(kind):
        return (_WHOLE, _NUMBER, _DATE)
    if pa.types.is_floating(kind):
        return (_NUMBER,)
    return (_DATE,) if pa.types.is_timestamp(kind) else ()


def _refuse(wrong: Mapping[str, bool], path: Any, made_by: str) -> None:
    if found := [what for what, holds in wrong.items() if holds]:
        raise InputError(f"has invalid content: {found[0]}", str(path), f"create it again with {made_by}")
