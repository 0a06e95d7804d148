"""Evaluate a trained run: `python -m purerl.evaluate RUN_DIR`. Axes: M members, E episodes."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from purerl.analysis import rank
from purerl.engine import Evaluation
from purerl.engine.cohort import failed
from purerl.engine.display import evaluation_table, sweep_table, wide_console
from purerl.engine.hosts import use_cores
from purerl.engine.load import Loaded, load
from purerl.engine.population import keys
from purerl.engine.programs import (
    cpu_options,
    enable_cache,
    evaluate_program,
    longest_episode,
)
from purerl.engine.record import alone_on
from purerl.engine.result import swept_values
from purerl.errors import UsageError, positive, whole
from purerl.flags import command, parse_flags
from purerl.types import Agent


@dataclasses.dataclass(frozen=True)
class Flags:
    """What is evaluated."""

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]
    """The directory of a run, finished or not."""
    episodes: int = 64
    """Greedy episodes of each member; as many more with sampled actions."""
    members: Literal["all"] | tuple[int, ...] = "all"
    """The members evaluated, by number."""
    step: int | None = None
    """The checkpoint, in environment steps of one member; by default the newest."""


def evaluate(
    run_dir: str | Path,
    *,
    episodes: int = 64,
    members: Sequence[int] | None = None,
    step: int | None = None,
    agent: Agent | None = None,
) -> Evaluation:
    """Evaluate the policies of a checkpoint, as training evaluates them.

    The randomness is a function of member and step, of the stream that training evaluates with:
    with the same `episodes` and all members, the numbers are those of training, bit for bit, if XLA
    has as many threads (`python -m purerl.evaluate` sees to it: decision 13); except right after a
    selection of population-based training, where a checkpoint holds the members that replaced the
    worst.

    Args:
      run_dir: what `train` wrote.
      episodes: E, of each member, as many greedy as sampled.
      members: those evaluated, M of them; by default all.
      step: environment steps of one member at the checkpoint; by default the newest.
      agent: as for `load`.

    Returns:
      Host arrays [M, E]. Frozen members are evaluated as they were before they were frozen.

    Raises:
      UsageError: no run, no such checkpoint or member, or no whole number of episodes.
    """
    positive("episodes", episodes := whole("episodes", episodes))
    loaded = load(run_dir, step, agent)
    return evaluate_members(loaded, choose_members(loaded, members), episodes)


def choose_members(loaded: Loaded, members: Sequence[int] | None) -> np.ndarray:
    """int [M] the members that are meant; None means all.

    Raises:
      UsageError: none, one twice, or one that there is not.
    """
    size = loaded.population.size
    chosen = np.arange(size) if members is None else np.asarray(members, int)
    if not chosen.size or len(set(chosen)) < len(chosen):
        raise UsageError(f"members={chosen.tolist()}: must be different numbers, at least one")
    if wrong := [int(m) for m in chosen if not 0 <= m < size]:
        raise UsageError(f"member={wrong[0]}: must be from 0 to {size - 1}, the run's last member")
    return chosen


def evaluate_members(loaded: Loaded, members: np.ndarray, episodes: int) -> Evaluation:
    """Host arrays [M, E] of the members [M] that are meant."""
    enable_cache()
    agent = loaded.agent
    limit = longest_episode(agent.env)
    evaluation = evaluate_program(agent, len(members), episodes, limit)
    program = jax.jit(evaluation, compiler_options=cpu_options(2))  # the same bits as in training
    rows = lambda tree: jax.tree.map(lambda x: x[members], tree)
    learner, hparams = rows((loaded.state.train.learner, loaded.population.hparams))
    member_keys = keys(loaded.population.seeds[members])
    dropped = loaded.dropped[members]
    at, found = np.where(dropped < 0, loaded.step, dropped), []
    for step in np.unique(at):
        wanted = jnp.asarray(at == step)
        found.append(
            jax.device_get(program(learner, member_keys, hparams, jnp.int32(step), wanted))
        )
    return jax.tree.map(lambda *parts: sum(parts), *found)  # rows that are not wanted have zeros


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; for the exit code see `purerl.flags.command`."""
    return command(_evaluate, argv)


def _evaluate(argv: list[str]) -> None:
    about = "Evaluate the policies of a run, greedy and sampled."
    flags = parse_flags(Flags, argv, about, prog="python -m purerl.evaluate")
    positive("episodes", flags.episodes)
    if alone := alone_on(flags.run_dir):
        use_cores(alone)  # as many threads as in training, on which rounding may depend
    loaded = load(flags.run_dir, flags.step)
    members = choose_members(loaded, None if flags.members == "all" else flags.members)
    _report(loaded, members, evaluate_members(loaded, members, flags.episodes))


def _report(loaded: Loaded, members: np.ndarray, found: Evaluation) -> None:
    console = wide_console()
    dropped = loaded.dropped[members]
    frozen = failed(np.asarray(loaded.state.frozen)[members], dropped) >= 0
    out = frozen | (dropped >= 0)
    score = lambda returns: np.where(out, np.nan, np.asarray(returns, float).mean(1))
    greedy, episodes = score(found.greedy), found.greedy.shape[1]
    title = f"evaluation after {loaded.env_steps:,} steps, {episodes} episodes a member"
    console.print(f"{loaded.agent.env.name}, {loaded.config['agent'].rsplit('.', 1)[-1]}")
    console.print(evaluation_table(title, greedy, score(found.sampled)))
    population = loaded.population
    whole = np.array_equal(members, np.arange(population.size)) and not loaded.config.get("pbt")
    if population.configurations > 1 and whole:
        unit = loaded.agent.steps_per_update
        each = population.size // population.configurations
        trained = (np.where(dropped < 0, loaded.step, dropped) * unit)[::each].tolist()
        ranked = rank(swept_values(population), greedy.reshape(-1, each), trained)
        console.print(sweep_table("by configuration", ranked, most=len(ranked)))
    if np.isfinite(greedy).any():
        best = int(np.nanargmax(greedy))
        seed = loaded.population.seeds[members[best]]
        console.print(
            f"best member {members[best]} (seed {seed}): {greedy[best]:.1f} greedy,"
            f" episodes of {found.greedy[best].min():.1f} to {found.greedy[best].max():.1f},"
            f" {found.greedy_length[best].mean():.1f} steps long"
        )
    for which, said in ((frozen, "frozen"), (out & ~frozen, "dropped by halving")):
        if which.any():
            numbers = ", ".join(str(m) for m in members[which])
            console.print(f"{said}, and not counted above: member {numbers}")


if __name__ == "__main__":
    sys.exit(main())
