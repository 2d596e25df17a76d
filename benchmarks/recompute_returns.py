"""Recomputation of the simulated returns of a finished run, from its decisions and the prices of its data alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, pairwise
from pathlib import Path
from statistics import NormalDist, fmean
from typing import Any, NamedTuple

import pandas as pd

from benchmarks.cash_book import Bar, Book, Fills, Slice, deviation, fills_of, max_drawdown, run_book, sharpe, total
from scripts.config.experiment import DataConfig
from scripts.data.synthetic import generate
from scripts.final_training.model import load_model

VOLATILITY_BARS = 20

Positions = Mapping[tuple[str, int], float]
Found = Iterator[tuple[str, float, int]]


def market_returns(folder: Path, data: DataConfig, reported: Mapping[str, Any], predictions: pd.DataFrame) -> Found:
    """Yield name, value and number of dates of each figure of a market's returns."""
    bars, calendar = market(data, set(predictions["ticker"]))
    rows = predictions
    if reported["n_unlabelled"]:
        rows = all_decisions(folder, raw_bars(data), predictions)
    at_open = reported["fill"] == "next_open"
    positions = {
        (ticker, calendar[date]): float(position)
        for ticker, date, position in zip(rows["ticker"], rows["date"], rows["position"], strict=True)
    }
    horizon = data.horizon if data.holding == "horizon" else 1
    barriers = data.label == "triple_barrier" and horizon > 0 and data.holding == "horizon"
    labelled = {(t, calendar[d]) for t, d in zip(predictions["ticker"], predictions["date"], strict=True)}
    first = min(date for _, date in positions)
    exits = barrier_exits(bars, data, labelled) if barriers else {}

    def fills(decided: Positions, held: int, leave: Mapping[tuple[str, int], tuple[int, float, bool]]) -> Fills:
        dates: dict[int, dict[str, Any]] = {}
        for ticker, own in bars.items():
            slices = ladder(ticker, own, decided, held, leave, at_open)
            for date, fill in fills_of(own, slices, at_open).items():
                dates.setdefault(date, {})[ticker] = fill
        return dates

    listed = {
        date: sum(own[0].date <= date <= own[-1].date for own in bars.values()) for date in range(first, len(calendar))
    }
    year = reported["periods_per_year"]
    fee = reported["borrow_bps"] / 1e4 / year
    strategy = fills(positions, horizon, exits)
    everything = fills({(ticker, bar.date): 1.0 for ticker, own in bars.items() for bar in own}, 1, {})
    long = {date: own for date, own in everything.items() if date >= min(strategy)}
    yield from figures("", run_book(strategy, listed, fee), year)
    yield "by_cost.0", total(run_book(strategy, listed, fee, free=True).net), len(strategy)
    yield from figures("beside.equal_weight_rebalanced.", run_book(long, listed, fee), year)
    yield from figures("beside.buy_and_hold.", run_book(at_start(long, bars), listed, fee, True), year)


def at_start(fills: Fills, bars: Mapping[str, list[Bar]]) -> Fills:
    """Return the fills of the tickers that are listed at the first one."""
    start = min(fills)
    listed = {ticker for ticker, own in bars.items() if own[0].date <= start <= own[-1].date}
    return {d: kept for d, own in fills.items() if (kept := {t: fill for t, fill in own.items() if t in listed})}


def figures(prefix: str, book: Book, periods: float, overlap: int = 1) -> Found:
    """Yield what is reported of a book."""
    n = len(book.net)
    ratio, error = sharpe(book.net, periods, overlap)
    found = {
        "gross": total(book.gross),
        "net": total(book.net),
        "volatility": deviation(book.net, overlap) * math.sqrt(periods),
        "sharpe": ratio,
        "sharpe_se": error,
        "max_drawdown": max_drawdown(book.net),
        "turnover": fmean(book.turnover),
    }
    if not prefix:
        found |= {
            "n_dates": n,
            "mean_net": fmean(book.net),
            "probabilistic_sharpe": NormalDist().cdf(ratio / error),
            "cost_bps": 1e4 * sum(book.costs) / sum(book.turnover),
            "break_even_cost_bps": 1e4 * (sum(book.net) + sum(book.costs)) / sum(book.turnover),
        }
    yield from ((prefix + name, value, n) for name, value in found.items())


def raw_bars(data: DataConfig) -> pd.DataFrame:
    """Return the bars of a run's market as its file has them, columns in lower case, dates as text."""
    if data.source == "synthetic":
        return generate(data.synthetic)[0]
    assert data.path is not None
    read = pd.read_parquet if data.path.endswith(".parquet") else pd.read_csv
    frame = read(data.path).rename(columns=str.lower)
    return frame.astype({"ticker": str}) if "ticker" in frame else frame.assign(ticker="")


