"""Mutants of the figures of a report: each makes a model look better than it is."""

from tests.mutants.mutant import Mutant

FILLS = "data/test_labels.py::test_forward_returns_are_earned_from_the_next_open_or_from_this_close"

MUTANTS = (
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
