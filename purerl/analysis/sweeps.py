"""The configurations of a sweep from best to worst, and sweep.csv."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from purerl.analysis.intervals import Interval, bootstrap_interval


class Ranked(NamedTuple):
    """One configuration among those of a sweep.

    Attributes:
      configuration: its index in the sweep.
      values: its value of every swept field.
      interval: IQM over its seeds with a 95 % bootstrap interval.
      steps: environment steps it was trained for; 0 if that was not given.
      rank: 1 is the best. No two configurations share one.
    """

    configuration: int
    values: dict[str, float | int | str | bool]
    interval: Interval
    steps: int
    rank: int


def rank(
    values: Mapping[str, Sequence], scores, steps: Sequence[int] | None = None
) -> list[Ranked]:
    """Order the configurations of a sweep, best first.

    Configurations without a finite score come last. Of the others, those trained for more steps
    come first: successive halving dropped the rest because they were worse. Among equals in this
    the higher IQM is better, and those equal in both keep their order.

    Args:
      values: swept field -> [C] its value in each configuration.
      scores: [C, S] of every configuration and seed, higher is better. Those that are not finite
        are left out.
      steps: [C] environment steps each configuration was trained for; None if all the same.

    Raises:
      ValueError: the shapes do not fit.
    """
    columns = {field: plain(column) for field, column in values.items()}
    scores = scores_of(scores, columns)
    trained = [0] * len(scores) if steps is None else [int(n) for n in steps]
    if len(trained) != len(scores):
        raise ValueError(f"steps [{len(trained)}] and scores {scores.shape}: want [C] and [C, S]")

    intervals = [bootstrap_interval(row) for row in scores]
    lost = [i.count == 0 for i in intervals]
    value = [0.0 if i.count == 0 else i.value for i in intervals]  # comparing NaN gives any order
    order = sorted(range(len(scores)), key=lambda c: (lost[c], -trained[c], -value[c]))
    row = lambda c: {field: column[c] for field, column in columns.items()}
    return [Ranked(c, row(c), intervals[c], trained[c], i) for i, c in enumerate(order, 1)]


def write_sweep(path: str | os.PathLike[str], ranked: Sequence[Ranked]) -> None:
    """Write a table with a row for each configuration, in the order given: sweep.csv.

    Columns: rank, configuration, the swept fields, iqm, low, high, seeds (those with a finite
    score), steps. A number that does not exist is empty. The file is replaced whole or not at all.

    Raises:
      OSError: the file cannot be written.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    fields = list(ranked[0].values) if ranked else []
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(
                ["rank", "configuration", *fields, "iqm", "low", "high", "seeds", "steps"]
            )
            for r in ranked:
                swept, score = (r.values[field] for field in fields), r.interval
                row = [r.rank, r.configuration, *swept, *score[:3], score.count, r.steps]
                table.writerow([_cell(x) for x in row])
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def plain(column: Sequence) -> list[Any]:
    """The values of a swept field as Python's own numbers, strings, booleans and tuples."""
    own = lambda x: tuple(x) if isinstance(x, list | tuple) else np.asarray(x).item()
    return [own(x) for x in column]


def distinct(values: Sequence) -> list[Any]:
    """Every value once, sorted; values that have no order, by their text."""
    once = list(dict.fromkeys(values))
    try:
        return sorted(once)
    except TypeError:
        return sorted(once, key=str)


def scores_of(scores, columns: Mapping[str, Sequence]) -> np.ndarray:
    """Scores as float64 [C, S].

    Raises:
      ValueError: they have other axes, or the column of a field has other than C values.
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 2:
        raise ValueError(f"scores {scores.shape}: want [C, S]")
    for field, column in columns.items():
        if len(column) != len(scores):
            shapes = f"{field} [{len(column)}] and scores {scores.shape}"
            raise ValueError(f"{shapes}: want [C] and [C, S]")
    return scores


def _cell(x: Any) -> str:
    if not isinstance(x, float):
        return str(x)
    return "" if np.isnan(x) else f"{x:.7g}"
