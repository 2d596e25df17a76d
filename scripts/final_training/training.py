"""Training of phase 3: the final configurations on all development rows, with several seeds.

A dated hold-out at the end of the development data finds the best epoch of each seed and the calibration; then each
network is trained on all development rows for as many epochs, on the same learning-rate schedule. A configuration gives
the mean of its networks' logits, so that it hangs on no lucky seed, and their spread is known; the final model gives
the mean of its configurations' calibrated probabilities by their weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.special import softmax

from scripts.config.experiment import Experiment
from scripts.config.search_space import Hyperparameters
from scripts.data.dataset import Dataset
from scripts.data.preprocessing import Preprocessor
from scripts.errors import MORE_MEMORY, EnvironmentFailed, HyperError, InputError
from scripts.execution.driver import RunMonitor, execute
from scripts.execution.executor import Executor, Update
from scripts.final_training.members import PlannedMember
from scripts.statistics.drift import FeatureReference
from scripts.statistics.metrics import log_loss
from scripts.statistics.temperature_scaling import Calibration, fit_calibration
from scripts.storage.artifacts import unpack_tensors, write_record, write_tensors
from scripts.storage.checkpoints import Checkpoints
from scripts.storage.durable_files import file_sha256
from scripts.storage.model_record import (
    FinalModelContent,
    MemberContent,
    PreprocessorContent,
    ReferenceContent,
    Span,
)
from scripts.storage.record_base import Curve, Epoch, Made
from scripts.storage.result_records import Final, FinalMember, Replaced, SeedCurves, Selection
from scripts.storage.run_dir import Command, RunDir
from scripts.training.spec import Outcome, RunSpec, StateDict


class FinalTraining:
    """Hold-out run of each seed of each member, then its run on all rows, as work for the driver."""

    def __init__(self, experiment: Experiment, members: Sequence[PlannedMember], dataset: Dataset, device: str) -> None:
        config = experiment.final
        self.experiment, self.dataset, self.n_seeds = experiment, dataset, config.n_seeds
        self.replaced = [replaced_values(m.hyperparameters, experiment) for m in members]
        self.members = [replace(m, hyperparameters=_as_trained(m.hyperparameters, experiment)) for m in members]
        self.train, self.holdout = dataset.tail_split(config.holdout_fraction, experiment.seed)
        self._device = device
        self._seeds = {run_name("holdout", m, k): (m, k) for m in self.members for k in range(self.n_seeds)}
        self._waiting = [self._holdout_spec(m, k) for m, k in self._seeds.values()]
        self.outcomes: dict[str, Outcome] = {}
        self.histories: dict[str, Curve] = {}
        self.states: dict[str, StateDict] = {}

    @property
    def n_runs(self) -> int:
        """Number of runs on the hold-out's split and on all rows."""
        return self.n_seeds * len(self.members)

    @property
    def max_epochs(self) -> int:
        """Most epochs that can be spent."""
        return 2 * self.n_runs * self.experiment.final.epochs

    def _holdout_spec(self, member: PlannedMember, k: int) -> RunSpec:
        experiment, epochs = self.experiment, self.experiment.final.epochs
        return RunSpec.of(
            experiment,
            experiment.final,
            run_name("holdout", member, k),
            (experiment.seed, "final", *([member.name] if member.name else []), k, "holdout"),
            member.hyperparameters,
            (self.train, self.holdout),
            epochs,
            self._device,
            schedule_epochs=epochs,
        )

    def next_spec(self) -> RunSpec | None:
        """Return a run on all rows once the hold-out run of its seed has determined its length."""
        return self._waiting.pop(0) if self._waiting else None

    def finished(self, spec: RunSpec, update: Update) -> None:
        """Store the outcome; after a hold-out run, plan the full run of the same seed."""
        outcome = update.outcome
        if outcome is None or outcome.state == "failed" or update.state is None:
            raise _failure(spec.name, outcome)
        self.outcomes[spec.name] = outcome
        self.histories[spec.name] = [Epoch.model_validate(epoch) for epoch in update.history]
        self.states[spec.name] = unpack_tensors(update.state)
        if spec.name in self._seeds:
            full = replace(
                spec,
                name=run_name("all", *self._seeds[spec.name]),
                random_key=(*spec.random_key[:-1], "all"),
                train_rows=self.dataset.rows,
                validation_rows=np.empty(0, dtype=np.int64),
                epochs=outcome.best_epoch,
                patience=10**9,
            )
            self._waiting.append(full)

    def of_each_seed(self, part: str, member: PlannedMember) -> list[Outcome]:
        """Return the outcomes of the runs on the hold-out's split ("holdout") or on all rows ("all"), by seed."""
        return [self.outcomes[run_name(part, member, k)] for k in range(self.n_seeds)]

    def holdout_logits(self, member: PlannedMember) -> np.ndarray:
        """Return the mean logits of its networks on the hold-out, float64 of shape (n_holdout, n_classes)."""
        names = [run_name("holdout", member, k) for k in range(self.n_seeds)]
        logits = [self.states[name]["validation_logits"].numpy() for name in names]
        return np.asarray(np.mean(logits, axis=0, dtype=np.float64))


