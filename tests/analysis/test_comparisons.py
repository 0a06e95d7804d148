"""Statistics of several algorithms against scipy and by hand; their pictures show what they say."""

import numpy as np
import pytest
import scipy.stats
from PIL import Image

from purerl.analysis import (
    Curve,
    bootstrap_interval,
    performance_profile,
    plot_comparison,
    plot_improvements,
    plot_profiles,
    probability_of_improvement,
)
from purerl.analysis.intervals import resampled


@pytest.mark.parametrize("kind", ["continuous", "with ties"])
@pytest.mark.parametrize(("n", "k"), [(5, 4), (16, 16), (1, 7)])
def test_improvement_is_the_statistic_of_mann_and_whitney(n, k, kind):
    rng = np.random.default_rng(n)
    draw = rng.normal if kind == "continuous" else lambda size: rng.integers(0, 4, size)
    x, y = draw(size=(n, 3)), draw(size=(k, 3))
    u = [scipy.stats.mannwhitneyu(x[:, m], y[:, m]).statistic for m in range(3)]
    found = probability_of_improvement(x, y)
    assert found.value == pytest.approx(np.mean(u) / (n * k))
    assert found.low <= found.value <= found.high
    assert (found.count, found.left_out) == (n + k, 0)


def test_improvement_of_a_published_example():
    """Ages of 5 men and 4 women: https://docs.scipy.org/doc/scipy, mannwhitneyu, has U = 17."""
    assert probability_of_improvement([19, 22, 16, 29, 24], [20, 11, 17, 12]).value == 17 / 20


def test_improvement_at_its_limits():
    better, worse = np.arange(8.0) + 10.0, np.arange(8.0)
    assert probability_of_improvement(better, worse)[:3] == (1.0, 1.0, 1.0)
    assert probability_of_improvement(worse, better)[:3] == (0.0, 0.0, 0.0)
    assert probability_of_improvement(np.ones(4), np.ones(9))[:3] == (0.5, 0.5, 0.5)
    x, y = np.random.default_rng(0).normal(size=(2, 12, 4))
    one, other = probability_of_improvement(x, y), probability_of_improvement(y, x)
    assert one.value + other.value == pytest.approx(1.0)


def test_a_failed_seed_is_left_out_of_an_improvement():
    found = probability_of_improvement([1.0, np.nan, 3.0], [2.0, 0.0])
    assert (found.value, found.count, found.left_out) == (3 / 4, 4, 1)
    assert np.isnan(probability_of_improvement([np.nan], [1.0]).value)
    with pytest.raises(ValueError, match="2 and of 3 tasks"):
        probability_of_improvement(np.zeros((4, 2)), np.zeros((4, 3)))


