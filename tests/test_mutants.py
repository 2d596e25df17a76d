"""Leaks are caught: each mutant of the sources is a leak that could slip in, and a named test fails because of it."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass

import pytest

from tests.conftest import ROOT


@dataclass(frozen=True)
class Mutant:
    """A leak put into the sources.

    Attributes
    ----------
    name : str
    file : str
        Below scripts/.
    text, mutated : str
        What is replaced, which the file must hold exactly once, and by what.
    test : str
        Node below tests/ that must fail by an assertion because of it.
    """

    name: str
    file: str
    text: str
    mutated: str
    test: str


OWN_INPUTS = "data/test_development.py::test_inputs_and_naive_rules_do_not_depend_on_later_bars"
WINDOWS = "data/test_development.py::test_windows_read_no_bar_before_the_one_they_name"
COLUMN = "data/test_development.py::test_a_column_of_a_table_is_judged_by_its_development_rows_alone"
SEAL = "data/test_seal.py::test_no_development_label_reads_a_sealed_bar_and_no_sealed_row_is_in_development"
DEVELOPMENT = "data/test_seal.py::test_development_data_do_not_depend_on_sealed_rows"
HOURS = "data/test_development.py::test_bars_within_the_day_with_missing_hours_load_split_and_purge[kfold]"
NAIVE = "data/test_labels.py::test_naive_rules_and_offered_features_do_not_look_ahead"
FOLDS = "data/test_splits.py::test_purged_folds_equal_the_reference"
KINDS = "data/test_splits.py::test_every_kind_of_folds_keeps_dates_labels_and_features_apart"
TRAINING = "test_leaks.py::test_what_is_learned_depends_on_the_training_rows_alone"
PREDICTIONS = "test_leaks.py::test_predictions_do_not_depend_on_the_labels_of_the_rows_they_are_for"
HOLDOUT = "test_leaks.py::test_the_length_of_the_final_training_comes_from_rows_that_are_held_out"
PURPOSES = "data/test_development.py::test_columns_that_have_another_purpose_are_no_features"
FILLS = "data/test_labels.py::test_forward_returns_are_earned_from_the_next_open_or_from_this_close"

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
    # What is fitted on rows that it must not see
    Mutant(
        "scaler fitted on all rows",
        "training/run.py",
        "dataset.categorical, spec.train_rows",
        "dataset.categorical, dataset.rows",
        TRAINING,
    ),
    Mutant(
        "categories fitted on all rows",
        "training/run.py",
        "dataset.categorical, spec.train_rows",
        "dataset.categorical",
        "test_leaks.py::test_categories_and_gaps_that_training_rows_lack_do_not_reach_the_network",
    ),
    Mutant(
        "scaler of the final model fitted on other rows",
        "final_training/training.py",
        "Preprocessor.fit(dataset.x, dataset.categorical, dataset.rows",
        "Preprocessor.fit(dataset.x, dataset.categorical, work.train",
        "test_leaks.py::test_the_final_model_gets_its_inputs_as_it_was_trained_on_them",
    ),
    Mutant(
        "class weights from all rows",
        "training/run.py",
        "counts = torch.bincount(self.targets,",
        "counts = torch.bincount(torch.from_numpy(dataset.y[dataset.rows]),",
        TRAINING,
    ),
    Mutant(
        "inputs encoded by the target",
        "training/inputs.py",
        "preprocessor.transform(dataset.x)",
        "preprocessor.transform(dataset.x + dataset.y[:, None].astype(np.float32))",
        PREDICTIONS,
    ),
    Mutant(
        "inputs encoded by the mean target of all rows",
        "training/inputs.py",
        "preprocessor.transform(dataset.x)",
        "preprocessor.transform(dataset.x * np.float32(dataset.y[dataset.rows].mean()))",
        TRAINING,
    ),
    Mutant(
        "calibration fitted on training rows",
        "final_training/training.py",
        "dataset.y[work.holdout]",
        "dataset.y[work.train[-len(work.holdout) :]]",
        "test_leaks.py::test_the_calibration_of_the_final_model_comes_from_rows_that_are_held_out",
    ),
    Mutant(
        "reference models fitted on the test rows",
        "commands/evaluate.py",
        "        development.y[rows],",
        "        np.resize(dataset.y[dataset.rows], len(rows)),",
        "test_leaks.py::test_reference_models_do_not_see_the_rows_they_are_judged_on",
    ),
    Mutant(
        "reference models scaled by the test rows",
        "commands/evaluate.py",
        "Preprocessor.fit(development.x, development.categorical, development.rows",
        "Preprocessor.fit(dataset.x, dataset.categorical, dataset.rows",
        "test_leaks.py::test_reference_models_do_not_see_the_rows_they_are_judged_on",
    ),
    # Features and labels that look ahead
    Mutant(
        "lags that lead",
        "data/features.py",
        "out[k:] = x[: max(0, len(x) - k)]",
        "out[: max(0, len(x) - k)] = x[k:]",
        "data/test_features.py::test_price_features_equal_rolling_formulas",
    ),
    Mutant(
        "gap to the next open",
        "data/features.py",
        'np.log(panel.columns["open"] / panel.lag(panel.columns["close"], 1))',
        'np.log(np.roll(panel.columns["open"], -1) / panel.columns["close"])',
        f"{OWN_INPUTS}[next_direction-1]",
    ),
    Mutant(
        "momentum up to the next close",
        "data/features.py",
        "(log_close - panel.lag(log_close, k))",
        "(np.roll(log_close, -1) - panel.lag(log_close, k))",
        f"{OWN_INPUTS}[next_direction-1]",
    ),
    Mutant(
        "market return of the next date",
        "data/features.py",
        "(sums / np.maximum(counts, 1))[bars.date]",
        "np.roll(sums / np.maximum(counts, 1), -1)[bars.date]",
        f"{OWN_INPUTS}[next_direction-1]",
    ),
    Mutant(
        "features scaled by the whole history",
        "data/features.py",
        "return np.clip(score, -MAX_SCORE, MAX_SCORE)",
        "return np.clip(score / np.nanstd(score), -MAX_SCORE, MAX_SCORE)",
        f"{OWN_INPUTS}[next_direction-1]",
    ),
    Mutant(
        "label among the features of a market",
        "data/market_dataset.py",
        "if labels.features else features.values",
        "if labels.features else np.column_stack([labels.y, features.values[:, 1:]])",
        f"{OWN_INPUTS}[next_direction-1]",
    ),
    Mutant(
        "label among the features of a table",
        "data/files/table.py",
        "table = Table.of(pd.DataFrame(frame, copy=False), features, raw.columns, raw)",
        'features = FeatureColumns(kept | {"copy": pd.Series(frame[config.label_column], dtype="category")})\n'
        '    table = Table.of(pd.DataFrame(frame, copy=False), features, [*raw.columns, "copy"], raw)',
        PURPOSES,
    ),
    Mutant(
        "forward return among the features of a table",
        "data/files/table.py",
        "table = Table.of(pd.DataFrame(frame, copy=False), features, raw.columns, raw)",
        'features = FeatureColumns(kept | {"copy": pd.Series(frame[config.forward_return_column])})\n'
        '    table = Table.of(pd.DataFrame(frame, copy=False), features, [*raw.columns, "copy"], raw)',
        PURPOSES,
    ),
    Mutant(
        "features said to begin too late",
        "data/market_dataset.py",
        "labels.lookback) + longest_window - 1",
        "labels.lookback)",
        f"{WINDOWS}[next_direction-1]",
    ),
    Mutant(
        "median of the regime centred",
        "data/labels.py",
        ".rolling(config.regime_window)",
        ".rolling(config.regime_window, center=True)",
        f"{NAIVE}[kind3]",
    ),
    Mutant(
        "persistence that knows the outcome",
        "data/labels.py",
        "np.where(np.isnan(before), -1, close > before)",
        "np.where(np.isnan(before), -1, leave > close)",
        f"{NAIVE}[kind0]",
    ),
    Mutant(
        "label spans a bar too short",
        "data/labels.py",
        "last = row + config.horizon + definition.delay",
        "last = row + config.horizon + definition.delay - 1",
        HOURS,
    ),
    Mutant(
        "label spans of tables of one bar",
        "data/table_dataset.py",
        "ahead = np.arange(len(date)) + horizon",
        "ahead = np.arange(len(date)) + 1",
        "data/test_development.py::test_labels_of_a_table_reach_as_far_as_their_horizon_and_are_purged",
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
    # Figures that flatter
    Mutant("return of the bar decided on", "data/labels.py", "(1, 2) if fill", "(0, 1) if fill", FILLS),
    Mutant("return of the bar before", "data/labels.py", "else (0, 1)", "else (1, 2)", FILLS),
    Mutant(
        "position known a bar early",
        "statistics/trading_simulator.py",
        "gain, kept, sold = held * self._step,",
        "gain, kept, sold = np.roll(held, -1) * self._step,",
        "statistics/test_returns.py::test_reference_case[simulated_returns_3x12]",
    ),
    Mutant(
        "majority class of the test rows",
        "evaluation/tested_rows.py",
        "np.bincount(development.y[development.rows])",
        "np.bincount(y)",
        "test_leaks.py::test_the_majority_class_is_that_of_the_development_rows",
    ),
    Mutant(
        "measured against the worst naive rule",
        "statistics/skill.py",
        "return min(self.by_rule.values(), key",
        "return max(self.by_rule.values(), key",
        "test_leaks.py::test_the_majority_class_is_that_of_the_development_rows",
    ),
    Mutant(
        "rows counted as independent instead of dates",
        "statistics/intervals.py",
        "    if date is None:\n        return values",
        "    if len(values):\n        return values",
        "statistics/test_intervals.py::test_rows_of_one_date_count_as_one_where_they_are_copies",
    ),
    Mutant(
        "blocks shorter than the labels",
        "statistics/intervals.py",
        "found = mean_variance(deviations, horizon)",
        "found = mean_variance(deviations)",
        "test_leaks.py::test_intervals_take_blocks_as_long_as_labels_look_ahead_and_whole_dates",
    ),
    Mutant(
        "best of many trials taken at its word",
        "evaluation/selection_bias.py",
        "corrected_winner(score, ",
        "max(score.max(), ",
        "evaluation/test_selection_bias.py::test_the_best_of_many_equal_trials_is_corrected_to_their_mean",
    ),
    Mutant(
        "real run left out of its placebos",
        "commands/placebo.py",
        "(1 + at_least) / (1 + len(skills))",
        "at_least / len(skills)",
        "evaluation/test_selection_bias.py::test_the_p_value_counts_the_real_run",
    ),
)


# Imports libraries once and forks for each test, since they take longer to import than a test runs; the sources are
# imported by the child alone, from the folder that it is given.
RUNNER = """
import os, sys
import arch.bootstrap, hypothesis, optuna, pandas, pytest, scipy.stats, sklearn.ensemble, torch
for line in sys.stdin:
    folder, *arguments = line.rstrip().split("\\t")
    if (child := os.fork()) == 0:
        os.chdir(folder)
        log = os.open("log.txt", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1), os.dup2(log, 2)
        code = pytest.main(arguments)
        sys.stdout.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def runner():
    """A process that runs tests in copies of the sources, each in a child of one thread."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"OMP_NUM_THREADS": "1", "COLUMNS": "300"}
    command = [sys.executable, "-c", RUNNER]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        yield process
        process.stdin.close()


def run_tests(runner, folder, *nodes):
    """Exit code and output, which ends in a line for each failure."""
    arguments = ["-x", "-q", "-rf", "--tb=short", "-p", "no:cacheprovider", *(f"tests/{node}" for node in nodes)]
    runner.stdin.write("\t".join([str(folder), *arguments]) + "\n")
    code = runner.stdout.readline()
    assert code, "the process that runs the tests has ended"
    return int(code), (folder / "log.txt").read_text()


def copied_sources(folder):
    """The sources and the tests in another folder, where they may be changed."""
    for name in ("scripts", "tests"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name.replace(" ", "_"))
def test_a_leak_is_caught(mutant, runner, tmp_path):
    path = copied_sources(tmp_path) / "scripts" / mutant.file
    source = path.read_text()
    n_found = source.count(mutant.text)
    assert n_found == 1, f"scripts/{mutant.file} holds {mutant.text!r} {n_found} times: adapt the mutant to the sources"
    path.write_text(source.replace(mutant.text, mutant.mutated))
    code, output = run_tests(runner, tmp_path, mutant.test)
    assert code == 1, f"{mutant.test} does not notice it (exit code {code}):\n{output}"
    failed_by_assertion = rf"^FAILED tests/{re.escape(mutant.test)} - (AssertionError|assert )"
    assert re.search(failed_by_assertion, output, re.MULTILINE), f"it fails, but not by an assertion:\n{output}"


def test_every_test_that_catches_a_leak_passes_on_the_sources_as_they_are(runner, tmp_path):
    code, output = run_tests(runner, copied_sources(tmp_path), *sorted({mutant.test for mutant in MUTANTS}))
    assert code == 0, output


def test_names_of_mutants_are_distinct():
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
