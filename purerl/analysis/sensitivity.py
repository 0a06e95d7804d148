"""How a score depends on one hyperparameter, as a picture."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from purerl.analysis.figures import (
    BLUE,
    GREY,
    ORANGE,
    canvas,
    frame,
    is_number,
    legend,
    name_places,
    no_values,
    reach,
    remark,
    replace,
    short,
)
from purerl.analysis.intervals import Interval, bootstrap_interval
from purerl.analysis.sweeps import distinct, plain, scores_of

_MOST_TICKS = 10  # a grid of more numbers gets the usual round ones
_MOST_MARGINALS = 24
_LOG_RATIO = 20.0


def plot_sensitivity(
    path: str | os.PathLike[str],
    field: str,
    values: Sequence,
    scores,
    title: str,
    ylabel: str,
    steps: Sequence[int] | None = None,
) -> None:
    """Draw the score over the values of one hyperparameter.

    For a grid: at each value the IQM over all seeds of all configurations that have it with its
    95 % interval, and each configuration's IQM faintly. For random samples, where more than 8
    configurations all have their own value or there are more than 24 values: each configuration's
    IQM and interval, the best one marked. So too where some were trained for fewer steps than
    others, as successive halving does: those are faint, and none of them is the best.

    Positive numbers whose largest is 20 times the smallest or more are on a logarithmic axis; with
    a zero among them, it is linear from there to the smallest. Numbers below 1 whose gaps to 1
    differ as much, such as discounts, are spaced by the logarithm of that gap. Anything but finite
    numbers is on a categorical axis. The file is replaced whole or not at all.

    Args:
      path: of the PNG to write, 1200 x 675 pixels. Its directory must exist.
      field: name of the hyperparameter.
      values: [C] its value in each configuration: numbers, strings, booleans or tuples.
      scores: [C, S] of every configuration and seed. Those that are not finite are left out.
      title: above the plot.
      ylabel: name of the vertical axis.
      steps: [C] environment steps each configuration was trained for; None if all the same.

    Raises:
      ValueError: the shapes do not fit.
      OSError: the file cannot be written.
    """
    values = plain(values)
    scores = scores_of(scores, {field: values})
    figure, axes = canvas(title, field, ylabel)
    if np.isfinite(scores).any():
        _draw(axes, values, scores, np.zeros(len(values)) if steps is None else np.asarray(steps))
        legend(axes)
    else:
        no_values(axes)
    replace(Path(path), figure)


def _scale(numbers: Sequence[float]) -> dict[str, Any]:
    """Arguments of `set_xscale`: logarithmic for numbers, or gaps to 1, of many magnitudes."""
    wide = lambda x: len(x) > 1 and min(x) > 0 and max(x) / min(x) >= _LOG_RATIO
    if wide(numbers):
        return {"value": "log"}
    if min(numbers) == 0 and wide([x for x in numbers if x > 0]):
        return {"value": "symlog", "linthresh": min(x for x in numbers if x > 0)}
    if min(numbers) >= 0.5 and wide([1.0 - x for x in numbers]):
        forward = lambda x: -np.log10(np.maximum(1.0 - np.asarray(x), 1e-15))
        return {"value": "function", "functions": (forward, lambda y: 1.0 - 10.0 ** -np.asarray(y))}
    return {"value": "linear"}


def _draw(axes: Any, values: list[Any], scores: np.ndarray, steps: np.ndarray) -> None:
    """Points and axis of `plot_sensitivity`; there is a finite score."""
    once = distinct(values)
    numeric = all(is_number(x) and np.isfinite(x) for x in once)
    at = np.array(values if numeric else [once.index(x) for x in values], np.float64)
    uneven = bool((steps != steps[0]).any())
    samples = uneven or len(once) > _MOST_MARGINALS or len(once) == len(values) > 8
    if numeric:
        axes.set_xscale(**_scale(once))

    each = [bootstrap_interval(row) for row in scores]
    if samples:
        drawn = _draw_samples(axes, at, values, each, steps)
    else:
        drawn = _draw_grid(axes, at, scores, each, line="-" if numeric else "")
    frame(axes, min(i.low for i in drawn), max(i.high for i in drawn))
    # A value whose configurations have no score keeps its place.
    axes.update_datalim([(x, drawn[0].value) for x in at])
    axes.autoscale_view(scaley=False)
    if not numeric:
        axes.set_xlim(-0.5, len(once) - 0.5)
        name_places(axes, range(len(once)), once)
    elif not samples and len(once) <= _MOST_TICKS:
        name_places(axes, once, once)
    elif axes.get_xscale() == "function":
        gaps = [digit / 10.0**n for n in range(1, 16) for digit in (5, 2, 1)]
        ticks = [1.0 - gap for gap in gaps if once[0] <= 1.0 - gap <= once[-1]]
        name_places(axes, ticks, ticks)
    elif all(x == round(x) for x in once) and axes.get_xscale() == "linear":
        axes.xaxis.get_major_locator().set_params(integer=True)
    if lost := sum(not i.count for i in each):
        remark(axes, f"{lost} of {len(each)} without a score")


def _draw_grid(
    axes: Any, at: np.ndarray, scores: np.ndarray, each: list[Interval], line: str
) -> list[Interval]:
    """The marginal at each place, over the configurations; gives back all that is drawn."""
    places = np.unique(at)
    marginals = [bootstrap_interval(scores[at == x].reshape(-1)) for x in places]
    shown = np.array([i.count > 0 for i in marginals])
    marginals = [i for i in marginals if i.count]
    points = [i._replace(low=i.value, high=i.value) for i in each if i.count]
    if len(at) > len(places):  # else these are the same points
        x, y = at[[i.count > 0 for i in each]], [i.value for i in points]
        style = {"color": GREY, "alpha": 0.35, "markersize": 5, "markeredgewidth": 0}
        axes.plot(x, y, "o", **style, label="each configuration")
    many = max(i.count for i in marginals) > 1
    label = "IQM of all seeds, 95 % interval" if many else "1 seed"
    style = {"color": BLUE, "linewidth": 1.8, "markersize": 6, "capsize": 4, "label": label}
    y = [i.value for i in marginals]
    axes.errorbar(places[shown], y, yerr=reach(marginals), fmt=f"o{line}", **style)
    return marginals + points


def _draw_samples(
    axes: Any, at: np.ndarray, values: list[Any], each: list[Interval], steps: np.ndarray
) -> list[Interval]:
    """Each configuration with its interval, the best one marked; gives back all that is drawn."""
    known = [c for c, i in enumerate(each) if i.count]
    whole = max(steps[c] for c in known)
    shown, early = [c for c in known if steps[c] == whole], [c for c in known if steps[c] < whole]
    if early:
        style = {"color": GREY, "alpha": 0.5, "markersize": 5, "markeredgewidth": 0}
        label = "trained for less, with the score of then"
        axes.plot(at[early], [each[c].value for c in early], "o", **style, label=label)
    intervals = [each[c] for c in shown]
    many = max(i.count for i in intervals) > 1
    label = "each configuration: IQM, 95 % interval" if many else "each configuration: 1 seed"
    style = {"color": BLUE, "markersize": 5, "markeredgewidth": 0, "elinewidth": 0.7}
    y = [i.value for i in intervals]
    axes.errorbar(at[shown], y, yerr=reach(intervals), fmt="o", alpha=0.7, **style, label=label)
    best = shown[int(np.argmax(y))]
    style = {"color": ORANGE, "markersize": 13, "markeredgecolor": "white", "zorder": 3}
    label = f"best: {short(values[best])}"
    axes.plot([at[best]], [each[best].value], "*", **style, label=label)
    points = [each[c]._replace(low=each[c].value, high=each[c].value) for c in early]
    return intervals + points