def test_interval_of_an_improvement_covers_the_truth():
    rng = np.random.default_rng(0)
    truth = scipy.stats.norm.cdf(0.5 / np.sqrt(2.0))  # of N(0.5, 1) over N(0, 1)
    drawn = [(rng.normal(0.5, 1.0, (20, 3)), rng.normal(size=(20, 3))) for _ in range(150)]
    found = [probability_of_improvement(x, y, resamples=300) for x, y in drawn]
    covered = np.mean([i.low <= truth <= i.high for i in found])
    # The percentile interval of a small sample is a little narrow; chance adds 2 x 1.8 %.
    assert 0.85 < covered < 0.995


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_intervals_are_of_the_level_that_is_asked_for(level):
    """Against a bootstrap by loop."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(2, 20))
    drawn = lambda scores: scores[rng.integers(0, 20, (4000, 20))]
    ends = np.array([0.5 - level / 2, 0.5 + level / 2])
    wins = [(a[:, None] > b).mean() for a, b in zip(drawn(x), drawn(y), strict=True)]
    found = probability_of_improvement(x, y, level=level)
    np.testing.assert_allclose((found.low, found.high), np.quantile(wins, ends), atol=0.015)
    profile = performance_profile(x, np.array([0.0]), level=level)
    above = np.quantile((drawn(x) > 0).mean(1), ends)
    np.testing.assert_allclose((profile.low[0], profile.high[0]), above, atol=0.03)


def test_counts_are_those_of_drawing_with_replacement():
    counts = resampled(np.random.default_rng(0), 4000, 6, 2)
    assert counts.shape == (4000, 6, 2)
    assert (counts.sum(1) == 6).all()
    # Of a multinomial: mean 1, variance 1 - 1/6. 4000 draws leave 2 % of either.
    np.testing.assert_allclose(counts.mean(0), 1.0, atol=0.06)
    np.testing.assert_allclose(counts.var(0), 5 / 6, atol=0.08)
    assert not np.array_equal(counts[..., 0], counts[..., 1])  # tasks are drawn apart


def test_profile_is_one_minus_the_empirical_distribution():
    x = np.random.default_rng(0).normal(size=(9, 4))
    thresholds = np.linspace(-4.0, 4.0, 33)
    found = performance_profile(x, thresholds)
    theirs = 1.0 - scipy.stats.ecdf(x.ravel()).cdf.evaluate(thresholds)
    np.testing.assert_allclose(found.value, theirs, atol=1e-12)
    assert (found.low <= found.value).all()
    assert (found.value <= found.high).all()
    assert (found.value[0], found.value[-1]) == (1.0, 0.0)
    assert (found.high - found.low).max() > 0.1


def test_profile_by_hand():
    found = performance_profile([[0.0, 10.0], [1.0, 10.0], [np.nan, 10.0]], [0.0, 0.5, 10.0])
    np.testing.assert_array_equal(found.value, [3 / 4, 3 / 4, 0.0])  # strictly above
    assert np.isnan(performance_profile([np.nan], [0.0]).value).all()


def test_band_of_a_profile_is_that_of_its_mean():
    x = np.random.default_rng(1).normal(size=40)
    found = performance_profile(x, [0.2], resamples=20_000)
    share = bootstrap_interval(x > 0.2, np.mean, resamples=20_000)
    assert (found.low[0], found.high[0]) == pytest.approx((share.low, share.high), abs=0.03)


def test_profiles_are_drawn_as_computed(tmp_path, axes):
    rng = np.random.default_rng(0)
    scores = {"one": rng.normal(size=(8, 3)), "other": rng.normal(1.0, 1.0, (8, 3))}
    plot_profiles(tmp_path / "p.png", scores, "a title", "score")
    named = dict(zip(*reversed(axes().get_legend_handles_labels()), strict=True))
    for name, x in scores.items():
        at, value = named[name].get_data()
        np.testing.assert_array_equal(value, performance_profile(x, at).value)
    with Image.open(tmp_path / "p.png") as image:
        assert image.size == (1200, 675)
    plot_profiles(tmp_path / "p.png", {}, "a title", "score")
    assert [text.get_text() for text in axes().texts] == ["no values yet"]


def test_improvements_are_drawn_as_computed(tmp_path, axes):
    rng = np.random.default_rng(0)
    pair = lambda shift: probability_of_improvement(rng.normal(shift, 1, 9), rng.normal(size=9))
    found = {"easy": pair(1.0), "hard": pair(-1.0)}
    plot_improvements(tmp_path / "i.png", found, "a title", "P")
    assert [tick.get_text() for tick in axes().get_yticklabels()] == ["easy", "hard"]
    points, even = axes().lines[0].get_xdata(), axes().lines[-1].get_xdata()
    np.testing.assert_array_equal(points, [x.value for x in found.values()])
    assert list(even) == [0.5, 0.5]
    assert (tmp_path / "i.png").exists()


@pytest.mark.parametrize("seconds", [False, True])
def test_compared_curves_are_the_iqm_of_each(tmp_path, axes, seconds):
    rng = np.random.default_rng(0)
    curves = {
        name: Curve(np.arange(1, 21) * 1000.0, rng.normal(size=(20, seeds)).cumsum(0))
        for name, seeds in (("one", 8), ("single", 1))
    }
    plot_comparison(tmp_path / "c.png", curves, "a title", "return", seconds)
    named = dict(zip(*reversed(axes().get_legend_handles_labels()), strict=True))
    for name, curve in curves.items():
        at, value = named[name].get_data()
        np.testing.assert_array_equal(at, curve.at)
        np.testing.assert_allclose(value, [bootstrap_interval(row).value for row in curve.values])
    assert ("seconds" in axes().get_xlabel()) == seconds


@pytest.mark.parametrize("count", [1, 4, 6, 9])
def test_a_legend_of_several_rows_leaves_the_title_alone(count, tmp_path, axes):
    rng = np.random.default_rng(0)
    curves = {
        f"algorithm {i}": Curve(np.arange(3.0), rng.normal(size=(3, 4))) for i in range(count)
    }
    plot_comparison(tmp_path / "c.png", curves, "a title", "return")
    figure, box = axes().figure, axes().get_legend().get_window_extent()
    (title,) = [x for x in axes().get_children() if getattr(x, "_text", "") == "a title"]
    place = title.get_window_extent()
    assert place.y0 >= box.y1 - 8.0  # the legend's own margin, in pixels
    assert place.y1 <= figure.bbox.y1


def test_of_many_no_two_are_drawn_alike(tmp_path, axes):
    """There are six colours: the seventh is dashed."""
    rng = np.random.default_rng(0)
    curves = {f"run {i}": Curve(np.arange(3.0), rng.normal(size=(3, 2))) for i in range(13)}
    plot_comparison(tmp_path / "c.png", curves, "a title", "return")
    look = lambda line: (line.get_color(), line.get_linestyle())
    assert len({look(line) for line in axes().get_lines()}) == 13
    scores = {name: curve.values[-1] for name, curve in curves.items()}
    plot_profiles(tmp_path / "p.png", scores, "a title", "score")
    assert len({look(line) for line in axes().get_lines()}) == 13
