"""Data sets from a config: read, seal the last dates, derive features and labels.

`load_development` is what phases 1 to 3 see; only an evaluation calls `load_sealed`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from scripts.config.experiment import DataConfig
from scripts.data.dataset import Dataset
from scripts.data.dataset_checks import check_classes, check_sealed_bars, development_notes
from scripts.data.files.mapped_rows import NO_BOUND, MemoryBound
from scripts.data.files.table import frame_as_table
from scripts.data.known_categories import lost_categories
from scripts.data.market_dataset import market_dataset
from scripts.data.placebo import permute_labels
from scripts.data.row_sketch import sealed_sketch
from scripts.data.seal import cut, uncut
from scripts.data.sources import read_data
from scripts.data.table import Table
from scripts.data.table_dataset import order_of_rows, table_dataset
from scripts.errors import InputError
from scripts.statistics.periods_per_year import PeriodsPerYear, contradicts, infer_periods_per_year
from scripts.storage.durable_files import file_sha256


@dataclass(frozen=True)
class Development:
    """The development rows as they were read, none of the sealed ones among them.

    Attributes
    ----------
    table : Table
        Without its sealed rows.
    fingerprints : tuple of str
        SHA-256 of the content of the development rows and of the sealed rows.
    """

    config: DataConfig
    table: Table
    fingerprints: tuple[str, str]

    def dataset(self, longest_window: int, frame: pd.DataFrame | None = None) -> Dataset:
        """The data set of these rows, or of other values or fewer of them in `frame`.

        Parameters
        ----------
        longest_window : int
            Rows of history that the longest window of any configuration reads.
        frame : DataFrame, optional
            As `table.whole()`.
        """
        config, table = self.config, self.table
        if frame is not None:
            other = frame_as_table(frame, config)
            table = replace(table, frame=other.frame, features=other.features, rows=other.rows, truth=None)
        dataset = _build(table, config, longest_window, self.fingerprints)
        if dataset.has_time:
            # Labels that would read into the sealed rows are undefined here, since those bars are absent; the embargo
            # is counted from the first sealed date, which has the position after the last development date.
            rows = dataset.rows[dataset.label_end[dataset.rows] + config.embargo < dataset.n_dates]
            check_classes(dataset, rows, config, longest_window, config.embargo)
            dataset = replace(dataset, rows=rows)
        dataset = replace(dataset, notes=(*dataset.notes, *development_notes(dataset, config, table.frame)))
        return _as_placebo(dataset, config, dataset.n_dates)


def read_development(config: DataConfig, seed: int, bound: MemoryBound = NO_BOUND) -> Development:
    """Read the data and keep the development rows.

    Parameters
    ----------
    seed : int
        Of the sealed sample of a table without time.
    bound : MemoryBound
        A table in a Parquet file that exceeds it has its features in a mapped file, with the same results.
    """
    table = cut(read_data(config, bound=bound), config, seed)
    if config.source != "table":
        check_sealed_bars(table.frame["ticker"][table.sealed], config)
    return Development(config, table.take(~table.sealed), table.fingerprints())


def load_development(config: DataConfig, longest_window: int, seed: int, bound: MemoryBound = NO_BOUND) -> Dataset:
    """The data set without its sealed rows; arguments as `read_development` and `Development.dataset`."""
    return read_development(config, seed, bound).dataset(longest_window)


def load_sealed(
    config: DataConfig, longest_window: int, development: Dataset, seed: int, bound: MemoryBound = NO_BOUND
) -> Dataset:
    """The data set whose usable rows are the sealed ones; earlier rows are only history.

    `development` is what `load_development` gave for the same arguments: its classes and vocabularies are taken over.
    """
    raw = read_data(config, bound=bound)
    table = cut(raw, config, seed)
    rows = table if development.has_time else table.take(table.sealed)
    dataset = _build(rows, config, longest_window, table.fingerprints(), like=development)
    dataset = replace(dataset, sealed_sketch=sealed_sketch(raw, table, config))
    if development.has_time:
        sealed = dataset.rows[dataset.date[dataset.rows] >= development.n_dates]
        check_classes(dataset, sealed, config, longest_window, 0)
        dataset = replace(dataset, rows=sealed)
        if (known := dataset.predictable) is not None:
            dataset = replace(dataset, predictable=known[dataset.date[known] >= development.n_dates])
    return _as_placebo(dataset, config, development.n_dates)


def load_other(
    config: DataConfig,
    longest_window: int,
    path: Path,
    like: Dataset,
    seed: int,
    bound: MemoryBound = NO_BOUND,
    written: DataConfig | None = None,
) -> tuple[Dataset, int, int]:
    """Usable rows of another file with the schema of `like`, without those that the model was trained on.

    `written` has the number and date formats of that file, `config` if None.

    Returns
    -------
    tuple
        The data set; how many of the file's rows are development rows (left out), how many are sealed ones.
    """
    raw = read_data(config, bound=bound)
    split_table = cut(raw, config, seed)
    written = (written or config).model_copy(update={"path": str(path)})
    other = uncut(read_data(written, path, bound), written)
    columns = [name for name in split_table.columns if name in other.columns]
    known, mine = (table.row_hashes(columns) for table in (other, split_table))
    trained = np.isin(known, mine[~split_table.sealed])
    dataset = _build(other, config, longest_window, other.fingerprints(), like=like)
    # A table's rows may have been put into another order, so its rows are compared again in that order.
    order = order_of_rows(other.frame, config)
    rows = dataset.rows[~trained[order][dataset.rows]]
    if (all_known := dataset.predictable) is not None:
        dataset = replace(dataset, predictable=all_known[~trained[order][all_known]])
    if not len(rows):
        raise InputError("has no usable row beyond the development data", str(path), "provide newer or other data")
    lost = lost_categories(lambda name: bool(other.column(name).isna().any()), like.vocabularies)
    notes = dataset.notes if lost is None else (*dataset.notes, lost)
    dataset = replace(dataset, notes=notes, sealed_sketch=sealed_sketch(raw, split_table, config))
    check_classes(dataset, rows, config, longest_window, 0)
    return replace(dataset, rows=rows), int(trained.sum()), int(np.isin(known, mine[split_table.sealed]).sum())


def data_sha256(path: Path) -> str:
    """SHA-256 of a data file."""
    if not path.is_file():
        raise InputError("file not found", str(path), "check --data")
    return file_sha256(path)


def _as_placebo(dataset: Dataset, config: DataConfig, first_sealed: int) -> Dataset:
    """The data set itself, or with permuted labels if the config asks for a placebo."""
    return dataset if config.placebo is None else permute_labels(dataset, config.placebo, first_sealed)


def _build(
    table: Table,
    config: DataConfig,
    longest_window: int,
    fingerprints: tuple[str, str],
    like: Dataset | None = None,
) -> Dataset:
    """Data set of all rows of `table`; classes and vocabularies from `like` where given."""
    dataset = (table_dataset if config.source == "table" else market_dataset)(table, config, longest_window, like)
    dataset = replace(
        dataset,
        fingerprint=fingerprints[0],
        sealed_fingerprint=fingerprints[1],
        dropped=table.dropped,
        shuffle_block_rows=config.shuffle_block_rows,
        periods=periods_per_year(dataset.dates, config.periods_per_year),
    )
    if like is not None and dataset.feature_names != like.feature_names:
        odd = sorted(set(dataset.feature_names) ^ set(like.feature_names))
        raise InputError(f"features differ: {', '.join(odd[:5])}", str(config.path), "use data with the same columns")
    check_classes(dataset, dataset.rows, config, longest_window, config.embargo if like is None else 0)
    return dataset


def periods_per_year(dates: np.ndarray | None, configured: float | None) -> PeriodsPerYear | None:
    """Return the periods per year from the dates, or as configured; None if unknown.

    Raises
    ------
    InputError
        The configured number differs from the dates by more than a fifth.
    """
    found = None if dates is None else infer_periods_per_year(dates)
    if configured is None:
        return found
    if found is not None and contradicts(configured, found):
        raise InputError(
            f"{configured:g} does not fit {found.how}, which are {found.value:g} a year",
            "data.periods_per_year",
            f"remove the key or set data.periods_per_year={found.value:g}",
        )
    return PeriodsPerYear(configured, "data.periods_per_year")
