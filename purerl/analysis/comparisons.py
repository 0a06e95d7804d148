"""Learning curves of several algorithms in one picture: over steps, or over seconds."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from purerl.analysis.curves import thin
from purerl.analysis.figures import canvas, count_steps, frame, legend, lines, no_values, replace
from purerl.analysis.intervals import bootstrap_interval


class Curve(NamedTuple):
    """What a population reached, and when.

    Attributes:
      at: [points] environment steps of one seed (sample efficiency), or seconds (wall clock).
      values: [points, seeds]; what is not finite is left out.
    """

    at: np.ndarray
    values: np.ndarray


def plot_comparison(
    path: str | os.PathLike[str],
    curves: Mapping[str, Curve],
    title: str,
    ylabel: str,
    seconds: bool = False,
) -> None:
    """Draw each curve's interquartile mean over seeds with its 95 % band.

    Of Agarwal et al. 2021, section 4.2: where curves end at different scores, or cross, one number
    hides what the whole curve says. The file is replaced whole or not at all.

    Args:
      path: of the PNG to write, 1200 x 675 pixels. Its directory must exist.
      curves: name -> curve. One seed has no band.
      title: above the plot.
      ylabel: what a value is.
      seconds: whether `at` is in seconds, not steps.
    """
    xlabel = "seconds since the first step, compiling left out" if seconds else "environment steps"
    figure, axes = canvas(title, xlabel, ylabel)
    if not seconds:
        count_steps(axes)
    ends = []
    for (name, curve), line in zip(curves.items(), lines(), strict=False):
        at, values = thin(np.asarray(curve.at, float), np.asarray(curve.values, float))
        rows = np.isfinite(values).any(1)
        if not rows.any():
            continue
        intervals = [bootstrap_interval(row, resamples=500) for row in values[rows]]
        value, low, high, *_ = (np.array(column) for column in zip(*intervals, strict=True))
        axes.fill_between(at[rows], low, high, color=line["color"], alpha=0.2, linewidth=0)
        marker = "o" if len(at) <= 12 else None
        style = {"linewidth": 2.0, "marker": marker, "markersize": 4}
        axes.plot(at[rows], value, label=name, **line, **style)
        ends += [low.min(), high.max()]
    if ends:
        frame(axes, min(ends), max(ends))
        axes.set_xlim(left=0.0)
    else:
        no_values(axes)
    legend(axes)
    replace(Path(path), figure)
