"""Warnings beside the verdict: each is there when its figures ask for it, and not otherwise."""

import pytest

from scripts.evaluation.warnings import caveats, fill_caveat, is_imbalanced, openings_caveat
from scripts.storage.score_records import Scored
from tests.reporting.sample_reports import sample_evaluation

SOUND = {
    "n_rows": 5000, "n_dates": 500, "block_length_dates": 2.0, "n_effective": 4000.0,
    "skill": 0.05, "skill_se": 0.01, "skill_ci95": [0.03, 0.07], "skill_p_value": 0.001, "verdict": "skill",
    "skill_degrees_of_freedom": 60, "detectable_skill": 0.028, "constant_answer": None,
    "promised": {"skill": 0.055, "skill_se": 0.01},
    "returns": {"net": 0.1}, "ece": 0.01, "calibration_p_value": 0.001,
    "class_shares": [0.48, 0.52], "balanced_accuracy": 0.55, "mcc": 0.1,
    "average_precision": 0.5, "drift": [{"feature": "a", "psi": 0.05, "ks": 0.02, "p_value": 1e-9}], "n_duplicates": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def scored():
    """Make sound figures with some changes."""
    sample = sample_evaluation(n_dates=30).evaluation.body()

    def made(**changed):
        figures = sample | SOUND | changed
        if figures["returns"] is not None:
            figures["returns"] = sample["returns"] | figures["returns"]
        return Scored.model_validate(figures)

    return made


def test_sound_figures_need_no_warning(scored):
    assert caveats(scored()) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"promised": {"skill": 0.15, "skill_se": 0.01}}, "regime break: cross-validation and test disagree"),
        (
            {"verdict": "no skill", "skill_ci95": [-0.01, 0.02]},
            "(effective sample size 4,000), a skill below 0.028 is not detectable",
        ),
        ({"n_dates": 20}, "20 dates (10 effective independent ones) are too few"),
        ({"block_length_dates": 100.0}, "500 dates (5 effective independent ones) are too few"),
        ({"constant_answer": {"class": "up", "share": 0.994}}, "the model predicts 'up' in 99.4% of the rows"),
        ({"skill_se": 0.0}, "same predictions as the best naive rule"),
        ({"returns": {"net": -0.02}}, "not profitable after costs"),
        ({"ece": 0.09}, "not calibrated (expected calibration error 0.090, p = 0.001)"),
        ({"class_shares": [0.1, 0.9]}, "classes are imbalanced (the rarest 10.0%)"),
        (
            {"drift": [{"feature": "volatility", "psi": 0.9, "ks": 0.4, "p_value": 1e-9}]},
            "drift between development and test: 1 features",
        ),
        ({"n_duplicates": 7}, "7 of 5,000 test rows have exactly the features of a development row"),
    ],
)
def test_each_weakness_is_named(scored, changed, words):
    said = caveats(scored(**changed))
    assert len(said) == 1
    assert words in said[0]


def test_what_chance_explains_is_not_warned_of(scored):
    drifted = [{"feature": "volatility", "psi": 0.9, "ks": 0.4, "p_value": 0.2}]
    assert caveats(scored(ece=0.09, calibration_p_value=0.3, drift=drifted)) == []


def test_what_is_unknown_is_not_warned_of(scored):
    unknown = {"promised": {"skill": None, "skill_se": None}, "returns": None, "n_dates": None, "n_effective": None}
    assert caveats(scored(**unknown)) == []


def test_imbalance_depends_on_the_number_of_classes():
    assert is_imbalanced([0.3, 0.7])
    assert not is_imbalanced([0.3, 0.3, 0.4])


def test_a_second_opening_is_said_to_be_corrected_for(scored):
    first = {f"{name}_uncorrected": SOUND[name] for name in ("skill_ci95", "skill_p_value", "verdict")}
    assert openings_caveat(scored(**first, corrected_for_openings=1), "once") == []
    corrected = {"corrected_for_openings": 3, "skill_ci95": [0.02, 0.08], "skill_p_value": 0.003}
    (said,) = openings_caveat(scored(**first, **corrected), "3 times, 2 of them by other runs: a, b")
    for part in ("opened 3 times, 2 of them by other runs: a, b", "corrected for 3", "+0.0300 to +0.0700", "0.001"):
        assert part in said


def test_a_fill_that_the_config_does_not_ask_for_is_named(scored):
    for fill, asked, n in (
        ("close_to_close", "next_open", 1),
        ("next_open", "next_open", 0),
        ("close_to_close",) * 2 + (0,),
    ):
        assert len(fill_caveat(scored(returns={"fill": fill}), asked)) == n
    assert fill_caveat(scored(returns=None), "next_open") == []


def test_a_model_without_a_lead_out_of_fold_is_named(scored):
    (said,) = caveats(scored(promised={"skill": -0.001, "skill_se": 0.05}))
    assert said == "out of fold the model is 0.1 pp behind the best naive rule (s.e. 5.0 pp)"
