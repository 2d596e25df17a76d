"""Development data: whatever the sealed rows hold, phases 1 to 3 see the same; and no row sees what comes after it."""

import numpy as np
import pandas as pd
import pytest

from scripts.config.experiment import DataConfig
from scripts.data.loading import load_development, load_other, load_sealed
from scripts.data.seal import cut
from scripts.data.sources import read_data
from scripts.errors import InputError

N, N_DEVELOPMENT = 200, 160
WORDS = ["a", "b"]


def table(path, **columns):
    """A dated table of one row a day; columns given replace or join the usual ones."""
    rng = np.random.default_rng(0)
    usual = {
        "when": pd.date_range("2020-01-01", periods=N).strftime("%Y-%m-%d"),
        "x": rng.standard_normal(N),
        "kind": rng.choice(WORDS, N),
        "y": rng.integers(0, 2, N),
    }
    pd.DataFrame(usual | columns).to_csv(path, index=False)
    return path


def table_config(path, **values):
    named = {"label": "column", "label_column": "y", "time_column": "when"}
    return DataConfig(**({"source": "table", "path": str(path)} | named | values))


def then(before, sealed):
    """A column with one kind of cells in the development rows and another in the sealed ones."""
    return [*before[:N_DEVELOPMENT], *sealed[N_DEVELOPMENT:N]]


def assert_same_development(first, second):
    assert first.fingerprint == second.fingerprint
    for name in ("feature_names", "classes", "vocabularies", "tickers", "class_positions"):
        assert getattr(first, name) == getattr(second, name), name
    for name in ("x", "y", "rows", "date", "ticker", "label_end", "feature_start", "forward_return"):
        assert np.array_equal(getattr(first, name), getattr(second, name), equal_nan=True), name


ONES, NUMBERS = [1] * N, np.arange(N) % 7
DIGITS = [str(k % 2) for k in range(N)]


@pytest.mark.parametrize(
    ("column", "one", "other"),
    [
        ("late", ONES, then(ONES, NUMBERS)),
        ("early", NUMBERS, then(NUMBERS, ONES)),
        ("words", then(WORDS * N, ["a"] * N), then(WORDS * N, ["new"] * N)),
        ("absent", then([""] * N, NUMBERS), then([""] * N, WORDS * N)),
        ("y", DIGITS, then(DIGITS, ["0", "1", "other"] * N)),
        ("y", [f"+{k}" for k in DIGITS], then([f"+{k}" for k in DIGITS], ["0", "1", "other"] * N)),
    ],
    ids=["constant before", "constant after", "categories", "missing before", "classes", "numbers as classes"],
)
def test_a_column_of_a_table_is_judged_by_its_development_rows_alone(tmp_path, column, one, other):
    configs = [table_config(table(tmp_path / f"{k}.csv", **{column: c})) for k, c in enumerate((one, other))]
    first, second = (load_development(config, 1, 0) for config in configs)
    assert_same_development(first, second)
    assert first.sealed_fingerprint != second.sealed_fingerprint or column in ("late", "absent")
    for config, development in zip(configs, (first, second), strict=True):
        assert load_sealed(config, 1, development, 0).feature_names == development.feature_names


def test_constant_columns_are_dropped_with_a_note_and_at_least_one_must_vary(tmp_path):
    development = load_development(table_config(table(tmp_path / "a.csv", late=then(ONES, NUMBERS))), 1, 0)
    assert development.feature_names == ("x", "kind")
    assert any("constant columns dropped: late" in note for note in development.notes)
    with pytest.raises(InputError, match="every feature column is constant"):
        load_development(table_config(table(tmp_path / "b.csv", x=then(ONES, NUMBERS), kind=["a"] * N)), 1, 0)


def test_sealed_rows_of_a_class_that_development_has_not_are_left_out_and_said_so(tmp_path):
    config = table_config(table(tmp_path / "a.csv", y=then(DIGITS, [*DIGITS[:-3], "2", "2", "2"])))
    development = load_development(config, 1, 0)
    sealed = load_sealed(config, 1, development, 0)
    assert development.classes == sealed.classes == ("0", "1")
    assert any("3 rows skipped" in note for note in sealed.notes)
    assert (sealed.y[sealed.rows] >= 0).all()


def test_text_that_only_sealed_rows_hold_does_not_turn_numbers_into_categories(tmp_path):
    config = table_config(table(tmp_path / "a.csv", mixed=[*range(90), *(WORDS * 55)]), test_fraction=0.6)
    with pytest.raises(InputError, match="column mixed: has numbers in the development rows and text in the sealed"):
        load_development(config, 1, 0)


