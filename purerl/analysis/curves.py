"""Learning curves as files. Matplotlib is imported where it is used: it would slow every start."""

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from purerl.analysis.figures import (
    BLUE,
    GREY,
    ORANGE,
    canvas,
    count_steps,
    frame,
    legend,
    no_values,
    reach,
    replace,
)
from purerl.analysis.intervals import Interval, bootstrap_interval

MOST_POINTS = 300  # more would neither show at this size nor be quick to resample


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
    steps, values = np.asarray(steps, np.float64), np.asarray(values, np.float64)
    if values.ndim != 2 or steps.shape != values.shape[:1]:
        raise ValueError(f"steps {steps.shape} and values {values.shape}: want [points], [, seeds]")

    figure, axes = canvas(title, "environment steps", ylabel)
    count_steps(axes)
    if np.isfinite(values).any():
        _draw(axes, *thin(steps, values))
    else:
        no_values(axes)
    if final is not None:
        _draw_final(axes, steps, bootstrap_interval(final))
    legend(axes)
    replace(Path(path), figure)


def thin(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most 300 points, each the mean of the finite values of its neighbours.

    Args:
      steps: [points].
      values: [points, ...], such as [points, seeds].
    """
    if len(steps) <= MOST_POINTS:
        return steps, values
    groups = np.array_split(np.arange(len(steps)), MOST_POINTS)
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
        style = {"color": BLUE, "linewidth": 0.7, "alpha": max(0.15, 0.8 / np.sqrt(seeds))}
        for seed in range(seeds):
            rows = shown[:, seed]
            axes.plot(steps[rows], values[rows, seed], zorder=2.2, **style)
        axes.plot([], [], color=BLUE, linewidth=0.9, alpha=0.5, label="each seed")

    rows = shown.any(1)
    at = steps[rows]
    intervals = [bootstrap_interval(row, resamples=500) for row in values[rows]]
    value, low, high, count, _ = (np.array(column) for column in zip(*intervals, strict=True))
    if seeds > 1:
        style = {"color": BLUE, "alpha": 0.3, "linewidth": 0}
        axes.fill_between(at, low, high, label="95 % interval", **style)
    label = f"IQM of {seeds} seeds" if seeds > 1 else "1 seed"
    marker = "o" if len(at) <= 12 else None
    axes.plot(at, value, color=BLUE, linewidth=2.0, marker=marker, markersize=4, label=label)

    bottom, top = np.percentile(values[shown], [0.5, 99.5])
    bottom, top = min(bottom, low.min()), max(top, high.max())
    frame(axes, bottom, top)
    axes.set_xlim(left=0.0)
    if count[-1] < seeds:
        note = f"{count[-1]} of {seeds} seeds have a value at the last point"
        place = {"xy": (1.0, 0.02), "xycoords": "axes fraction", "ha": "right"}
        axes.annotate(note, **place, fontsize=8, color=GREY)


def _draw_final(axes: Any, steps: np.ndarray, final: Interval) -> None:
    """The final evaluation, a little to the right of where the curve ends."""
    if not final.count:
        return
    at = 1.03 * steps[-1] if len(steps) else 0.0
    label = f"final evaluation {final.value:.4g}"
    if final.count > 1:
        label += f" [{final.low:.4g}, {final.high:.4g}]"
    style = {"fmt": "D", "color": ORANGE, "markersize": 5, "capsize": 3, "label": label}
    bottom, top = axes.get_ylim()
    axes.errorbar([at], [final.value], yerr=reach([final]), **style)
    if final.low < bottom or final.high > top:
        frame(axes, min(bottom, final.low), max(top, final.high))
