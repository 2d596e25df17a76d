"""Fingerprints of sealed rows that show whether two sets of rows overlap (bottom-k sketch, Broder 1997).

Two runs that seal other shares of one file, or label it otherwise, have different sealed fingerprints and are tested on
the same days anyway. A sketch has the smallest hashes of the rows. Two sets that share more than a percent of their
rows have a hash in common, for data of any length.
"""

from __future__ import annotations

import base64
import binascii

import numpy as np

from scripts.config.experiment import DataConfig
from scripts.data.table import Table

_KEPT = 512  # hashes


def sealed_sketch(raw: Table, table: Table, config: DataConfig) -> str:
    """Sketch of the sealed rows of `table`, which `cut` made of `raw`; the same for any label.

    A row of a market is its date, ticker and close; one of a table its time, group and forward return where it has
    both, else all of its cells.
    """
    sealed = raw.take(np.isin(raw.rows, table.rows[table.sealed]))
    hashes = np.unique(sealed.row_hashes(_identity(raw, config)))
    return base64.b64encode(hashes[:_KEPT].astype("<u8").tobytes()).decode()


def share_rows(first: str, second: str) -> bool:
    """Return True if two sketches have a hash in common; False for text that is not a sketch."""
    return bool(np.isin(_hashes(first), _hashes(second)).any())


def _identity(raw: Table, config: DataConfig) -> list[str]:
    if config.source != "table":
        return ["date", "ticker", "close"]
    if config.time_column is not None and config.forward_return_column is not None:
        named = (config.time_column, config.group_column, config.forward_return_column)
        return [name for name in named if name is not None]
    return sorted(raw.columns)


def _hashes(sketch: str) -> np.ndarray:
    try:
        content = base64.b64decode(sketch, validate=True)
    except (binascii.Error, ValueError):
        return np.empty(0, dtype="<u8")
    return np.frombuffer(content[: len(content) // 8 * 8], dtype="<u8")