def test_columns_that_have_another_purpose_are_no_features(tmp_path):
    returns = np.random.default_rng(0).normal(0.0, 0.01, N)
    columns = {"r": returns, "g": np.arange(N) % 5, "y": ["up", "down"] * (N // 2)}
    config = table_config(table(tmp_path / "a.csv", **columns), group_column="g", forward_return_column="r")
    development = load_development(config, 1, 0)
    assert development.feature_names == ("x", "kind")
    assert np.isfinite(development.forward_return).all()


def test_labels_of_a_table_reach_as_far_as_their_horizon_and_are_purged(tmp_path):
    config = table_config(table(tmp_path / "a.csv", g=np.arange(N) % 2), group_column="g", horizon=3, embargo=2)
    development = load_development(config, 1, 0)
    rows = development.rows
    assert (development.label_end[rows] == development.date[rows] + 2 * 3).all()
    assert development.label_end[rows].max() + 2 < development.n_dates == N_DEVELOPMENT
    for train, test in development.folds("kfold", 3, 0):
        earlier = train[development.date[train] < development.date[test].min()]
        assert (development.label_end[earlier] + 2 < development.date[test].min()).all()


def test_groups_of_a_table_without_time_are_never_on_both_sides(tmp_path):
    config = table_config(table(tmp_path / "a.csv", g=np.arange(N) // 5), group_column="g", time_column=None)
    development = load_development(config, 1, 0)
    sealed = load_sealed(config, 1, development, 0)
    groups = [set(np.array(d.tickers)[d.ticker[d.rows]]) for d in (development, sealed)]
    assert groups[0].isdisjoint(groups[1])
    for train, test in [development.tail_split(0.2, 0), *development.folds("kfold", 3, 0)]:
        assert set(development.ticker[train]).isdisjoint(development.ticker[test])


@pytest.mark.parametrize("time", ["when", None])
def test_rows_trained_on_are_not_judged_again_from_another_file(tmp_path, time):
    config = table_config(table(tmp_path / "own.csv"), time_column=time)
    development = load_development(config, 1, 0)
    own = pd.read_csv(config.path, dtype=str)
    new = own.tail(20).assign(x="0.5", when=[f"2021-01-{day:02d}" for day in range(1, 21)])
    # A class that no other row has makes text of labels that were numbers.
    strange = new.tail(1).assign(when="2021-02-01", y="other")
    pd.concat([new, own.iloc[::-1], strange]).to_csv(tmp_path / "other.csv", index=False)
    if time is None:
        for name in ("own", "other"):
            pd.read_csv(tmp_path / f"{name}.csv").drop(columns="when").to_csv(tmp_path / f"{name}.csv", index=False)
        development = load_development(config, 1, 0)
    other, n_trained, n_sealed = load_other(config, 1, tmp_path / "other.csv", development, 0)
    assert (n_trained, n_sealed) == (N_DEVELOPMENT, N - N_DEVELOPMENT)
    known = {row.tobytes() for row in np.column_stack([development.x, development.y]).astype(np.float64)}
    judged = np.column_stack([other.x, other.y]).astype(np.float64)[other.rows]
    assert not any(row.tobytes() in known for row in judged)
    assert len(judged) == N - N_DEVELOPMENT + 20


def bars(seed, tickers=("A", "B"), n=300, dates=None):
    """Bars of random walks."""
    parts = []
    for k, ticker in enumerate(tickers):
        rng = np.random.default_rng((seed, k))
        close = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, n)))
        opening = close * np.exp(rng.normal(0, 0.01, n))
        high, low = np.maximum(opening, close) * 1.01, np.minimum(opening, close) * 0.99
        columns = {"open": opening, "high": high, "low": low, "close": close, "volume": rng.lognormal(9, 1, n)}
        when = pd.bdate_range("2020-01-01", periods=n) if dates is None else dates
        parts.append(pd.DataFrame({"date": when, "ticker": ticker, **columns}))
    return pd.concat(parts, ignore_index=True)


def market_config(frame, path, **values):
    frame.to_csv(path, index=False)
    return DataConfig(source="market", path=str(path), regime_window=20, **values)


def test_which_tickers_are_long_enough_is_decided_before_the_seal(tmp_path):
    frame = bars(1, ("A", "B", "NEW"))
    dates = np.sort(frame["date"].unique())
    frame = frame[(frame["ticker"] != "NEW") | (frame["date"] >= dates[150])]
    # Of the 150 bars of NEW, 90 come before the seal; in the other file the rest belong to another ticker.
    sealed = (frame["ticker"] == "NEW") & (frame["date"] >= dates[240])
    renamed = frame.assign(ticker=frame["ticker"].mask(sealed, "OTHER"))
    configs = [market_config(f, tmp_path / f"{k}.csv", test_fraction=0.24) for k, f in enumerate((frame, renamed))]
    first, second = (load_development(config, 1, 0) for config in configs)
    assert first.n_dates == 240
    assert_same_development(first, second)
    assert first.tickers == ("A", "B") == load_sealed(configs[0], 1, first, 0).tickers
    assert any("NEW (90)" in note and "left out" in note for note in first.notes)
    short = market_config(bars(1, n=80), tmp_path / "short.csv")
    assert len(cut(read_data(short), short, 0).frame) == 160


LABELS = [("next_direction", 1), ("k_bar_direction", 4), ("triple_barrier", 3), ("volatility_regime", 5)]


@pytest.mark.parametrize(("kind", "horizon"), LABELS)
def test_inputs_and_naive_rules_do_not_depend_on_later_bars(tmp_path, kind, horizon):
    frame = bars(2)
    known = np.sort(frame["date"].unique())[:150]
    changed = frame.copy()
    later = ~frame["date"].isin(known)
    changed.loc[later, ["open", "high", "low", "close", "volume"]] *= np.random.default_rng(3).uniform(
        0.8, 1.2, (int(later.sum()), 1)
    )
    configs = [
        market_config(f, tmp_path / f"{k}.csv", label=kind, horizon=horizon) for k, f in enumerate((frame, changed))
    ]
    first, second = (load_development(config, 3, 0) for config in configs)
    early = first.date < 150
    assert np.array_equal(first.x[early], second.x[early], equal_nan=True)
    assert not np.array_equal(first.x[~early], second.x[~early], equal_nan=True)
    for name, rule in first.naive.items():
        assert np.array_equal(rule[early], second.naive[name][early])
    told = first.label_end[first.rows] < 150
    assert np.array_equal(first.y[first.rows][told], second.y[first.rows][told])


@pytest.mark.parametrize(("kind", "horizon"), LABELS)
def test_windows_read_no_bar_before_the_one_they_name(tmp_path, kind, horizon):
    window, frame = 5, bars(4)
    config = market_config(frame, tmp_path / "a.csv", label=kind, horizon=horizon)
    first = load_development(config, window, 0)
    row = first.rows[40]
    start = first.dates[first.feature_start[row]]
    changed = frame.copy()
    changed.loc[frame["date"] < start, ["open", "high", "low", "close", "volume"]] *= 1.7
    second = load_development(market_config(changed, tmp_path / "b.csv", label=kind, horizon=horizon), window, 0)
    read = slice(row - window + 1, row + 1)
    assert np.isfinite(first.x[read]).all()
    assert np.array_equal(first.x[read], second.x[read])
    assert first.naive["persistence"][row] == second.naive["persistence"][row]


def hourly(n_days):
    """Trading hours of weekdays."""
    days = pd.bdate_range("2023-01-02", periods=n_days)
    return pd.DatetimeIndex([day + pd.Timedelta(hours=hour) for day in days for hour in range(10, 17)])


@pytest.mark.parametrize("kind", ["kfold", "walk_forward", "rolling", "combinatorial"])
def test_bars_within_the_day_with_missing_hours_load_split_and_purge(tmp_path, kind):
    dates = hourly(120)
    frame = bars(5, n=len(dates), dates=dates)
    rng = np.random.default_rng(6)
    frame = frame[rng.random(len(frame)) > 0.1 * (frame["ticker"] == "B")]
    config = market_config(frame, tmp_path / "a.csv", label="k_bar_direction", horizon=4, embargo=3)
    development = load_development(config, 3, 0)
    assert development.ordered and "weekday_sin" not in development.feature_names
    calendar = {date: k for k, date in enumerate(development.dates)}
    for ticker in (0, 1):
        own = np.flatnonzero(development.ticker == ticker)
        place = np.array([calendar[date] for date in frame[frame["ticker"] == "AB"[ticker]]["date"][: len(own)].values])
        assert np.array_equal(development.date[own], place)
        rows = development.rows[development.ticker[development.rows] == ticker]
        ahead = np.searchsorted(own, rows) + config.horizon
        assert np.array_equal(development.label_end[rows], place[ahead])  # own bars, over missing hours and nights
    for train, test in [development.tail_split(0.2, 0), *development.folds(kind, 4, 0)]:
        first, last = development.feature_start[train][:, None], development.label_end[train][:, None]
        apart = (last + 3 < development.date[test]) | (first > development.label_end[test])
        assert apart.all()
        assert not set(development.date[train]) & set(development.date[test])
