"""The whole experiment as typed models: one place for every default and bound."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from scripts.config.class_positions import ClassPositions, check_stated, with_text_keys
from scripts.config.search_space import (
    Choices,
    FloatRange,
    Hyperparameters,
    IntRange,
    Model,
    SearchSpace,
    default_search_space,
)
from scripts.config.selection_order import DEFAULT_ORDER, Criterion
from scripts.errors import nearest
from scripts.statistics.returns import PositionRule, TradingRules

Label = Literal["next_direction", "k_bar_direction", "triple_barrier", "volatility_regime", "column"]
TickerCosts = Annotated[
    dict[str, Annotated[float, Field(ge=0, le=10_000)]], Field(min_length=1), BeforeValidator(with_text_keys)
]
NOT_RECORDED = {"models", "execution"}  # sections that no artifact holds, and that none is obeyed in
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class SyntheticConfig(Model):
    """Arguments of the embedded synthetic market."""

    n_tickers: int = Field(20, ge=1, le=10_000, description="number of tickers")
    n_days: int = Field(2520, ge=50, le=100_000, description="trading days of each ticker")
    seed: int = Field(7, ge=0, description="seed of the prices")
    rho: float = Field(0.2, ge=0, lt=1, description="strength of the signal; 0 is a market without any")
    w: float = Field(0.35, ge=0, le=1, description="share of the signal that a linear model can see")
    nu: Literal[3, 5] = Field(5, description="degrees of freedom of the innovations")
    beta: float = Field(0.5, ge=0, lt=1, description="correlation through the common factor")
    drift: float = Field(0.06, description="yearly drift")
    switch: int | None = Field(None, ge=0, description="day on which the signal changes its sign")


class DataConfig(Model):
    """Where the data come from, what is predicted, which rows are sealed."""

    source: Literal["synthetic", "market", "table"] = Field(
        "synthetic", description="synthetic: the embedded market; market: bars of prices; table: features and a label"
    )
    path: str | None = Field(None, description="CSV or Parquet; relative to the YAML file that names it")
    delimiter: str = Field(",", min_length=1, max_length=1, description="character between the cells of a CSV")
    decimal: Literal[".", ","] = Field(".", description="decimal mark of the numbers in a CSV")
    date_format: str | None = Field(None, description="strptime format; ISO 8601 where there is none")
    label: Label = Field("next_direction", description="what is predicted; column: a table's own label")
    label_column: str | None = Field(None, description="column of the label, for `label: column`")
    text_columns: list[str] = Field([], description="table columns of text, though their cells may be numbers")
    time_column: str | None = Field(None, description="column with the date of a table's rows")
    group_column: str | None = Field(None, description="column with the group (ticker) of a table's rows")
    forward_return_column: str | None = Field(None, description="table column: return of a position of +1 over one row")
    forward_return_rows: int | None = Field(
        None, ge=1, le=2_000, description="rows of its group that each of these returns spans; by default 1, checked"
    )
    horizon: int = Field(1, ge=1, le=2_000, description="bars that the label looks ahead")
    label_price: Literal["close", "next_open"] = Field(
        "close", description="directions: from close to close, or from the next open to the open after the horizon"
    )
    ties: Literal["drop", "down"] = Field(
        "drop", description="directions: rows whose price does not change have no label, or are labelled down"
    )
    barrier_width: float = Field(1.0, gt=0, le=100, description="triple barrier: width in s.d. of the horizon's move")
    regime_window: int = Field(252, ge=5, le=5_000, description="volatility regime: bars of the trailing median")
    test_fraction: float = Field(0.2, gt=0, lt=0.9, description="share of the rows, at the end of time, that is sealed")
    embargo: int = Field(5, ge=0, le=10_000, description="dates kept free between training rows and what is tested")
    cost_bps: float = Field(5.0, ge=0, le=10_000, description="cost of one unit of turnover in basis points")
    ticker_cost_bps: TickerCosts | None = Field(
        None, description="other cost of some tickers (groups of a table), in basis points; `cost_bps` for the rest"
    )
    cost_bps_column: str | None = Field(
        None, min_length=1, description="column with the cost of each row in basis points, in place of `cost_bps`"
    )
    fill: Literal["next_open", "close_to_close"] = Field("next_open", description="price a decision is filled at")
    holding: Literal["horizon", "bar"] = Field(
        "horizon", description="markets: a decision is held for the label's horizon, or until the next bar"
    )
    borrow_bps: float = Field(0.0, ge=0, le=100_000, description="yearly cost of a short position in basis points")
    margin: float = Field(0.0, ge=0, lt=1, description="lead of the largest probability below which nothing is held")
    position: PositionRule = Field(
        "sign", description="sign: that of the likeliest class; proportional: mean weighted by the probabilities"
    )
    max_weight: float = Field(1.0, gt=0, le=1, description="largest share of the capital in one ticker")
    periods_per_year: float | None = Field(
        None, gt=0, le=40_000_000, description="dates a year, for yearly figures; by default from the dates"
    )
    class_positions: ClassPositions | None = Field(
        None, description="position of each predicted class, -1 (short) to 1 (long); by default that of its name"
    )
    cost_matrix: list[list[float]] | None = Field(
        None, description="tables: cost of each decision; a row per true class, a column per predicted one"
    )
    synthetic: SyntheticConfig = Field(SyntheticConfig(), description="arguments of the synthetic market")
    shuffle_block_rows: int | None = Field(
        None, ge=1, description="shuffle blocks of so many rows, then within 16 of them; by default all rows with all"
    )
    placebo: int | None = Field(None, ge=0, description="permute the labels in blocks of dates: placebo number K")

    @property
    def trading(self) -> TradingRules:
        """How predictions are traded in simulated returns."""
        return TradingRules(
            self.cost_bps, self.margin, self.position, self.max_weight, self.borrow_bps, self.ticker_cost_bps
        )

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        if self.source != "synthetic" and not self.path:
            raise ValueError(f"source {self.source} needs `path`")
        if (self.source == "table") != (self.label == "column"):
            raise ValueError(
                f"source {self.source} does not go with label {self.label}; only tables have label: column"
            )
        if self.label == "column" and not self.label_column:
            raise ValueError("label: column needs `label_column`")
        if self.label == "next_direction" and self.horizon != 1:
            raise ValueError("next_direction looks one bar ahead; use k_bar_direction for a longer horizon")
        return self

    @field_validator("cost_matrix")
    @classmethod
    def _check_cost_matrix(cls, costs: list[list[float]] | None) -> list[list[float]] | None:
        if costs is not None and (len(costs) < 2 or any(len(row) != len(costs) for row in costs)):
            raise ValueError("a cost matrix has as many columns as rows, at least two: one for each class")
        return costs

    @model_validator(mode="after")
    def _check_costs_of_source(self) -> DataConfig:
        has_returns = self.source != "table" or self.forward_return_column is not None
        check_stated(self.class_positions, has_returns)
        if self.forward_return_rows is not None and self.forward_return_column is None:
            raise ValueError("forward_return_rows needs `forward_return_column`")
        if self.cost_matrix is not None and self.source != "table":
            raise ValueError(f"cost_matrix is for tables; source {self.source} has simulated returns after cost_bps")
        return self


Monitor = Literal["val_accuracy", "val_loss"]
FoldKind = Literal["kfold", "walk_forward", "rolling", "combinatorial"]


class TuningConfig(Model):
    """Phase 1: many short trials on one split."""

    n_random_trials: int = Field(
        20, ge=0, le=100_000, description="trials at random, those of the portfolio and of earlier runs among them"
    )
    n_bayesian_trials: int = Field(40, ge=0, le=100_000, description="trials that a model of the results proposes")
    n_fine_tune_trials: int = Field(15, ge=0, le=100_000, description="trials close to the best so far")
    epochs_per_trial_random: int = Field(
        8, ge=1, le=100_000, description="epochs of a random trial at most, under `scheduler: guide`"
    )
    epochs_per_trial_bayesian: int = Field(
        15, ge=1, le=100_000, description="epochs of a Bayesian trial at most, under `scheduler: guide`"
    )
    epochs_per_trial_fine_tune: int = Field(
        25, ge=1, le=100_000, description="epochs of a fine-tune trial at most, under `scheduler: guide`"
    )
    early_stopping_patience: int = Field(5, ge=1, le=100_000, description="epochs without an improvement")
    early_stopping_min_delta: float = Field(0.002, ge=0, le=1, description="least improvement that counts")
    monitor: Monitor = Field("val_accuracy", description="decides early stopping and the best epoch")
    validation_fraction: float = Field(0.2, gt=0, lt=0.9, description="share of the development rows, at their end")
    sampler: Literal["tpe", "gp"] = Field("tpe", description="who proposes the Bayesian and fine-tune trials")
    proposal_lag: int = Field(
        4,
        ge=1,
        le=1024,
        description="trial k is proposed from the results of trials 0..k-lag: same search for 1..lag workers",
    )
    scheduler: Literal["guide", "rungs"] = Field(
        "rungs", description="rungs: runs pause, and the promising ones go on; guide: fixed epochs per stage"
    )
    rungs: Annotated[tuple[int, ...], Field(strict=False, min_length=2)] = Field(
        (4, 8, 16, 32, 50), description="epochs at which runs pause under `scheduler: rungs`, ascending"
    )
    epoch_budget: int = Field(400, ge=1, le=10**9, description="epochs that `scheduler: rungs` spends at most")
    stop: Literal["budget", "auto"] = Field(
        "budget", description="auto: rungs also end once the expected gain is far below the noise between splits"
    )
    portfolio: bool | None = Field(
        None, description="start from the shipped portfolio; by default under `scheduler: rungs` alone"
    )
    fine_tune_top: int = Field(5, ge=1, le=1000, description="best trials that span the fine-tune bounds")
    fine_tune_widen: float = Field(0.1, ge=0, le=10, description="share of the old width added on each side")

    @property
    def n_trials(self) -> int:
        """Planned trials of all three stages."""
        return self.n_random_trials + self.n_bayesian_trials + self.n_fine_tune_trials

    @property
    def starts_from_portfolio(self) -> bool:
        """Whether the first trials are those of the portfolio; not in the guide's own plan unless asked for."""
        return self.scheduler == "rungs" if self.portfolio is None else self.portfolio

    @property
    def guide_epochs(self) -> int:
        """Epochs of the three stages at most."""
        return (
            self.n_random_trials * self.epochs_per_trial_random
            + self.n_bayesian_trials * self.epochs_per_trial_bayesian
            + self.n_fine_tune_trials * self.epochs_per_trial_fine_tune
        )

    @model_validator(mode="after")
    def _check(self) -> TuningConfig:
        if self.n_trials < 1:
            raise ValueError("no trial is planned: n_random_trials, n_bayesian_trials and n_fine_tune_trials are all 0")
        if self.rungs[0] < 1 or any(b <= a for a, b in itertools.pairwise(self.rungs)):
            raise ValueError(f"rungs {self.rungs} do not ascend from 1 or more")
        return self


