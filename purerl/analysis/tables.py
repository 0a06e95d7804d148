"""The scores of a population, summed up in one row."""

import numpy as np

from purerl.analysis.intervals import bootstrap_interval


def summary(x, level: float = 0.95) -> dict[str, float]:
    """One score per seed, as the numbers a results table shows.

    Args:
      x: [seeds] scores. Those that are not finite are left out of every number.
      level: of the interval.

    Returns:
      iqm, low, high (its bootstrap interval), median, min, max, and as integers count and
      left_out, the seeds kept and not. The scores are NaN if no seed was kept.

    Raises:
      ValueError: `x` has other than one axis.
    """
    x = np.asarray(x, np.float64)
    if x.ndim != 1:
        raise ValueError(f"scores of shape {x.shape}: must be [seeds]")
    kept = x[np.isfinite(x)] if np.isfinite(x).any() else np.array([np.nan])
    interval = bootstrap_interval(x, level=level)
    return {
        "iqm": interval.value,
        "low": interval.low,
        "high": interval.high,
        "median": float(np.median(kept)),
        "min": float(kept.min()),
        "max": float(kept.max()),
        "count": interval.count,
        "left_out": interval.left_out,
    }
