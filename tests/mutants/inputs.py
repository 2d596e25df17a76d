"""Mutants of what the network gets: scalers, categories and weights, features and labels."""

from tests.mutants.mutant import Mutant

OWN_INPUTS = "data/test_development.py::test_inputs_and_naive_rules_do_not_depend_on_later_bars"
WINDOWS = "data/test_development.py::test_windows_read_no_bar_before_the_one_they_name"
HOURS = "data/test_development.py::test_bars_within_the_day_with_missing_hours_load_split_and_purge[kfold]"
NAIVE = "data/test_labels.py::test_naive_rules_and_offered_features_do_not_look_ahead"
TRAINING = "test_leaks.py::test_what_is_learned_depends_on_the_training_rows_alone"
PREDICTIONS = "test_leaks.py::test_predictions_do_not_depend_on_the_labels_of_the_rows_they_are_for"
PURPOSES = "data/test_development.py::test_columns_that_have_another_purpose_are_no_features"

MUTANTS = (
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
        "evaluation/reference_models.py",
        "        development.y[rows],",
        "        np.resize(dataset.y[dataset.rows], len(rows)),",
        "test_leaks.py::test_reference_models_do_not_see_the_rows_they_are_judged_on",
    ),
    Mutant(
        "reference models scaled by the test rows",
        "evaluation/reference_models.py",
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
)
