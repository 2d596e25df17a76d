"""Leak checks of data: changes of the future must not change the past; single columns that predict the label."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scripts.data.dataset import Dataset
from scripts.data.files.market import PRICES
from scripts.errors import InputError
from scripts.random_keys import numpy_generator
from scripts.statistics.metrics import auc

Build = Callable[[pd.DataFrame], Dataset]
Key = tuple[str, str]  # kind and name of a quantity

ROUNDING = 1e-5  # relative; float32, and sums in another order
SUSPICIOUS_AUC = 0.95  # the best of thirty columns of noise reaches about .55 on 2,000 rows
LEADS, LEAD_AUC, LEAD_MARGIN = 3, 0.65, 0.1
COMPARED_CLASSES = 5  # the most frequent; pairs of classes grow with the square
RANKED_VALUES = 4_000_000  # at most about so many for all columns; of more rows every second, third, ... is taken


@dataclass(frozen=True)
class Finding:
    """Suspected leak.

    Attributes
    ----------
    kind, name : str
        What it is: a feature, label, forward return, naive rule, window, usable rows, rows, column or model.
    proven : bool
        Whether it is a leak for certain; otherwise it is to be looked at.
    words : str
        The finding as a sentence.
    ticker, first_date : str or None
        Earliest row that moved.
    amount : float or None
        Largest change of a number; otherwise the share of the past rows; AUC of a column; change of a model's
        logits in their standard deviations.
    n_rows : int or None
        Rows that moved.
    """

    kind: str
    name: str
    proven: bool
    words: str
    ticker: str | None = None
    first_date: str | None = None
    amount: float | None = None
    n_rows: int | None = None


def cut_dates(dataset: Dataset, count: int) -> list[np.datetime64]:
    """Dates of usable rows, evenly from 40 to 90 % of them; none without time."""
    if dataset.dates is None:
        return []
    dates = dataset.dates[np.unique(dataset.date[dataset.rows])]
    return list(np.unique(dates[np.linspace(0.4 * len(dates), 0.9 * len(dates), count).astype(int)]))


def moved_past(
    frame: pd.DataFrame, build: Build, keys: Sequence[str], cuts: Sequence[np.datetime64], seed: int
) -> tuple[list[Finding], list[str]]:
    """Return the changes of rows up to a cut date when later rows have other values or are missing.

    Parameters
    ----------
    frame : DataFrame
        Bars ("close" and "ticker" among the columns) or a table.
    build : callable
        Makes the data set of such a frame.
    keys : sequence of str
        Columns that name a row and stay as they are: first the one of datetime64, then that of the series, if any.
    cuts : sequence of datetime64
        Each is the last date that stays as it is.

    Returns
    -------
    findings : list of Finding
        One for each quantity that moves: the case with the most rows.
    notes : list of str
        Cases that could not be built, such as a history that ends before its second class.
    """
    base, notes = build(frame), []
    found: dict[Key, Finding] = {}
    other_values = other_bars if {"close", "ticker"} <= set(frame.columns) else other_rows
    for cut in cuts:
        after = frame[keys[0]].to_numpy() > cut
        changed = other_values(frame, after, keys, numpy_generator(seed, "leak check", str(cut)))
        for case, other in (("has other values", changed), ("is missing", frame[~after])):
            when = f"when what follows {moment(cut)} {case}"
            try:
                findings = list(_moved(base, build(other), cut, when))
            except InputError as error:
                notes.append(f"not checked {when}: {error}")
                continue
            for finding in findings:
                known = found.get((finding.kind, finding.name))
                if known is None or (finding.n_rows or 0) > (known.n_rows or 0):
                    found[finding.kind, finding.name] = finding
    return list(found.values()), notes


def other_bars(
    frame: pd.DataFrame, after: np.ndarray, keys: Sequence[str], generator: np.random.Generator
) -> pd.DataFrame:
    """Other valid bars after the cut, from each ticker's last close on: its moves reordered, stretched, some mirrored.

    Parameters
    ----------
    frame : DataFrame
        "ticker", "close" and any of "open", "high", "low", "volume", in time order within each ticker.
    after : ndarray of bool, shape (n_rows,)
        Rows to be changed.
    """
    names = [name for name in PRICES if name in frame]
    logs, close = np.log(frame[names].to_numpy()), names.index("close")
    volume = frame["volume"].to_numpy(copy=True) if "volume" in frame else np.zeros(len(frame))
    ticker = pd.factorize(frame["ticker"])[0]
    for rows in np.split(np.argsort(ticker, kind="stable"), np.cumsum(np.bincount(ticker))[:-1]):
        earlier, future = rows[~after[rows]], rows[after[rows]]
        if not len(future):
            continue
        start = logs[earlier[-1] if len(earlier) else future[0], close]
        moves = logs[future] - np.concatenate([[start], logs[future[:-1], close]])[:, None]
        order, stretch = generator.permutation(len(future)), generator.uniform(0.5, 1.5, len(future))
        moves = moves[order] * (stretch * generator.choice([-1, 1], len(future)))[:, None]
        before = start + np.cumsum(moves[:, close]) - moves[:, close]
        logs[future], volume[future] = before[:, None] + moves, volume[future[order]] * stretch
    # A mirrored bar has its extremes exchanged.
    columns = dict(zip(names, logs.T, strict=True)) | {"high": logs.max(axis=1), "low": logs.min(axis=1)}
    changed = {name: np.where(after, np.exp(columns[name]), frame[name]) for name in names}
    return frame.assign(**changed, **({"volume": volume} if "volume" in frame else {}))


def other_rows(
    frame: pd.DataFrame, after: np.ndarray, keys: Sequence[str], generator: np.random.Generator
) -> pd.DataFrame:
    """Return other values of the rows after the cut, in another order; arguments as `other_bars`."""
    source, future = np.arange(len(frame)), np.flatnonzero(after)
    source[future] = generator.permutation(future)
    return frame.iloc[source].set_axis(frame.index).assign(**{name: frame[name] for name in keys})


def moment(date: np.datetime64) -> str:
    """A date as text, with the time of day if it has one."""
    return str(pd.Timestamp(date)).removesuffix(" 00:00:00")


def past_rows(dataset: Dataset, cut: np.datetime64) -> np.ndarray:
    """Rows up to and including the date `cut`, of a data set with time."""
    return np.flatnonzero(np.asarray(dataset.dates)[dataset.date] <= cut)


def _moved(base: Dataset, now: Dataset, cut: np.datetime64, when: str) -> Iterator[Finding]:
    """Quantities of the rows up to `cut` that differ between two builds."""
    rows, rows_now = past_rows(base, cut), past_rows(now, cut)
    keys, keys_now = _row_keys(base, rows), _row_keys(now, rows_now)
    if keys != keys_now:
        count = max(1, len(set(keys) ^ set(keys_now)))
        yield Finding("rows", "rows", True, f"past rows come, go or change their order {when}", n_rows=count)
        return
    values, values_now, settled = _quantities(base, rows), _quantities(now, rows_now), _settled(base, rows)
    for key in values | values_now:
        pair = values.get(key), values_now.get(key)
        odd = settled.get(key[0], np.ones(len(rows), dtype=bool)) & _differ(*pair)
        if odd.any():
            yield _finding(key, base, rows[odd], [None if v is None else v[odd] for v in pair], when)


def _row_keys(dataset: Dataset, rows: np.ndarray) -> list[tuple[str, int]]:
    """Ticker and date of each row."""
    moments = np.asarray(dataset.dates)[dataset.date[rows]].astype(np.int64).tolist()
    return list(zip(np.array(dataset.tickers)[dataset.ticker[rows]].tolist(), moments, strict=True))


def _quantities(dataset: Dataset, rows: np.ndarray) -> dict[Key, np.ndarray]:
    """Yield all quantities of a data set for each of `rows`: numbers as float, codes as their text."""
    classes, dates = np.array([*dataset.classes, ""], dtype=object), np.asarray(dataset.dates)
    first, last = (dates[span[rows]].astype(np.float64) for span in (dataset.feature_start, dataset.label_end))
    values: dict[Key, np.ndarray] = {}
    for number, name in enumerate(dataset.feature_names):
        column = dataset.x[rows, number]
        if dataset.categorical[number]:
            column = np.array([*dataset.vocabularies[name], ""], dtype=object)[column.astype(np.int64)]
        values["feature", name] = column
    values |= {("naive rule", name): classes[rule[rows]] for name, rule in dataset.naive.items()}
    return values | {
        ("label", "label"): classes[dataset.y[rows]],
        ("label", "label's last bar"): np.where(dataset.label_end[rows] < 0, np.nan, last),
        ("forward return", "forward return"): dataset.forward_return[rows],
        ("window", "window"): first,
        ("usable rows", "usable rows"): np.isin(rows, dataset.rows).astype(object),
    }


def _settled(base: Dataset, rows: np.ndarray) -> dict[str, np.ndarray]:
    """For quantities that may look ahead: which of the past rows look no further than the last of them."""
    last, ahead = base.date[rows].max(), np.minimum(np.arange(len(base.ticker)) + 2, len(base.ticker) - 1)
    # A position decided at a close may be entered at the next open and left at the one after it.
    left = np.where(base.ticker[ahead] == base.ticker, base.date[ahead], base.date[-1])[rows]
    label_end = base.label_end[rows]
    return {
        "label": label_end <= last,
        "forward return": (label_end <= last) & (left <= last),
        "usable rows": label_end + base.embargo <= last,
    }


def _differ(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | bool:
    if a is None or b is None:
        return True
    if a.dtype.kind != "f" or b.dtype.kind != "f":
        return np.asarray(a != b, dtype=bool)
    known = a[np.isfinite(a)]
    return ~np.isclose(b, a, rtol=ROUNDING, atol=ROUNDING * known.std() if len(known) else 0.0, equal_nan=True)


def _finding(key: Key, base: Dataset, rows: np.ndarray, pair: Sequence[np.ndarray | None], when: str) -> Finding:
    kind, name = key
    first = rows[base.date[rows].argmin()]
    ticker, date = base.tickers[base.ticker[first]], moment(np.asarray(base.dates)[base.date[first]])
    amount = None
    a, b = pair
    if (
        kind in ("feature", "forward return")
        and a is not None
        and b is not None
        and a.dtype.kind == b.dtype.kind == "f"
    ):
        change = np.abs(a.astype(np.float64) - b)
        amount = float(change[np.isfinite(change)].max(initial=0.0))
    shown = name if name.startswith(kind) else f"{kind} {name}"
    by = "" if amount is None else f", by up to {amount:.3g}"
    words = f"{shown} moves in {len(rows)} past rows {when}: first {ticker} {date}{by}"
    return Finding(kind, name, True, words, ticker, date, amount, len(rows))


def telling_columns(dataset: Dataset, rows: np.ndarray, with_leads: bool) -> tuple[list[Finding], tuple[str, float]]:
    """Return columns that alone predict the label, or match later labels better than those known by their date.

    Parameters
    ----------
    rows : ndarray of int64
        Training rows.
    with_leads : bool
        Whether to compare with labels of earlier and later rows of the same ticker, too.

    Returns
    -------
    findings : list of Finding
        Proven where a column separates the classes without a fault.
    strongest : (str, float)
        Column with the highest AUC, and that AUC.
    """
    rows = rows[:: 1 + len(rows) * len(dataset.feature_names) // RANKED_VALUES]
    shifts = [k for ahead in range(LEADS + 1) for k in (ahead, -dataset.horizon - ahead)] if with_leads else [0]
    labels = {shift: _labels_at(dataset, rows, shift) for shift in shifts}
    findings, strongest = [], ("", 0.0)
    for number, name in enumerate(dataset.feature_names):
        column, is_code = dataset.x[:, number].astype(np.float64), bool(dataset.categorical[number])
        areas = {shift: separation(column[own], y, is_code) for shift, (own, y) in labels.items()}
        if areas[0] > strongest[1]:
            strongest = (name, areas[0])
        findings += _telling(name, areas)
    return findings, strongest


def _labels_at(dataset: Dataset, rows: np.ndarray, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the `rows` whose ticker has a label `shift` rows later, and these labels."""
    rows = rows[(rows + shift >= 0) & (rows + shift < len(dataset.y))]
    rows = rows[(dataset.ticker[rows] == dataset.ticker[rows + shift]) & (dataset.y[rows + shift] >= 0)]
    return rows, dataset.y[rows + shift]


