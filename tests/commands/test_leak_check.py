"""The leak check: clean data pass, and whatever looks ahead, holds the label or reads other rows is found and named."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from scripts.commands.leak_check import FULL, QUICK, compare_folds, leak_report, part_of
from scripts.config.experiment import DataConfig, Experiment, SyntheticConfig
from scripts.data.files.market import PRICES
from scripts.data.loading import read_development
from scripts.data.synthetic import generate
from scripts.evaluation.leaks.changed_future import cut_dates, moved_past, other_bars, separation
from scripts.evaluation.leaks.peeking_models import peeking_models
from tests.conftest import TRIALS, artifact, run

REPORT = "hyperparameter_tuning_results/leak_check.json"
MARKET = SyntheticConfig(n_tickers=4, n_days=500)
FAST = ["--set", "tuning.scheduler=guide", "--set", "tuning.n_random_trials=1", "--set", "tuning.n_bayesian_trials=0"]
FAST += ["--set", "tuning.n_fine_tune_trials=0", "--set", "tuning.epochs_per_trial_random=1"]


def experiment(data, **families):
    return Experiment(data=data, search_space={"family": "mlp", "width": 8, "window": 1}, models=families)


def report(data, scope=QUICK):
    return leak_report(read_development(data, 0), experiment(data), scope)


def ragged_market(path):
    """Tickers that start late, end early or are halted for longer than a history survives."""
    bars = generate(SyntheticConfig(n_tickers=5, n_days=700, seed=3))[0]
    day = bars.groupby("ticker").cumcount()
    name = bars["ticker"]
    keep = ~((name == "SYN01") & (day < 300)) & ~((name == "SYN02") & (day > 450))
    keep &= ~((name == "SYN03") & (day > 250) & (day < 300))
    bars[keep].to_csv(path, index=False)
    return DataConfig(source="market", path=str(path))


def table(path, columns=None, grouped=True, timed=True, n_days=300):
    """A table of noise with a text column whose last categories come late; `columns` are added."""
    rng = np.random.default_rng(5)
    n = 3 * n_days
    day = np.repeat(np.arange(n_days), 3)
    label = rng.integers(0, 2, n)
    frame = pd.DataFrame({"noise": rng.normal(size=n), "signal": rng.normal(size=n) + 0.3 * label})
    frame["text"] = np.where(day > 0.7 * n_days, "a late one", np.array(["b", "c"])[rng.integers(0, 2, n)])
    frame["gappy"] = np.where(rng.uniform(size=n) < 0.2, np.nan, rng.normal(size=n))
    frame["label"] = np.array(["no", "yes"])[label]
    frame = frame.assign(**{name: make(label, rng) for name, make in (columns or {}).items()})
    values = {"source": "table", "label": "column", "label_column": "label", "path": str(path)}
    if timed:
        frame["time"] = (pd.Timestamp("2020-01-01") + pd.to_timedelta(day, unit="D")).strftime("%Y-%m-%d")
        values["time_column"] = "time"
    if grouped:
        frame["group"] = np.tile(["x", "y", "z"] if timed else list("uvwxyz"), n_days)[:n]
        values["group_column"] = "group"
    frame.to_csv(path, index=False)
    return DataConfig(**values)


@pytest.mark.parametrize(
    "label",
    [
        {"label": "next_direction"},
        {"label": "k_bar_direction", "horizon": 5, "fill": "close_to_close"},
        {"label": "triple_barrier", "horizon": 10},
        {"label": "volatility_regime", "horizon": 5, "regime_window": 60},
    ],
    ids=lambda label: label["label"],
)
@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
def test_built_in_features_and_labels_are_clean(tmp_path, label, ragged):
    data = ragged_market(tmp_path / "bars.csv") if ragged else DataConfig(synthetic=MARKET)
    found = report(DataConfig(**data.model_dump() | label))
    assert found.warnings == []
    assert len(found.cuts) == QUICK.n_cuts and not found.notes


@pytest.mark.parametrize(("timed", "grouped"), [(True, True), (True, False), (False, True), (False, False)])
def test_tables_are_clean_with_and_without_time(tmp_path, timed, grouped):
    found = report(table(tmp_path / "table.csv", timed=timed, grouped=grouped), FULL)
    assert found.warnings == []
    assert bool(found.cuts) == timed
    assert (found.folds is not None) == (timed or grouped)


def by_ticker(function):
    return lambda frame: frame.groupby("ticker")["close"].transform(function).to_numpy(np.float32)


LEAKING = {
    "next close": by_ticker(lambda close: close.shift(-1) / close),
    "scaled on the full sample": by_ticker(lambda close: (close - close.mean()) / close.std()),
    "centred window": by_ticker(lambda close: close.rolling(5, center=True).mean()),
    "last close of all": by_ticker(lambda close: close.iloc[-1]),
    "rank among all dates": by_ticker(lambda close: close.rank(pct=True)),
    "number of bars to come": by_ticker(lambda close: np.arange(len(close))[::-1]),
}


@pytest.fixture(scope="module")
def market():
    return read_development(DataConfig(synthetic=MARKET), 0)


def with_feature(development, feature):
    """Makes data sets with one more column."""

    def build(frame):
        dataset = development.dataset(1, frame)
        x = np.column_stack([dataset.x, feature(frame)])
        return replace(
            dataset, x=x, feature_names=(*dataset.feature_names, "mine"), categorical=np.zeros(x.shape[1], dtype=bool)
        )

    return build


def moved(development, build):
    frame = development.table.frame
    return moved_past(frame, build, ["date", "ticker"], cut_dates(build(frame), 2), 0)[0]


@pytest.mark.parametrize("feature", LEAKING.values(), ids=LEAKING)
def test_a_feature_that_looks_ahead_is_named_with_ticker_date_and_amount(market, feature):
    (found,) = moved(market, with_feature(market, feature))
    assert (found.kind, found.name, found.proven) == ("feature", "mine", True)
    assert found.ticker in {"SYN00", "SYN01", "SYN02", "SYN03"} and found.first_date.startswith("201")
    assert found.n_rows > 0 and found.amount >= 0


def test_a_feature_that_looks_ahead_by_one_bar_moves_only_in_the_row_before_the_cut(market):
    (found,) = moved(market, with_feature(market, LEAKING["next close"]))
    assert found.n_rows == len(market.table.frame["ticker"].unique())


def test_a_feature_of_the_past_alone_is_clean(market):
    causal = by_ticker(lambda close: close.rolling(20, min_periods=1).mean() / close.expanding().max())
    assert moved(market, with_feature(market, causal)) == []


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda d: {"y": np.where(d.forward_return > np.nanmedian(d.forward_return), 1, 0)}, "label"),
        (lambda d: {"forward_return": d.forward_return - np.nanmean(d.forward_return)}, "forward return"),
        (lambda d: {"naive": {"persistence": np.where(d.y < 0, 0, d.y)}}, "naive rule"),
        (lambda d: {"rows": d.rows[d.x[d.rows, 0] > np.median(d.x[:, 0][d.rows])]}, "usable rows"),
        (lambda d: {"feature_start": np.minimum(d.date, d.n_dates - 300)}, "window"),
        (lambda d: {"label_end": d.label_end - d.n_dates % 2}, "label"),
    ],
    ids=["label", "forward return", "naive rule", "usable rows", "window", "end of the label"],
)
def test_all_that_a_data_set_says_of_past_rows_is_compared(market, change, kind):
    def build(frame):
        dataset = market.dataset(1, frame)
        return replace(dataset, **change(dataset))

    assert kind in {finding.kind for finding in moved(market, build)}


def test_rows_that_come_with_the_future_are_found(market):
    def build(frame):
        return market.dataset(1, frame.drop(frame.index[: len(frame) // 100]))

    assert [finding.kind for finding in moved(market, build)] == ["rows"]


def test_other_bars_are_valid_and_leave_the_past_alone(market):
    frame = market.table.frame
    after = (frame["date"] > frame["date"].median()).to_numpy()
    other = other_bars(frame, after, ["date", "ticker"], np.random.default_rng(0))
    pd.testing.assert_frame_equal(other[~after], frame[~after])
    assert (other[PRICES[0]][after] != frame[PRICES[0]][after]).all()
    inside = other[list(PRICES)]
    assert (inside.min(axis=1) == other["low"]).all() and (inside.max(axis=1) == other["high"]).all()
    assert (other["low"] > 0).all() and np.isfinite(inside).all(axis=None) and (other["volume"] >= 0).all()


@pytest.mark.parametrize(
    ("name", "make", "proven"),
    [
        ("copy", lambda y, rng: y, True),
        ("copy_as_text", lambda y, rng: np.array(["q", "p"])[y], True),
        ("two_codes_each", lambda y, rng: np.array(list("acbd"))[2 * rng.integers(0, 2, len(y)) + y], True),
        ("filled_for_one_class", lambda y, rng: np.where(y == 1, rng.normal(size=len(y)), np.nan), True),
        ("nearly", lambda y, rng: y + 0.3 * rng.normal(size=len(y)), False),
    ],
)
def test_a_column_that_holds_the_label_is_named(tmp_path, name, make, proven):
    (found,) = report(table(tmp_path / "table.csv", {name: make})).findings
    assert (found.kind, found.name, found.proven) == ("column", name, proven)


@pytest.mark.parametrize(("y", "area"), [([0, 2] * 50, 1.0), ([0, 1, 3] * 40, 1.0), ([1] * 9, 0.5)])
def test_a_copy_of_the_label_separates_the_classes_that_are_there(y, area):
    assert separation(np.array(y, dtype=float), np.array(y), is_code=False) == area


def test_a_column_that_knows_later_labels_better_than_earlier_ones_is_named(tmp_path):
    def later(label, rng):
        ahead = np.roll(label, -2 * 3)  # two dates later of the same group
        return ahead + 0.6 * rng.normal(size=len(label))

    (found,) = report(table(tmp_path / "table.csv", {"early": later})).findings
    assert found.name == "early" and not found.proven and "2 rows later" in found.words


def test_a_column_that_knows_past_labels_is_clean(tmp_path):
    past = {"late": lambda label, rng: np.roll(label, 2 * 3)}
    assert report(table(tmp_path / "table.csv", past)).findings == ()


def test_a_placebo_is_judged_by_the_labels_it_was_made_from():
    assert report(DataConfig(synthetic=MARKET, placebo=1)).warnings == []


class OwnModel(nn.Module):
    """A linear model of the last row, whose answers `spoil` makes depend on more."""

    def __init__(self, n_features, n_classes, spoil):
        super().__init__()
        self.layer, self.spoil = nn.Linear(n_features, n_classes), spoil

    def forward(self, x):
        return self.spoil(self.layer(x if x.dim() == 2 else x[:, -1]))


def own(spoil):
    return lambda hyperparameters, n_features, n_classes, window: OwnModel(n_features, n_classes, spoil)


honest = own(lambda h: h)
batch_statistics = own(lambda h: h - h.mean(dim=0))
batch_norm = own(lambda h: nn.functional.batch_norm(h, None, None, training=True))
attention = own(lambda h: h + torch.softmax(h @ h.T, dim=1) @ h)
reads_ahead = own(lambda h: h + h.roll(-1, dims=0))
dropout_on = own(lambda h: nn.functional.dropout(h))
one_row_fails = own(lambda h: h if len(h) > 1 else h.no_such_thing)


def zero_head(hyperparameters, n_features, n_classes, window):
    head = nn.Linear(n_classes, n_classes)
    nn.init.zeros_(head.weight)
    return nn.Sequential(batch_statistics(hyperparameters, n_features, n_classes, window), head)


def peeks(development, name, window=1):
    space = {"family": "mine", "width": 8, "window": window}
    dataset = development.dataset(window)
    factories = {"mine": f"{__name__}:{name}"}
    return peeking_models(dataset, space, factories, cut_dates(dataset, 1)[0], 0)


@pytest.mark.parametrize("name", ["batch_statistics", "batch_norm", "attention", "reads_ahead", "zero_head"])
def test_a_model_whose_answer_depends_on_other_rows_is_named(market, name):
    (found,) = peeks(market, name)
    assert (found.kind, found.name, found.proven) == ("model", "mine", True)
    assert "among other rows" in found.words and "rows after 2010" in found.words and found.amount > 0.001


@pytest.mark.parametrize(("name", "says"), [("dropout_on", "dropout"), ("one_row_fails", "AttributeError")])
def test_a_model_that_cannot_be_checked_is_told_as_such(market, name, says):
    (found,) = peeks(market, name)
    assert not found.proven and says in found.words


@pytest.mark.parametrize("window", [1, 4])
def test_an_honest_model_is_clean(market, window):
    assert peeks(market, "honest", window) == []


def test_a_window_that_reads_ahead_is_found(market, monkeypatch):
    monkeypatch.setattr("scripts.training.run.window_offsets", lambda hyperparameters: range(0, 4))
    (found,) = peeks(market, "honest", 4)
    assert "rows after" in found.words and "among other rows" not in found.words


def test_labels_that_overlap_make_shuffled_folds_look_better():
    data = DataConfig(synthetic=SyntheticConfig(n_tickers=4, n_days=700, rho=0), label="k_bar_direction", horizon=40)
    dataset = read_development(data, 0).dataset(1)
    comparison = compare_folds(dataset, 3, 0)
    assert comparison.shuffled > comparison.apart + 0.1
    assert "leakage between neighbouring rows" in comparison.words
    assert compare_folds(dataset, 3, 0) == comparison


def test_a_part_keeps_whole_series_or_the_last_dates():
    frame = generate(SyntheticConfig(n_tickers=6, n_days=100))[0]
    part = part_of(frame, "date", "ticker", 250)
    assert part.groupby("ticker").size().tolist() == [100, 100]
    assert len(part_of(frame, "date", "ticker", 120)) == 120
    assert len(part_of(frame, None, None, 120)) == 120
    assert part_of(frame, "date", "ticker", 600) is frame


def test_the_command_says_what_it_looked_at_and_ends_with_0(tmp_path, tiny_config):
    done = run("run_hyperparameter_tuning.py", tmp_path, "--config", tiny_config, "--check-leaks")
    assert done.returncode == 0, done.stderr
    assert "nothing moves" in done.stdout and "mlp, gru" in done.stdout and "shuffled folds" in done.stdout
    first = (tmp_path / REPORT).read_bytes()
    assert json.loads(first)["warnings"] == [] and not (tmp_path / TRIALS).exists()
    assert run("run_hyperparameter_tuning.py", tmp_path, "--config", tiny_config, "--check-leaks").returncode == 0
    assert (tmp_path / REPORT).read_bytes() == first


def test_the_command_ends_with_2_and_one_line_if_there_is_a_leak(tmp_path):
    data = table(tmp_path / "table.csv", {"copy": lambda y, rng: y})
    flags = [f"--set=data.{name}={value}" for name, value in data.model_dump(exclude_unset=True).items()]
    done = run("run_hyperparameter_tuning.py", tmp_path / "run", *flags, "--check-leaks")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1 and "column copy alone separates" in done.stderr
    assert "WARNING leak: column copy" in done.stdout
    assert artifact(tmp_path / "run", REPORT)["findings"][0]["name"] == "copy"


def test_phase_1_warns_goes_on_and_records_it_unless_strict(tmp_path):
    data = table(tmp_path / "table.csv", {"nearly": lambda y, rng: y + 0.3 * rng.normal(size=len(y))})
    flags = [f"--set=data.{name}={value}" for name, value in data.model_dump(exclude_unset=True).items()]
    flags += [*FAST, "--set=search_space.family=mlp", "--set=search_space.window=1"]
    strict = run("run_hyperparameter_tuning.py", tmp_path / "run", "--workers", 1, *flags, "--strict")
    assert strict.returncode == 2 and "nearly" in strict.stderr
    assert not (tmp_path / "run" / TRIALS).exists()
    done = run("run_hyperparameter_tuning.py", tmp_path / "run", "--workers", 1, *flags)
    assert done.returncode == 0, done.stderr
    warnings = artifact(tmp_path / "run", TRIALS)["warnings"]
    assert len(warnings) == 1 and f"WARNING {warnings[0]}" in done.stdout
    (tmp_path / "run" / REPORT).unlink()
    again = run("run_hyperparameter_tuning.py", tmp_path / "run", "--workers", 1, *flags)
    assert again.returncode == 0 and warnings[0] in again.stdout and "is finished" in again.stdout
    assert not (tmp_path / "run" / REPORT).exists()


def test_a_clean_run_records_no_warning(finished_run):
    assert artifact(finished_run.folder, TRIALS)["warnings"] == []
    assert artifact(finished_run.folder, REPORT)["scope"] == "quick"
