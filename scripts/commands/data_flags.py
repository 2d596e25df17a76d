"""Flags --data, --label and --horizon as assignments of the section `data`, by the kind of file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import get_args

from scripts.config.experiment import DataConfig, Label
from scripts.data.files.column_names import first_names
from scripts.data.files.market import market_files
from scripts.data.files.market_columns import is_market
from scripts.data.files.market_names import roles_of
from scripts.data.files.raw_bytes import check_readable
from scripts.data.files.raw_tables import RawTable, table_chunks
from scripts.errors import InputError

MARKET_LABELS = tuple(name for name in get_args(Label) if name != "column")


@cache
def data_assignments(path: Path | None, label: str | None, horizon: int | None) -> Sequence[str]:
    """Return the assignments of --data, --label and --horizon.

    Parameters
    ----------
    path : Path or None
        A file with dates and a close or price is a market, any other is a table.
    label : str or None
        A label of markets, or the label column of a table.
    horizon : int or None
        Bars that the label looks ahead; more than one need a label of several bars.

    Raises
    ------
    InputError
        The file cannot be read, or a table has no label column of that name.
    """
    found = []
    if path is not None:
        if not path.is_dir():
            check_readable(path, "--data")
        found = _of_file(path, label)
    elif label in MARKET_LABELS:
        found.append(f"data.label={label}")
    elif label is not None:
        found += ["data.label=column", f"data.label_column={json.dumps(label)}"]
    if horizon is not None:
        found.append(f"data.horizon={horizon}")
        if label is None and horizon > 1:
            found.append("data.label=k_bar_direction")
    return found


def _of_file(path: Path, label: str | None) -> list[str]:
    place = f"data.path={json.dumps(str(path.resolve()))}"
    config = DataConfig(source="market", path=str(path))
    first = next(iter(table_chunks(market_files(path)[0] if path.is_dir() else path, config, ())))
    if label not in first.columns and is_market(first):
        if label is not None and label not in MARKET_LABELS:
            remedy = f"choose one of {', '.join(MARKET_LABELS)}, or a column of the file"
            raise InputError(f"{label!r} is not a label of a market", "--label", remedy)
        return ["data.source=market", place, *([] if label is None else [f"data.label={label}"])]
    if label not in first.columns:
        what = "has no dates with prices, so it is a table, " + (
            f"which has no column {label!r}" if label else "whose label column is not known"
        )
        what += f"; there are {first_names(list(first.columns))}"
        raise InputError(what, str(path), "add --label NAME with the column to predict")
    return [
        "data.source=table",
        place,
        "data.label=column",
        f"data.label_column={json.dumps(label)}",
        *_keys(first, label),
    ]


def _keys(table: RawTable, label: str | None) -> list[str]:
    """Return the assignments of the columns of times and groups, found by their names."""
    roles = roles_of([name for name in table.columns if name != label], {}, table.path)
    keys = [f"data.time_column={json.dumps(roles['date'])}"] if "date" in roles else []
    return keys + ([f"data.group_column={json.dumps(roles['ticker'])}"] if keys and "ticker" in roles else [])
