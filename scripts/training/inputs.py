"""Network inputs of the rows of a data set: one tensor, or batches of mapped rows."""

from __future__ import annotations

import numpy as np
import torch

from scripts.data.dataset import Dataset
from scripts.data.preprocessing import Preprocessor


class StreamedInputs:
    """Inputs of rows that do not fit in memory; bitwise identical to a tensor of all rows.

    Parameters
    ----------
    x : ndarray of float32, shape (n, n_columns)
        Raw rows.
    device : torch.device
        Of the inputs that are made.
    """

    def __init__(self, x: np.ndarray, preprocessor: Preprocessor, device: torch.device) -> None:
        self._x, self._preprocessor, self._device = x, preprocessor, device
        self.shape = len(x), preprocessor.n_outputs

    def __getitem__(self, rows: torch.Tensor) -> torch.Tensor:
        """Inputs of rows: their shape and one more axis."""
        made = self._preprocessor.transform(np.take(self._x, rows.cpu().numpy().ravel(), axis=0))
        return torch.from_numpy(made).to(self._device).reshape(*rows.shape, -1)


Inputs = torch.Tensor | StreamedInputs


def inputs_of(dataset: Dataset, preprocessor: Preprocessor, device: torch.device) -> Inputs:
    """Inputs of all rows of a data set."""
    if dataset.mapped is not None:
        return StreamedInputs(dataset.x, preprocessor, device)
    return torch.from_numpy(preprocessor.transform(dataset.x)).to(device)


def take(inputs: Inputs, rows: torch.Tensor, out: torch.Tensor) -> None:
    """Write the inputs of `rows` to `out`."""
    if isinstance(inputs, torch.Tensor):
        torch.index_select(inputs, 0, rows, out=out)
    else:
        out.copy_(inputs[rows])
