"""Export of the final model as one graph (ONNX or PyTorch), with preprocessing and calibration, checked before use."""

from __future__ import annotations

import contextlib
import copy
import importlib.metadata
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn

from scripts.commands.predict import check_out, load_for_use
from scripts.commands.session import Session
from scripts.data.preprocessing import CLIP
from scripts.errors import InputError
from scripts.final_training.model import FinalModel, Member
from scripts.random_keys import numpy_generator
from scripts.storage.durable_files import write_bytes
from scripts.training.models.registry import window_offsets

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
TOLERANCE = 1e-5  # largest difference of a probability
_N_CHECKED = 257  # rows; odd, so that no batch size of the tracing fits by accident
_NEEDED = ("onnx", "onnxscript", "onnxruntime")


class MemberGraph(nn.Module):
    """Preprocessed inputs in, in the shape of the whole graph's; calibrated probabilities of one member out."""

    bias: torch.Tensor

    def __init__(self, member: Member, windows: bool) -> None:
        super().__init__()
        self.networks = nn.ModuleList(member.networks)
        self.register_buffer("bias", torch.from_numpy(member.calibration.bias))
        self.temperature = member.calibration.temperature
        offsets = window_offsets(member.hyperparameters)
        self.n_last = None if offsets is None else len(offsets)
        self.takes_last = windows and offsets is None

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Probabilities, float64 of shape (batch, n_classes)."""
        own = inputs[:, -1] if self.takes_last else inputs if self.n_last is None else inputs[:, -self.n_last :]
        # Like `FinalModel`: the networks in single precision, what follows them in double.
        logits = torch.stack([network(own).double() for network in self.networks]).mean(dim=0)
        return (logits / self.temperature + self.bias).softmax(dim=-1)


class Graph(nn.Module):
    """Raw columns in, calibrated probabilities out.

    Inputs are as in `Dataset.x`: float32 of shape (batch, n_columns), or (batch, window, n_columns) with the newest row
    last for a model of windows; NaN = missing, text as the position in its vocabulary, -1 = unknown.
    """

    numeric: torch.Tensor
    median: torch.Tensor
    mean: torch.Tensor
    scale: torch.Tensor
    indicator: torch.Tensor
    category_column: torch.Tensor
    category_code: torch.Tensor

    def __init__(self, model: FinalModel) -> None:
        super().__init__()
        self.members = nn.ModuleList(MemberGraph(member, model.reads_windows) for member in model.members)
        self.weights = [member.weight for member in model.members]
        kept = model.preprocessor.state_dict()
        kept["category_code"] = kept["category_code"].float()
        for name, value in kept.items():
            # An exported program with empty buffers cannot be loaded: they seem to share their storage.
            if value.numel():
                self.register_buffer(name, value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Probabilities, float32 of shape (batch, n_classes)."""
        inputs = self._inputs(x)
        parts = [weight * member(inputs) for weight, member in zip(self.weights, self.members, strict=True)]
        return torch.stack(parts).sum(dim=0).float()

    def _inputs(self, x: torch.Tensor) -> torch.Tensor:
        """Apply `Preprocessor.transform` to raw columns."""
        parts = []
        if hasattr(self, "numeric"):
            values = x.index_select(-1, self.numeric)
            missing = values.isnan()
            scaled = (torch.where(missing, self.median, values) - self.mean) / self.scale
            parts.append(scaled.clamp(-CLIP, CLIP))
            if hasattr(self, "indicator"):
                parts.append(missing.float().index_select(-1, self.indicator))
        if hasattr(self, "category_column"):
            parts.append(x.index_select(-1, self.category_column).eq(self.category_code).float())
        return torch.cat(parts, dim=-1)


def export(session: Session) -> None:
    """Write the model in the format of --export to --out, by default next to the model file."""
    kind = session.arguments.export
    source = session.arguments.model or session.run_dir.final_model
    out = session.arguments.out or source.with_suffix(SUFFIXES[kind])
    if out.suffix != SUFFIXES[kind]:
        raise InputError(f"does not end in {SUFFIXES[kind]}", "--out", f"name it {out.stem}{SUFFIXES[kind]}")
    check_out(out)
    model = load_for_use(session)
    if session.arguments.dry_run:
        session.echo(f"exports {source} to {out}")
        return
    difference = export_model(model, kind, out)
    shape = f"(batch, {model.window}, columns)" if model.reads_windows else "(batch, columns)"
    session.echo(f"input x: float32 {shape} of {len(model.schema.features)} raw columns; output: probabilities")
    session.echo(f"largest difference of a probability on {_N_CHECKED} rows: {difference:.1e}")
    session.keep([out], largest_difference=difference)
    session.echo(f"model in {out}")


