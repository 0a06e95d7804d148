"""What a run leaves on disk beside its checkpoints: config.json and metrics.csv.

Axes: M members, P points in time.
"""

import csv
import dataclasses
import importlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

from purerl import envs
from purerl.engine.population import Population
from purerl.errors import UsageError
from purerl.types import Agent
from purerl.version import installed

CONFIG, METRICS, RESULT = "config.json", "metrics.csv", "result.json"
CHECKPOINTS, CURVE, SWEEP = "checkpoint", "curve.png", "sweep.csv"
PACKAGES = ("purerl", "jax", "jaxlib", "flax", "optax")  # whose versions may change the numbers
NEEDED = {"agent", "env", "config", "hparams", "seeds"}  # of config.json, to know a run


def algorithm_of(agent: Agent) -> str:
    """The module that makes such agents: that of `update`, or else that of the Config.

    A copy of PPO that imports PPO's Config is no PPO; PPO whose `update` is wrapped still is.
    """
    for module in (getattr(agent.update, "__module__", None), type(agent.config).__module__):
        parts = vars(sys.modules.get(module or "", object))
        makes = {"Config", "HParams", "make"} <= parts.keys()
        if makes and parts["Config"] is type(agent.config):
            return str(module)
    return type(agent.config).__module__


def settings_of(agent: Agent) -> dict[str, Any]:
    """The agent's environment and Config, as JSON.

    Raises:
      UsageError: a field of the Config is nothing that JSON can hold.
    """
    name, kwargs = envs.spec(agent.env)
    config = dataclasses.asdict(agent.config)
    for field, value in config.items():
        try:
            json.dumps(value)
        except TypeError:
            raise UsageError(
                f"{field}={value!r}: must be of numbers, texts and tuples, to be written to "
                f"{CONFIG}; functions and networks are arguments of make"
            ) from None
    settings = {"env": {"name": name, "kwargs": kwargs}, "config": config}
    return json.loads(json.dumps(settings))


def describe(agent: Agent, population: Population, **settings: Any) -> dict[str, Any]:
    """All that decides a run's numbers, as JSON; `versions` says what they were computed with.

    There is a `network` only where it is one that the Config does not describe.
    """
    # As text where JSON has no number (inf), and in float32's own shortest digits.
    number = lambda x: float(np.format_float_positional(x)) if np.isfinite(x) else str(x)
    swept = lambda x: number(x[0]) if (x == x[0]).all() else [number(v) for v in x]
    return {
        "agent": algorithm_of(agent),
        **settings_of(agent),
        **({"network": "own"} if agent.own_network else {}),
        "hparams": jax.tree.map(swept, population.hparams._asdict()),
        "seeds": population.seeds.tolist(),
        **settings,
        "versions": {name: installed(name) for name in PACKAGES},
    }


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """`field: old, now new` for all that differs, but for the versions."""
    found = []
    for key in sorted(old.keys() | new.keys()):
        name, before, after = f"{prefix}{key}", old.get(key), new.get(key)
        if name in ("versions", "versions_before") or before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f"{name}.")
        else:
            found.append(f"{name}={after!r} where the run has {before!r}")
    return found


