"""The interquartile mean against scipy, and the laws of its bootstrap interval."""

import numpy as np
import pytest
import scipy.stats

from purerl.analysis import bootstrap_interval, iqm, summary
from purerl.errors import UsageError


@pytest.mark.parametrize("size", [*range(1, 18), 64, 1001])
def test_iqm_equals_trim_mean(size):
    x = np.random.default_rng(size).normal(size=(size, 3))
    np.testing.assert_allclose(iqm(x, axis=0), scipy.stats.trim_mean(x, 0.25), rtol=1e-12)
    np.testing.assert_allclose(iqm(x.T, axis=-1), scipy.stats.trim_mean(x, 0.25), rtol=1e-12)
    np.testing.assert_allclose(iqm(x), scipy.stats.trim_mean(x, 0.25, axis=None), rtol=1e-12)


def test_iqm_by_hand():
    assert iqm([1000.0, 2.0, -50.0, 3.0, 4.0, 5.0, 6.0, 0.0]) == (2 + 3 + 4 + 5) / 4
    assert iqm([9.0, 1.0, 2.0]) == 4.0  # floor(3 / 4) = 0 are cut


def test_iqm_of_nan_and_of_nothing_is_nan():
    x = np.arange(32.0).reshape(2, 16)
    x[0, 3] = np.nan
    np.testing.assert_array_equal(iqm(x, axis=-1), [np.nan, 23.5])
    assert np.isnan(iqm([]))
    assert np.isnan(iqm(np.zeros((0, 4)), axis=0)).shape == (4,)


@pytest.mark.parametrize(("shape", "statistic"), [(16, iqm), (64, iqm), ((10, 5), np.mean)])
def test_interval_covers_the_truth_about_as_often_as_it_says(shape, statistic):
    rng = np.random.default_rng(0)
    offset = np.arange(5.0) if np.ndim(shape) else 0.0
    truth = np.mean(offset)
    drawn = [rng.normal(size=shape) + offset for _ in range(200)]
    intervals = [bootstrap_interval(x, statistic, resamples=300) for x in drawn]
    covered = np.mean([i.low <= truth <= i.high for i in intervals])
    # The percentile interval of a small sample is a little narrow; chance adds 2 x 1.5 %.
    assert 0.85 < covered < 0.99


def test_level_orders_the_intervals():
    x = np.random.default_rng(0).normal(size=40)
    narrow, wide = bootstrap_interval(x, level=0.5), bootstrap_interval(x, level=0.99)
    assert wide.low < narrow.low < narrow.value < narrow.high < wide.high
    assert narrow.value == pytest.approx(scipy.stats.trim_mean(x, 0.25))


def test_ends_are_percentiles_of_the_bootstrap():
    x = np.random.default_rng(1).normal(size=30)
    ours = bootstrap_interval(x, np.mean, resamples=20_000)
    theirs = scipy.stats.bootstrap((x,), np.mean, n_resamples=20_000, method="percentile", rng=0)
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.02)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.02)


def test_resampling_is_stratified_by_task():
    # Tasks differ, their seeds do not: drawn within each task, every resample has the same scores.
    between = np.tile([0.0, 10.0, 20.0, 70.0], (6, 1))
    interval = bootstrap_interval(between, np.mean)
    assert (interval.low, interval.value, interval.high) == (25.0, 25.0, 25.0)
    # Seeds are drawn for each task on its own: opposite tasks do not cancel, as whole rows would.
    opposite = np.linspace(-1.0, 1.0, 8)[:, None] * [1.0, -1.0]
    interval = bootstrap_interval(opposite, np.mean)
    assert interval.low < -0.1
    assert interval.high > 0.1


def test_interval_is_a_function_of_its_seed():
    x = np.random.default_rng(0).normal(size=(12, 3))
    assert bootstrap_interval(x, seed=1) == bootstrap_interval(x, seed=1)
    assert bootstrap_interval(x, seed=1) != bootstrap_interval(x, seed=2)


def test_one_seed_is_a_point():
    assert bootstrap_interval([3.5]) == (3.5, 3.5, 3.5, 1, 0)


def test_seeds_that_are_not_finite_are_left_out_and_counted():
    x = np.random.default_rng(0).normal(size=(10, 2))
    broken = np.insert(x, [0, 4, 10], [[np.nan, 1.0], [2.0, np.inf], [np.nan, np.nan]], axis=0)
    whole, partial = bootstrap_interval(x), bootstrap_interval(broken)
    assert partial[:3] == whole[:3]
    assert (partial.count, partial.left_out) == (10, 3)
    none = bootstrap_interval([np.nan, np.nan])
    assert np.isnan(none[:3]).all()
    assert (none.count, none.left_out) == (0, 2)
    assert bootstrap_interval([]).count == 0


def test_wrong_arguments_are_named():
    with pytest.raises(UsageError, match=r"level=95: must lie between 0 and 1"):
        bootstrap_interval([1.0], level=95)
    with pytest.raises(UsageError, match="resamples=0: must be positive"):
        bootstrap_interval([1.0], resamples=0)
    with pytest.raises(ValueError, match=r"shape \(1, 1, 1\)"):
        bootstrap_interval([[[1.0]]])


def test_summary():
    x = [5.0, np.nan, 1.0, 2.0, 3.0, 100.0]
    got = summary(x)
    interval = bootstrap_interval(x)
    assert got == {
        "iqm": pytest.approx((2 + 3 + 5) / 3),
        "low": interval.low,
        "high": interval.high,
        "median": 3.0,
        "min": 1.0,
        "max": 100.0,
        "count": 5,
        "left_out": 1,
    }
    lost = summary([np.nan])
    assert np.isnan([lost[name] for name in ("iqm", "low", "high", "median", "min", "max")]).all()
    assert (lost["count"], lost["left_out"]) == (0, 1)
    with pytest.raises(ValueError, match=r"must be \[seeds\]"):
        summary([[1.0, 2.0]])
