"""The pictures and tables of a finished run.

Axes: C configurations, S seeds, P points in time.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from purerl.analysis import (
    Ranked,
    plot_configurations,
    plot_curve,
    plot_heatmap,
    plot_sensitivity,
    rank,
    write_sweep,
)
from purerl.engine.record import CURVE, METRICS, SWEEP, read_metric
from purerl.engine.result import Result, labels, short, swept_values
from purerl.errors import UsageError
from purerl.sweeps import plain

YLABEL = "return of training episodes"


def draw(path: Path, result: Result, pbt: bool = False) -> None:
    """curve.png; of a sweep also sweep.csv and what each hyperparameter does.

    With population-based training the fields are what members began with, which others may have
    taken the place of: they are called so, and there are no pictures of what they do.
    """
    members, name = result.population, result.agent.env.name
    try:
        steps, values = read_metric(path, "episode/return")
    except UsageError:  # what was there is lost: the pictures say that there is nothing
        steps, values = np.empty(0, int), np.empty((0, members.size))
    if members.configurations == 1:
        plot_curve(path / CURVE, steps, values, name, YLABEL, result.returns)
        return
    ranked = result.configurations
    if pbt:
        begun = lambda row: {f"initial_{k}": v for k, v in row.values.items()}
        ranked = [row._replace(values=begun(row)) for row in ranked]
    count = members.configurations
    order = [row.configuration for row in ranked]
    values = values.reshape(len(steps), count, members.size // count)
    named = labels(members, "initial_" if pbt else "")
    plot_configurations(path / CURVE, steps, values, named, name, YLABEL, order=order)
    write_sweep(path / SWEEP, ranked)
    if not pbt:
        scores = result.returns.reshape(count, -1)
        draw_fields(path, swept_values(members), scores, name, result.configuration_steps)


def together(
    groups: Sequence[tuple[dict[str, Any], Result]],
) -> tuple[dict[str, list], np.ndarray, list[int]]:
    """(swept fields -> [C], scores [C, S], steps [C]) of groups that were compiled apart.

    groups: the fields of Config that made each a group, and what came of it.
    """
    columns: dict[str, list] = {}
    scores, steps = [], []
    for fields, result in groups:
        members = result.population
        count, each = members.configurations, members.size // members.configurations
        own = {name: [short(v) for v in x[::each]] for name, x in members.columns().items()}
        for name, values in ({k: [v] * count for k, v in fields.items()} | own).items():
            columns.setdefault(name, []).extend(values)
        scores.append(result.returns.reshape(count, each))
        # Whole iterations of one group are not those of another, which is no merit.
        whole = len(groups) > 1 and not result.interrupted
        steps += [groups[0][1].steps] * count if whole else result.configuration_steps
    swept = {name: x for name, x in columns.items() if any(v != x[0] for v in x)}
    return swept, np.concatenate(scores), steps


def combine(path: Path, groups: Sequence[tuple[str, dict[str, Any], Result]]) -> list[Ranked]:
    """The tables and pictures of a whole sweep, from its groups in directories of their names."""
    swept, scores, steps = together([(fields, result) for _, fields, result in groups])
    trained = [n for _, _, result in groups for n in result.configuration_steps]
    ranked = [r._replace(steps=trained[r.configuration]) for r in rank(swept, scores, steps)]
    write_sweep(path / SWEEP, ranked)
    draw_fields(path, swept, scores, groups[0][2].agent.env.name, steps)
    part = (path / METRICS).with_suffix(".part")
    with part.open("w") as out:
        first = 0
        for name, fields, result in groups:
            with (path / name / METRICS).open() as lines:
                for number, line in enumerate(lines):
                    step, member, rest = line.split(",", 2)
                    cells = [plain(v) for v in fields.values()]
                    if number:
                        out.write(",".join([step, str(int(member) + first), *cells, rest]))
                    elif not first:
                        out.write(",".join([step, member, *fields, rest]))
            first += result.population.size
    os.replace(part, path / METRICS)
    return ranked


def draw_fields(
    path: Path, swept: dict[str, list], scores: np.ndarray, name: str, steps: Sequence[int]
) -> None:
    """A picture for every field that was swept [C], with scores [C, S] after steps [C].

    Of two fields a heat map too, where all were trained for as long.
    """
    label = "greedy evaluation return"
    for field, values in swept.items():
        file = path / f"sensitivity-{field}.png"
        plot_sensitivity(file, field, values, scores, name, label, steps)
    if len(swept) == 2 and len(set(steps)) == 1:
        a, b = swept
        cells = len(set(swept[a])) * len(set(swept[b]))
        if cells <= len(scores):  # a grid, not a sample
            plot_heatmap(path / "heatmap.png", (a, b), (swept[a], swept[b]), scores, name, label)
