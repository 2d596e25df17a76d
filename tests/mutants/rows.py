"""Mutants that move rows between training, validation and test: splits, purging, the seal."""

from tests.mutants.mutant import Mutant

COLUMN = "data/test_development.py::test_a_column_of_a_table_is_judged_by_its_development_rows_alone"
SEAL = "data/test_seal.py::test_no_development_label_reads_a_sealed_bar_and_no_sealed_row_is_in_development"
DEVELOPMENT = "data/test_seal.py::test_development_data_do_not_depend_on_sealed_rows"
FOLDS = "data/test_splits.py::test_purged_folds_equal_the_reference"
KINDS = "data/test_splits.py::test_every_kind_of_folds_keeps_dates_labels_and_features_apart"
HOLDOUT = "test_leaks.py::test_the_length_of_the_final_training_comes_from_rows_that_are_held_out"

MUTANTS = (
    # Rows that train, or choose, though they must not
    Mutant(
        "rows dealt into folds at random",
        "data/dataset.py",
        "pairs = list(self._dated_splitter(kind, n_folds).split(self.spans(self.rows)))",
        "rng = np.random.default_rng(seed)\n"
        "            parts = np.array_split(rng.permutation(len(self.rows)), n_folds)\n"
        "            pairs = [(np.setdiff1d(np.arange(len(self.rows)), part), np.sort(part)) for part in parts]",
        f"{KINDS}[kfold-3]",
    ),
    Mutant(
        "no purge of labels before a block",
        "data/splits.py",
        "(spans.label_end + embargo < first_date)",
        "(spans.date + embargo < first_date)",
        FOLDS,
    ),
    Mutant(
        "no purge of labels after a block",
        "data/splits.py",
        "last_read = spans.label_end[block].max()",
        "last_read = spans.date[block].max()",
        FOLDS,
    ),
    Mutant("no purge of features", "data/splits.py", " & (spans.feature_start > last_read)", "", FOLDS),
    Mutant(
        "no embargo before a block",
        "data/splits.py",
        "(spans.label_end + embargo < first_date)",
        "(spans.label_end < first_date)",
        FOLDS,
    ),
    Mutant(
        "no embargo after a block",
        "data/splits.py",
        "(spans.date > last_read + embargo)",
        "(spans.date > last_read)",
        "data/test_splits.py::test_combinatorial_splits_equal_the_reference_plus_the_embargo_before_a_block",
    ),
    Mutant(
        "walk-forward trained on what follows",
        "data/splits.py",
        "train = _ends_before(spans, part[0], self.embargo)",
        "train = _may_train(spans, test, self.embargo)",
        "data/test_splits.py::test_walk_forward_equals_the_reference[None-train_expanding]",
    ),
    Mutant(
        "validation rows beside their own past labels",
        "data/splits.py",
        "_positions(_ends_before(spans, first, embargo), spans.date >= first",
        "_positions(spans.date < first, spans.date >= first",
        "test_leaks.py::test_every_trial_is_validated_on_later_rows_that_it_was_not_trained_on",
    ),
    Mutant(
        "embargo of a data set forgotten",
        "data/dataset.py",
        "return PurgedKFold(n_folds, self.embargo)",
        "return PurgedKFold(n_folds, 0)",
        f"{KINDS}[kfold-3]",
    ),
    Mutant(
        "groups torn apart",
        "data/dataset.py",
        "return self.ticker[self.rows] if self.groups else None",
        "return None",
        "data/test_development.py::test_groups_of_a_table_without_time_are_never_on_both_sides",
    ),
    Mutant(
        "trials trained on their validation rows",
        "tuning/search_context.py",
        "run = (name, random_key, values, split, epochs, self.device)",
        "run = (name, random_key, values, (self.dataset.rows, split[1]), epochs, self.device)",
        "test_leaks.py::test_every_trial_is_validated_on_later_rows_that_it_was_not_trained_on",
    ),
    Mutant(
        "folds trained on their test rows",
        "extended_training/cross_validation.py",
        "            self.folds[fold],\n",
        "            (self.dataset.rows, self.folds[fold][1]),\n",
        "test_leaks.py::test_every_fold_is_judged_on_rows_that_it_was_not_trained_on",
    ),
    Mutant(
        "best epoch found on training rows",
        "final_training/training.py",
        "(self.train, self.holdout),",
        "(self.train, self.train[-len(self.holdout) :]),",
        HOLDOUT,
    ),
    Mutant(
        "hold-out run trained on everything",
        "final_training/training.py",
        "(self.train, self.holdout),",
        "(self.dataset.rows, self.holdout),",
        HOLDOUT,
    ),
    # The seal
    Mutant(
        "sealed rows in development",
        "data/loading.py",
        "table.take(~table.sealed)",
        "table.take(table.sealed | ~table.sealed)",
        DEVELOPMENT,
    ),
    Mutant(
        "sealed by position in the file",
        "data/seal.py",
        "return np.asarray(frame[time].to_numpy() >= dates[first])",
        "return np.arange(len(frame)) >= (1 - config.test_fraction) * len(frame)",
        DEVELOPMENT,
    ),
    Mutant(
        "no embargo before the seal",
        "data/loading.py",
        "dataset.label_end[dataset.rows] + config.embargo < dataset.n_dates",
        "dataset.label_end[dataset.rows] < dataset.n_dates",
        SEAL,
    ),
    Mutant(
        "development rows tested again",
        "data/loading.py",
        "dataset.rows[dataset.date[dataset.rows] >= development.n_dates]",
        "dataset.rows",
        SEAL,
    ),
    Mutant(
        "rows trained on judged in another file",
        "data/loading.py",
        "dataset.rows[~trained[order][dataset.rows]]",
        "dataset.rows",
        "data/test_development.py::test_rows_trained_on_are_not_judged_again_from_another_file[when]",
    ),
    Mutant(
        "constant columns found in the whole file",
        "data/seal.py",
        "table.column(name)[~table.sealed]",
        "table.column(name)",
        f"{COLUMN}[constant before]",
    ),
    Mutant(
        "labels typed by the whole file",
        "data/seal.py",
        "sane = np.abs(values) <= MAX_NUMBER",
        "sane = np.zeros(len(values), dtype=bool)",
        f"{COLUMN}[numbers as classes]",
    ),
    Mutant(
        "length of tickers counted in the whole file",
        "data/seal.py",
        "tickers[~table.sealed].value_counts",
        "tickers.value_counts",
        "data/test_development.py::test_which_tickers_are_long_enough_is_decided_before_the_seal",
    ),
    Mutant(
        "placebo labels from beyond the seal",
        "data/placebo.py",
        "((0, first_sealed), (first_sealed, len(dataset.dates)))",
        "((0, len(dataset.dates)),)",
        "test_leaks.py::test_placebo_labels_of_development_rows_come_from_development_rows",
    ),
)
