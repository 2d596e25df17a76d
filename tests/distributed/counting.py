"""A model family that counts the batches it was trained on, in a file of all workers, and takes its time."""

import os
import time
from pathlib import Path

from torch import nn


class Counted(nn.Module):
    """A small network; each forward pass in training adds a byte to the file, and lasts COUNTED_PAUSE_S."""

    def __init__(self, width, n_features, n_classes, path):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_features, width), nn.ReLU(), nn.Linear(width, n_classes))
        self.path = path

    def forward(self, rows):
        if self.training:
            time.sleep(float(os.environ.get("COUNTED_PAUSE_S", "0")))
            with open(self.path, "ab") as file:
                file.write(b".")
        return self.layers(rows)


def counted_flags(config, folder, *assignments):
    """Flags of commands that train this family: one worker each, every epoch one batch, counted in `folder`."""
    common = (
        "models.counted=tests.distributed.counting:counted",
        "search_space.family=counted",
        f"search_space.count={folder / 'count'}",
        "search_space.batch_size=4096",
        "tuning.n_random_trials=6",
    )
    return ["--config", config, "--workers", 1, *(part for one in (*common, *assignments) for part in ("--set", one))]


def counted(hyperparameters, n_features, n_classes, window):
    """The factory."""
    return Counted(hyperparameters.width, n_features, n_classes, Path(hyperparameters.count))
