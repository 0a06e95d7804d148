"""Pictures of one and of two hyperparameters: what is on their axes."""

import ast
import inspect

import numpy as np
import pytest
from PIL import Image

from purerl.analysis import (
    bootstrap_interval,
    configurations,
    figures,
    heatmaps,
    iqm,
    plot_heatmap,
    plot_sensitivity,
    sensitivity,
)
from purerl.analysis.figures import brief, names_of, short

RATES = [1e-4, 1e-3, 1e-2]
DISCOUNTS = [0.9, 0.99]
GRID = [(rate, discount) for rate in RATES for discount in DISCOUNTS]


def labelled(axes):
    handles, labels = axes.get_legend_handles_labels()
    return dict(zip(labels, handles, strict=True))


def names(axis):
    return [tick.get_text() for tick in axis.get_ticklabels()]


def bars(container):
    """The points of an error bar, and the ends of the bars."""
    line, _, (lines,) = container.lines
    return np.array(line.get_data(), np.float64), np.array(
        [segment[:, 1] for segment in lines.get_segments()]
    )


def draws(count, seeds=8):
    return np.random.default_rng(count).normal(100.0, 20.0, (count, seeds))


def test_grid_shows_the_marginals_and_every_configuration(tmp_path, axes):
    scores = draws(6)
    scores[3, :2] = np.nan
    scores[5] = np.nan
    rates = [rate for rate, _ in GRID]
    plot_sensitivity(tmp_path / "s.png", "learning_rate", rates, scores, "a title", "return")
    named = labelled(axes())
    (x, y), ends = bars(named["IQM of all seeds, 95 % interval"])
    wanted = [bootstrap_interval(scores[i : i + 2].reshape(-1)) for i in (0, 2, 4)]
    np.testing.assert_array_equal(x, RATES)
    np.testing.assert_allclose(y, [i.value for i in wanted])
    np.testing.assert_allclose(ends, [(i.low, i.high) for i in wanted])
    x, y = named["each configuration"].get_data()
    np.testing.assert_array_equal(x, rates[:5])
    np.testing.assert_allclose(y, [bootstrap_interval(row).value for row in scores[:5]])
    assert "1 of 6 without a score" in named
    assert axes().get_xscale() == "log"
    assert names(axes().xaxis) == ["1e-4", "1e-3", "0.01"]
    assert (axes().get_xlabel(), axes().get_ylabel()) == ("learning_rate", "return")
    assert axes().get_title("left") == "a title"
    with Image.open(tmp_path / "s.png") as image:
        assert image.size == (1200, 675)
    assert [p.name for p in tmp_path.iterdir()] == ["s.png"]


def test_random_samples_show_each_configuration_and_the_best(tmp_path, axes):
    scores = draws(30, 4)
    scores[7] = np.nan
    values = 10.0 ** np.random.default_rng(0).uniform(-5.0, -1.0, 30)
    plot_sensitivity(tmp_path / "s.png", "learning_rate", values, scores, "t", "return")
    kept = np.delete(np.arange(30), 7)
    wanted = [bootstrap_interval(scores[c]) for c in kept]
    named = labelled(axes())
    (x, y), ends = bars(named["each configuration: IQM, 95 % interval"])
    np.testing.assert_array_equal(x, values[kept])
    np.testing.assert_allclose(y, [i.value for i in wanted])
    np.testing.assert_allclose(ends, [(i.low, i.high) for i in wanted])
    best = kept[np.argmax(y)]
    (label,) = [label for label in named if label.startswith("best")]
    assert label == f"best: {short(values[best])}"
    assert named[label].get_xdata() == [values[best]]
    assert axes().get_xscale() == "log"


def test_what_was_trained_for_less_is_faint_and_never_the_best(tmp_path, axes):
    """As halving leaves it: the score of one that was dropped is of then, and may be higher."""
    values, scores = [1.0, 2.0, 3.0, 4.0], np.array([[9.0], [5.0], [6.0], [8.0]])
    steps = [64, 256, 256, 128]
    plot_sensitivity(tmp_path / "s.png", "field", values, scores, "t", "return", steps)
    named = labelled(axes())
    x, y = named["trained for less, with the score of then"].get_data()
    assert (x.tolist(), y.tolist()) == ([1.0, 4.0], [9.0, 8.0])
    (x, y), _ = bars(named["each configuration: 1 seed"])
    assert (list(x), list(y)) == ([2.0, 3.0], [5.0, 6.0])
    assert named["best: 3"].get_xdata() == [3.0]
    assert axes().get_ylim()[1] > 9.0
    plot_sensitivity(tmp_path / "t.png", "field", values, scores, "t", "return", [64] * 4)
    assert "IQM of all seeds" in str(list(labelled(axes()))) or "1 seed" in labelled(axes())