def _telling(name: str, areas: dict[int, float]) -> list[Finding]:
    """Return the finding that follows from the AUC of a column at each shift of the label, if any."""
    if areas[0] > 1 - 1e-9:
        words = f"column {name} alone separates all classes: it contains the label"
        return [Finding("column", name, True, words, amount=areas[0])]
    if areas[0] >= SUSPICIOUS_AUC:
        words = f"column {name} alone has an AUC of {areas[0]:.3f}: it may contain the label"
        return [Finding("column", name, False, words, amount=areas[0])]
    lead = max((shift for shift in areas if shift >= 0), key=lambda shift: areas[shift])
    known = max((area for shift, area in areas.items() if shift < 0), default=1.0)
    if areas[lead] < max(LEAD_AUC, known + LEAD_MARGIN):
        return []
    words = (
        f"column {name} matches the label {lead} rows later (AUC {areas[lead]:.3f}) better than any label known by "
        f"then ({known:.3f}): make sure that it is known on its date"
    )
    return [Finding("column", name, False, words, amount=areas[lead])]


def separation(values: np.ndarray, y: np.ndarray, is_code: bool) -> float:
    """Return how well a column separates classes: AUC from 0.5 to 1, the mean over pairs (Hand and Till 2001).

    Parameters
    ----------
    values : ndarray of float64, shape (n,)
        Numbers, NaN where missing, or codes from -1 on.
    y : ndarray of int64, shape (n,)
    """
    area = _code_auc if is_code else _value_auc
    classes, counts = np.unique(y, return_counts=True)
    frequent = classes[np.argsort(-counts, kind="stable")[:COMPARED_CLASSES]]
    areas = []
    for a, b in itertools.combinations(frequent, 2):
        pair = (y == a) | (y == b)
        areas.append(area(values[pair], y[pair] == b))
    return float(np.mean(areas)) if areas else 0.5


def _value_auc(values: np.ndarray, positive: np.ndarray) -> float:
    """Return the larger AUC of the values and of the indicator of missing values."""
    missing = np.isnan(values)
    there = _auc(values[~missing], positive[~missing]) if 2 * missing.sum() < len(values) else 0.5
    return max(there, _auc(missing, positive)) if missing.any() else there


def _code_auc(codes: np.ndarray, positive: np.ndarray) -> float:
    """AUC, on every second row, of the share of positives that each code has in the rows between."""
    codes = codes.astype(np.int64) + 1
    n_codes = int(codes.max(initial=0)) + 1
    seen = np.bincount(codes[::2], minlength=n_codes) + 1.0
    shares = (np.bincount(codes[::2], positive[::2], minlength=n_codes) + 0.5) / seen
    return _auc(shares[codes[1::2]], positive[1::2])


def _auc(score: np.ndarray, positive: np.ndarray) -> float:
    shares = np.asarray(score, dtype=np.float64)
    area = auc(np.asarray(positive, dtype=np.int64), np.column_stack([-shares, shares]))
    return 0.5 if area is None else max(area, 1 - area)
