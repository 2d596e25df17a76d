"""Leak check of models: the prediction for a row must depend only on the rows of its window."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch

from scripts.config.experiment import TuningConfig
from scripts.config.search_space import Hyperparameters, SearchSpace
from scripts.data.dataset import Dataset
from scripts.errors import HyperError
from scripts.evaluation.leaks.changed_future import Finding, moment, past_rows
from scripts.random_keys import numpy_generator, torch_generator
from scripts.training.run import TrainingRun
from scripts.training.spec import RunSpec
from scripts.tuning.stages import propose

PROBED_ROWS = 32
TOLERANCE = 1e-3  # of the logits' standard deviation; products of other batch sizes differ in their last bits
_AGAIN = "when asked again (is dropout left on?)"


def families(space: SearchSpace) -> list[str]:
    """Model families that a search space names."""
    family = space.get("family", "mlp")
    return [str(name) for name in getattr(family, "choices", (family,))]


def peeking_models(
    dataset: Dataset, space: SearchSpace, factories: Mapping[str, str], cut: np.datetime64 | None, seed: int
) -> list[Finding]:
    """Untrained models whose answer for a row depends on other rows.

    Parameters
    ----------
    space : SearchSpace
        Each of its families is made with the hyperparameters of a random trial, on the CPU.
    factories : mapping of str to str
        Families of the user. Their errors are reported, not raised.
    cut : datetime64 or None
        Rows after this date are changed; without time, only the other rows of a batch are.
    """
    past = dataset.rows if cut is None else np.intersect1d(dataset.rows, past_rows(dataset, cut))
    findings = []
    for family in families(space):
        moved: dict[str, float] = {}
        failure = ""
        try:
            run = _untrained(dataset, space, family, factories, past, seed)
            for how, distance in _distances(run, dataset, past, cut):
                if distance > TOLERANCE:
                    moved[how] = distance
        except HyperError:
            raise
        except Exception as error:
            if family not in factories:
                raise
            failure = f"{type(error).__name__}: {error}"
        if moved or failure:
            findings.append(_finding(family, moved, failure))
    return findings


def _untrained(
    dataset: Dataset, space: SearchSpace, family: str, factories: Mapping[str, str], rows: np.ndarray, seed: int
) -> TrainingRun:
    values = propose(0, space | {"family": family}, TuningConfig(), seed, ()).values
    spec = RunSpec(
        name=f"leak_check_{family}",
        random_key=(seed, "leak check", family),
        hyperparameters=Hyperparameters.model_validate(values),
        train_rows=rows,
        validation_rows=rows[:0],
        epochs=1,
        factories=factories,
    )
    run, generator = TrainingRun(spec, dataset), torch_generator(*spec.random_key, "weights")
    with torch.no_grad():  # a layer that starts at zero would hide all that comes before it
        for parameter in run.model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return run


def _distances(
    run: TrainingRun, dataset: Dataset, past: np.ndarray, cut: np.datetime64 | None
) -> Iterator[tuple[str, float]]:
    """Return the changes of the logits of a few past rows, in standard deviations, for each kind of batch."""
    # The latest of them, since only these could reach beyond the cut.
    rows = np.sort(past[np.argsort(dataset.date[past], kind="stable")[-PROBED_ROWS:]])
    answer = run.predict(rows)
    scale = float(answer.std())

    def distance(logits: torch.Tensor, other: torch.Tensor = answer) -> float:
        return float((logits - other).abs().max()) / scale if scale > 0 else 0.0

    again = distance(run.predict(rows))
    yield _AGAIN, again
    if again > TOLERANCE:  # then no other change can be detected
        return
    others = np.setdiff1d(dataset.rows, past)[:PROBED_ROWS] if cut is not None else dataset.rows[:PROBED_ROWS]
    combined = run.predict(np.concatenate([rows, others]))[: len(rows)]
    if cut is not None:
        changed = _with_other_future(run, dataset, cut).predict(np.concatenate([rows, others]))[: len(rows)]
        yield f"when rows after {moment(cut)} change", distance(changed, combined)
    yield "among other rows", distance(combined)
    yield "in another order", distance(run.predict(rows[::-1].copy()).flip(0))
    yield "one by one", distance(torch.cat([run.predict(rows[[k]]) for k in range(len(rows))]))


def _with_other_future(run: TrainingRun, dataset: Dataset, cut: np.datetime64) -> TrainingRun:
    """Return the same model and scaling on data with permuted rows after the cut."""
    x, later = dataset.x.copy(), np.setdiff1d(np.arange(len(dataset.x)), past_rows(dataset, cut))
    x[later] = x[numpy_generator(*run.spec.random_key, "rows").permutation(later)]
    other = TrainingRun(run.spec, replace(dataset, x=x), run.preprocessor)
    other.model = run.model
    return other


def _finding(family: str, moved: Mapping[str, float], failure: str) -> Finding:
    amount = max(moved.values(), default=0.0)
    change = f"changes its output {', '.join(moved)}: by up to {amount:.2g} standard deviations of its logits"
    words = f"model {family} " + "; ".join([change] * bool(moved) + [f"not checked: {failure}"] * bool(failure))
    proven = bool(moved) and _AGAIN not in moved
    return Finding("model", family, proven, " ".join(words.split()), amount=amount if math.isfinite(amount) else None)
