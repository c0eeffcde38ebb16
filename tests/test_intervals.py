"""Confidence intervals against their formulas and independent implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

from trainer.analysis.intervals import difference, interval, proportion_half_width


def welch_half_width(a, b, confidence):
    """Half the width of Welch's interval, by its formulas."""
    variances = [np.var(v, ddof=1) / len(v) for v in (a, b)]
    total = sum(variances)
    degrees = total**2 / sum(x**2 / (len(v) - 1) for x, v in zip(variances, (a, b), strict=True))
    return scipy.special.stdtrit(degrees, (1 + confidence) / 2) * math.sqrt(total)


SAMPLES = st.lists(st.floats(-10, 10), min_size=2, max_size=8)


@given(SAMPLES, SAMPLES, st.sampled_from([0.9, 0.95, 0.99]))
def test_intervals_follow_the_formulas_of_student_and_welch(a, b, confidence):
    if np.std(a) > 1e-6:
        t = scipy.special.stdtrit(len(a) - 1, (1 + confidence) / 2)
        assert interval(a, confidence).mean == pytest.approx(np.mean(a), abs=1e-9)
        assert interval(a, confidence).half == pytest.approx(t * np.std(a, ddof=1) / math.sqrt(len(a)), rel=1e-6)
    if np.std(a) > 1e-6 and np.std(b) > 1e-6:
        assert difference(a, b, confidence).mean == pytest.approx(np.mean(b) - np.mean(a), abs=1e-9)
        assert difference(a, b, confidence).half == pytest.approx(welch_half_width(a, b, confidence), rel=1e-6)


def test_the_interval_of_groups_without_variance_is_a_point():
    assert difference([0.5, 0.5], [0.6, 0.6, 0.6]).half == 0.0
    assert difference([0.5, 0.5], [0.5, 0.7]).half == pytest.approx(12.706 * 0.1, rel=1e-3)  # t of one degree


def test_a_single_run_has_an_infinite_interval_and_proportions_have_binomial_intervals():
    assert interval([0.5]).half == math.inf
    assert difference([0.5], [0.6, 0.7]).half == math.inf
    with pytest.raises(ValueError, match="at least one"):
        interval([])
    assert proportion_half_width(0.9, 10_000) == pytest.approx(1.96 * math.sqrt(0.9 * 0.1 / 10_000), rel=0.01)


@pytest.mark.parametrize(("proportion", "n"), [(0.1, 1000), (0.5, 60), (0.75, 360), (0.9, 100)])
def test_the_interval_of_a_proportion_is_about_that_of_agresti_and_coull(proportion, n):
    """Theirs has the same center and is slightly wider; they differ only where the proportion is near 0 or 1."""
    p = (proportion * n + 1.96**2 / 2) / (n + 1.96**2)
    agresti_coull = 1.96 * math.sqrt(p * (1 - p) / (n + 1.96**2))
    assert 0.95 * agresti_coull < proportion_half_width(proportion, n) <= agresti_coull * 1.0001
