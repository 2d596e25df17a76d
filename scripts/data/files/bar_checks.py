"""Checks of the bars of a ticker for suspicious values: misplaced decimal points, splits, gaps, halts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from scripts.errors import InputError

# Ratios of customary splits; 3:2 is left out, since crashes of a third are common enough to drown the note.
SPLITS = np.array([2, 3, 4, 5, 6, 7, 8, 10, 15, 20, 25, 30, 50, 100], dtype=float)
SPLIT_TOLERANCE = 0.03  # of the logarithm: a split day has an ordinary overnight move on top
CALM_RANGE = 0.08  # log(high/low) of the bar after the jump; days of a real crash are wider
SHIFTED_POINT, SHIFT_TOLERANCE = 100.0, 1.5  # a print is x100 if it is within this factor of it
GAP_DAYS, GAP_SPACINGS = 10, 10  # a gap is longer than so many days and so many times the usual spacing
HALT_BARS = 5
_SHOWN = 5
_ENOUGH_MOVES, _BEYOND = 20, 12.0  # moves of a ticker that show its usual one; a jump so many times larger is a split
MIN_SHARED = 0.1  # share of rows on dates of several tickers, below which their clocks must differ

Place = Callable[[int], str]


def check_calendars(frame: pd.DataFrame, path: str) -> None:
    """Raise InputError if tickers of the same time hardly ever share a date: their clocks differ.

    Parameters
    ----------
    frame : DataFrame
        Bars sorted by ticker, then date.
    path : str
        The file, for messages.
    """
    dates = frame["date"].to_numpy()
    codes = pd.factorize(frame["ticker"])[0]
    if len(codes) == 0 or codes.max() == 0:
        return
    _, position, counts = np.unique(dates, return_inverse=True, return_counts=True)
    spans = frame.groupby("ticker", sort=False)["date"].agg(["min", "max"])
    first, last = spans["min"].to_numpy(), spans["max"].to_numpy()
    order = np.argsort(first, kind="stable")
    overlap = bool((np.maximum.accumulate(last[order])[:-1] > first[order][1:]).mean() > 0.5)
    if overlap and (counts[position] > 1).mean() < MIN_SHARED:
        what = f"{codes.max() + 1} tickers share hardly any date: their times are on different clocks"
        raise InputError(what, path, "give all tickers the dates of one clock, daily bars without a time")


def series_notes(frame: pd.DataFrame, place: Place, path: str, refuse_splits: bool = False) -> tuple[str, ...]:
    """Notes on a market's bars.

    Parameters
    ----------
    frame : DataFrame
        Bars sorted by ticker, then date.
    place : callable
        Function from row to the place of its bar, for messages.
    path : str
        The file, for messages.
    refuse_splits : bool
        Raise InputError for a jump like a split.

    Raises
    ------
    InputError
        If a single bar has a price about 100 times, or a hundredth, of the neighbouring bars; or prices jump by a
        factor of 1,000.
    """
    codes = pd.factorize(frame["ticker"])[0]
    first = np.r_[True, codes[1:] != codes[:-1]]
    _refuse_shifted_points(frame, first, place)
    _refuse_thousandfold(frame, first, place)
    splits = _split_notes(frame, first, place, refuse_splits)
    return (*splits, *_gap_notes(frame, first, path), *_halt_notes(frame, first, place))


def _refuse_shifted_points(frame: pd.DataFrame, first: np.ndarray, place: Place) -> None:
    last = np.r_[first[1:], True]
    for name in ("open", "high", "low", "close"):
        if name not in frame:
            continue
        price = np.log(frame[name].to_numpy())
        before, after = np.r_[0.0, np.diff(price)], np.r_[-np.diff(price), 0.0]
        # At either end of a history there is one neighbour, which then has to do.
        before, after = np.where(first, after, before), np.where(last, np.where(first, 0.0, before), after)
        bound = np.log(SHIFT_TOLERANCE)
        away = [np.abs(np.abs(jump) - np.log(SHIFTED_POINT)) < bound for jump in (before, after)]
        bad = away[0] & away[1] & (np.sign(before) == np.sign(after))
        # An end bar deviates as much as its inner neighbour; the neighbour is the misprint if its other side agrees.
        inner = bad & ~first & ~last
        bad = inner if inner.any() else bad
        if bad.any():
            row = int(bad.argmax())
            raise InputError(
                f"{name} {frame[name].iloc[row]:g} is about {'100 times' if before[row] > 0 else '1/100 of'} "
                "the neighbouring bars",
                place(row),
                "correct the decimal point, or remove the row",
            )


def _refuse_thousandfold(frame: pd.DataFrame, first: np.ndarray, place: Place) -> None:
    """Raise InputError for closes that jump by a factor of about 1,000, as those with a misread separator do."""
    close = np.log(frame["close"].to_numpy())
    jump = np.abs(np.r_[0.0, np.diff(close)])
    bad = ~first & (np.abs(jump - np.log(1000.0)) < np.log(SHIFT_TOLERANCE))
    if bad.any():
        row = int(bad.argmax())
        what = f"close {frame['close'].iloc[row]:g} is about 1,000 times the close before it, or a thousandth"
        remedy = "if dots or commas separate thousands, add --set \"data.thousands='.'\" or \"data.thousands=','\""
        raise InputError(what, place(row), remedy)


def _split_notes(frame: pd.DataFrame, first: np.ndarray, place: Place, refuse: bool) -> list[str]:
    close = frame["close"].to_numpy()
    opening = frame["open"].to_numpy() if "open" in frame else close
    jump = np.r_[0.0, np.log(opening[1:] / close[:-1])]
    # Few moves are as large as the smallest split, so that only those are compared with all of them.
    rows = np.flatnonzero(~first & (np.abs(jump) > np.log(SPLITS[0]) - 2 * SPLIT_TOLERANCE))
    # On a day of a real crash prices move within the bar too; a split only moves the level.
    if "high" in frame and "low" in frame:
        high, low = (frame[name].to_numpy()[rows] for name in ("high", "low"))
        rows = rows[np.log(high / low) < CALM_RANGE]
    distance = np.abs(np.abs(jump[rows])[:, None] - np.log(SPLITS)[None, :])
    like = distance.min(axis=1) < SPLIT_TOLERANCE
    rows, nearest = rows[like], distance.argmin(axis=1)[like]
    notes = []
    for row, split in zip(rows[:_SHOWN], nearest[:_SHOWN], strict=True):
        ratio = f"{SPLITS[split]:g}"
        notes.append(
            f"{place(row)}: opens at {np.exp(jump[row]):.3g} times the close before, like a split of "
            f"{ratio + ' to 1' if jump[row] < 0 else '1 to ' + ratio}"
        )
    sure = _far_beyond_usual(jump, first, rows) if refuse else np.zeros(len(rows), dtype=bool)
    if sure.any():
        where, _, what = notes[min(int(sure.argmax()), _SHOWN - 1)].partition(": ")
        more = f" ({int(sure.sum()) - 1} more like it)" if sure.sum() > 1 else ""
        remedy = "give adjusted prices, or add --set data.prices=raw to use these as they are"
        raise InputError(what + more, where, remedy)
    return notes + ([f"{len(rows) - _SHOWN} more jumps like a split"] if len(rows) > _SHOWN else [])


def _far_beyond_usual(jump: np.ndarray, first: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return True for jumps that are many times larger than the usual overnight moves of their ticker."""
    codes = np.cumsum(first) - 1
    usual = pd.Series(np.where(first, np.nan, np.abs(jump))).groupby(codes).agg(["median", "count"])
    known = usual["count"].to_numpy()[codes[rows]] >= _ENOUGH_MOVES
    return known & (np.abs(jump[rows]) > _BEYOND * usual["median"].to_numpy()[codes[rows]])