def read_config(run_dir: Path) -> dict[str, Any]:
    """The config.json of a run.

    Raises:
      UsageError: the directory is no run.
    """
    try:
        config = json.loads((run_dir / CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise UsageError(f"run_dir={str(run_dir)!r}: is no run ({CONFIG}: {error})") from None
    whole = isinstance(config, dict) and config.keys() >= NEEDED
    if not (whole and _seeds(config["seeds"]) and _names(config["env"]) and _keeps(config)):
        raise UsageError(f"run_dir={str(run_dir)!r}: is no run ({CONFIG}: describes none)")
    return config


def _names(env: Any) -> bool:
    return isinstance(env, dict) and isinstance(env.get("name"), str)


def _seeds(seeds: Any) -> bool:
    return isinstance(seeds, list) and all(type(x) is int and 0 <= x < 2**32 for x in seeds)


def _keeps(config: Any) -> bool:
    return config.get("keep", "all") == "all" or type(config["keep"]) is int


def alone_on(run_dir: Path) -> str | None:
    """The environment's name, if an experiment trained one member there, alone on one device."""
    try:
        run = read_config(run_dir)
    except UsageError:
        return None  # said when the run is opened
    # Only experiments note their sweep; with `purerl.train` JAX has what its caller gave it.
    lone = len(run["seeds"]) == 1 and run.get("sweep") == [] and run.get("data_parallel", 1) == 1
    return run["env"]["name"] if lone else None


def sweep_of(run_dir: Path) -> Path | None:
    """The directory of the sweep that a run is a group of, if it is one."""
    try:
        groups = read_config(run_dir.parent).get("groups", [])
    except UsageError:
        return None
    return run_dir.parent if run_dir.name in groups else None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a file whole or not at all; a number that is none, such as NaN, becomes null."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(json.dumps(_without_nan(content), indent=2, allow_nan=False) + "\n")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and not np.isfinite(content) else content


def rebuild(config: dict[str, Any]) -> Agent:
    """The agent that a config.json describes."""
    module = importlib.import_module(config["agent"])
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in config["config"].items()}
    env = envs.make(config["env"]["name"], **config["env"]["kwargs"])
    return module.make(env, module.Config(**settings))


def hparams_of(config: dict[str, Any], kind: Any = None) -> Any:
    """The HParams that a config.json describes; `kind` is their type, by default the module's."""
    kind = kind or importlib.import_module(config["agent"]).HParams
    is_leaf = lambda x: not isinstance(x, dict)
    read = lambda x: [float(v) for v in x] if isinstance(x, list) else float(x)
    return kind(**jax.tree.map(read, config["hparams"], is_leaf=is_leaf))


class MetricsFile:
    """metrics.csv, tidy: one row for each step, member and metric.

    Columns: step (of one member's environments), member, seed, the hyperparameters, metric, value.
    A value that does not exist, such as the return where no episode ended, is empty.
    """

    def __init__(self, run_dir: Path, population: Population):
        self._path = run_dir / METRICS
        columns = population.columns()
        names, numbers = list(columns), np.stack([population.seeds, *columns.values()], 1).tolist()
        self._members = [
            ",".join([str(i), str(int(row[0])), *(_number(x) for x in row[1:])])
            for i, row in enumerate(numbers)
        ]
        self._header = ",".join(["step", "member", "seed", *names, "metric", "value"])

    def start(self, after: int) -> None:
        """Keep exactly the rows up to step `after`: what a resumed run repeats goes."""
        text = self._path.read_text() if after and self._path.exists() else ""
        lines = text[: text.rfind("\n") + 1].splitlines()  # without what was torn off
        kept = [x for x in lines[1:] if x.count(",") == self._header.count(",")]
        kept = [x for x in kept if int(x.split(",", 1)[0]) <= after]
        part = self._path.with_suffix(".part")
        part.write_text("\n".join([self._header, *kept]) + "\n")
        os.replace(part, self._path)

    def log(self, step: int, metrics: dict[str, np.ndarray]) -> None:
        """Append the values [M] of each metric at `step`."""
        rows = [
            f"{step},{member},{name},{_number(value)}\n"
            for name, values in metrics.items()
            for member, value in zip(self._members, values.tolist(), strict=True)
        ]
        # Never made here: if it is gone, so is the run directory, and that must be heard of.
        existing = lambda path, flags: os.open(path, flags & ~os.O_CREAT)
        with open(self._path, "a", opener=existing) as file:
            file.writelines(rows)

    def close(self) -> None:
        """Nothing is kept open between rows."""


def read_metric(run_dir: str | Path, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """(steps [P], values [P, M]) of one metric in metrics.csv; NaN where there is no value.

    Raises:
      UsageError: the directory has no metrics.csv, or the file has no such metric.
    """
    points: dict[int, dict[int, float]] = {}
    size, names = 0, dict[str, None]()
    try:
        with (Path(run_dir) / METRICS).open(newline="") as file:
            # The last line of a run in progress may be in the middle of being written.
            for row in csv.DictReader(line for line in file if line.endswith("\n")):
                member, name = int(row["member"]), row["metric"]
                size, names[name] = max(size, member + 1), None
                if name == metric:
                    points.setdefault(int(row["step"]), {})[member] = float(row["value"] or "nan")
    except OSError as error:
        raise UsageError(f"run_dir={str(run_dir)!r}: has no {METRICS} ({error.strerror})") from None
    if not points:
        known = ", ".join(names) or "none yet"
        raise UsageError(f"metric={metric!r}: {METRICS} in {str(run_dir)!r} has {known}")
    values = [[at.get(member, np.nan) for member in range(size)] for at in points.values()]
    return np.array(list(points), int), np.array(values)


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.7g}"
