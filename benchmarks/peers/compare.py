"""From raw repetitions to what the table says: steps/s, seconds to a score, ratios.

A run is what an adapter printed: compile_seconds (None where they are within the parts),
chunk_steps, chunk_seconds [K], returns [K]. Axes: K parts of a run, R repetitions.
"""

import itertools
import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

EXACT = 6  # up to so many repetitions all n^n resamples are counted instead of drawn
DRAWS = 10_000


class Timeline(NamedTuple):
    """When a run was where.

    Attributes:
      compile_seconds: until its programs were there.
      warm: [K] seconds of training until the end of each part, without compiling.
      cold: [K] with it.
      returns: [K] after each part.
      steps_per_second: of the parts after the first two.
    """

    compile_seconds: float
    warm: list[float]
    cold: list[float]
    returns: list[float]
    steps_per_second: float


class Ratio(NamedTuple):
    """Of two sides, with its 95 % bootstrap interval over pairs, and of how many pairs."""

    value: float
    low: float
    high: float
    count: int


def timeline(run: dict[str, Any]) -> Timeline:
    """Compiling taken apart from training.

    A peer that compiles when it first needs to does so in its first two parts: in the second where
    learning starts late. What these take beyond the median of the others is compiling. Steps/s are
    of the others: the first two also have the steps before learning starts, which some peers take
    beside the run.
    """
    seconds, compiling = list(run["chunk_seconds"]), run["compile_seconds"]
    if compiling is None:
        usual = statistics.median(seconds[2:] or seconds)
        excess = [max(0.0, part - usual) for part in seconds[:2]]
        compiling = sum(excess)
        cold = list(itertools.accumulate(seconds))
        warm = list(itertools.accumulate(
            part - (excess[k] if k < 2 else 0.0) for k, part in enumerate(seconds)
        ))  # fmt: skip
    else:
        warm = list(itertools.accumulate(seconds))
        cold = [compiling + part for part in warm]
    learning = seconds[2:] or seconds
    rate = run["chunk_steps"] * len(learning) / sum(learning)
    return Timeline(compiling, warm, cold, list(run["returns"]), rate)


def seconds_to(score: float, seconds: Sequence[float], returns: Sequence[float]) -> float | None:
    """When an evaluation first reached the score; None if none did."""
    return next((s for s, r in zip(seconds, returns, strict=True) if r >= score), None)


def ratio(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """Geometric mean of above over below, [R] each, pair by pair.

    Pairs are drawn with replacement, as the two of a pair met the same machine. One pair gives an
    interval of no width.
    """
    logs = np.log(np.asarray(above, float) / np.asarray(below, float))
    rows = _resamples(len(logs))
    low, high = np.percentile(logs[rows].mean(-1), [2.5, 97.5], method="inverted_cdf")
    return Ratio(math.exp(logs.mean()), math.exp(low), math.exp(high), len(logs))


def seconds_spent(
    score: float, seconds: Sequence[float], returns: Sequence[float]
) -> tuple[float, bool]:
    """(seconds to the score, or of the whole run where it is not reached; whether it is)."""
    found = seconds_to(score, seconds, returns)
    return (seconds[-1], False) if found is None else (found, True)


def expected_seconds(spent: np.ndarray, reached: np.ndarray) -> np.ndarray:
    """[..., R] -> [...]: what reaching the score costs where runs are repeated until one does.

    All seconds over the number of runs that reach it, inf if none does: the average runtime of
    Hansen et al. 2016, https://arxiv.org/abs/1605.03560. Of those alone that reach it, the seconds
    would be few where most fail.
    """
    with np.errstate(divide="ignore"):
        return spent.sum(-1) / reached.sum(-1)


def ratio_of_expected(ours: list[tuple[float, bool]], theirs: list[tuple[float, bool]]) -> Ratio:
    """Their expected seconds over ours, [R] pairs of `seconds_spent`; an end may be 0 or inf."""
    sides = [[np.array(column) for column in zip(*side, strict=True)] for side in (theirs, ours)]
    rows = _resamples(len(ours))

    def of(rows: Any) -> np.ndarray:
        above, below = (expected_seconds(*(column[rows] for column in side)) for side in sides)
        with np.errstate(invalid="ignore"):
            return above / below  # nan where neither side is there

    found = of(rows)
    low, high = np.percentile(found[~np.isnan(found)], [2.5, 97.5], method="inverted_cdf")
    return Ratio(float(of(slice(None))), float(low), float(high), len(ours))


def _resamples(n: int) -> np.ndarray:
    """[draws, n] rows out of n, with replacement."""
    if n <= EXACT:
        return np.array(list(itertools.product(range(n), repeat=n)))
    return np.random.default_rng(0).integers(n, size=(DRAWS, n))


def verdict(found: Ratio) -> str:
    """In words, for us: faster, slower, or neither."""
    if found.count == 1:
        return "one repetition"
    low, high = (float(f"{end:.3g}") for end in (found.low, found.high))  # as they are shown
    return "faster" if low > 1 else "slower" if high < 1 else "no clear difference"


def summary(pairs: list[dict[str, Any]], score: float) -> dict[str, Any]:
    """What a row of the table says, of [R] pairs of runs {"purerl": ..., "peer": ...}."""
    ours, theirs = ([timeline(pair[side]) for pair in pairs] for side in ("purerl", "peer"))
    middle = lambda values: statistics.median(values)
    out: dict[str, Any] = {
        "steps_per_second": {
            "purerl": round(middle([t.steps_per_second for t in ours])),
            "peer": round(middle([t.steps_per_second for t in theirs])),
            **_row(ratio(
                [t.steps_per_second for t in ours], [t.steps_per_second for t in theirs]
            )),
        },
        "compile_seconds": {
            "purerl": round(middle([t.compile_seconds for t in ours]), 2),
            "peer": round(middle([t.compile_seconds for t in theirs]), 2),
        },
    }  # fmt: skip
    for kind in ("warm", "cold"):
        spent = [
            [seconds_spent(score, getattr(t, kind), t.returns) for t in side]
            for side in (ours, theirs)
        ]
        entry: dict[str, Any] = {}
        for name, side in zip(("purerl", "peer"), spent, strict=True):
            seconds, reached = (np.array(column) for column in zip(*side, strict=True))
            there = int(reached.sum())
            entry[name] = round(float(expected_seconds(seconds, reached)), 3) if there else None
            entry[f"{name}_reached"] = there
        if entry["purerl_reached"] and entry["peer_reached"]:
            entry |= _row(ratio_of_expected(*spent))
        elif entry["purerl_reached"] or entry["peer_reached"]:
            ahead = entry["purerl_reached"] > entry["peer_reached"]
            entry["purerl_is"] = "alone there" if ahead else "not there"
        out[f"{kind}_seconds_to_score"] = entry
    return out


def _row(found: Ratio) -> dict[str, Any]:
    digits = lambda x: float(f"{x:.3g}") if math.isfinite(x) else None
    return {
        "ratio": digits(found.value),
        "low": digits(found.low),
        "high": digits(found.high),
        "pairs": found.count,
        "purerl_is": verdict(found),
    }
