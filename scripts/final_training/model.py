"""Final model as one file, loaded without running code from it; averages its networks and ensemble members."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from scripts.config.class_positions import differing, in_words
from scripts.config.experiment import DataConfig
from scripts.config.search_space import Hyperparameters
from scripts.data.dataset import Dataset
from scripts.data.files.raw_tables import frame_table
from scripts.data.files.spelling import spelled
from scripts.data.inference_rows import Schema, UnlabelledRows, market_rows, table_rows
from scripts.data.known_categories import refuse_lost_categories, unknown_in_words
from scripts.data.preprocessing import Preprocessor
from scripts.errors import InputError, is_out_of_memory
from scripts.statistics.decisions import ABSTAINS, DecisionPolicy, answer_positions
from scripts.statistics.drift import FeatureReference
from scripts.statistics.returns import limited
from scripts.statistics.temperature_scaling import Calibration
from scripts.storage.artifacts import read_tensors
from scripts.storage.model_record import FinalModelContent, MemberContent, check_weights
from scripts.storage.records import parsed
from scripts.storage.run_dir import Command
from scripts.training.inputs import Inputs, inputs_of
from scripts.training.models.registry import build_model, check_named, window_offsets

_AGAIN = "run phases 1 to 3 again in another --run-dir"
_ROWS = 4096  # per forward pass


@dataclass(frozen=True)
class Member:
    """A configuration of a final model.

    Attributes
    ----------
    networks : tuple of torch.nn.Module
        They differ by their seed; the member's answer is the mean of their logits, calibrated.
    weight : float
        Of its probabilities in those of the model; the weights of all members add up to 1.
    """

    hyperparameters: Hyperparameters
    networks: tuple[torch.nn.Module, ...]
    calibration: Calibration
    weight: float

    @property
    def n_parameters(self) -> int:
        """Number of parameters of all its networks."""
        return sum(p.numel() for network in self.networks for p in network.parameters())

    @torch.no_grad()
    def logits(self, inputs: Inputs, rows: np.ndarray) -> np.ndarray:
        """Logits of each network for `rows` of preprocessed inputs, float64 (n_networks, len(rows), n_classes)."""
        window = window_offsets(self.hyperparameters)
        offsets = None if window is None else torch.tensor(list(window))
        parts = []
        for part in torch.from_numpy(rows).split(_ROWS):
            batch = inputs[part] if offsets is None else inputs[part[:, None] + offsets]
            parts.append(torch.stack([network(batch) for network in self.networks]))
        return torch.cat(parts, dim=1).double().numpy()


@dataclass(frozen=True)
class FinalModel:
    """A trained classifier with all that a prediction needs.

    Attributes
    ----------
    members : tuple of Member
        Configurations, most often one; the model gives the mean of their probabilities by weight.
    config : DataConfig
        Of the data that it was trained on.
    content : FinalModelContent
        Content of the file.
    """

    members: tuple[Member, ...]
    preprocessor: Preprocessor
    config: DataConfig
    content: FinalModelContent

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in the order of the probabilities."""
        return tuple(self.content.classes)

    @property
    def reads_windows(self) -> bool:
        """True if any of its networks takes windows, even of a single row."""
        return any(window_offsets(member.hyperparameters) is not None for member in self.members)

    @property
    def window(self) -> int:
        """Rows that it reads for one answer."""
        offsets = [window_offsets(member.hyperparameters) for member in self.members]
        return max(1 if of_member is None else len(of_member) for of_member in offsets)

    def alone(self, k: int) -> FinalModel:
        """Its member `k` as a model."""
        return replace(self, members=(replace(self.members[k], weight=1.0),))

    @property
    def schema(self) -> Schema:
        """Columns and bounds that data for a prediction need."""
        vocabularies = {name: tuple(values) for name, values in self.content.vocabularies.items()}
        dropped = None if self.content.dropped_columns is None else tuple(self.content.dropped_columns)
        references = {name: (of_member[0], of_member[1]) for name, of_member in self.content.references.items()}
        tickers = tuple(self.content.tickers or ())
        features = tuple(self.content.features)
        return Schema(self.config, features, vocabularies, dropped, self.window, references, tickers)

    @property
    def reference(self) -> FeatureReference | None:
        """Reference of the features in training; None in a file of an earlier version."""
        if (kept := self.content.reference) is None:
            return None
        ends = np.cumsum(kept.n_edges)[:-1]
        edges = np.split(kept.edges.numpy(), ends)
        shares = np.split(kept.shares.numpy(), ends + 2 * np.arange(1, len(edges)))
        return FeatureReference(tuple(edges), tuple(shares), kept.n_rows)

    @property
    def n_parameters(self) -> list[int]:
        """Return the number of parameters of each member."""
        return [member.n_parameters for member in self.members]

    @property
    def policy(self) -> DecisionPolicy:
        """Decision rule that was chosen out of fold, else the most probable class if it leads by the margin."""
        kept = self.content.selection.decision
        if kept is None:
            return DecisionPolicy.default(len(self.classes), self.config.margin)
        return DecisionPolicy(kept.threshold, kept.margin)

    @property
    def positions_in_words(self) -> list[str]:
        """Position of each class, with a warning if its name implies another, as in files of earlier versions."""
        if (held := self.content.class_positions) is None:
            return []
        notes = [f"positions of the classes: {in_words(self.classes, held)}"]
        if self.config.source == "table" and self.config.class_positions is None and differing(self.classes, held):
            notes.append(f"warning: their names imply other positions; {_AGAIN}")
        return notes

    def check_schema(self, dataset: Dataset) -> None:
        """Raise InputError unless `dataset` has the features and classes that the model was trained on."""
        kept = self.content
        for name, mine, of_member in (
            ("features", dataset.feature_names, kept.features),
            ("classes", dataset.classes, kept.classes),
        ):
            found, known = (list(map(spelled, map(str, names))) for names in (mine, of_member))
            if found != known:
                odd = sorted(set(found) ^ set(known))
                raise InputError(
                    f"{name} differ from the model's: {', '.join(odd[:5])}", "data", "use data of the same schema"
                )
        held = self.content.class_positions
        if dataset.class_positions is not None and held is not None and list(dataset.class_positions) != list(held):
            raise InputError(
                f"the model has {in_words(self.classes, held)}, the data have "
                f"{in_words(dataset.classes, dataset.class_positions)}",
                "positions of the classes",
                _AGAIN,
            )

    def predict_probabilities(self, dataset: Dataset, rows: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, float64 of shape (len(rows), n_classes)."""
        return self._probabilities(inputs_of(dataset, self.preprocessor, torch.device("cpu")), rows)

    def predict_raw(self, x: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Probabilities for `rows` of raw columns, shape (n, n_columns), where a window ends in its row."""
        return self._probabilities(torch.from_numpy(self.preprocessor.transform(x)), rows)

    def _probabilities(self, inputs: Inputs, rows: np.ndarray) -> np.ndarray:
        return self._weighted([m.calibration.probabilities(m.logits(inputs, rows).mean(axis=0)) for m in self.members])

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Predictions for a frame in the format of the input file, labels not needed.

        Parameters
        ----------
        frame : DataFrame
            Market: date, close and those of ticker, open, high, low and volume that the model reads, with the bars of
            history that its features need (61, and more for windows). Table: the feature columns by name, and those of
            time and group if the model was trained with them; a window reads earlier rows of its group.

        Returns
        -------
        DataFrame
            As `predict_rows`, for every row that has the history the model reads.

        Raises
        ------
        InputError
            A column is missing, unknown or of another type, a value is refused as in a file, or missing cells may have
            been a category such as NA.

        Warns
        -----
        UserWarning
            Categories that were not there in training; they count as missing.
        """
        table = frame_table(frame, self.schema.required)
        if self.config.source != "table":
            return self.predict_rows(market_rows(table, "frame", self.schema))
        refuse_lost_categories(table, self.schema.vocabularies)
        (part,) = table_rows(iter([table]), self.schema)
        for line in unknown_in_words(part.unknown, self.schema.vocabularies):
            warnings.warn(line, UserWarning, stacklevel=2)
        return self.predict_rows(part)

    def predict_rows(self, part: UnlabelledRows) -> pd.DataFrame:
        """Predictions for rows without labels.

        Returns
        -------
        DataFrame
            A row per usable row: row (tables: number of the record, from 1), date and ticker where there are any,
            predicted (the most probable class), a probability_* per class, decision (the class by the decision rule, ""
            for an abstention), and position (a fraction) if classes have positions.
        """
        probabilities = self.predict_raw(part.x, part.rows)
        answers = self.policy.answers(probabilities)
        identity = {"row": part.number, "date": part.date, "ticker": part.ticker}
        columns: dict[str, np.ndarray] = {name: values for name, values in identity.items() if values is not None}
        names = np.array([*self.classes, ""], dtype=object)
        columns["predicted"] = names[probabilities.argmax(axis=1)]
        columns |= {f"probability_{name}": probabilities[:, k] for k, name in enumerate(self.classes)}
        columns["decision"] = names[answers]
        if (held := self.content.class_positions) is not None:
            columns["position"] = self._positions(part, probabilities, answers, held)
        return pd.DataFrame(columns)

    def _positions(
        self, part: UnlabelledRows, probabilities: np.ndarray, answers: np.ndarray, held: Sequence[float]
    ) -> np.ndarray:
        """Position of each row; `data.max_weight` limits it on a market, where all listed tickers are known."""
        position = answer_positions(answers, held)
        if self.config.position == "proportional":
            position = np.where(answers == ABSTAINS, 0.0, probabilities @ np.array(held))
        return position if part.listed is None else limited(position, part.listed, self.config.max_weight)

    def predict_by_seed(self, dataset: Dataset, rows: np.ndarray) -> list[np.ndarray]:
        """Return probabilities with one network of each member, with the calibration of the whole model, by seed."""
        inputs = inputs_of(dataset, self.preprocessor, torch.device("cpu"))
        logits = [member.logits(inputs, rows) for member in self.members]
        return [
            self._weighted(
                [m.calibration.probabilities(of_member[k]) for m, of_member in zip(self.members, logits, strict=True)]
            )
            for k in range(min(map(len, logits)))
        ]

    def _weighted(self, probabilities: list[np.ndarray]) -> np.ndarray:
        """Mean over the members by their weights."""
        return np.sum([m.weight * of_member for m, of_member in zip(self.members, probabilities, strict=True)], axis=0)


def load_model(path: str | Path, factories: dict[str, str] | None = None) -> FinalModel:
    """Load final_model.pkl.

    Parameters
    ----------
    path : path-like
    factories : dict, optional
        Families of the user, name -> package.module:factory; a model file never names code.

    Raises
    ------
    MissingInputError, InputError
        The file is missing, damaged, not a Hyper model, or of another schema.
    """
    return make_model(read_model(Path(path)), path, factories or {})


def read_model(path: Path) -> FinalModelContent:
    """Return the content of final_model.pkl; errors as `load_model`."""
    content = read_tensors(path, Command.FINAL, kind="final_model")
    try:
        return parsed(FinalModelContent, content)
    except ValueError as error:
        raise _unfit(path, error) from error


def make_model(content: FinalModelContent, path: str | Path, factories: Mapping[str, str]) -> FinalModel:
    """Model from what `read_model` read of `path`; parameters and errors as `load_model`."""
    check_named((member.hyperparameters.family for member in content.members), factories, str(path))
    preprocessor = Preprocessor.from_state_dict(dict(content.preprocessor))
    sizes = (preprocessor.n_outputs, len(content.classes))
    try:
        made = tuple(_make_member(member, sizes, factories) for member in content.members)
    except (KeyError, ValueError, RuntimeError, AttributeError, TypeError) as error:
        if is_out_of_memory(error):
            raise
        raise _unfit(path, error) from error
    return FinalModel(made, preprocessor, content.experiment.data, content)


def _unfit(path: str | Path, error: Exception) -> InputError:
    what = f"has invalid content: {[*str(error).splitlines(), type(error).__name__][0]}"
    return InputError(what, str(path), f"create it again with {Command.FINAL} --fresh")


def _make_member(content: MemberContent, sizes: tuple[int, int], factories: Mapping[str, str]) -> Member:
    """A member for so many inputs and classes."""
    hyperparameters, networks = content.hyperparameters, []
    for weights in content.weights:
        if hyperparameters.family not in factories:
            # Without memory first: a small file may name a width that takes more than the machine has.
            with torch.device("meta"):
                check_weights(build_model(hyperparameters, *sizes, factories), weights)
        network = build_model(hyperparameters, *sizes, factories)
        network.load_state_dict(weights)
        network.train(False)
        networks.append(network)
    calibration = Calibration(content.temperature, np.array(content.bias, dtype=np.float64))
    return Member(hyperparameters, tuple(networks), calibration, content.weight)
