"""The learning curves of a sweep: which lines are on the picture, and where they end."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from purerl.analysis import bootstrap_interval, plot_configurations

STEPS = np.arange(1, 21) * 50_000


def curves(count, seeds=5, points=20):
    """Configuration c ends at about 100 - c."""
    rng = np.random.default_rng(count)
    rise = np.linspace(0.1, 1.0, points)[:, None, None] * (100.0 - np.arange(count))[:, None]
    return rise + rng.uniform(-0.3, 0.3, (points, count, seeds))


def names(count):
    return [f"learning_rate={i}e-4" for i in range(count)]


def middle(values):
    """The IQM of each [points, seeds] row's finite values, and where there is one."""
    rows = np.isfinite(values).any(1)
    return rows, np.array([bootstrap_interval(row).value for row in values[rows]])


def legend(axes):
    (box,) = axes.figure.legends
    return [text.get_text() for text in box.get_texts()]


def line(axes, label):
    (found,) = [x for x in axes.lines if x.get_label() == label]
    return found


def grey(axes):
    """The data of the lines that have no name."""
    unnamed = [x.get_data() for x in axes.lines if str(x.get_label()).startswith("_")]
    return [(x, y) for x, y in unnamed if len(x)]


def test_best_are_coloured_with_bands_and_the_others_grey(tmp_path, axes):
    values = curves(30)
    values[:2] = np.nan  # no episode had ended
    values[10:, 20] = np.nan  # dropped
    values[12:, 1, :2] = np.nan  # two seeds failed
    values[:, 29] = np.nan
    plot_configurations(tmp_path / "c.png", STEPS, values, names(30), "a title", "return")
    best = names(8)
    assert legend(axes()) == [*best, "21 others", "1 without values"]
    assert len({to_hex(line(axes(), name).get_color()) for name in best}) == 8
    for c, name in enumerate(best):
        rows, wanted = middle(values[:, c])
        x, y = line(axes(), name).get_data()
        np.testing.assert_array_equal(x, STEPS[rows])
        np.testing.assert_allclose(y, wanted)
    assert len(axes().collections) == 8
    band = axes().collections[0].get_paths()[0].vertices
    assert values[-1, 0].min() <= band[band[:, 0] == STEPS[-1], 1].min()
    assert np.ptp(band[band[:, 0] == STEPS[-1], 1]) > 0.0
    for c, (x, y) in zip(range(8, 29), grey(axes()), strict=True):
        rows, wanted = middle(values[:, c])
        np.testing.assert_array_equal(x, STEPS[rows])
        np.testing.assert_allclose(y, wanted)
    assert grey(axes())[12][0][-1] == STEPS[9]
    bottom, top = axes().get_ylim()
    assert all(bottom < y.min() <= y.max() < top for x, y in grey(axes()))
    assert (axes().get_title("left"), axes().get_ylabel()) == ("a title", "return")
    with Image.open(tmp_path / "c.png") as image:
        assert image.width == 1200
    assert [p.name for p in tmp_path.iterdir()] == ["c.png"]


def test_best_is_by_the_last_value_that_there_is(tmp_path, axes):
    values = curves(4)[..., :1]
    values[:] = 0.0
    values[-1, :, 0] = [1.0, np.nan, 3.0, np.inf]
    values[-2, :, 0] = [9.0, 2.0, 0.0, np.nan]
    values[-3, :, 0] = [9.0, 9.0, 9.0, 4.0]
    plot_configurations(tmp_path / "c.png", STEPS, values, "abcd", "t", "return", shown=3)
    assert legend(axes()) == ["d", "c", "b", "1 other"]


def test_given_order_is_followed(tmp_path, axes):
    values = curves(6)
    values[:, 5] = np.nan
    args = (tmp_path / "c.png", STEPS, values, names(6), "t", "return")
    plot_configurations(*args, shown=2, order=[3, 5, 1, 0, 2, 4])
    assert legend(axes()) == [names(6)[3], names(6)[1], "3 others", "1 without values"]
    plot_configurations(*args, order=[4])
    assert legend(axes()) == [names(6)[4], "4 others", "1 without values"]
    plot_configurations(*args, shown=0)
    assert legend(axes()) == ["5 others", "1 without values"]


def test_more_lines_than_colours_are_told_apart(tmp_path, axes):
    plot_configurations(tmp_path / "c.png", STEPS, curves(16), names(16), "t", "return", shown=16)
    lines = [line(axes(), name) for name in names(16)]
    assert len({(to_hex(x.get_color()), x.get_linestyle()) for x in lines}) == 16


@pytest.mark.parametrize("length", [1, 10, 40, 90, 300])
def test_legend_stays_on_the_picture(length, tmp_path, axes):
    labels = [f"{i}" + "x" * length for i in range(12)]
    plot_configurations(tmp_path / "c.png", STEPS, curves(12), labels, "t", "return")
    figure = axes().figure
    figure.canvas.draw()
    box, whole = figure.legends[0].get_window_extent(), figure.bbox
    assert whole.x0 <= box.x0 < box.x1 <= whole.x1
    assert whole.y0 <= box.y0 < box.y1 < axes().get_window_extent().y0
    assert axes().get_window_extent().height > 0.5 * 675


def test_many_points_are_averaged(tmp_path, axes):
    values = np.tile([[[1.0]], [[3.0]]], (1500, 2, 2))
    values[1500:, 1] = np.nan
    plot_configurations(tmp_path / "c.png", np.arange(3000), values, "ab", "t", "return")
    assert len(line(axes(), "a").get_xdata()) == 300
    assert len(line(axes(), "b").get_xdata()) == 150
    np.testing.assert_allclose(line(axes(), "a").get_ydata(), 2.0)


@pytest.mark.parametrize(
    ("points", "count", "seeds", "scale"),
    [(1, 1, 1, 1.0), (1, 30, 4, -1e12), (20, 1, 1, 1e-12), (20, 2, 1, 0.0)],
)
def test_little_data_still_gives_a_picture(points, count, seeds, scale, tmp_path, axes):
    values = scale * curves(count, seeds)[:points]
    plot_configurations(tmp_path / "c.png", STEPS[:points], values, names(count), "t", "return")
    bottom, top = axes().get_ylim()
    assert bottom < values.min() or seeds > 1
    assert bottom < np.median(values) < top
    assert (tmp_path / "c.png").stat().st_size > 5_000


@pytest.mark.parametrize(("points", "count"), [(0, 0), (0, 3), (20, 0), (20, 3)])
def test_no_values_at_all_is_said(points, count, tmp_path, axes):
    values = np.full((points, count, 2), np.nan)
    plot_configurations(tmp_path / "c.png", STEPS[:points], values, names(count), "t", "return")
    assert [t.get_text() for t in axes().texts] == ["no values yet"]


def test_shapes_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"steps \(3,\), values \(3, 2, 1\) and labels \[1\]"):
        plot_configurations(tmp_path / "c.png", np.arange(3), np.zeros((3, 2, 1)), "a", "t", "y")
