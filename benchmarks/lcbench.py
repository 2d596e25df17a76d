"""Learning curves of the LCBench surrogate as recorded runs, with noise of splits and epochs, and their regret.

The surrogate (YAHPO Gym, Pfisterer et al. 2022) of LCBench (Zimmer, Lindauer and Hutter 2021) predicts the validation
accuracy of a tabular network on 34 data sets for any configuration and any of 52 epochs. It is deterministic. Real
scores are noisy, so each configuration has a normal offset on each split and a normal error in each epoch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from scripts.config.search_space import FloatRange, IntRange, Scalar, SearchSpace, Values
from scripts.errors import InputError
from scripts.random_keys import key, numpy_generator
from scripts.tuning.stages import draw

MODEL_SHA256 = "b45c0d85ae39abf8820c8bea5ac82f415763afcbaf3b725e36af452b09cb6dcd"
EPOCHS = 52  # of every recorded curve
SPLIT_SD, EPOCH_SD = 0.5, 0.3  # standard deviations in percent points
_N_REFERENCE = 2000  # random configurations that regret is measured against
# Inputs of the model after the epoch.
_INPUTS = (
    "batch_size",
    "learning_rate",
    "momentum",
    "weight_decay",
    "num_layers",
    "max_units",
    "max_dropout",
)


class LCBench:
    """The surrogate of all data sets.

    Parameters
    ----------
    folder : Path
        Holds model.onnx, encoding.json and config_space.json.

    Raises
    ------
    InputError
        The folder holds no surrogate, or another one.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "model.onnx"
        if not path.exists():
            raise InputError(
                "does not contain the LCBench surrogate", str(folder), "see docs/benchmarks.md for the download"
            )
        if hashlib.sha256(path.read_bytes()).hexdigest() != MODEL_SHA256:
            raise InputError("is not the surrogate that the figures are for", str(path), "get it again")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._codes: dict[str, int] = json.loads((folder / "encoding.json").read_text())["OpenML_task_id"]
        declared = json.loads((folder / "config_space.json").read_text())["hyperparameters"]
        self.instances: list[str] = next(d["choices"] for d in declared if d["name"] == "OpenML_task_id")
        self.space: SearchSpace = {d["name"]: _dimension(d) for d in declared if d["name"] in _INPUTS}

    def accuracy(self, instance: str, values: Sequence[Values], epochs: Sequence[int]) -> np.ndarray:
        """Noise-free validation accuracy in percent, of shape (len(values), len(epochs))."""
        configurations = np.array([[v[name] for name in _INPUTS] for v in values], dtype=np.float32)
        rows = np.repeat(configurations, len(epochs), axis=0)
        epoch = np.tile(np.asarray(epochs, dtype=np.float32), len(values))[:, None]
        inputs = {
            "x_cat": np.full((len(rows), 1), self._codes[instance], dtype=np.int32),
            "x_cont": np.concatenate([epoch, rows], axis=1),
        }
        return self._session.run(None, inputs)[0][:, 1].reshape(len(values), len(epochs)).astype(float)

    @cached_property
    def reference(self) -> list[dict[str, Scalar]]:
        """Random configurations that regret is measured against, the same for every data set."""
        return [draw(self.space, key("lcbench reference"), k) for k in range(_N_REFERENCE)]

    @cached_property
    def _reference_accuracy(self) -> np.ndarray:
        """Accuracy at the last epoch, of shape (data sets, reference configurations)."""
        return np.stack([self.accuracy(i, self.reference, [EPOCHS])[:, 0] for i in self.instances])

    def scale(self, instance: str) -> tuple[float, float]:
        """Best and median accuracy of the reference configurations at the last epoch, in percent."""
        accuracy = self._reference_accuracy[self.instances.index(instance)]
        return float(accuracy.max()), float(np.median(accuracy))

    def portfolio(self, without: str, size: int = 8) -> list[dict[str, Scalar]]:
        """Configurations that complement each other on all data sets but one.

        Greedy: each next one lowers the mean over the data sets of the best regret so far as much as any can.
        """
        others = self._reference_accuracy[[i for i, name in enumerate(self.instances) if name != without]]
        best, median = others.max(axis=1, keepdims=True), np.median(others, axis=1, keepdims=True)
        regret = (best - others) / (best - median)
        reached = np.full((len(others), 1), np.inf)
        chosen: list[int] = []
        for _ in range(size):
            chosen.append(int(np.minimum(regret, reached).mean(axis=0).argmin()))
            reached = np.minimum(reached, regret[:, chosen[-1:]])
        return [self.reference[k] for k in chosen]


@dataclass(frozen=True)
class Problem:
    """One data set under one seed of the noise: what every contender is given."""

    bench: LCBench
    instance: str
    seed: int

    @property
    def space(self) -> SearchSpace:
        """What is searched."""
        return self.bench.space

    def true_curve(self, values: Values) -> np.ndarray:
        """Noise-free accuracy in percent after each epoch, of shape (52,)."""
        return self.bench.accuracy(self.instance, [values], range(1, EPOCHS + 1))[0]

    def curve(self, values: Values, split: int) -> np.ndarray:
        """Accuracy as a fraction that training on `split` shows after each epoch, of shape (52,).

        The same for every contender that tries the configuration on that split.
        """
        random_key = (self.instance, self.seed, repr(sorted(values.items())), split)
        offset = numpy_generator("lcbench offset", *random_key).normal(0.0, SPLIT_SD)
        error = numpy_generator("lcbench epochs", *random_key).normal(0.0, EPOCH_SD, EPOCHS)
        return (self.true_curve(values) + offset + error) / 100.0

    def regret(self, values: Values) -> float:
        """Normalised regret of shipping a configuration: 0 is the best of 2,000 random ones, 1 the median of them."""
        best, median = self.bench.scale(self.instance)
        return max(-1.0, float((best - self.true_curve(values).max()) / (best - median)))

    def sampler_seed(self, contender: str) -> int:
        """Seed for the randomness of a contender itself."""
        return key("lcbench contender", self.instance, self.seed, contender) % 2**32


class RecordedRun:
    """A training run whose learning curve is known beforehand; advances like a real one.

    Attributes
    ----------
    epoch : int
        Epochs trained so far.
    """

    def __init__(self, problem: Problem, values: Values, split: int) -> None:
        self.epoch = 0
        self._curve = problem.curve(values, split)

    def advance(self, epochs: int = 1) -> list[float]:
        """Train up to `epochs` further epochs; the validation accuracy after each."""
        start, self.epoch = self.epoch, min(EPOCHS, self.epoch + epochs)
        return [float(a) for a in self._curve[start : self.epoch]]


def _dimension(declared: dict[str, Any]) -> FloatRange | IntRange:
    """A range of the search space from its declaration in config_space.json."""
    low, high, log = declared["lower"], declared["upper"], bool(declared["log"])
    if declared["type"] == "uniform_int":
        return IntRange(low=low, high=high, log=log)
    return FloatRange(low=low, high=high, log=log)
