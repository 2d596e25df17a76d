"""Per-date validation scores of every trial, input of the multiple-testing corrections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from scripts.config.experiment import DataConfig
from scripts.data.dataset import Dataset
from scripts.errors import InputError
from scripts.statistics.metrics import auc_by_row
from scripts.statistics.returns import net_by_date
from scripts.storage.checkpoints import Checkpoints
from scripts.training.trading import SimulatedTrading


def validation_ledger(
    runs: Mapping[int, str], checkpoints: Checkpoints, dataset: Dataset, rows: np.ndarray, config: DataConfig
) -> pd.DataFrame:
    """Hits, rows, log loss and net return of every trial on every date.

    Parameters
    ----------
    runs : mapping
        Trial number -> name of its checkpoint; all trials were validated on `rows`.

    Returns
    -------
    DataFrame
        Columns trial, date (position in the calendar), n_rows, and sums over the date's rows: hits, log_loss (nats),
        auc (of `metrics.auc_by_row`; NaN where the AUC is undefined); net_return of the date (a fraction, NaN without
        returns).
    """
    dates, position = np.unique(dataset.date[rows], return_inverse=True)
    targets = torch.from_numpy(dataset.y[rows])
    trading = SimulatedTrading.of(dataset, rows, config.trading)
    frames = []
    for number, name in runs.items():
        packed, state, _ = checkpoints.load(name)
        if packed is None:
            continue  # its checkpoint was removed; the corrections then count on the other trials
        logits: Any = state.get("validation_logits")
        fits = isinstance(logits, torch.Tensor) and logits.shape == (len(rows), dataset.n_classes)
        if not fits or not logits.is_floating_point():
            remedy = "remove it; the corrections then count on the other trials"
            raise InputError("does not contain the predictions of its trial", str(checkpoints.path(name)), remedy)
        losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
        hits = (logits.argmax(dim=1) == targets).numpy()
        areas = auc_by_row(targets.numpy(), logits.double().softmax(dim=1).numpy())
        net = np.full(len(dates), np.nan)
        if trading is not None:
            series = trading.returns(logits)
            net = net_by_date(series, dates)
        columns = {
            "trial": number,
            "date": dates,
            "n_rows": np.bincount(position),
            "hits": np.bincount(position, hits),
            "log_loss": np.bincount(position, losses.double().numpy()),
            "auc": np.full(len(dates), np.nan) if areas is None else np.bincount(position, areas),
            "net_return": net,
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)
