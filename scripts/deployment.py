"""A finished model as one file: weights, preprocessing and schema, loaded without running any code from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scripts.artifacts import read_tensors
from scripts.data.dataset import Dataset
from scripts.data.preprocessing import Preprocessor
from scripts.errors import InputError
from scripts.evaluation.metrics import Calibration
from scripts.models.registry import build_model, window_offsets
from scripts.search_space import Hyperparameters

_ROWS = 4096  # per forward pass


@dataclass(frozen=True)
class FinalModel:
    """A trained classifier with all that a prediction needs.

    Attributes
    ----------
    networks : tuple of torch.nn.Module
        Networks that differ by their seed; the model gives the mean of their logits.
    content : dict
        What the file holds beside the weights: experiment, schema, selection, epochs spent.
    """

    networks: tuple[torch.nn.Module, ...]
    preprocessor: Preprocessor
    hyperparameters: Hyperparameters
    calibration: Calibration
    content: dict[str, Any]

    def check_schema(self, dataset: Dataset) -> None:
        """Raise InputError unless `dataset` has the features and classes that the model was trained on."""
        for name, mine in (("features", dataset.feature_names), ("classes", dataset.classes)):
            if list(mine) != list(self.content[name]):
                odd = sorted(set(map(str, mine)) ^ set(map(str, self.content[name])))
                raise InputError(
                    f"{name} differ from the model's: {', '.join(odd[:5])}", "data", "use data of the same schema"
                )

    def predict_probabilities(self, dataset: Dataset, rows: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, float64 of shape (len(rows), n_classes)."""
        return self.calibration.probabilities(self._logits(dataset, rows).mean(axis=0))

    def predict_by_network(self, dataset: Dataset, rows: np.ndarray) -> list[np.ndarray]:
        """Probabilities of each network alone, with the calibration of the whole model."""
        return [self.calibration.probabilities(logits) for logits in self._logits(dataset, rows)]

    @torch.no_grad()
    def _logits(self, dataset: Dataset, rows: np.ndarray) -> np.ndarray:
        """Logits of each network, float64 of shape (n_networks, len(rows), n_classes)."""
        inputs = torch.from_numpy(self.preprocessor.transform(dataset.x))
        window = window_offsets(self.hyperparameters)
        offsets = None if window is None else torch.tensor(list(window))
        parts = []
        for part in torch.from_numpy(rows).split(_ROWS):
            batch = inputs[part] if offsets is None else inputs[part[:, None] + offsets]
            parts.append(torch.stack([network(batch) for network in self.networks]))
        return torch.cat(parts, dim=1).double().numpy()


def load_model(path: str | Path, factories: dict[str, str] | None = None) -> FinalModel:
    """Load final_model.pkl.

    Parameters
    ----------
    path : path-like
    factories : dict, optional
        The user's own families, name -> package.module:factory; a model file never names code.

    Raises
    ------
    MissingInputError, InputError
        There is no such file, or it is damaged, no Hyper model, or of another schema.
    """
    return make_model(read_tensors(Path(path), "run_final_training.py", kind="final_model"), path, factories or {})


def make_model(content: dict[str, Any], path: str | Path, factories: Mapping[str, str]) -> FinalModel:
    """Model from the content of `path`; parameters and errors as `load_model`."""
    try:
        hyperparameters = Hyperparameters.model_validate(content["hyperparameters"])
        preprocessor = Preprocessor.from_state_dict(content["preprocessor"])
        networks = []
        for weights in content["weights"]:
            network = build_model(hyperparameters, preprocessor.n_outputs, len(content["classes"]), factories)
            network.load_state_dict(weights)
            network.train(False)
            networks.append(network)
        if not networks:
            raise ValueError("no weights")
        calibration = Calibration(float(content["temperature"]), np.array(content["bias"], dtype=np.float64))
        return FinalModel(tuple(networks), preprocessor, hyperparameters, calibration, content)
    except (KeyError, ValueError, RuntimeError, AttributeError, TypeError) as error:
        raise InputError(
            f"does not hold what a final model holds: {str(error).splitlines()[0]}",
            str(path),
            "make it again with run_final_training.py",
        ) from error
