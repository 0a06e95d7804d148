"""The interquartile mean over seeds and its bootstrap interval.

Agarwal et al. 2021, "Deep RL at the Edge of the Statistical Precipice", arXiv:2108.13264: with a
handful of runs, report an interval, and aggregate by a statistic that one run cannot carry.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from purerl.errors import UsageError, positive


class Interval(NamedTuple):
    """A statistic over seeds, how sure it is, and what it was computed from.

    Attributes:
      value: the statistic of all scores that were kept; NaN if none was.
      low: lower end of the interval; NaN if nothing was kept.
      high: upper end.
      count: seeds kept.
      left_out: seeds left out because a score of theirs was not finite.
    """

    value: float
    low: float
    high: float
    count: int
    left_out: int


def iqm(x, axis: int | None = None) -> np.ndarray:
    """Interquartile mean: the mean of what remains when each quarter at the ends is cut off.

    Agarwal et al. 2021, section 4.3. Of n scores floor(n / 4) are cut at either end, so up to three
    scores give the plain mean, and the result equals `scipy.stats.trim_mean(x, 0.25)`.

    Args:
      x: [...] scores.
      axis: the axis to reduce; None reduces all of them together.

    Returns:
      float64, `x` without `axis`. NaN where a score is NaN, and for no scores at all.
    """
    x = np.asarray(x, np.float64)
    scores = x.reshape(-1) if axis is None else np.moveaxis(x, axis, -1)
    n = scores.shape[-1]
    if n == 0:
        return np.full(scores.shape[:-1], np.nan)
    cut = n // 4
    middle = np.partition(scores, (cut, n - cut - 1))[..., cut : n - cut].mean(-1)
    # A sort puts NaN last, where the trimming would take it for a good score and drop it.
    return np.where(np.isnan(scores).any(-1), np.nan, middle)


def finite(x) -> tuple[np.ndarray, int]:
    """([kept, tasks] the seeds all of whose scores are finite, how many are not).

    Args:
      x: [seeds] or [seeds, tasks] scores.

    Raises:
      ValueError: `x` has neither one nor two axes.
    """
    x = np.asarray(x, np.float64)
    if x.ndim not in (1, 2):
        raise ValueError(f"scores of shape {x.shape}: must be [seeds] or [seeds, tasks]")
    scores = x if x.ndim == 2 else x[:, None]
    kept = scores[np.isfinite(scores).all(-1)]
    return kept, len(scores) - len(kept)


def resampled(rng: np.random.Generator, resamples: int, seeds: int, tasks: int) -> np.ndarray:
    """[resamples, seeds, tasks] how often each seed is drawn, within each task on its own.

    Divided by `seeds` these are weights: of a mean over seeds it gives the bootstrap's values.
    """
    counts = rng.multinomial(seeds, np.full(seeds, 1.0 / seeds), (resamples, tasks))
    return np.moveaxis(counts, 1, 2)


def bootstrap_interval(
    x,
    statistic: Callable[..., np.ndarray] = iqm,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a statistic by the stratified bootstrap, over seeds and tasks.

    Seeds are drawn with replacement within each task on its own, since the tasks are fixed and only
    the seeds are a sample (Agarwal et al. 2021, section 4.1). A seed with a score that is not
    finite is left out of every task, and counted. One seed gives an interval of no width.

    Args:
      x: [seeds] or [seeds, tasks] scores.
      statistic: f(scores [..., n], axis=-1) -> [...], such as `iqm`, `np.median` or `np.mean`.
      level: the probability with which the interval should cover the truth, in (0, 1).
      resamples: how many bootstrap samples are drawn.
      seed: of the resampling; the same gives the same interval.

    Raises:
      UsageError: `level` or `resamples` is out of range.
      ValueError: `x` has neither one nor two axes.
    """
    positive("resamples", resamples)
    if not 0.0 < level < 1.0:
        raise UsageError(f"level={level}: must lie between 0 and 1")
    kept, left_out = finite(x)
    count = len(kept)
    if kept.size == 0:
        return Interval(np.nan, np.nan, np.nan, count, left_out)
    value = float(statistic(kept.reshape(-1), axis=-1))
    rows = np.random.default_rng(seed).integers(count, size=(resamples, *kept.shape))
    drawn = np.take_along_axis(kept[None], rows, 1).reshape(resamples, -1)
    tail = 50.0 * (1.0 - level)
    low, high = np.percentile(statistic(drawn, axis=-1), [tail, 100.0 - tail])
    return Interval(value, float(low), float(high), count, left_out)