def run_name(part: str, member: PlannedMember, k: int) -> str:
    """Return the name of the run of seed `k` on the hold-out's split ("holdout") or on all rows ("all")."""
    return "_".join(filter(None, ("final", part, member.name, "seed", str(k))))


def _as_trained(hyperparameters: Hyperparameters, experiment: Experiment) -> Hyperparameters:
    """Return the hyperparameters of phase 3: with a cosine schedule and at least some label smoothing."""
    smoothing = max(hyperparameters.label_smoothing, experiment.final.label_smoothing)
    return hyperparameters.model_copy(update={"schedule": "cosine", "label_smoothing": smoothing})


def replaced_values(searched: Hyperparameters, experiment: Experiment) -> Replaced:
    """Hyperparameters and settings of training that phase 3 replaces: name -> searched and trained value.

    The searched settings are those of phase 2, which does not average weights and has no warm-up.
    """
    before, after = searched.model_dump(), _as_trained(searched, experiment).model_dump()
    settings = (
        "epochs",
        "early_stopping_patience",
        "early_stopping_min_delta",
        "monitor",
        "warmup_epochs",
        "ema_decay",
    )
    without = {"epochs": experiment.extended.extended_epochs, "warmup_epochs": 0, "ema_decay": 0.0}
    before |= {name: without.get(name, getattr(experiment.extended, name, None)) for name in settings}
    after |= {name: getattr(experiment.final, name) for name in settings}
    return {name: [before[name], value] for name, value in after.items() if before[name] != value}


def _failure(name: str, outcome: Outcome | None) -> HyperError:
    """A failed run as an error: the machine's doing is worth another try, a diverging configuration is not."""
    reason = outcome.failure if outcome and outcome.failure else "no outcome"
    if outcome is not None and outcome.is_environment:
        return EnvironmentFailed(reason, name, MORE_MEMORY)
    remedy = f"choose among more configurations: {Command.EXTENDED} --fresh --top-n 10"
    return InputError(reason, name, remedy)


