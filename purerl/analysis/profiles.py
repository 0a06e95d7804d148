"""Performance profiles: which share of runs is above a score, for every score."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from purerl.analysis.figures import canvas, legend, lines, no_values, replace
from purerl.analysis.intervals import finite, resampled

_POINTS = 400  # thresholds of a drawn profile: more than the picture has pixels for


class Profile(NamedTuple):
    """A share of runs at each threshold, and how sure it is.

    Attributes:
      value: [T] of all runs that were kept; NaN if none was.
      low: [T] lower ends of the intervals, each for its own threshold.
      high: [T] upper ends.
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def performance_profile(
    x, thresholds, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Profile:
    """The share of runs whose score is above each threshold, tasks weighing the same.

        F(tau) = 1/M sum_m 1/N sum_n [x_nm > tau]

    The score distribution of Agarwal et al. 2021, equation 1 (https://arxiv.org/abs/2108.13264),
    with pointwise percentile intervals of the bootstrap stratified by task. The scores of different
    tasks must be comparable, so normalised. A seed with a score that is not finite is left out.

    Args:
      x: [seeds] or [seeds, tasks] scores.
      thresholds: [T].
      level: the probability with which an interval should cover the truth.
      resamples: how many bootstrap samples are drawn.
      seed: of the resampling.
    """
    kept, _ = finite(x)
    thresholds = np.asarray(thresholds, np.float64)
    if kept.size == 0:
        return Profile(*np.full((3, len(thresholds)), np.nan))
    above = (kept[..., None] > thresholds).reshape(-1, len(thresholds)).astype(np.float64)
    counts = resampled(np.random.default_rng(seed), resamples, *kept.shape)
    drawn = counts.reshape(resamples, -1) @ above / kept.size
    tail = 50.0 * (1.0 - level)
    return Profile(above.mean(0), *np.percentile(drawn, [tail, 100.0 - tail], axis=0))


def plot_profiles(
    path: str | os.PathLike[str], scores: Mapping[str, np.ndarray], title: str, xlabel: str
) -> None:
    """Draw the performance profile of each name with its 95 % band. The file is replaced whole.

    Args:
      path: of the PNG to write, 1200 x 675 pixels. Its directory must exist.
      scores: name -> [seeds] or [seeds, tasks], comparable between tasks.
      title: above the plot.
      xlabel: what a score is.
    """
    figure, axes = canvas(title, xlabel, "share of runs above it")
    flat = np.concatenate([np.ravel(x) for x in scores.values()] or [np.empty(0)])
    flat = flat[np.isfinite(flat)]
    if flat.size:
        margin = 0.02 * np.ptp(flat) or 1.0
        thresholds = np.linspace(flat.min() - margin, flat.max() + margin, _POINTS)
        for (name, x), line in zip(scores.items(), lines(), strict=False):
            found = performance_profile(x, thresholds)
            axes.fill_between(
                thresholds, found.low, found.high, color=line["color"], alpha=0.2, linewidth=0
            )
            axes.plot(thresholds, found.value, **line, linewidth=2.0, label=name)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlim(thresholds[0], thresholds[-1])
    else:
        no_values(axes)
    legend(axes)
    replace(Path(path), figure)
