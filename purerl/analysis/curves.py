"""Learning curves as files. Matplotlib is imported where it is used: it would slow every start."""

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from purerl.analysis.intervals import Interval, bootstrap_interval

_COLOUR = "#1f5fa8"
_GREY = "#5a5a5a"
_MOST_POINTS = 300  # more would neither show at this size nor be quick to resample


def plot_curve(
    path: str | os.PathLike[str],
    steps,
    values,
    title: str,
    ylabel: str,
    final=None,
) -> None:
    """Draw the interquartile mean over seeds with its 95 % interval, and every seed faintly.

    Values that are not finite are left out, point by point: a seed that has finished no episode
    yet starts later, one that failed ends earlier. Where there are more than 300 points,
    neighbours are averaged. The file is replaced whole or not at all.

    Args:
      path: of the PNG to write, 1200 x 675 pixels. Its directory must exist.
      steps: [points] environment steps, increasing.
      values: [points, seeds] what is plotted, in the unit named by `ylabel`.
      title: above the plot.
      ylabel: name of the vertical axis.
      final: [seeds] scores of the final evaluation, drawn as one point with its interval.

    Raises:
      ValueError: the shapes do not fit.
      OSError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps, values = np.asarray(steps, np.float64), np.asarray(values, np.float64)
    if values.ndim != 2 or steps.shape != values.shape[:1]:
        raise ValueError(f"steps {steps.shape} and values {values.shape}: want [points], [, seeds]")

    figure = Figure(figsize=(8.0, 4.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _dress(axes, title, ylabel)
    if np.isfinite(values).any():
        _draw(axes, *_thin(steps, values))
    else:
        axes.text(0.5, 0.5, "no values yet", transform=axes.transAxes, ha="center", color=_GREY)
        axes.set(xticks=[], yticks=[])
    if final is not None:
        _draw_final(axes, steps, bootstrap_interval(final))
    if axes.get_legend_handles_labels()[1]:
        place = {"loc": "lower left", "bbox_to_anchor": (-0.01, 0.99), "ncols": 4}
        axes.legend(**place, frameon=False, fontsize=9, handlelength=1.6, columnspacing=1.4)
    _replace(Path(path), figure)


def _dress(axes: Any, title: str, ylabel: str) -> None:
    """Titles, a light grid, and steps written as 250k or 1.5M."""
    from matplotlib.ticker import EngFormatter

    axes.set_title(title, loc="left", pad=26, fontsize=12)
    axes.set_xlabel("environment steps")
    axes.set_ylabel(ylabel)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)


def _thin(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most `_MOST_POINTS` points, each the mean of the finite values of its neighbours."""
    if len(steps) <= _MOST_POINTS:
        return steps, values
    groups = np.array_split(np.arange(len(steps)), _MOST_POINTS)
    finite = np.where(np.isfinite(values), values, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a mean of no values is NaN, as wanted
        means = np.array([np.nanmean(finite[group], 0) for group in groups])
    return np.array([steps[group].mean() for group in groups]), means


def _draw(axes: Any, steps: np.ndarray, values: np.ndarray) -> None:
    """The lines, and a vertical range that a single wild value does not blow up."""
    seeds = values.shape[1]
    shown = np.isfinite(values)
    if seeds > 1:
        # Above the band, and fainter the more there are, so that 64 lines do not hide the mean.
        style = {"color": _COLOUR, "linewidth": 0.7, "alpha": max(0.15, 0.8 / np.sqrt(seeds))}
        for seed in range(seeds):
            rows = shown[:, seed]
            axes.plot(steps[rows], values[rows, seed], zorder=2.2, **style)
        axes.plot([], [], color=_COLOUR, linewidth=0.9, alpha=0.5, label="each seed")

    rows = shown.any(1)
    at = steps[rows]
    intervals = [bootstrap_interval(row, resamples=500) for row in values[rows]]
    value, low, high, count, _ = (np.array(column) for column in zip(*intervals, strict=True))
    if seeds > 1:
        style = {"color": _COLOUR, "alpha": 0.3, "linewidth": 0}
        axes.fill_between(at, low, high, label="95 % interval", **style)
    label = f"IQM of {seeds} seeds" if seeds > 1 else "1 seed"
    marker = "o" if len(at) <= 12 else None
    axes.plot(at, value, color=_COLOUR, linewidth=2.0, marker=marker, markersize=4, label=label)

    bottom, top = np.percentile(values[shown], [0.5, 99.5])
    bottom, top = min(bottom, low.min()), max(top, high.max())
    _frame(axes, bottom, top)
    axes.set_xlim(left=0.0)
    if count[-1] < seeds:
        note = f"{count[-1]} of {seeds} seeds have a value at the last point"
        place = {"xy": (1.0, 0.02), "xycoords": "axes fraction", "ha": "right"}
        axes.annotate(note, **place, fontsize=8, color=_GREY)


def _draw_final(axes: Any, steps: np.ndarray, final: Interval) -> None:
    """The final evaluation, a little to the right of where the curve ends."""
    if not final.count:
        return
    at = 1.03 * steps[-1] if len(steps) else 0.0
    reach = np.maximum([[final.value - final.low], [final.high - final.value]], 0.0)
    label = f"final evaluation {final.value:.4g} [{final.low:.4g}, {final.high:.4g}]"
    style = {"fmt": "D", "color": "#c1440e", "markersize": 5, "capsize": 3, "label": label}
    bottom, top = axes.get_ylim()
    axes.errorbar([at], [final.value], yerr=reach, **style)
    if final.low < bottom or final.high > top:
        _frame(axes, min(bottom, final.low), max(top, final.high))


def _frame(axes: Any, bottom: float, top: float) -> None:
    """A vertical range with some air, also where all values are one."""
    margin = 0.05 * (top - bottom) or 0.05 * abs(top) or 1.0
    axes.set_ylim(bottom - margin, top + margin)


def _replace(path: Path, figure: Any) -> None:
    """Write beside `path`, then rename: a reader sees the old picture or the new one."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        figure.savefig(part, format="png")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
