"""A run read back from its directory, finished or not, without touching it. Axes: M members."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from purerl.engine.checkpoint import load_state, saved_rows
from purerl.engine.cohort import Saved, rows_of
from purerl.engine.population import Population, keys
from purerl.engine.programs import RunState, init_program
from purerl.engine.record import (
    CHECKPOINTS,
    CONFIG,
    METRICS,
    differences,
    hparams_of,
    read_config,
    read_metric,
    rebuild,
    settings_of,
)
from purerl.errors import UsageError
from purerl.types import Agent


@dataclass(frozen=True)
class Loaded:
    """A run as one of its checkpoints left it.

    Attributes:
      agent: what was trained.
      population: the members, with their hyperparameters at that time.
      state: their RunState, on the device.
      dropped: int32 [M], the iteration at which halving dropped a member; -1 of the others.
      step: iterations done.
      config: what config.json says.
    """

    agent: Agent
    population: Population
    state: RunState
    dropped: np.ndarray
    step: int
    config: dict[str, Any]

    @property
    def env_steps(self) -> int:
        """Environment steps of one member."""
        return self.step * self.agent.steps_per_update


def load(run_dir: str | Path, step: int | None = None, agent: Agent | None = None) -> Loaded:
    """Restore the newest complete checkpoint of a run, or the one at `step`.

    Args:
      run_dir: what `train` wrote; another process may still be training in it.
      step: environment steps of one member; by default those of the newest checkpoint.
      agent: what was trained, where config.json cannot tell how to make it again: with an
        environment or a network of your own, or an algorithm of a notebook.

    Raises:
      UsageError: the directory is no run, has no complete checkpoint, or none at `step`; or the
        agent is another, or must be given.
    """
    path = Path(run_dir)
    config = read_config(path)
    if groups := config.get("groups"):
        raise UsageError(
            f"run_dir={str(path)!r}: is a sweep of {len(groups)} runs; choose {path / groups[0]}"
            " or another of them"
        )
    if agent is not None:
        wrong = differences({k: config[k] for k in ("config", "env")}, settings_of(agent))
        if wrong:
            raise UsageError(f"agent: {'; '.join(wrong)}")
        if "network" in config and not agent.own_network:
            raise UsageError("agent: has the built-in network; the run has one of its own")
    elif "network" in config:
        raise UsageError(
            f"run_dir={str(path)!r}: has a network of its own; load(run_dir, agent=...) takes it"
        )
    try:
        hparams = hparams_of(config, agent and type(agent.hparams))
        agent = agent or rebuild(config)
        members = _members(config, hparams)
        unit, saved_unit = agent.steps_per_update, config["steps_per_update"]
    except (AttributeError, ImportError, KeyError, TypeError, ValueError) as error:
        kind = "" if isinstance(error, UsageError) else f"{type(error).__name__}: "
        reason = " ".join(f"{kind}{error}".split())
        said = f"run_dir={str(path)!r}: its {CONFIG} cannot tell how to make its agent ({reason})"
        hint = "; load(run_dir, agent=...) takes it" if agent is None else ""
        raise UsageError(said + hint) from None
    if unit != saved_unit:
        raise UsageError(
            f"run_dir={str(path)!r}: its iterations have {saved_unit} steps, here they have {unit}"
        )
    saved, iteration = _restore(path, step, unit, agent, members)
    row = rows_of(np.asarray(saved.member))
    in_order = lambda tree: jax.tree.map(lambda x: x[row], tree)
    members = members._replace(hparams=jax.device_get(in_order(saved.hparams)))
    dropped = np.asarray(saved.dropped)[row]
    return Loaded(agent, members, in_order(saved.state), dropped, iteration, config)


def _members(config: dict[str, Any], hparams: Any) -> Population:
    """The population of a config.json, whose hyperparameters are numbers or lists of M."""
    seeds = np.asarray(config["seeds"], np.uint32)
    is_leaf = lambda x: isinstance(x, list)
    spread = lambda x: np.broadcast_to(np.asarray(x, np.float32), seeds.shape)
    return Population(seeds, jax.tree.map(spread, hparams, is_leaf=is_leaf))


def _restore(
    run_dir: Path, step: int | None, unit: int, agent: Agent, members: Population
) -> tuple[Saved, int]:
    """(what was saved, iteration) of a checkpoint; `step` and `unit` in environment steps.

    Opened without `cleanup_tmp_directories`, which would take from a run in progress the
    checkpoint that it is writing.
    """
    from orbax.checkpoint import v1 as ocp

    logging.getLogger("absl").setLevel(logging.ERROR)
    path = (run_dir / CHECKPOINTS).absolute()
    # Orbax would make the directory.
    checkpointer = ocp.training.Checkpointer(str(path)) if path.is_dir() else None
    steps = [int(c.step) for c in checkpointer.checkpoints] if checkpointer else []
    if checkpointer is None or not steps:
        raise UsageError(f"run_dir={str(run_dir)!r}: has no complete checkpoint yet")
    try:
        iteration = steps[-1] if step is None else step // unit
        if iteration not in steps or (step or 0) % unit:
            kept = ", ".join(str(s * unit) for s in steps)
            raise UsageError(f"step={step}: no checkpoint; there are those at {kept}")
        rows = saved_rows(checkpointer, iteration)
        number = lambda dtype: jax.ShapeDtypeStruct((rows,), dtype)
        hparams = jax.tree.map(lambda _: number(np.float32), members.hparams)
        member_keys = jax.eval_shape(keys, np.zeros(rows, np.uint32))
        state = jax.eval_shape(init_program(agent, rows, rows), member_keys, hparams)
        like = Saved(state, hparams, number(np.int32), number(np.int32))
        return load_state(checkpointer, iteration, like), iteration
    finally:
        checkpointer.close()


def chosen_member(run_dir: Path, loaded: Loaded, member: Literal["best"] | int) -> int:
    """The member that is meant, by number; "best" is the one with the best last evaluation.

    Raises:
      UsageError: no such member, or no evaluation to choose by.
    """
    size = loaded.population.size
    if member != "best":
        if not 0 <= member < size:
            raise UsageError(f"member={member}: must be best, or from 0 to {size - 1}")
        return member
    try:
        _, values = read_metric(run_dir, "eval/return")
    except UsageError:
        values = np.full((1, size), np.nan)
    if np.isnan(values[-1]).all():
        raise UsageError(f"member='best': {METRICS} has no evaluation; must be 0 to {size - 1}")
    return int(np.nanargmax(values[-1]))
