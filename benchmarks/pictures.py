"""Pictures of what learning has recorded, beside the results they are drawn from.

learning-<environment>.png           return over steps, of every algorithm with a curve there
learning-<environment>-seconds.png   the same over seconds of training, compiling left out
<study>-profile.png                  the share of runs above a score, scores of a task scaled
                                     to [0, 1] from its worst run to its best
<study>-improvement.png              how likely one algorithm's run is the better one
peers.png                            return over wall clock, beside each peer
pictures.sha256                      of the numbers that each was drawn from
"""

import hashlib
import json
import re
from collections import defaultdict
from typing import Any

import numpy as np

from benchmarks.peers import pictures as peers
from benchmarks.records import RESULTS, STUDIES, read
from purerl.analysis import (
    Curve,
    Interval,
    plot_comparison,
    plot_improvements,
    plot_profiles,
    probability_of_improvement,
)

Entries = dict[str, dict[str, Any]]
SOURCES = "pictures.sha256"


def draw(machine: str) -> None:
    """Draw everything that this machine's results have curves or returns for."""
    folder = RESULTS / machine
    for place, entries in by_environment(read("learning").get(machine, {})).items():
        steps = {name: over_steps(entry) for name, entry in entries.items()}
        path = folder / f"learning-{place}.png"
        plot_comparison(path, steps, place.replace("_", " "), "greedy evaluation return")
        seconds = {name: over_seconds(entry) for name, entry in entries.items()}
        path = folder / f"learning-{place}-seconds.png"
        title = f"{place.replace('_', ' ')}, {machine}"
        plot_comparison(path, seconds, title, "greedy evaluation return", seconds=True)
    for study in STUDIES:
        ours, theirs = study.split("-vs-")
        scores = by_task(read(study).get(machine, {}), ours, theirs)
        if scores:
            plot_profiles(
                folder / f"{study}-profile.png",
                dict(zip((ours, theirs), scaled(scores), strict=True)),
                f"{ours} and {theirs} on {len(scores)} tasks",
                "return, scaled from the worst run of a task to its best",
            )
            plot_improvements(
                folder / f"{study}-improvement.png",
                improvements(scores),
                f"Is {ours} better than {theirs}?",
                f"P({ours} > {theirs}) with its 95 % interval",
            )
    if (folder / "peers.json").exists():
        peers.draw(folder / "peers.json")
    (folder / SOURCES).write_text(sources(machine))


def sources(machine: str) -> str:
    """A line for each picture of a machine: the digest of its numbers, and what it shows."""
    found: dict[str, Any] = {}
    for place, entries in by_environment(read("learning").get(machine, {})).items():
        fields = ("curve", "curve_by_seed", "train_seconds", "steps")
        numbers = {name: [entry.get(field) for field in fields] for name, entry in entries.items()}
        found[f"learning-{place}"] = numbers
    for study in STUDIES:
        entries = read(study).get(machine, {})
        found[study] = {name: entry.get("returns") for name, entry in entries.items()}
    entries = read("peers").get(machine, {})
    found["peers"] = {name: entry.get("repetitions") for name, entry in entries.items()}
    digest = lambda numbers: hashlib.sha256(json.dumps(numbers, sort_keys=True).encode())
    return "".join(f"{digest(x).hexdigest()}  {name}\n" for name, x in sorted(found.items()) if x)


def by_environment(entries: Entries) -> dict[str, Entries]:
    """environment -> what it was learnt by -> entry, of those entries that have a curve.

    Their names are `<algorithm>-<environment>`, and perhaps `-<what else is different>`.
    """
    found: dict[str, Entries] = defaultdict(dict)
    for name, entry in entries.items():
        algorithm, place, *rest = name.split("-")
        if entry.get("curve"):
            found[place][" ".join([algorithm, *rest])] = entry
    return dict(found)


def over_steps(entry: dict[str, Any]) -> Curve:
    """Of each seed; of entries older than these, the one curve of their interquartile mean."""
    at = np.array([n for n, _ in entry["curve"]], float)
    values = entry.get("curve_by_seed") or [[x] for _, x in entry["curve"]]
    return Curve(at, np.array(values, float))  # None becomes NaN


def over_seconds(entry: dict[str, Any]) -> Curve:
    """By the time that training had taken, which is even: the same program again and again."""
    at, values = over_steps(entry)
    return Curve(at * entry["train_seconds"] / entry["steps"], values)


def by_task(entries: Entries, ours: str, theirs: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """task -> final returns of each seed, ours and theirs, where both have kept them."""
    tasks = [re.sub(f"^{ours}-", "", name) for name in entries if name.startswith(f"{ours}-")]
    returns = lambda name: np.array(entries.get(name, {}).get("returns", []), float)
    pairs = {task: (returns(f"{ours}-{task}"), returns(f"{theirs}-{task}")) for task in tasks}
    return {task: pair for task, pair in pairs.items() if all(x.size for x in pair)}


def improvements(scores: dict[str, Any]) -> dict[str, Interval]:
    """task -> P(ours > theirs), and of all tasks together where there are several."""
    found = {task: probability_of_improvement(x, y) for task, (x, y) in scores.items()}
    if len(scores) > 1:
        x, y = (np.stack(column, 1) for column in zip(*scores.values(), strict=True))
        found["all"] = probability_of_improvement(x, y)
    return found


def scaled(scores: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """[seeds, tasks] of each, 0 for the worst run of a task and 1 for its best, whoever's it is."""
    pairs = []
    for ours, theirs in scores.values():
        both = np.concatenate([ours, theirs])
        low, high = np.nanmin(both), np.nanmax(both)
        pairs.append(tuple((x - low) / ((high - low) or 1.0) for x in (ours, theirs)))
    ours, theirs = (np.stack(column, 1) for column in zip(*pairs, strict=True))
    return ours, theirs