def market(data: DataConfig, tickers: set[str]) -> tuple[dict[str, list[Bar]], dict[str, int]]:
    """Return the bars of each of the tickers in order, and the place of each date in the calendar of all of them."""
    frame = raw_bars(data)
    frame = frame[frame["ticker"].isin(tickers)].sort_values(["ticker", "date"])
    calendar = {date: place for place, date in enumerate(sorted(set(frame["date"])))}
    columns = [frame[name] if name in frame else frame["close"] for name in ("open", "high", "low", "close")]
    columns.append(costs(data, frame["ticker"], frame[data.cost_bps_column.lower()] if data.cost_bps_column else None))
    rows = zip(frame["ticker"], frame["date"], *columns, strict=True)
    return {
        ticker: [Bar(calendar[date], *map(float, prices)) for _, date, *prices in own]
        for ticker, own in groupby(rows, key=lambda row: row[0])
    }, calendar


def costs(data: DataConfig, tickers: pd.Series, column: pd.Series | None) -> pd.Series:
    """Return the cost of a traded value of 1 of each row: from a column, otherwise from the costs of the tickers."""
    stated = data.ticker_cost_bps or {}
    bps = [stated.get(ticker, data.cost_bps) for ticker in tickers] if column is None else column.astype(float)
    return pd.Series(bps, index=tickers.index) / 1e4


