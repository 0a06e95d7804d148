"""What can be measured: every algorithm and variant, with its tuned settings, on an environment."""

from collections.abc import Callable, Iterable
from typing import Any

import purerl
from benchmarks.arguments import known
from benchmarks.records import ROOT
from purerl.engine.cohort import Cohort
from purerl.engine.placement import place
from purerl.engine.population import population
from purerl.engine.programs import compile_programs
from purerl.errors import UsageError
from purerl.presets import PRESETS
from purerl.types import Agent

CONTINUOUS = {"sac", "redq", "droq", "td3", "ddpg", "mpc", "pets"}
SUITES = {"gymnax": "gymnax", "brax": "brax", "game": "games"}  # as experiments are named


def name_of(agent: str, env: str) -> str:
    """How an entry is called: ppo-CartPole-v1."""
    return f"{agent}-{env.split('/')[-1]}"


def usual_env(agent: str) -> str:
    """Where an agent is measured if no environment is given."""
    if agent == "alphazero":
        return "game/tic_tac_toe"
    return "gymnax/Pendulum-v1" if agent in CONTINUOUS else "gymnax/CartPole-v1"


def check(agent: str, env: str | None) -> str:
    """The registered name of `env`, or of the agent's usual one.

    Raises:
      UsageError: no such agent or environment, with the nearest names.
    """
    known("agent", agent, sorted(PRESETS))
    if env is None:
        return usual_env(agent)
    registered = purerl.registered()
    full = [name for name in registered if env in (name, name.split("/", 1)[-1])]
    if not full:
        known("env", env, registered)
    return full[0]


def quick_ones(
    measured: Iterable[str], agent: str | None, env: str | None
) -> list[tuple[str, str]]:
    """(agent, environment) of what `--quick` measures, or of those that are asked for."""
    found = [(name, usual_env(name)) for name in measured]
    if agent:
        known("agent", agent, [name for name, _ in found])
    if env:
        known("env", check(agent or "ppo", env), {place for _, place in found})
    wanted = check(agent or "ppo", env) if env else None
    return [pair for pair in found if agent in (None, pair[0]) and wanted in (None, pair[1])]


def make(agent: str, env: str) -> Agent:
    """The agent with its tuned settings."""
    return purerl.tuned(agent, env)[0]


def training(
    agent: Agent, members: int, steps: int, devices: int = 1, batch: int | None = None
) -> tuple[Callable[[], Any], int]:
    """A call that trains `members` members on, and how many steps of all together it makes.

    Args:
      agent: as made, with the hyperparameters it shall have.
      members: of the population.
      steps: of each member in a call, at least; in whole iterations.
      devices: that the members spread over.
      batch: members abreast; None leaves it to the engine.
    """
    where = place(members, devices, batch=batch, cpu_batch=agent.cpu_batch)
    programs = compile_programs(agent, where, 1, 1)
    cohort = Cohort(population(agent.hparams, members), where, programs)
    iterations = -(-steps // agent.steps_per_update)
    # So that learning has begun, where it waits for the replay.
    done = [agent.learning_starts // agent.steps_per_update + 1 if agent.learning_starts else 0]
    if done[0]:
        cohort.advance(0, done[0], 10**6)

    def call() -> Any:
        began, done[0] = done[0], done[0] + iterations
        return cohort.advance(began, iterations, 10**6)

    return call, members * iterations * agent.steps_per_update


def experiment(agent: str, env: str) -> str:
    """The words that start it, after `python`."""
    suite, _, name = env.partition("/")
    for script in (f"{agent}_{SUITES.get(suite, suite)}.py", f"{agent}.py"):
        if (ROOT / "experiments" / script).exists():
            return f"experiments/{script} --env {env if script == f'{agent}.py' else name}"
    raise UsageError(f"agent={agent!r}: has no experiment on {suite}")
