"""Feature columns of a table as raw columns of a data set: numbers as they are, text as codes into its vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scripts.data.dataset import Dataset
from scripts.data.mapped_rows import MappedRows
from scripts.data.streamed_features import StreamedFeatures
from scripts.errors import InputError


@dataclass(frozen=True)
class RawColumns:
    """Those fields of a `Dataset` that say what its features are."""

    x: np.ndarray
    feature_names: tuple[str, ...]
    categorical: np.ndarray
    vocabularies: dict[str, tuple[str, ...]]
    mapped: MappedRows | None


def table_columns(features: pd.DataFrame | StreamedFeatures, like: Dataset | None) -> RawColumns:
    """Raw columns as float32, -1 where text is missing or unknown; in a mapped file if they are streamed.

    Parameters
    ----------
    features : DataFrame or StreamedFeatures
    like : Dataset or None
        Whose vocabularies and types the columns have; their own if None.

    Raises
    ------
    InputError
        There is no column, or one holds text where that of `like` holds numbers or the other way round.
    """
    names = tuple(map(str, features.columns)) if isinstance(features, pd.DataFrame) else features.names
    if not names:
        raise InputError("has no feature column", "table", "give at least one column beside the label")
    text = dict(_text_columns(features))
    if like is not None:
        _check_types(names, set(text), like)
    known = {} if like is None else like.vocabularies
    vocabularies = {name: known[name] if name in known else _vocabulary(values) for name, values in text.items()}
    categorical = np.array([name in vocabularies for name in names])
    if isinstance(features, StreamedFeatures):
        mapped = features.mapped(vocabularies)
        return RawColumns(mapped.array(), names, categorical, vocabularies, mapped)
    columns = [
        _codes(values, vocabularies[str(name)]) if str(name) in vocabularies else values.to_numpy(dtype=np.float32)
        for name, values in features.items()
    ]
    return RawColumns(np.column_stack(columns), names, categorical, vocabularies, None)


def _text_columns(features: pd.DataFrame | StreamedFeatures) -> Iterator[tuple[str, pd.Series]]:
    if isinstance(features, StreamedFeatures):
        yield from ((name, features.column(name)) for name in features.names if name in features.text)
    else:
        yield from ((str(n), values) for n, values in features.items() if not pd.api.types.is_numeric_dtype(values))


def _check_types(names: tuple[str, ...], text: set[str], like: Dataset) -> None:
    for name in names:
        if (name in text) != (name in like.vocabularies):
            kind = "text" if name in text else "numbers"
            raise InputError(
                f"holds {kind}, unlike what the model was trained on", f"column {name}", "use the same types"
            )


def _vocabulary(values: pd.Series) -> tuple[str, ...]:
    return tuple(sorted(set(values.dropna().astype(str))))


def _codes(values: pd.Series, vocabulary: tuple[str, ...]) -> np.ndarray:
    return pd.Index(vocabulary, dtype=object).get_indexer(pd.Index(values.astype("object"))).astype(np.float32)
