"""Typed records of evaluation_results.json and placebo_results.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from scripts.storage.record_base import Count, Files, IfGiven, Made, Record
from scripts.storage.result_records import Ensemble, EnsembleMember
from scripts.storage.score_records import Scored


class Tuning(Record):
    """Selection of the setting of a reference model: the best of `n_settings` on `n_folds` folds.

    Attributes
    ----------
    setting : dict of str to int or float
        Arguments of the scikit-learn model.
    fold_log_losses : list of float
        Log loss of the chosen setting on each fold, in nats.
    fold_rows : list of int
        Rows used for fitting in each fold.
    rows_left_out : bool
        True if a fold had more rows than the budget, so that evenly spaced rows were used. The last fit
        always uses all rows.
    """

    setting: dict[str, int | float]
    n_settings: Count
    n_folds: Count
    fold_log_losses: list[float]
    fold_rows: list[Count]
    rows_left_out: bool


class ReferenceRows(Record):
    """Number of rows that the reference models were fitted on, and number of available rows."""

    fitted: Count
    of: Count


class Call(Record):
    """Latency of a call."""

    n_rows: Count = 1
    p50_s: float
    p99_s: float


class Latency(Record):
    """Latency of one row and of a batch."""

    one_row: Call
    batch: Call

    @property
    def calls(self) -> dict[str, Call]:
        """Return both calls by name."""
        return {"one row": self.one_row, f"{self.batch.n_rows} rows": self.batch}


class CostedMember(EnsembleMember):
    """A configuration of an ensemble with its cost."""

    epochs_spent: Count
    n_parameters: Count
    one_row_p50_s: float


class CostedEnsemble(Ensemble):
    """An ensemble with its cost."""

    members: Annotated[Sequence[CostedMember], Field(min_length=1)]
    one_row_p50_s: float


class Opened(Record):
    """SHA-256 of the evaluated model, and that of the data or "sealed"."""

    model_sha256: str
    data: str


class Evaluation(Scored, Made):
    """evaluation_results.json."""

    inputs: Files = Field({})  # the model is under `opened`
    notes: list[str] = Field([])
    reference_tuning: dict[str, Tuning] = Field({})
    reference_rows: ReferenceRows | None = None
    epochs_spent_total: Count
    epochs_spent: dict[str, Count] = Field({})
    test_openings: Count
    openings_by_other_runs: list[str]
    opened_in_words: str
    latency: Latency | None = None
    ensemble: Annotated[CostedEnsemble | None, IfGiven] = None
    opened: Opened
    files: Files


class Placebos(Record):
    """placebo_results.json."""

    config_hash: str
    data_fingerprint: str
    skill: float
    placebo_skill: list[float]
    n_verdict_skill: Count
    p_value: float
