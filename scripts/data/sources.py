"""Data sources: one configuration in, one checked table out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from scripts.config.experiment import DataConfig, SyntheticConfig
from scripts.data.files.mapped_rows import NO_BOUND, MemoryBound
from scripts.data.files.market import read_market
from scripts.data.files.raw_bytes import file_digest
from scripts.data.files.streamed_features import StreamedFeatures
from scripts.data.files.table import read_bundled, read_features
from scripts.data.synthetic import generate

BUNDLED_PREFIX = "sklearn:"


@dataclass(frozen=True)
class RawData:
    """A checked table.

    Attributes
    ----------
    frame : DataFrame
        Market: date (datetime64[ns], without time zone), ticker (text), close and those of open, high, low, volume
        that exist (float64); sorted by ticker, then date. Table: all columns (numbers float64, others text, missing
        cells NaN), by time if there is a time column, else in file order. The index counts from 0.
    features : StreamedFeatures or None
        Of the same rows, the feature columns of a table that are not in the frame, since memory has no room for them.
    notes : tuple of str
        Repairs and warnings in words.
    truth : ndarray of float64, shape (n_rows,), or None
        Exact probability that the next close is higher; synthetic markets only.
    file_sha256 : str
        Of the file's bytes, of the values of a bundled table, or of the JSON of the synthetic market's configuration.
    """

    frame: pd.DataFrame
    notes: tuple[str, ...]
    truth: np.ndarray | None = None
    file_sha256: str = ""
    features: StreamedFeatures | None = None


def read_data(config: DataConfig, where: Path | None = None, bound: MemoryBound = NO_BOUND) -> RawData:
    """Read and check the data that `config` names.

    Parameters
    ----------
    config : DataConfig
    where : Path, optional
        Another file of the same schema to be read in place of `config.path`.
    bound : MemoryBound
        For the features of a table.

    Raises
    ------
    InputError
        Naming file, line, ticker, date or column, and what to do, if a problem cannot be mended without guessing.
    """
    if config.source == "synthetic" and where is None:
        return _synthetic(config.synthetic)
    name = str(where if where is not None else config.path)
    if config.source == "table" and name.startswith(BUNDLED_PREFIX):
        frame, digest = read_bundled(name.removeprefix(BUNDLED_PREFIX), config)
        return RawData(frame, (), file_sha256=digest)
    path = Path(name)
    digest = file_digest(path)
    if config.source == "table":
        frame, notes, features = read_features(path, config, bound)
        return RawData(frame, notes, file_sha256=digest, features=features)
    frame, notes = read_market(path, config)
    return RawData(frame, notes, file_sha256=digest)


def _synthetic(config: SyntheticConfig) -> RawData:
    bars, truth = generate(config)
    # Names such as SYN100 sort before SYN11.
    order = np.argsort(bars["ticker"].to_numpy(), kind="stable")
    frame = bars.iloc[order].reset_index(drop=True)
    frame["date"] = pd.to_datetime(frame["date"]).astype("datetime64[ns]")
    frame["ticker"] = frame["ticker"].astype("str")
    frame["volume"] = frame["volume"].astype(np.float64)
    digest = hashlib.sha256(json.dumps(config.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()
    return RawData(frame, (), truth["p_up_next"].to_numpy(dtype=np.float64)[order], digest)