@pytest.mark.parametrize("wild", [-1e9, 1e9, 1e-9, -3.0])
def test_everything_drawn_is_inside(wild, tmp_path, axes):
    scores = draws(12) * 1e-3
    scores[2] = wild
    scores[9] = np.nan  # its value keeps its place all the same
    for values in (list(range(12)), [0.1 * (i // 2) for i in range(12)], ["a", "b", "c"] * 4):
        plot_sensitivity(tmp_path / "s.png", "field", values, scores, "t", "return")
        bottom, top = axes().get_ylim()
        each = [bootstrap_interval(row) for i, row in enumerate(scores) if i != 9]
        assert bottom < min(i.value for i in each) <= max(i.value for i in each) < top
        places = values if not isinstance(values[0], str) else [0, 1, 2]
        left, right = axes().get_xlim()
        assert left < min(places) <= max(places) < right
        for container in axes().containers:
            for end in np.ravel(bars(container)[1]) if container.lines[2] else []:
                assert bottom < end < top


@pytest.mark.parametrize(
    ("values", "scale", "ticks"),
    [
        ([1, 2, 4, 8, 16], "linear", ["1", "2", "4", "8", "16"]),
        ([1, 2, 4, 8, 20], "log", ["1", "2", "4", "8", "20"]),
        ([0.0, 1e-3, 1e-2, 0.1], "symlog", ["0", "1e-3", "0.01", "0.1"]),
        ([-100.0, 1.0, 100.0], "linear", ["-100", "1", "100"]),
        ([0.9, 0.99, 0.999, 0.9999], "function", ["0.9", "0.99", "0.999", "0.9999"]),
        ([0.9, 0.95, 0.99], "linear", ["0.9", "0.95", "0.99"]),
        ([0.9, 0.99, 0.999, 1.0], "linear", ["0.9", "0.99", "", "1"]),
        ([True, False], "linear", ["False", "True"]),
        (["tanh", "relu"], "linear", ["relu", "tanh"]),
        ([(64, 64), (32,), (64,)], "linear", ["(32,)", "(64,)", "(64, 64)"]),
        ([1.0, float("inf")], "linear", ["1", "inf"]),
        ([3e-4], "linear", ["3e-4"]),
    ],
)
def test_axis_suits_the_values(values, scale, ticks, tmp_path, axes):
    plot_sensitivity(tmp_path / "s.png", "x", values, draws(len(values)), "t", "return")
    assert axes().get_xscale() == scale
    assert names(axes().xaxis) == ticks
    at = axes().transData.transform([(x, 0.0) for x in axes().get_xticks()])[:, 0]
    assert (np.diff(at) > 0.0).all()


def test_names_that_would_touch_slant(tmp_path, axes):
    values = [f"a rather long name, number {i}" for i in range(8)]
    plot_sensitivity(tmp_path / "s.png", "x", values, draws(8), "t", "return")
    assert {tick.get_rotation() for tick in axes().get_xticklabels()} == {40.0}
    assert all(names(axes().xaxis))


def test_heatmap_shows_the_iqm_of_each_cell(tmp_path, axes):
    grid = [*GRID, *GRID]  # a third field
    scores = draws(12)
    scores[[2, 8]] = np.nan  # one cell
    scores[0, 0] = np.nan
    order = np.random.default_rng(0).permutation(12)
    values = [grid[c][0] for c in order], [grid[c][1] for c in order]
    args = (("learning_rate", "discount"), values, scores[order], "a title", "return")
    plot_heatmap(tmp_path / "h.png", *args)
    (mesh,) = axes().collections
    cells = mesh.get_array()
    assert cells.shape == (2, 3)
    for i, (rate, discount) in enumerate(GRID):
        pooled = scores[[i, i + 6]]
        row, column = DISCOUNTS.index(discount), RATES.index(rate)
        if i == 2:
            assert cells.mask[row, column]
        else:
            assert cells[row, column] == pytest.approx(iqm(pooled[np.isfinite(pooled)]))
    texts = {t.get_position(): t.get_text() for t in axes().texts}
    finite = [(c, r) for r in range(2) for c in range(3) if not cells.mask[r, c]]
    assert texts == {(c, r): short(float(cells[r, c])) for c, r in finite}
    assert (names(axes().xaxis), names(axes().yaxis)) == (["1e-4", "1e-3", "0.01"], ["0.9", "0.99"])
    assert (axes().get_xlabel(), axes().get_ylabel()) == ("learning_rate", "discount")
    assert axes().figure.axes[1].get_ylabel() == "return"
    assert axes().patch.get_hatch()


def test_numbers_contrast_with_their_cells(tmp_path, axes):
    values = list(range(20)), [0] * 20
    plot_heatmap(tmp_path / "h.png", ("x", "y"), values, np.arange(20.0)[:, None], "t", "return")
    (mesh,) = axes().collections
    linear = lambda c: np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    light = linear(mesh.get_facecolors()[:, :3]) @ [0.2126, 0.7152, 0.0722]
    for text in axes().texts:
        here = light[text.get_position()[0]]
        contrast = (here + 0.05) / 0.05 if text.get_color() == "black" else 1.05 / (here + 0.05)
        assert contrast > 3.5


def test_many_cells_go_without_numbers(tmp_path, axes):
    values = np.linspace(0.0, 1.0, 30)
    plot_heatmap(tmp_path / "h.png", ("x", "y"), (values, values), draws(30), "t", "return")
    assert axes().collections[0].get_array().count() == 30
    assert not axes().texts


@pytest.mark.parametrize("scores", [[[4.0]], [[-1e12]], [[1e-12, 2e-12]], [[0.0, 0.0]]])
def test_little_data_still_gives_pictures(scores, tmp_path, axes):
    plot_sensitivity(tmp_path / "s.png", "x" * 200, [3e-4], scores, "t" * 200, "y" * 100)
    bottom, top = axes().get_ylim()
    assert bottom < iqm(scores) < top
    plot_heatmap(tmp_path / "h.png", ("x" * 200, "y" * 200), ([1], ["a"]), scores, "t" * 200, "s")
    assert [t.get_text() for t in axes().texts] == [short(float(iqm(scores)))]


@pytest.mark.parametrize("count", [0, 2])
def test_no_score_at_all_is_said(count, tmp_path, axes):
    scores, values = np.full((count, 3), np.nan), list(range(count))
    plot_sensitivity(tmp_path / "s.png", "x", values, scores, "t", "return")
    assert [t.get_text() for t in axes().texts] == ["no values yet"]
    plot_heatmap(tmp_path / "h.png", ("x", "y"), (values, values), scores, "t", "return")
    assert [t.get_text() for t in axes().texts] == ["no values yet"]


def test_shapes_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"lr \[2\] and scores \(3, 1\)"):
        plot_sensitivity(tmp_path / "s.png", "lr", [1, 2], np.zeros((3, 1)), "t", "return")
    values = [1, 2, 3], [1, 2]
    with pytest.raises(ValueError, match=r"b \[2\] and scores \(3, 1\)"):
        plot_heatmap(tmp_path / "h.png", ("a", "b"), values, np.zeros((3, 1)), "t", "return")


def test_short_names():
    exact = ["1e-4", "3e-4", "2.5e-3", "0.01", "0.99", "0.9995", "1.5", "1000", "65536", "131072"]
    assert [short(float(x)) for x in exact] == exact
    assert [short(-float(x)) for x in exact] == [f"-{x}" for x in exact]
    assert [short(x) for x in (0, -0.0, 1_000_000)] == ["0", "0", "1e6"]
    others = (True, "tanh", (64, 64), float("inf"))
    assert [short(x) for x in others] == ["True", "tanh", "(64, 64)", "inf"]
    assert [short(x) for x in (12345.67, 1234567.8, 1e300)] == ["12346", "1.235e6", "1e300"]


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 1.0, 1e4, 1e9])
def test_short_names_are_near_and_tell_apart(scale):
    values = (scale * np.random.default_rng(0).normal(size=200)).tolist()
    np.testing.assert_allclose([float(short(x)) for x in values], values, rtol=1e-3)
    close = [scale * (1.0 + i * 1e-9) for i in range(5)]
    assert len(set(names_of(close))) == 5


def test_brief_keeps_both_ends():
    assert brief("as it is", 8) == "as it is"
    text = "".join(map(str, range(100)))
    for most in range(3, 40):
        short_text = brief(text, most)
        assert len(short_text) == most
        head, tail = short_text.split("…")
        assert text.startswith(head)
        assert text.endswith(tail)


@pytest.mark.parametrize("module", [configurations, figures, heatmaps, sensitivity])
def test_matplotlib_is_imported_only_to_draw(module):
    tree = ast.parse(inspect.getsource(module))
    at_start = [ast.unparse(n) for n in tree.body if isinstance(n, ast.Import | ast.ImportFrom)]
    assert at_start
    assert not any("matplotlib" in line for line in at_start)