class ExtendedConfig(Model):
    """Phase 2: the best few, long, under cross-validation."""

    top_n: int = Field(5, ge=1, le=1000, description="configurations of phase 1 that are trained long")
    cv: FoldKind = Field("kfold", description="how phase 2 cuts folds; without time always by class shares")
    cross_validation_folds: int = Field(3, ge=2, le=1000, description="folds; blocks for combinatorial")
    extended_epochs: int = Field(100, ge=1, le=100_000, description="epochs on each fold at most")
    evaluation_frequency: int = Field(5, ge=1, le=100_000, description="epochs between two evaluations")
    early_stopping_patience: int = Field(10, ge=1, le=100_000, description="epochs without an improvement")
    early_stopping_min_delta: float = Field(0.0, ge=0, le=1, description="least improvement that counts")
    monitor: Monitor = Field(
        "val_loss",
        description="decides early stopping and the best epoch; by loss, no lucky epoch for accuracy is picked",
    )
    selection_order: Annotated[tuple[Criterion, ...], Field(strict=False)] = Field(
        DEFAULT_ORDER, description="what decides among configurations within one standard error of the best mean"
    )
    racing: bool = Field(True, description="configurations that can hardly win stop before the last fold")
    racing_error_rate: float = Field(
        0.05, gt=0, lt=0.5, description="largest probability that racing stops the best configuration, over all looks"
    )
    racing_most_seeds: int = Field(
        3, ge=1, le=100, description="networks on a fold at most, where racing saved trainings for further seeds"
    )


