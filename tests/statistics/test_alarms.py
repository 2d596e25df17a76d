"""Warnings of drift and of uncalibrated probabilities: silent on what chance does, and there where they should be."""

import numpy as np
import pytest
from scipy.signal import lfilter

from scripts.random_keys import numpy_generator
from scripts.statistics.calibration_check import calibration_p_value
from scripts.statistics.drift import DRIFT_LEVEL, feature_drift
from scripts.statistics.metrics import ece


def slow_feature(name, n_dates=1250, phi=0.98):
    """A stationary AR(1) feature that a market has on 1,000 development and 250 later dates."""
    noise = numpy_generator(0, name).standard_normal(n_dates + 500)
    return lfilter([1.0], [1.0, -phi], noise)[500:, None] * np.sqrt(1 - phi**2)


def drift_of(values, n_before=1000):
    date = np.arange(len(values))
    dates = date[:n_before], date[n_before:]
    return feature_drift(values[:n_before], values[n_before:], ["slow"], np.zeros(1, dtype=bool), dates)[0]


def test_a_slow_but_stationary_feature_is_no_drift():
    found = [drift_of(slow_feature(f"stationary {seed}")) for seed in range(100)]
    assert np.mean([drift.psi > 0.25 for drift in found]) > 0.5  # the index alone would warn of most
    assert np.mean([drift.psi > 0.25 and drift.p_value < DRIFT_LEVEL for drift in found]) <= 0.05


@pytest.mark.parametrize("phi", [0.0, 0.8])
def test_a_level_that_moved_by_two_standard_deviations_is_found(phi):
    values = slow_feature("moved", phi=phi)
    values[1000:] += 2.0
    drift = drift_of(values)
    assert drift.psi > 0.25
    assert drift.p_value < DRIFT_LEVEL


def calibrated(name, n, spread=0.06):
    generator = numpy_generator(0, name)
    up = np.clip(0.5 + spread * generator.standard_normal(n), 0.01, 0.99)
    return (generator.random(n) < up).astype(int), up


@pytest.mark.parametrize("n", [100, 1000])
def test_calibrated_probabilities_are_seldom_called_uncalibrated(n):
    found, errors = [], []
    for seed in range(300):
        y, up = calibrated(f"calibrated {seed}", n)
        p = np.column_stack([1 - up, up])
        found.append(calibration_p_value(y, p, np.arange(n), 1) < 0.05)
        errors.append(ece(y, p) > 0.05)
    assert np.mean(found) <= 0.075  # 0.05 and two standard errors
    assert n > 100 or np.mean(errors) > 0.5  # the error alone would warn of most


def test_overconfident_and_shifted_probabilities_are_found():
    y, up = calibrated("sure", 1000)
    sure = np.clip(0.5 + 4 * (up - 0.5), 0.01, 0.99)
    assert calibration_p_value(y, np.column_stack([1 - sure, sure]), np.arange(1000), 1) < 0.001
    too_sure = np.where(up > 0.5, 0.75, 0.25)
    assert calibration_p_value(y, np.column_stack([1 - too_sure, too_sure]), None, 1) < 0.001
