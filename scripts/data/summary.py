"""Summary of a market file as it was read: tickers with their dates, closes and volumes, columns, notes."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from scripts.config.experiment import DataConfig
from scripts.config.search_space import PlainValues
from scripts.data.sources import read_data


@dataclass(frozen=True)
class TickerSummary:
    """Bars of a ticker.

    Attributes
    ----------
    rows : int
    first_date, last_date : str
        ISO 8601.
    first_close, last_close, sum_close : float
    sum_volume : float or None
        None without volumes.
    """

    rows: int
    first_date: str
    last_date: str
    first_close: float
    last_close: float
    sum_close: float
    sum_volume: float | None

    def in_words(self) -> str:
        """Return rows, dates and closes on one line."""
        first, last = (date.removesuffix("T00:00:00") for date in (self.first_date, self.last_date))
        return f"{self.rows} rows from {first} to {last}, close {self.first_close:.6g} to {self.last_close:.6g}"


@dataclass(frozen=True)
class DataSummary:
    """How a market file was understood.

    Attributes
    ----------
    tickers : dict of str to TickerSummary
    columns : dict of str to str
        Column of the file by its role.
    notes : tuple of str
    """

    tickers: dict[str, TickerSummary]
    columns: dict[str, str]
    notes: tuple[str, ...]

    def plain(self) -> PlainValues:
        """Return plain values for --json."""
        return {
            "tickers": {name: asdict(ticker) for name, ticker in self.tickers.items()},
            "columns": dict(self.columns),
            "notes": list(self.notes),
        }


def summarise_market(config: DataConfig) -> DataSummary:
    """Read a market file and summarise all of its rows, the sealed ones included."""
    table = read_data(config)
    tickers = {}
    for name, own in table.frame.groupby("ticker", sort=True):
        close = own["close"].to_numpy(np.float64)
        tickers[str(name)] = TickerSummary(
            rows=len(own),
            first_date=own["date"].iloc[0].isoformat(),
            last_date=own["date"].iloc[-1].isoformat(),
            first_close=float(close[0]),
            last_close=float(close[-1]),
            sum_close=float(close.sum()),
            sum_volume=float(own["volume"].sum()) if "volume" in own else None,
        )
    return DataSummary(tickers, table.roles, table.notes)
