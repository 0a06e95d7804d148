"""How likely a run of one algorithm is better than a run of another."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from purerl.analysis.figures import BLUE, GREY, canvas, no_values, reach, replace
from purerl.analysis.intervals import Interval, finite, resampled


def probability_of_improvement(
    x, y, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """P(X > Y): a run of X is better than one of Y on a task drawn at random; ties count half.

        P = 1/M sum_m 1/(N K) sum_n,k S(x_nm, y_km),  S = 1 if x > y, 1/2 if x = y, 0 if x < y

    Agarwal et al. 2021, section 4.3 (https://arxiv.org/abs/2108.13264): of each task the statistic
    of Mann and Whitney, U / (N K). It says how often, not by how much. The interval is that of the
    bootstrap stratified by algorithm and task.

    Args:
      x: [N] or [N, tasks] scores, of N seeds.
      y: [K] or [K, tasks], of the same tasks.
      level: the probability with which the interval should cover the truth.
      resamples: how many bootstrap samples are drawn.
      seed: of the resampling.

    Returns:
      `count` and `left_out` are of the seeds of both. NaN where either has none.

    Raises:
      ValueError: `x` and `y` are not of as many tasks.
    """
    (x, lost_x), (y, lost_y) = finite(x), finite(y)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"scores of {x.shape[1]} and of {y.shape[1]} tasks: must be the same")
    count, left_out = len(x) + len(y), lost_x + lost_y
    if not x.size or not y.size:
        return Interval(np.nan, np.nan, np.nan, count, left_out)
    wins = (x[:, None] > y) + 0.5 * (x[:, None] == y)  # [N, K, tasks]
    rng = np.random.default_rng(seed)
    drawn_x, drawn_y = (resampled(rng, resamples, *scores.shape) for scores in (x, y))
    drawn = np.einsum("rnm,nkm,rkm->r", drawn_x, wins, drawn_y, optimize=True) / wins.size
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(drawn, [tail, 100.0 - tail])
    return Interval(float(wins.mean()), float(low), float(high), count, left_out)


def plot_improvements(
    path: str | os.PathLike[str], found: Mapping[str, Interval], title: str, xlabel: str
) -> None:
    """Draw one probability of improvement a line, with its interval. The file is replaced whole.

    Args:
      path: of the PNG to write, 1200 pixels wide. Its directory must exist.
      found: what was compared, as a name -> its probability.
      title: above the plot.
      xlabel: whose improvement over what.
    """
    figure, axes = canvas(title, xlabel, "", size=(8.0, 1.6 + 0.4 * len(found)), pad=12.0)
    shown = {name: x for name, x in found.items() if np.isfinite(x.value)}
    if shown:
        places = np.arange(len(shown))[::-1]  # the first on top
        value = [x.value for x in shown.values()]
        style = {"fmt": "o", "color": BLUE, "markersize": 6, "capsize": 4, "linewidth": 2.0}
        axes.errorbar(value, places, xerr=reach(list(shown.values())), **style)
        axes.axvline(0.5, color=GREY, linewidth=1.0, linestyle="--")
        axes.set_yticks(places, list(shown))
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.set_xlim(-0.02, 1.02)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", color="#e4e4e4", linewidth=0.8)
    else:
        no_values(axes)
    replace(Path(path), figure)