def _gap_notes(frame: pd.DataFrame, first: np.ndarray, path: str) -> list[str]:
    """Long gaps, and dates that a ticker lacks though others have them."""
    date, ticker = frame["date"].to_numpy(), frame["ticker"]
    spacing = np.where(first, np.timedelta64(0, "ns"), np.diff(date, prepend=date[:1]))
    usual = np.median(spacing[~first].astype(np.int64)) if (~first).any() else 0.0
    longest = max(GAP_DAYS * 86_400e9, GAP_SPACINGS * usual)
    rows = np.flatnonzero(spacing.astype(np.int64) > longest)
    notes = []
    if len(rows):
        shown = ", ".join(f"{ticker.iloc[row]} {_day(date[row - 1])} to {_day(date[row])}" for row in rows[:_SHOWN])
        notes.append(f"{path}: {len(rows)} long gaps: {shown}" + (", ..." if len(rows) > _SHOWN else ""))
    lacking = _lacking(date, ticker, first)
    if lacking:
        total = sum(len(absent) for _, absent in lacking)
        shown = ", ".join(f"{name} {len(absent)} (first {_day(absent[0])})" for name, absent in lacking[:_SHOWN])
        more = ", ..." if len(lacking) > _SHOWN else ""
        notes.append(f"{path}: {total} bars are absent on dates that other tickers have: {shown}{more}")
    return notes


def _lacking(date: np.ndarray, ticker: pd.Series, first: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Tickers with the dates, between their first and last, on which only others have a bar."""
    position, calendar = pd.factorize(date, sort=True)
    starts = np.flatnonzero(first)
    ends = np.r_[starts[1:], len(date)]
    result = []
    for start, end in zip(starts, ends, strict=True):
        expected = position[end - 1] - position[start] + 1
        if expected > end - start:
            absent = np.setdiff1d(np.arange(position[start], position[end - 1]), position[start:end])
            result.append((str(ticker.iloc[start]), calendar[absent]))
    return result


def _halt_notes(frame: pd.DataFrame, first: np.ndarray, place: Place) -> list[str]:
    close = frame["close"].to_numpy()
    still = ~first & np.r_[False, close[1:] == close[:-1]]
    if "volume" in frame:
        still &= frame["volume"].to_numpy() == 0
    # Runs of True: +1 where one begins, -1 after it ends.
    edges = np.diff(np.r_[0, still.astype(np.int8), 0])
    begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    long = ends - begins >= HALT_BARS
    if not long.any():
        return []
    begin, length = int(begins[long][0]), int((ends - begins)[long][0])
    return [f"{int(long.sum())} halts (close unchanged, no volume); the first, of {length} bars, is at {place(begin)}"]


def _day(date: np.datetime64) -> str:
    return str(date)[:10]
