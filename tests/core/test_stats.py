"""Means and deviations against the standard library."""

import statistics

import pytest

from distill_cli.core.stats import mean_std


def test_against_the_standard_library():
    values = [0.1, 0.4, 0.35, 1e3]
    found = mean_std(iter(values))
    assert found.mean == pytest.approx(statistics.fmean(values), rel=1e-15)
    assert found.std == pytest.approx(statistics.stdev(values), rel=1e-14)
    assert found.n == 4


def test_one_value_has_no_deviation():
    assert mean_std([0.25]) == (0.25, None, 1)