def run_final_training(
    work: FinalTraining,
    selection: Selection,
    epochs_before: dict[str, int],
    executor: Executor,
    run_dir: RunDir,
    watch: RunMonitor,
    deadline: float | None,
    provenance: Made,
) -> Final:
    """Train and write final_model.pkl and final_training_results.json; the content of the latter.

    Parameters
    ----------
    selection : Selection
        Of the members.
    epochs_before : dict of str to int
        Epochs spent by phase.
    """
    dataset = work.dataset
    group_size = -(-work.n_seeds // executor.capacity)
    execute(work, executor, Checkpoints(run_dir.final / "checkpoints"), watch, deadline, group_size)
    y, outcomes = dataset.y[work.holdout], list(work.outcomes.values())
    logits = [work.holdout_logits(member) for member in work.members]
    calibrations = [fit_calibration(of_member, y) for of_member in logits]
    spent = sum(outcome.epochs for outcome in outcomes)
    content = model_content(work, selection, calibrations, epochs_before | {"final": spent}, provenance)
    write_tensors(run_dir.final_model, content.body())
    calibrated = [c.probabilities(of_member) for c, of_member in zip(calibrations, logits, strict=True)]
    parts = zip(work.members, work.replaced, logits, calibrations, strict=True)
    members = [_member_record(work, *of_member, y) for of_member in parts]
    results = Final(
        **provenance.as_fields(),
        epochs_spent=spent,
        holdout_rows=len(work.holdout),
        holdout_accuracy=_accuracy(_weighted(work, [softmax(of_member, axis=1) for of_member in logits]), y),
        holdout_loss=log_loss(y, _weighted(work, calibrated)),
        n_parameters=sum(member.n_parameters for member in members),
        # Exactly rounded, so that it does not depend on who finished first.
        duration_s=math.fsum(outcome.duration_s for outcome in outcomes),
        members=members,
        files={run_dir.final_model.name: file_sha256(run_dir.final_model)},
    )
    write_record(run_dir.final_results, results)
    return results


def _weighted(work: FinalTraining, probabilities: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over the members by their weights."""
    return np.sum([m.weight * of_member for m, of_member in zip(work.members, probabilities, strict=True)], axis=0)


def _accuracy(probabilities: np.ndarray, y: np.ndarray) -> float:
    return float((probabilities.argmax(axis=1) == y).mean())


def _member_record(
    work: FinalTraining,
    member: PlannedMember,
    replaced: Replaced,
    logits: np.ndarray,
    calibration: Calibration,
    y: np.ndarray,
) -> FinalMember:
    """Return the results of a member on the hold-out, and its cost."""
    return FinalMember(
        trial_number=member.trial_number,
        weight=member.weight,
        family=member.hyperparameters.family,
        epochs_spent=_epochs(work, member),
        best_epochs=[outcome.best_epoch for outcome in work.of_each_seed("holdout", member)],
        holdout_accuracy=_accuracy(logits, y),
        holdout_loss=log_loss(y, calibration.probabilities(logits)),
        temperature=calibration.temperature,
        bias=calibration.bias.tolist(),
        n_parameters=sum(outcome.n_parameters for outcome in work.of_each_seed("all", member)),
        seeds=[_seed_record(work, member, k) for k in range(work.n_seeds)],
        replaced=replaced,
    )


def _epochs(work: FinalTraining, member: PlannedMember) -> int:
    return sum(outcome.epochs for part in ("holdout", "all") for outcome in work.of_each_seed(part, member))


def _seed_record(work: FinalTraining, member: PlannedMember, k: int) -> SeedCurves:
    """Return the results of one seed on the hold-out, and its learning curves."""
    name, name_of_all = run_name("holdout", member, k), run_name("all", member, k)
    outcome = work.outcomes[name]
    return SeedCurves(
        holdout_accuracy=outcome.val_accuracy,
        holdout_loss=outcome.val_loss,
        holdout_simulated_return=outcome.simulated_return,
        history=work.histories[name],
        history_all=work.histories[name_of_all],
    )


def model_content(
    work: FinalTraining,
    selection: Selection,
    calibrations: Sequence[Calibration],
    epochs: dict[str, int],
    provenance: Made,
) -> FinalModelContent:
    """Everything that a prediction needs, and where the model came from; calibrations by member."""
    dataset = work.dataset
    preprocessor = Preprocessor.fit(dataset.x, dataset.categorical, dataset.rows)
    shares = np.bincount(dataset.y[dataset.rows], minlength=dataset.n_classes) / len(dataset.rows)
    return FinalModelContent(
        **provenance.as_fields(),
        members=[
            _member_content(work, *of_member)
            for of_member in zip(work.members, work.replaced, calibrations, strict=True)
        ],
        preprocessor=PreprocessorContent(**preprocessor.state_dict()),
        experiment=work.experiment,
        features=list(dataset.feature_names),
        vocabularies={name: list(values) for name, values in dataset.vocabularies.items()},
        classes=list(dataset.classes),
        class_positions=None if dataset.class_positions is None else list(dataset.class_positions),
        class_shares=shares.tolist(),
        dropped_columns=list(dataset.dropped),
        tickers=list(dataset.tickers) if dataset.bars is not None else None,
        references={name: list(of_member) for name, of_member in dataset.references.items()},
        reference=_reference(dataset),
        trained_on=_span(dataset),
        selection=selection,
        epochs_spent=epochs,
    )


def _member_content(
    work: FinalTraining, member: PlannedMember, replaced: Replaced, calibration: Calibration
) -> MemberContent:
    states = [work.states[run_name("all", member, k)] for k in range(work.n_seeds)]
    return MemberContent(
        trial_number=member.trial_number,
        weight=member.weight,
        hyperparameters=member.hyperparameters,
        epochs_spent=_epochs(work, member),
        temperature=calibration.temperature,
        bias=calibration.bias.tolist(),
        weights=[state["best_weights"] for state in states],
        replaced=replaced,
    )


def _reference(dataset: Dataset) -> ReferenceContent:
    """Return the reference of the features in training (see `FeatureReference`), for drift without the data."""
    n_categories = [len(dataset.vocabularies.get(name, ())) for name in dataset.feature_names]
    # One column at a time, since there may be too much for memory.
    of_columns = [FeatureReference.of(dataset.x[dataset.rows, k : k + 1], [n]) for k, n in enumerate(n_categories)]
    return ReferenceContent(
        n_rows=len(dataset.rows),
        n_edges=[len(reference.edges[0]) for reference in of_columns],
        edges=torch.from_numpy(np.concatenate([reference.edges[0] for reference in of_columns])),
        shares=torch.from_numpy(np.concatenate([reference.shares[0] for reference in of_columns])),
    )


def _span(dataset: Dataset) -> Span:
    """Return the number of rows and tickers, and the first and last date."""
    date = None if dataset.dates is None else dataset.dates[dataset.date[dataset.rows]]
    return Span(
        n_rows=len(dataset.rows),
        n_tickers=len(np.unique(dataset.ticker[dataset.rows])),
        first_date=None if date is None else str(date.min())[:10],
        last_date=None if date is None else str(date.max())[:10],
    )
