"""Additions to TensorBoard: a layout of charts, bands over the folds, figures of the evaluation."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from scripts.execution.tensorboard import TensorBoardLog, scalars, summary_event
from scripts.storage.extended_record import Configuration
from scripts.storage.record_base import Curve

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event

    from scripts.reporting.figures import Figure

LAYOUT, EVALUATION = "layout", "evaluation"  # runs without a training
_BANDS = ("val_accuracy", "val_loss", "train_loss")
_LAYOUT = {
    "Training": {
        "loss: training against validation": ["Multiline", ["^train/loss$", "^validation/loss$"]],
        "validation accuracy": ["Multiline", ["^validation/accuracy$"]],
        "simulated return": ["Multiline", ["^validation/simulated_return$"]],
    },
    "Folds of phase 2, mean with lowest and highest": {
        name.replace("val_", "validation ").replace("train_", "training ") + " of folds": [
            "Margin",
            [f"folds/{name}{part}" for part in ("", "_lowest", "_highest")],
        ]
        for name in _BANDS
    },
}


def write_layout(log: TensorBoardLog) -> None:
    """Write which scalars the page of custom scalars draws into one chart; errors as `TensorBoardLog.start`."""
    from torch.utils.tensorboard.summary import custom_scalars

    log.replace(LAYOUT, [summary_event(custom_scalars(_LAYOUT))])


def write_fold_bands(log: TensorBoardLog, configurations: Sequence[Configuration]) -> None:
    """Write mean, lowest and highest value over the folds by epoch, one run per configuration of phase 2."""
    for configuration in configurations:
        histories = [fold.history for fold in configuration.folds]
        log.replace(f"extended_{configuration.trial_number:04d}_folds", list(_bands(histories)))


def _bands(histories: Sequence[Curve]) -> Iterator[Event]:
    """Event for each epoch that every fold has finished: later ones would compare other folds with these."""
    for epochs in zip(*histories, strict=False):
        values: dict[str, float] = {}
        for name in _BANDS:
            known = [value for epoch in epochs if (value := getattr(epoch, name)) is not None]
            if len(known) == len(epochs):
                of_folds = {"": np.mean(known), "_lowest": min(known), "_highest": max(known)}
                values |= {f"folds/{name}{part}": float(value) for part, value in of_folds.items()}
        if values:
            yield scalars(epochs[0].epoch, values)


def write_figures_as_images(log: TensorBoardLog, figures: Sequence[Figure]) -> None:
    """Write charts of the evaluation report as images of one run, next to the curves."""
    import vl_convert
    from tensorboard.compat.proto.summary_pb2 import Summary

    values = []
    for figure in figures:
        for k, panel in enumerate(figure.panels, 1):
            size = {"width": 560, "background": "white", "title": panel.heading or figure.title}
            png = vl_convert.vegalite_to_png(panel.spec | size, scale=1.5, allowed_base_urls=[])
            width, height = struct.unpack(">II", png[16:24])  # of the header of a PNG file
            image = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png)
            tag = f"{figure.name}/{k}" if len(figure.panels) > 1 else figure.name
            values.append(Summary.Value(tag=tag, image=image))
    log.replace(EVALUATION, [summary_event(Summary(value=[value])) for value in values])
