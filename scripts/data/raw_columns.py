"""Feature columns of a table as raw columns of a data set: numbers as they are, text as codes into its vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scripts.data.dataset import Dataset
from scripts.data.files.mapped_rows import MappedRows
from scripts.data.files.spelling import spelled
from scripts.data.files.streamed_features import StreamedFeatures
from scripts.data.known_categories import BOOLEANS, category_codes, unknown_in_words
from scripts.data.single_precision import Reference, as_single
from scripts.errors import InputError


@dataclass(frozen=True)
class RawColumns:
    """Those fields of a `Dataset` that say what its features are; the notes name categories that are unknown."""

    x: np.ndarray
    feature_names: tuple[str, ...]
    categorical: np.ndarray
    vocabularies: dict[str, tuple[str, ...]]
    mapped: MappedRows | None
    references: dict[str, Reference]
    notes: tuple[str, ...] = ()


def table_columns(
    features: pd.DataFrame | StreamedFeatures, like: Dataset | None, references: Mapping[str, Reference]
) -> RawColumns:
    """Raw columns as float32, -1 where text is missing or unknown; in a mapped file if they are streamed.

    Parameters
    ----------
    features : DataFrame or StreamedFeatures
    like : Dataset or None
        Whose vocabularies, types and references the columns have; their own if None.
    references : mapping of str to tuple of float
        Of columns that single precision would blur.

    Raises
    ------
    InputError
        There is no column, or one holds text where that of `like` holds numbers.
    """
    names = tuple(map(str, features.columns)) if isinstance(features, pd.DataFrame) else features.names
    if not names:
        raise InputError("has no feature column", "table", "give at least one column beside the label")
    text = dict(_text_columns(features))
    if like is None:
        vocabularies = {name: _vocabulary(values) for name, values in text.items()}
    else:
        vocabularies = {name: words for name, words in like.vocabularies.items() if name in names}
        _refuse_text({name: values for name, values in text.items() if name not in vocabularies})
    categorical = np.array([name in vocabularies for name in names])
    own = references if like is None else like.references
    own = {name: own[name] for name in names if name in own}
    if isinstance(features, StreamedFeatures):
        mapped, unknown = features.mapped(vocabularies, own)
        notes = tuple(unknown_in_words(unknown, vocabularies))
        return RawColumns(mapped.array(), names, categorical, vocabularies, mapped, own, notes)
    columns, unknown = [], {}
    for name, values in zip(names, (features[n] for n in features), strict=True):
        if name in vocabularies:
            codes, distinct = pd.factorize(_as_words(values), use_na_sentinel=False)
            codes, unknown[name] = category_codes(codes, np.asarray(distinct, dtype=object), vocabularies[name])
            columns.append(codes.astype(np.float32))
        else:
            columns.append(as_single(_as_numbers(values), own.get(name)))
    notes = tuple(unknown_in_words(unknown, vocabularies))
    return RawColumns(np.column_stack(columns), names, categorical, vocabularies, None, own, notes)


def _text_columns(features: pd.DataFrame | StreamedFeatures) -> Iterator[tuple[str, pd.Series]]:
    if isinstance(features, StreamedFeatures):
        yield from ((name, features.column(name)) for name in features.names if name in features.text)
    else:
        yield from ((str(n), values) for n, values in features.items() if not pd.api.types.is_numeric_dtype(values))


def _refuse_text(columns: dict[str, pd.Series]) -> None:
    """Raise InputError for text where the model knows numbers, but for booleans."""
    for name, values in columns.items():
        if not set(values.dropna()) <= set(BOOLEANS):
            what = "holds text, unlike what the model was trained on"
            raise InputError(what, f"column {name}", "use the same types")


def _as_words(values: pd.Series) -> np.ndarray:
    """Cells as text, missing ones empty."""
    if pd.api.types.is_numeric_dtype(values):
        return np.array(["" if np.isnan(v) else spelled(repr(float(v))) for v in values], dtype=object)
    return values.astype(object).where(values.notna(), "").to_numpy()


def _as_numbers(values: pd.Series) -> np.ndarray:
    """Cells as numbers, booleans as 1 and 0."""
    if pd.api.types.is_numeric_dtype(values):
        return values.to_numpy(dtype=np.float64)
    return values.astype(object).map(BOOLEANS).to_numpy(dtype=np.float64)


def _vocabulary(values: pd.Series) -> tuple[str, ...]:
    return tuple(sorted(set(values.dropna().astype(str))))
