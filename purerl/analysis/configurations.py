"""The learning curves of a sweep's configurations, in one picture."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from purerl.analysis.curves import thin
from purerl.analysis.figures import brief, canvas, count_steps, frame, no_values, remark, replace
from purerl.analysis.intervals import bootstrap_interval, iqm

# Okabe and Ito 2008, without the yellow that is lost on white, and a dark red for the eighth:
# they differ in lightness too, so that the colour-blind can tell them apart.
_COLOURS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#d55e00",
    "#56b4e9",
    "#cc79a7",
    "#000000",
    "#882255",
)


def plot_configurations(
    path: str | os.PathLike[str],
    steps,
    values,
    labels: Sequence[str],
    title: str,
    ylabel: str,
    shown: int = 8,
    order: Sequence[int] | None = None,
) -> None:
    """Draw the interquartile mean over seeds of each configuration, the best ones in colour.

    Those have 95 % intervals, too; the others are thin and grey. Values that are not finite are
    left out, point by point: a configuration that was dropped ends early, with a dot. Where there
    are more than 300 points, neighbours are averaged. The file is replaced whole or not at all.

    Args:
      path: of the PNG to write, 1200 pixels wide. Its directory must exist.
      steps: [P] environment steps, increasing.
      values: [P, C, S] what is plotted, of every configuration and seed.
      labels: [C] what the configurations are called.
      title: above the plot.
      ylabel: name of the vertical axis.
      shown: how many are in colour.
      order: configurations, best first; those it lacks are not in colour. None orders them by the
        last IQM that they have, higher is better.

    Raises:
      ValueError: the shapes do not fit.
      OSError: the file cannot be written.
    """
    steps, values = np.asarray(steps, np.float64), np.asarray(values, np.float64)
    if values.ndim != 3 or steps.shape != values.shape[:1] or len(labels) != values.shape[1]:
        shapes = f"steps {steps.shape}, values {values.shape} and labels [{len(labels)}]"
        raise ValueError(f"{shapes}: want [P], [P, C, S] and [C]")

    alive = np.isfinite(values).any((0, 2)) if len(steps) else np.zeros(len(labels), bool)
    order = _best_first(values) if order is None else order
    best = [c for c in order if alive[c]][:shown]
    others = [c for c in range(len(labels)) if alive[c] and c not in best]
    names = [brief(labels[c], 100) for c in best]
    columns = _columns(names)
    entries = len(names) + bool(others) + (not alive.all())
    height = 4.4 + 0.2 * -(-entries // columns)  # in inches, a row of the legend has 0.2
    figure, axes = canvas(title, "environment steps", ylabel, (8.0, height), pad=10.0)
    count_steps(axes)
    if not alive.any():
        no_values(axes)
    else:
        _draw(axes, *thin(steps, values), best, others, names)
        if lost := int((~alive).sum()):
            remark(axes, f"{lost} without values")
        place = {"loc": "outside lower left", "ncols": columns, "columnspacing": 1.4}
        seeds = values.shape[2]
        kind = f"IQM of {seeds} seeds, 95 % interval" if seeds > 1 else "1 seed"
        place |= {"title": f"{kind}, best first", "title_fontsize": 9, "alignment": "left"}
        figure.legend(**place, frameon=False, fontsize=9, handlelength=1.6)
    replace(Path(path), figure)


def _finite_iqm(x: np.ndarray) -> np.ndarray:
    """IQM over the last axis of [..., S], of what is finite there; NaN where nothing is."""
    finite = np.isfinite(x)
    result = iqm(np.where(finite, x, np.nan), axis=-1)
    for index in zip(*np.nonzero(finite.any(-1) & ~finite.all(-1)), strict=True):
        result[index] = iqm(x[index][finite[index]])
    return result


def _best_first(values: np.ndarray) -> list[int]:
    """Configurations of [P, C, S] by their last IQM; those without any keep their order, last."""
    last = np.full(values.shape[1], -np.inf)
    for point in values:
        middle = _finite_iqm(point)
        last = np.where(np.isnan(middle), last, middle)
    return np.argsort(-last, kind="stable").tolist()


def _columns(names: Sequence[str]) -> int:
    """How many columns a legend may have below a picture 8 inches wide."""
    longest = max((len(name) for name in names), default=0)
    return min(4, max(1, 115 // (longest + 8)))


def _draw(
    axes: Any,
    steps: np.ndarray,
    values: np.ndarray,
    best: Sequence[int],
    others: Sequence[int],
    names: Sequence[str],
) -> None:
    """The lines of all, the bands of the best, and a range that holds them whole."""
    drawn = []
    for c in others:
        middle = _finite_iqm(values[:, c])
        rows = np.isfinite(middle)
        style = {"color": "#b4b4b4", "linewidth": 0.8, "markersize": 2.5, "zorder": 1.9}
        axes.plot(steps[rows], middle[rows], marker="o", markevery=[-1], **style)
        drawn.append(middle[rows])

    for place, c in enumerate(best):
        rows = np.isfinite(values[:, c]).any(1)
        intervals = [bootstrap_interval(row, resamples=500) for row in values[rows, c]]
        value, low, high, *_ = (np.array(column) for column in zip(*intervals, strict=True))
        colour, dashed = _COLOURS[place % len(_COLOURS)], place // len(_COLOURS) % 2
        over = 2.0 + 0.5 * (1.0 - place / len(best))  # the best one on top
        style = {"color": colour, "alpha": 0.15, "linewidth": 0}
        axes.fill_between(steps[rows], low, high, zorder=over - 0.5, **style)
        style = {"color": colour, "linewidth": 1.8, "linestyle": "--" if dashed else "-"}
        ends = {"marker": "o", "markersize": 4, "markevery": [-1]}
        axes.plot(steps[rows], value, zorder=over, label=names[place], **style, **ends)
        drawn += [low, high, value]

    if others:
        label = "1 other" if len(others) == 1 else f"{len(others)} others"
        axes.plot([], [], color="#b4b4b4", linewidth=0.8, label=label)
    frame(axes, min(x.min() for x in drawn), max(x.max() for x in drawn))
    axes.set_xlim(left=0.0)