class FinalConfig(Model):
    """Phase 3: the winner on all development data."""

    n_seeds: int = Field(3, ge=1, le=100, description="networks that differ by their seed; the model is their mean")
    ensemble: int = Field(
        1, ge=1, le=100, description="most draws of an ensemble of configurations; 1: the chosen one alone"
    )
    epochs: int = Field(200, ge=1, le=100_000, description="epochs of each network at most")
    early_stopping_patience: int = Field(15, ge=1, le=100_000, description="epochs without an improvement")
    early_stopping_min_delta: float = Field(0.0, ge=0, le=1, description="least improvement that counts")
    monitor: Monitor = Field("val_loss", description="decides early stopping and the best epoch")
    holdout_fraction: float = Field(0.15, gt=0, lt=0.9, description="share of the development rows, at their end")
    warmup_epochs: int = Field(2, ge=0, le=1000, description="epochs over which the learning rate rises")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="decay per step of the averaged weights; 0 switches it off")
    label_smoothing: float = Field(0.02, ge=0, lt=1, description="least label smoothing of the final model")


class ExecutionConfig(Model):
    """What a run takes of the machine or of a Ray cluster; decides no result, and is in no artifact."""

    cpus: float = Field(1.0, gt=0, le=1024, description="processors that Ray keeps for each training")
    gpus: float = Field(0.0, ge=0, le=64, description="GPUs that Ray keeps for each training; a share, such as 0.25")
    memory_limit_mb: int | None = Field(
        None,
        ge=1,
        le=2**30,
        description="a Parquet table that would take more stays in a mapped file; by default half of the memory",
    )


