"""The learning curve's picture: what is on it, and that it is written whole or not at all."""

import ast
import inspect

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from purerl.analysis import bootstrap_interval, curves, plot_curve


def curve(points=30, seeds=8):
    rng = np.random.default_rng(0)
    steps = np.arange(1, points + 1) * 50_000
    rise = 1000.0 / (1.0 + np.exp(-np.linspace(-4.0, 4.0, points)))[:, None]
    return steps, rise * rng.uniform(0.8, 1.0, seeds)


def labelled(axes):
    handles, labels = axes.get_legend_handles_labels()
    return dict(zip(labels, handles, strict=True))


def test_picture_has_a_sensible_size_and_content(tmp_path):
    plot_curve(tmp_path / "curve.png", *curve(), "a title", "return")
    with Image.open(tmp_path / "curve.png") as image:
        assert image.size == (1200, 675)
        pixels = np.asarray(image.convert("RGB"), np.int32)
    blue = (pixels[..., 2] - pixels[..., 0]) > 20
    assert blue.mean() > 0.01  # line and band
    assert blue[:, :600].any()
    assert blue[:, 600:].any()
    assert [p.name for p in tmp_path.iterdir()] == ["curve.png"]


def test_lines_are_the_iqm_its_interval_and_the_seeds(tmp_path, axes):
    steps, values = curve()
    plot_curve(tmp_path / "curve.png", steps, values, "a title", "return", final=values[-1])
    named = labelled(axes())
    x, y = named["IQM of 8 seeds"].get_data()
    np.testing.assert_array_equal(x, steps)
    np.testing.assert_allclose(y, [bootstrap_interval(row).value for row in values])
    band = named["95 % interval"].get_paths()[0].vertices
    assert band[:, 1].min() >= values.min()
    assert np.ptp(band[band[:, 0] == steps[-1], 1]) > 0.0
    lines = [line.get_ydata() for line in axes().lines]
    assert all(any(np.array_equal(line, seed) for line in lines) for seed in values.T)
    assert any(label.startswith("final evaluation") for label in named)
    axes().figure.canvas.draw()
    ticks = [tick.get_text() for tick in axes().get_xticklabels()]
    assert "1M" in ticks
    assert "500k" in ticks or "400k" in ticks
    assert (axes().get_title("left"), axes().get_ylabel()) == ("a title", "return")


def test_missing_values_are_left_out_and_mentioned(tmp_path, axes):
    steps, values = curve()
    values[:3] = np.nan  # no episode had ended
    values[10:, 0] = np.nan  # a member failed
    plot_curve(tmp_path / "curve.png", steps, values, "a title", "return")
    x, y = labelled(axes())["IQM of 8 seeds"].get_data()
    np.testing.assert_array_equal(x, steps[3:])
    assert np.isfinite(y).all()
    assert y[-1] == bootstrap_interval(values[-1, 1:]).value
    assert [t.get_text() for t in axes().texts] == ["7 of 8 seeds have a value at the last point"]


def test_one_wild_value_does_not_flatten_the_curve(tmp_path, axes):
    steps, values = curve(points=100, seeds=64)
    values[50, 3] = -1e9
    plot_curve(tmp_path / "curve.png", steps, values, "a title", "return")
    bottom, top = axes().get_ylim()
    assert bottom > -200.0
    assert top > values.max()


def test_many_points_are_averaged(tmp_path, axes):
    steps = np.arange(1, 3001) * 1000
    values = np.tile([[1.0], [3.0]], (1500, 2))
    values[0] = np.nan
    plot_curve(tmp_path / "curve.png", steps, values, "a title", "return")
    x, y = labelled(axes())["IQM of 2 seeds"].get_data()
    assert len(x) == 300
    assert x.mean() == pytest.approx(steps.mean())
    np.testing.assert_allclose(y[1:], 2.0)


@pytest.mark.parametrize(
    ("points", "seeds", "final"),
    [(0, 4, None), (0, 4, [1.0, 2.0]), (1, 1, [7.0]), (1, 4, None), (30, 1, [np.nan])],
)
def test_little_data_still_gives_a_picture(points, seeds, final, tmp_path, axes):
    steps, values = curve(max(points, 1), seeds)
    plot_curve(tmp_path / "curve.png", steps[:points], values[:points], "t", "return", final)
    assert (tmp_path / "curve.png").stat().st_size > 5_000
    bottom, top = axes().get_ylim()
    assert bottom < top


def test_a_curve_without_a_finite_value_says_so(tmp_path, axes):
    plot_curve(tmp_path / "curve.png", [1, 2], np.full((2, 3), np.nan), "t", "return", [1.0, 2.0])
    assert [t.get_text() for t in axes().texts] == ["no values yet"]


def test_a_failed_write_leaves_the_old_picture_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "curve.png"
    plot_curve(path, *curve(), "old", "return")
    old = path.read_bytes()

    def fail(figure, part, **_):
        part.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="No space left"):
        plot_curve(path, *curve(), "new", "return")
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_of_the_old_picture_reads_on(tmp_path):
    path = tmp_path / "curve.png"
    plot_curve(path, *curve(), "old", "return")
    old = path.read_bytes()
    with path.open("rb") as reader:
        plot_curve(path, *curve(), "new", "return")
        assert reader.read() == old
    assert path.read_bytes() != old


def test_a_missing_directory_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        plot_curve(tmp_path / "gone" / "curve.png", *curve(), "t", "return")


def test_shapes_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"steps \(3,\) and values \(4, 2\)"):
        plot_curve(tmp_path / "curve.png", np.arange(3), np.zeros((4, 2)), "t", "return")


def test_matplotlib_is_imported_only_to_draw():
    """By its source: some environment packages import matplotlib themselves."""
    tree = ast.parse(inspect.getsource(curves))
    at_start = [ast.unparse(n) for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    assert at_start
    assert not any("matplotlib" in line for line in at_start)
