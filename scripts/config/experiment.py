"""Typed experiment: every section and key of the config with its default and bounds."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from scripts.config.class_positions import ClassPositions, check_stated, with_text_keys
from scripts.config.search_space import Model, PlainValues, SearchSpace, check_dimension, default_search_space
from scripts.config.selection_order import DEFAULT_ORDER, Criterion
from scripts.statistics.returns import PositionRule, TradingRules

Label = Literal["next_direction", "k_bar_direction", "triple_barrier", "volatility_regime", "column"]
TickerCosts = Annotated[
    dict[str, Annotated[float, Field(ge=0, le=10_000)]], Field(min_length=1), BeforeValidator(with_text_keys)
]
Role = Literal["date", "time", "ticker", "open", "high", "low", "close", "volume"]
NOT_RECORDED = {"models", "execution"}  # sections that artifacts do not contain, and that are ignored in them
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class SyntheticConfig(Model):
    """Arguments of the embedded synthetic market."""

    n_tickers: int = Field(20, ge=1, le=10_000, description="number of tickers")
    n_days: int = Field(2520, ge=50, le=100_000, description="trading days of each ticker")
    seed: int = Field(7, ge=0, description="seed of the prices")
    rho: float = Field(0.2, ge=0, lt=1, description="strength of the signal; 0 is a market without a signal")
    w: float = Field(0.35, ge=0, le=1, description="share of the signal that a linear model can learn")
    nu: Literal[3, 5] = Field(5, description="degrees of freedom of the innovations")
    beta: float = Field(0.5, ge=0, lt=1, description="correlation through the common factor")
    drift: float = Field(0.06, description="annual drift")
    switch: int | None = Field(None, ge=0, description="day on which the signal changes sign")


class DataConfig(Model):
    """Data source, label, costs and sealed rows."""

    source: Literal["synthetic", "market", "table"] = Field(
        "synthetic", description="synthetic: the embedded market; market: bars of prices; table: features and a label"
    )
    path: str | None = Field(None, description="file or folder; relative to the YAML file that contains it")
    table: str | None = Field(None, description="table of a database, or sheet of a workbook, if there are several")
    columns: dict[Role, str] = Field(
        {}, description="markets: names of columns that the file calls otherwise, such as {date: Day, close: Fix}"
    )
    header: list[str] = Field([], description="names of the columns of a text file without a header")
    delimiter: str | None = Field(None, min_length=1, max_length=1, description="delimiter of a CSV; by default found")
    decimal: Literal[".", ","] | None = Field(None, description="decimal mark of text; by default found")
    thousands: Literal[",", ".", " ", "'"] | None = Field(
        None, description="separator of thousands in text; by default found"
    )
    date_format: str | None = Field(None, description="strptime format of dates; by default found")
    prices: Literal["adjusted", "raw"] = Field(
        "adjusted", description="markets: use adjusted prices where the file has them, or the prices as they are"
    )
    repair: Literal["usual", "strict"] = Field(
        "usual", description="markets: leave out or repair a few bad rows of a ticker (at most 1 %), or refuse them"
    )
    label: Label = Field("next_direction", description="label to predict; column: the label column of a table")
    label_column: str | None = Field(None, description="label column, for `label: column`")
    text_columns: list[str] = Field([], description="table columns to read as text, even if their cells are numbers")
    time_column: str | None = Field(None, description="date column of a table")
    group_column: str | None = Field(None, description="group (ticker) column of a table")
    forward_return_column: str | None = Field(None, description="table column: return of a position of +1 over one row")
    forward_return_rows: int | None = Field(
        None, ge=1, le=2_000, description="rows of its group that each of these returns spans; by default 1 (checked)"
    )
    horizon: int = Field(1, ge=1, le=2_000, description="bars that the label looks ahead")
    label_price: Literal["close", "next_open"] = Field(
        "close", description="directions: measured between closes, or from the next open to the open after the horizon"
    )
    ties: Literal["drop", "down"] = Field(
        "drop", description="directions: rows with an unchanged price get no label (drop) or the label down"
    )
    barrier_width: float = Field(1.0, gt=0, le=100, description="triple barrier: width in s.d. of the horizon's return")
    regime_window: int = Field(252, ge=5, le=5_000, description="volatility regime: bars of the trailing median")
    test_fraction: float = Field(0.2, gt=0, lt=0.9, description="share of the last rows in time that is sealed")
    embargo: int = Field(5, ge=0, le=10_000, description="dates between training rows and tested rows")
    cost_bps: float = Field(5.0, ge=0, le=10_000, description="cost of one unit of turnover in basis points")
    ticker_cost_bps: TickerCosts | None = Field(
        None, description="cost of single tickers (groups of a table) in basis points; `cost_bps` for all others"
    )
    cost_bps_column: str | None = Field(
        None, min_length=1, description="column with the cost of each row in basis points; replaces `cost_bps`"
    )
    fill: Literal["next_open", "close_to_close"] = Field("next_open", description="price at which a decision is filled")
    holding: Literal["horizon", "bar"] = Field(
        "horizon", description="markets: hold a decision for the horizon of the label, or until the next bar"
    )
    borrow_bps: float = Field(0.0, ge=0, le=100_000, description="annual cost of a short position in basis points")
    margin: float = Field(0.0, ge=0, lt=1, description="abstain if the largest probability leads by less")
    position: PositionRule = Field(
        "sign", description="sign: position of the most probable class; proportional: mean by the probabilities"
    )
    max_weight: float = Field(1.0, gt=0, le=1, description="largest share of the capital in one ticker")
    periods_per_year: float | None = Field(
        None, gt=0, le=40_000_000, description="dates per year, for annual figures; by default inferred from the dates"
    )
    class_positions: ClassPositions | None = Field(
        None, description="position of each predicted class, -1 (short) to 1 (long); by default inferred from its name"
    )
    cost_matrix: list[list[float]] | None = Field(
        None, description="tables: cost of each decision; a row per true class, a column per predicted class"
    )
    synthetic: SyntheticConfig = Field(SyntheticConfig(), description="arguments of the synthetic market")
    shuffle_block_rows: int | None = Field(
        None, ge=1, description="shuffle blocks of this many rows, then rows within 16 blocks; by default all rows"
    )
    placebo: int | None = Field(None, ge=0, description="permute the labels in blocks of dates, as placebo number K")

    @property
    def trading(self) -> TradingRules:
        """Rules for trading predictions in simulated returns."""
        return TradingRules(
            self.cost_bps, self.margin, self.position, self.max_weight, self.borrow_bps, self.ticker_cost_bps
        )

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        if self.source != "synthetic" and not self.path:
            raise ValueError(f"source {self.source} needs `path`")
        if (self.source == "table") != (self.label == "column"):
            raise ValueError(
                f"source {self.source} does not support label {self.label}; only tables have label: column"
            )
        if self.label == "column" and not self.label_column:
            raise ValueError("label: column needs `label_column`")
        if self.label == "next_direction" and self.horizon != 1:
            raise ValueError("next_direction predicts one bar ahead; use k_bar_direction for a longer horizon")
        return self

    @model_validator(mode="after")
    def _check_marks(self) -> DataConfig:
        if self.decimal is not None and self.decimal == self.thousands:
            raise ValueError(f"decimal and thousands are both {self.decimal!r}")
        return self

    @field_validator("cost_matrix")
    @classmethod
    def _check_cost_matrix(cls, costs: list[list[float]] | None) -> list[list[float]] | None:
        if costs is not None and (len(costs) < 2 or any(len(row) != len(costs) for row in costs)):
            raise ValueError("a cost matrix needs as many columns as rows, one per class and at least two")
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
        20, ge=0, le=100_000, description="random trials, including those of the portfolio and of earlier runs"
    )
    n_bayesian_trials: int = Field(40, ge=0, le=100_000, description="trials that a model of earlier results proposes")
    n_fine_tune_trials: int = Field(15, ge=0, le=100_000, description="trials close to the best so far")
    epochs_per_trial_random: int = Field(
        8, ge=1, le=100_000, description="maximum epochs of a random trial, under `scheduler: guide`"
    )
    epochs_per_trial_bayesian: int = Field(
        15, ge=1, le=100_000, description="maximum epochs of a Bayesian trial, under `scheduler: guide`"
    )
    epochs_per_trial_fine_tune: int = Field(
        25, ge=1, le=100_000, description="maximum epochs of a fine-tune trial, under `scheduler: guide`"
    )
    early_stopping_patience: int = Field(5, ge=1, le=100_000, description="epochs without an improvement")
    early_stopping_min_delta: float = Field(0.002, ge=0, le=1, description="minimum improvement")
    monitor: Monitor = Field("val_accuracy", description="metric of early stopping and of the best epoch")
    validation_fraction: float = Field(0.2, gt=0, lt=0.9, description="share of the last development rows")
    sampler: Literal["tpe", "gp"] = Field("tpe", description="sampler of the Bayesian and fine-tune trials")
    proposal_lag: int = Field(
        4,
        ge=1,
        le=1024,
        description="trial k is proposed from the results of trials 0..k-lag: the same search for 1 to lag workers",
    )
    scheduler: Literal["guide", "rungs"] = Field(
        "rungs", description="rungs: trials pause, and promising trials resume; guide: fixed epochs per stage"
    )
    rungs: Annotated[tuple[int, ...], Field(strict=False, min_length=2)] = Field(
        (4, 8, 16, 32, 50), description="epochs at which trials pause under `scheduler: rungs`, ascending"
    )
    epoch_budget: int = Field(400, ge=1, le=10**9, description="maximum epochs of `scheduler: rungs`")
    stop: Literal["budget", "auto"] = Field(
        "budget", description="auto: rungs also end when the expected gain is far below the noise between splits"
    )
    portfolio: bool | None = Field(
        None, description="start from the shipped portfolio; by default only under `scheduler: rungs`"
    )
    fine_tune_top: int = Field(5, ge=1, le=1000, description="number of best trials that span the fine-tune bounds")
    fine_tune_widen: float = Field(0.1, ge=0, le=10, description="share of the old width added on each side")

    @property
    def n_trials(self) -> int:
        """Planned trials of all three stages."""
        return self.n_random_trials + self.n_bayesian_trials + self.n_fine_tune_trials

    @property
    def starts_from_portfolio(self) -> bool:
        """True if the first trials are those of the portfolio: by default only under `scheduler: rungs`."""
        return self.scheduler == "rungs" if self.portfolio is None else self.portfolio

    @property
    def guide_epochs(self) -> int:
        """Maximum epochs of the three stages."""
        return (
            self.n_random_trials * self.epochs_per_trial_random
            + self.n_bayesian_trials * self.epochs_per_trial_bayesian
            + self.n_fine_tune_trials * self.epochs_per_trial_fine_tune
        )

    @model_validator(mode="after")
    def _check(self) -> TuningConfig:
        if self.n_trials < 1:
            raise ValueError("no trials: n_random_trials, n_bayesian_trials and n_fine_tune_trials are all 0")
        if self.rungs[0] < 1 or any(b <= a for a, b in itertools.pairwise(self.rungs)):
            raise ValueError(f"rungs {self.rungs} must be ascending, starting at 1 or more")
        return self


class ExtendedConfig(Model):
    """Phase 2: long training of the best configurations under cross-validation."""

    top_n: int = Field(5, ge=1, le=1000, description="number of configurations of phase 1 to train")
    cv: FoldKind = Field("kfold", description="kind of folds; always stratified for tables without time")
    cross_validation_folds: int = Field(3, ge=2, le=1000, description="number of folds; of blocks for combinatorial")
    extended_epochs: int = Field(100, ge=1, le=100_000, description="maximum epochs on each fold")
    evaluation_frequency: int = Field(5, ge=1, le=100_000, description="epochs between two evaluations")
    early_stopping_patience: int = Field(10, ge=1, le=100_000, description="epochs without an improvement")
    early_stopping_min_delta: float = Field(0.0, ge=0, le=1, description="minimum improvement")
    monitor: Monitor = Field(
        "val_loss",
        description="metric of early stopping and of the best epoch; the loss avoids choosing a lucky epoch",
    )
    selection_order: Annotated[tuple[Criterion, ...], Field(strict=False)] = Field(
        DEFAULT_ORDER, description="criteria that break ties (within one standard error of the best mean)"
    )
    racing: bool = Field(True, description="stop configurations before the last fold if they are unlikely to win")
    racing_error_rate: float = Field(
        0.05, gt=0, lt=0.5, description="maximum probability that racing stops the best configuration, over all looks"
    )
    racing_most_seeds: int = Field(
        3, ge=1, le=100, description="maximum networks per fold, if racing saved trainings for further seeds"
    )


class FinalConfig(Model):
    """Phase 3: final training on all development data."""

    n_seeds: int = Field(3, ge=1, le=100, description="networks with different seeds; the model is their mean")
    ensemble: int = Field(
        1, ge=1, le=100, description="maximum draws of an ensemble of configurations; 1: only the chosen one"
    )
    epochs: int = Field(200, ge=1, le=100_000, description="maximum epochs of each network")
    early_stopping_patience: int = Field(15, ge=1, le=100_000, description="epochs without an improvement")
    early_stopping_min_delta: float = Field(0.0, ge=0, le=1, description="minimum improvement")
    monitor: Monitor = Field("val_loss", description="metric of early stopping and of the best epoch")
    holdout_fraction: float = Field(0.15, gt=0, lt=0.9, description="share of the last development rows")
    warmup_epochs: int = Field(2, ge=0, le=1000, description="epochs of linear learning-rate warm-up")
    ema_decay: float = Field(0.99, ge=0, lt=1, description="decay per step of the averaged weights; 0 disables it")
    label_smoothing: float = Field(0.02, ge=0, lt=1, description="minimum label smoothing of the final model")


class ExecutionConfig(Model):
    """Resources of a run on the machine or a Ray cluster; they do not affect results and are not recorded."""

    cpus: float = Field(1.0, gt=0, le=1024, description="CPUs that Ray reserves for each training")
    gpus: float = Field(0.0, ge=0, le=64, description="GPUs that Ray reserves for each training, such as 0.25")
    memory_limit_mb: int | None = Field(
        None,
        ge=1,
        le=2**30,
        description="memory-map a Parquet table that would take more; by default half of the memory",
    )


class Experiment(Model):
    """All settings that determine the results of a run."""

    seed: int = Field(0, ge=0, le=2**63 - 1, description="random seed")
    epoch_budget: int | None = Field(
        None, ge=1, le=10**9, description="epochs of phases 1 and 2: two thirds for the rungs, the rest for phase 2"
    )
    data: DataConfig = Field(DataConfig(), description="data source, label, costs and sealed rows")
    search_space: SearchSpace = Field(
        default_factory=default_search_space,
        description="a range, a list of choices or a fixed value per hyperparameter; merged with the default one",
    )
    models: dict[str, str] = Field(
        default_factory=dict,
        description="your own model families: name -> package.module:factory (not stored in artifacts)",
    )
    tuning: TuningConfig = Field(TuningConfig(), description="phase 1: many short trials on one split")
    extended: ExtendedConfig = Field(ExtendedConfig(), description="phase 2: long training of the best configurations")
    final: FinalConfig = Field(FinalConfig(), description="phase 3: final training on all development data")
    execution: ExecutionConfig = Field(
        ExecutionConfig(), description="resources of a run on the machine or a Ray cluster"
    )

    @field_validator("search_space")
    @classmethod
    def _check_space(cls, space: SearchSpace) -> SearchSpace:
        for name, dimension in space.items():
            check_dimension(space, name, dimension)
        return space

    @model_validator(mode="after")
    def _check_budget(self) -> Experiment:
        if self.epoch_budget is not None and self.tuning.scheduler != "rungs":
            raise ValueError("epoch_budget needs tuning.scheduler: rungs; the stages of guide have fixed epochs")
        return self

    @property
    def search_epochs(self) -> int:
        """Maximum epochs of phase 1."""
        if self.tuning.scheduler == "guide":
            return self.tuning.guide_epochs
        return self.tuning.epoch_budget if self.epoch_budget is None else max(1, 2 * self.epoch_budget // 3)

    def recorded(self) -> PlainValues:
        """Return the experiment as plain values for artifacts, without code to import and without resources."""
        return self.model_dump(mode="json", exclude=NOT_RECORDED)
