"""Reading of the configured data source (market file, table or synthetic market) as one checked table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from scripts.config.experiment import DataConfig, SyntheticConfig
from scripts.data.files.mapped_rows import NO_BOUND, MemoryBound
from scripts.data.files.market import read_market
from scripts.data.files.raw_bytes import check_readable
from scripts.data.files.table import read_bundled, read_features
from scripts.data.synthetic import generate
from scripts.data.table import Table

BUNDLED_PREFIX = "sklearn:"


def read_data(config: DataConfig, where: Path | None = None, bound: MemoryBound = NO_BOUND) -> Table:
    """Read and check the data that `config` names.

    Parameters
    ----------
    where : Path, optional
        Another file of the same schema to be read in place of `config.path`.
    bound : MemoryBound
        For the features of a table.

    Raises
    ------
    InputError
        With file, line, ticker, date or column, and the fix, if a problem cannot be repaired without guessing.
    """
    if config.source == "synthetic" and where is None:
        return _synthetic(config.synthetic)
    name = str(where if where is not None else config.path)
    if config.source == "table" and name.startswith(BUNDLED_PREFIX):
        return read_bundled(name.removeprefix(BUNDLED_PREFIX), config)
    path = Path(name)
    if config.source == "table" or not path.is_dir():
        check_readable(path, "data.path")
    return read_features(path, config, bound) if config.source == "table" else read_market(path, config)


def _synthetic(config: SyntheticConfig) -> Table:
    bars, truth = generate(config)
    # Names such as SYN100 sort before SYN11.
    order = np.argsort(bars["ticker"].to_numpy(), kind="stable")
    frame = bars.iloc[order].reset_index(drop=True)
    frame["date"] = pd.to_datetime(frame["date"]).astype("datetime64[ns]")
    frame["ticker"] = frame["ticker"].astype("str")
    frame["volume"] = frame["volume"].astype(np.float64)
    return replace(Table.of(frame), truth=truth["p_up_next"].to_numpy(dtype=np.float64)[order])