def all_decisions(folder: Path, bars: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the decisions on all sealed rows, those without a label included, which predictions.csv leaves out."""
    bars = bars[bars["ticker"].isin(set(predictions["ticker"]))]  # too short ones took no part in the evaluation
    asked = load_model(folder / "final_model.pkl").predict(bars)
    dates = asked["date"].astype(str).str.slice(0, 10)
    asked = asked.assign(date=dates)[dates.ge(predictions["date"].min()) & asked["ticker"].isin(predictions["ticker"])]
    known = predictions.set_index(["ticker", "date"])["position"]
    places = pd.MultiIndex.from_frame(asked[["ticker", "date"]])
    return asked.assign(position=known.reindex(places).fillna(asked["position"].set_axis(places)).to_numpy())


def ladder(
    ticker: str,
    bars: list[Bar],
    positions: Positions,
    horizon: int,
    exits: Mapping[tuple[str, int], tuple[int, float, bool]],
    at_open: bool,
) -> list[Slice]:
    """Return the slices of one ticker: a decision of bar k is filled at the next open, or at the close of bar k."""
    slices = []
    for k, bar in enumerate(bars):
        if (position := positions.get((ticker, bar.date))) is None:
            continue
        after, price, opened = exits.get((ticker, bar.date), (horizon, math.nan, False))
        entry, last = k + at_open, k + at_open + after - 1
        leave = None if math.isnan(price) else price
        if opened and at_open:  # the fill at that open leaves it
            last, leave = last - 1, None
        slices.append(Slice(position / horizon, entry, last, leave))
    return slices


def barrier_exits(
    bars: Mapping[str, list[Bar]], data: DataConfig, labelled: set[tuple[str, int]]
) -> dict[tuple[str, int], tuple[int, float, bool]]:
    """Return after how many bars each labelled position is left, at what price, and whether that is an open.

    The barriers are at close * (1 +- width). The width is `barrier_width` times the root mean square of the last 20 log
    returns times the root of the horizon (Lopez de Prado 2018, 3.4).
    """
    exits = {}
    for ticker, own in bars.items():
        moves = [0.0] + [math.log(b.close / a.close) for a, b in pairwise(own)]
        for k, bar in enumerate(own):
            if (ticker, bar.date) not in labelled:
                continue
            square = fmean(move * move for move in moves[k - VOLATILITY_BARS + 1 : k + 1])
            width = data.barrier_width * math.sqrt(square) * math.sqrt(data.horizon)
            exits[ticker, bar.date] = first_exit(own[k + 1 : k + 1 + data.horizon], bar.close, width)
    return exits


def first_exit(ahead: list[Bar], close: float, width: float) -> tuple[int, float, bool]:
    """Return the bar of the first touch, the price at which the position is left, and whether it is that bar's open."""
    up, down = close * (1 + width), close * (1 - width)
    for after, bar in enumerate(ahead, 1):
        if bar.open >= up or bar.open <= down:
            return after, bar.open, True
        if bar.high >= up and bar.low <= down:
            return after, bar.close, False
        if bar.high >= up or bar.low <= down:
            return after, up if bar.high >= up else down, False
    return len(ahead), ahead[-1].close, False


def table_returns(folder: Path, data: DataConfig, reported: Mapping[str, Any], predictions: pd.DataFrame) -> Found:
    """Yield name, value and number of dates of each figure of a table's returns; arguments as `market_returns`.

    Nothing is yielded for a table without time, or with several rows of a group at one time.
    """
    if data.time_column is None:
        return
    span = data.forward_return_rows or 1
    rows, held = table_rows(data), table_positions(data, predictions)
    if rows.duplicated(["group", "time"]).any():
        return
    calendar = {time: place for place, time in enumerate(sorted(set(rows["time"])))}
    ends = [(calendar[own.min()], calendar[own.max()]) for _, own in rows.groupby("group")["time"]]
    listed = {place: sum(low <= place <= high for low, high in ends) for place in calendar.values()}
    if span == 1:  # the value of a ticker is known between rows with a return alone
        rows = rows[rows["earned"].notna()]
    periods, start, stop = dict[str, list[Period]](), len(calendar), 0
    for name, own in rows.sort_values("time").groupby("group"):
        dates = [calendar[time] for time in own["time"]]
        keys = zip([(name, time) for time in own["time"]], own["earned"], strict=True)
        slices = [None if math.isnan(gain) or key not in held else (held[key], gain) for key, gain in keys]
        traded = [k for k, one in enumerate(slices) if one is not None]
        start = min([start, *(dates[k] for k in traded)])
        stop = max([stop, *([*dates, dates[-1] + 1][min(k + span, len(dates))] for k in traded)])
        periods[str(name)] = own_periods(dates, [one or (0.0, 0.0) for one in slices], own["cost"].tolist(), span)
    inside = {name: within(own, start, stop) for name, own in periods.items()}
    yield from figures("", run_slices(inside, listed, stop), reported["periods_per_year"], span)


def table_rows(data: DataConfig) -> pd.DataFrame:
    """Return time, group, forward return and cost of all rows of a run's table that have a label."""
    assert data.path is not None
    if data.path.endswith(".parquet"):
        frame = pd.read_parquet(data.path)
    else:
        frame = pd.read_csv(
            data.path, sep=data.delimiter or ",", decimal=data.decimal or ".", dtype={data.group_column or "": str}
        )
    frame = frame[frame[data.label_column].notna()]
    time = pd.to_datetime(frame[data.time_column], format=data.date_format)
    group = "all" if data.group_column is None else frame[data.group_column].astype(str)
    rows = pd.DataFrame({"time": time, "earned": frame[data.forward_return_column].astype(float)}).assign(group=group)
    return rows.assign(cost=costs(data, rows["group"], frame[data.cost_bps_column] if data.cost_bps_column else None))


def table_positions(data: DataConfig, predictions: pd.DataFrame) -> dict[tuple[str, Any], float]:
    """Return the position by group and time."""
    times = pd.to_datetime(predictions["date"], format="ISO8601")
    groups = ["all"] * len(predictions) if data.group_column is None else predictions["ticker"]
    return dict(zip(zip(groups, times, strict=True), map(float, predictions["position"]), strict=True))


class Period(NamedTuple):
    """Time between two rows of a group: dates, slices held, what those that end in it gain, and costs of a trade."""

    start: int
    end: int
    held: float
    gain: float
    cost: float
    end_cost: float


def own_periods(
    dates: list[int], decisions: Iterable[tuple[float, float]], costs: list[float], span: int
) -> list[Period]:
    """Return the periods of one group; a decision holds a slice of 1 / span for `span` rows, or to the last one.

    `decisions` has position and return for each date.
    """
    slices = [(position / span, gain) for position, gain in decisions]
    found = []
    for k, date in enumerate(dates):
        last = k + 1 == len(dates)
        held = slices[max(0, k - span + 1) : k + 1]
        ended = held if last else held[:1] if k + 1 >= span else []
        gain = sum(size * own for size, own in ended)
        found.append(
            Period(
                date,
                date + 1 if last else dates[k + 1],
                sum(size for size, _ in held),
                gain,
                costs[k],
                costs[k if last else k + 1],
            )
        )
    return found


def within(periods: list[Period], start: int, stop: int) -> list[Period]:
    """Return the periods of a book that is kept from `start` to `stop`; nothing is held over one that ends later."""
    own = [one for one in periods if start <= one.start < stop]
    return [one if one.end <= stop else one._replace(held=0.0, gain=0.0) for one in own]


def run_slices(periods: Mapping[str, list[Period]], listed: Mapping[int, int], stop: int) -> Book:
    """Keep a book to `stop` whose slices are valued at their cost until they end."""
    starts = {(name, one.start): one for name, own in periods.items() for one in own}
    dates = sorted({date for one in starts.values() for date in (one.start, one.end) if date < stop})
    cash, worth, due, book = (
        1.0,
        dict.fromkeys(periods, 0.0),
        dict[str, tuple[Period, float, bool]](),
        Book([], [], [], []),
    )
    for date, after in zip(dates, [*dates[1:], stop], strict=True):
        capital, traded, paid = cash + sum(worth.values()), 0.0, 0.0
        for name, own in periods.items():
            if (one := starts.get((name, date))) is not None:
                target = capital * one.held / listed[date]
                traded, paid = traded + abs(target - worth[name]), paid + one.cost * abs(target - worth[name])
                cash, worth[name] = cash - (target - worth[name]), target
                due[name] = one, capital * one.gain / listed[date], one is own[-1]
        for name in [name for name, order in due.items() if order[0].end <= after or after == stop]:
            one, gain, last = due.pop(name)
            worth[name] += gain
            if last:
                paid += one.end_cost * abs(worth[name])
                traded, cash, worth[name] = traded + abs(worth[name]), cash + worth[name], 0.0
        cash -= paid
        net = (cash + sum(worth.values())) / capital - 1
        book.net.append(net)
        book.gross.append(net + paid / capital)
        book.costs.append(paid / capital)
        book.turnover.append(traded / capital)
    return book