class Experiment(Model):
    """Everything that decides the results of a run."""

    seed: int = Field(0, ge=0, le=2**63 - 1, description="seed of everything random")
    epoch_budget: int | None = Field(
        None, ge=1, le=10**9, description="epochs of phases 1 and 2: two thirds for the rungs, phase 2 has what is left"
    )
    data: DataConfig = Field(DataConfig(), description="where the data come from, what is predicted, what is sealed")
    search_space: SearchSpace = Field(
        default_factory=default_search_space,
        description="a range, a list of choices or a fixed value for each hyperparameter; joins the default one",
    )
    models: dict[str, str] = Field(
        default_factory=dict,
        description="own model families: name -> package.module:factory (never stored in artifacts)",
    )
    tuning: TuningConfig = Field(TuningConfig(), description="phase 1: many short trials on one split")
    extended: ExtendedConfig = Field(ExtendedConfig(), description="phase 2: the best few, under cross-validation")
    final: FinalConfig = Field(FinalConfig(), description="phase 3: the winner on all development data")
    execution: ExecutionConfig = Field(
        ExecutionConfig(), description="what a run takes of the machine or of a Ray cluster"
    )

    @field_validator("search_space")
    @classmethod
    def _check_space(cls, space: SearchSpace) -> SearchSpace:
        for name, dimension in space.items():
            _check_dimension(space, name, dimension)
        return space

    @model_validator(mode="after")
    def _check_budget(self) -> Experiment:
        if self.epoch_budget is not None and self.tuning.scheduler != "rungs":
            raise ValueError("epoch_budget needs tuning.scheduler: rungs; the guide's stages have fixed epochs")
        return self

    @property
    def search_epochs(self) -> int:
        """Epochs that phase 1 spends at most."""
        if self.tuning.scheduler == "guide":
            return self.tuning.guide_epochs
        return self.tuning.epoch_budget if self.epoch_budget is None else max(1, 2 * self.epoch_budget // 3)

    def recorded(self) -> dict[str, Any]:
        """The experiment as plain values for artifacts, which never name code to import, nor where it was trained."""
        return self.model_dump(mode="json", exclude=NOT_RECORDED)


_BEFORE = {"ties": "down"}  # what runs without these keys did


def recorded_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """The recorded section `data` of a run, with the keys that an earlier version did not have, as it meant them.

    Its 252 periods a year were a default that nothing had checked: they are inferred from the dates instead.
    """
    if "holding" in data:
        return {**_BEFORE, **data}
    inferred = {"periods_per_year": None} if data.get("periods_per_year") == 252 else {}
    return {**_BEFORE, "holding": "bar", **data, **inferred}


def config_hash(values: Any) -> str:
    """SHA-256 over plain values, independent of the order of keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def differing_keys(a: Any, b: Any, prefix: str = "") -> list[str]:
    """Dotted keys at which two nested plain values differ, each with both values."""
    if isinstance(a, dict) and isinstance(b, dict):
        keys = sorted(a.keys() | b.keys())
        return [d for k in keys for d in differing_keys(a.get(k), b.get(k), f"{prefix}.{k}" if prefix else k)]
    return [] if a == b else [f"{prefix} ({a} -> {b})"]


def _check_dimension(space: SearchSpace, name: str, dimension: Any) -> None:
    """Raise ValueError if a value of `dimension` could not be a hyperparameter or `when` names no categorical."""
    extremes = [dimension]
    if isinstance(dimension, FloatRange | IntRange | Choices):
        extremes = list(dimension.choices) if isinstance(dimension, Choices) else [dimension.low, dimension.high]
        for other in dimension.when:
            if not isinstance(space.get(other), Choices | str | bool | int):
                raise ValueError(f"{name}.when names {other}, which is no categorical of the search space")
    if name in Hyperparameters.model_fields:
        for value in extremes:
            try:
                Hyperparameters(**{name: value})
            except ValidationError as error:
                problem = error.errors(include_url=False)[0]
                said = f"{name}: {problem['msg']}, not {value!r}"
                raise ValueError(f"{said}; {hint}" if (hint := nearest_choice(problem)) else said) from None


def nearest_choice(problem: Mapping[str, Any]) -> str:
    """Hint at the nearest of the few values that a key may have; empty for any other problem of pydantic's."""
    given = problem.get("input")
    if problem["type"] != "literal_error" or not isinstance(given, str):
        return ""
    return nearest(given, re.findall(r"'([^']*)'", problem["ctx"]["expected"]))


def resolve_path(path: str, base: Path) -> str:
    """`path` as an absolute path, relative ones counted from the folder `base`."""
    return str((base / Path(path).expanduser()).resolve())