def export_model(model: FinalModel, kind: str, out: Path) -> float:
    """Export a model as `kind`, "onnx" or "torch"; the largest difference of a probability to the model's own.

    The file also contains columns, classes and the vocabularies of text: in the metadata of an ONNX
    model, or in schema.json inside an exported program, which `torch.export.load` reads without this package.

    Raises
    ------
    InputError
        A library is missing, the networks have no such form, or their answers there differ by more than `TOLERANCE`.
    EnvironmentFailed
        `out` cannot be written.
    """
    rows = example_rows(model, _N_CHECKED)
    make, ask = (_onnx_bytes, _ask_onnx) if kind == "onnx" else (_torch_bytes, _ask_torch)
    content = make(model, torch.from_numpy(rows[:2]))
    difference = float(np.abs(ask(content, rows) - own_probabilities(model, rows)).max())
    if not difference <= TOLERANCE:
        what = f"the exported model differs by {difference:.1e} in a probability, more than {TOLERANCE}"
        raise InputError(what, str(out), "use --predict, or another model family")
    write_bytes(out, content)
    return difference


def example_rows(model: FinalModel, n_rows: int) -> np.ndarray:
    """Return artificial raw rows with outliers, missing cells and unknown categories; float32 of the input shape."""
    generator, kept = numpy_generator(0, "export"), model.preprocessor
    n_columns = len(model.schema.features)
    shape = (n_rows, model.window, n_columns) if model.reads_windows else (n_rows, n_columns)
    x = generator.integers(-1, 3, shape).astype(np.float32)
    numbers = kept.mean + kept.scale * 3 * generator.standard_normal((*shape[:-1], len(kept.numeric)))
    holes = generator.random(numbers.shape) < 0.1
    x[..., kept.numeric] = np.where(holes, np.nan, numbers)
    return x


def own_probabilities(model: FinalModel, rows: np.ndarray) -> np.ndarray:
    """Return the model's own probabilities for rows, or windows, of raw columns; shape (n_rows, n_classes)."""
    window = model.window
    flat = rows.reshape(-1, rows.shape[-1])
    return model.predict_raw(flat, np.arange(len(rows)) * window + window - 1)


def _schema(model: FinalModel) -> dict[str, object]:
    """Return the metadata for readers of the exported file.

    `window` is None for a model of single rows. A column with a reference (value, unit) enters as (x - value) / unit,
    taken in double precision.
    """
    schema = model.schema
    return {
        "columns": schema.features,
        "classes": model.classes,
        "vocabularies": schema.vocabularies,
        "window": schema.window if model.reads_windows else None,
        "references": schema.references,
    }


def _exported(model: FinalModel, example: torch.Tensor) -> torch.export.ExportedProgram:
    # A copy without gradients, so that the program gives a plain tensor and the model stays as it is.
    graph = copy.deepcopy(Graph(model)).train(False).requires_grad_(False)
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    with torch.no_grad(), _explained(model), _quiet():
        return torch.export.export(graph, (example,), dynamic_shapes=shapes)


def _torch_bytes(model: FinalModel, example: torch.Tensor) -> bytes:
    buffer, program = io.BytesIO(), _exported(model, example)
    with _quiet():
        torch.export.save(program, buffer, extra_files={"schema.json": json.dumps(_schema(model))})
    return buffer.getvalue()


def _ask_torch(content: bytes, rows: np.ndarray) -> np.ndarray:
    program = torch.export.load(io.BytesIO(content)).module()
    return np.asarray(program(torch.from_numpy(rows)).numpy())


def _onnx_bytes(model: FinalModel, example: torch.Tensor) -> bytes:
    for name in _NEEDED:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            remedy = ".venv/bin/pip install -r requirements/export.txt"
            raise InputError(f"the library {name} is not installed", "--export onnx", remedy) from None
    program = _exported(model, example)
    with _explained(model), _quiet():
        exported = torch.onnx.export(program, input_names=["x"], output_names=["probabilities"], verbose=False)
    if exported is None:
        raise InputError("torch gave no ONNX program", "--export onnx", "use --export torch")
    exported.model.metadata_props.update({name: json.dumps(value) for name, value in _schema(model).items()})
    content: bytes = exported.model_proto.SerializeToString()
    return content


def _ask_onnx(content: bytes, rows: np.ndarray) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": rows})[0])


@contextlib.contextmanager
def _explained(model: FinalModel) -> Iterator[None]:
    """Raise InputError for a network that the exporter does not support; all built-in families are tested."""
    try:
        yield
    except (torch.onnx.OnnxExporterError, torch._dynamo.exc.TorchDynamoException, RuntimeError, TypeError) as error:
        first = [*str(error).strip().splitlines(), type(error).__name__][0]
        families = " or ".join(sorted({member.hyperparameters.family for member in model.members}))
        raise InputError(
            f"family {families} cannot be exported: {first}", "--export", "use --predict instead"
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the log messages of the exporter."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
