"""An agent and a world small enough to compile in a second, with faults that can be asked for."""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.envs import TimeStep, reset_batch
from purerl.rollout import unroll
from purerl.spaces import Box, Discrete
from purerl.types import Agent, EnvParams, TrainState, pytree


@dataclass(frozen=True)
class Countdown:
    """Ends after a number of steps from 2 to 9 that is drawn at reset and shown.

    The reward is 1 + 10 action until the end, and 1000 for every step taken after it, which
    nobody should count.
    """

    name: str = "test/countdown"
    max_episode_steps: int | None = 12
    observation_space = Box.of(-jnp.inf, jnp.inf, (1,))
    action_space = Discrete(3)
    params = {"bonus": 10.0}

    def reset(self, key, params={}):
        left = jax.random.randint(key, (), 2, 10)
        return left, left[None].astype(jnp.float32)

    def step(self, key, state, action, params={}):
        bonus = params.get("bonus", self.params["bonus"])
        reward = jnp.where(state > 0, 1.0 + bonus * action, 1000.0)
        left = state - 1
        seen = left[None].astype(jnp.float32)
        return left, TimeStep(seen, reward.astype(jnp.float32), left <= 0, jnp.bool_(False))


@dataclass(frozen=True)
class Config:
    """Static settings of the toy."""

    num_envs: int = 3
    """Environments."""
    unroll_length: int = 5
    """Steps."""
    bad_step: int = -1
    """The iteration at which members with bad > 0 turn non-finite."""
    batched_branch: bool = False
    """Branch on a counter of the state instead of the clock."""
    reset_mode: str = "pool"
    """See purerl.envs.restarts."""


class HParams(NamedTuple):
    """Numbers of the toy."""

    rate: float = 0.5
    """How far the weights move."""
    bad: float = 0.0
    """Above zero: this member turns non-finite at bad_step."""
    env_params: EnvParams = {}
    """Overrides of the environment's float parameters."""


@pytree
class Learner:
    params: jax.Array
    every_third: jax.Array
    count: jax.Array


@functools.cache
def make(env: Any = Countdown(), config: Config = Config()) -> Agent:
    """Weights that walk at random, and actions drawn evenly; greedy ones are 1."""

    def init(key, hparams):
        params_key, env_key = jax.random.split(key)
        learner = Learner(
            jax.random.normal(params_key, (3,)) * hparams.rate, jnp.zeros(()), jnp.int32(0)
        )
        return TrainState(learner, reset_batch(env_key, env, config.num_envs, hparams.env_params))

    def update(key, state, hparams, clock):
        walk_key, rollout_key = jax.random.split(key)
        learner, world = state

        def behave(key, carry, obs, start):
            return carry, jax.random.randint(key, obs.shape[:1], 0, 3), ()

        length, mode = config.unroll_length, config.reset_mode
        world, _, _, metrics = unroll(
            rollout_key, env, behave, world, (), length, hparams.env_params, mode
        )
        walk = hparams.rate * jax.random.normal(walk_key, (3,)) * (1.0 - clock.step / clock.total)
        params = learner.params + walk
        params = jnp.where((clock.step == config.bad_step) & (hparams.bad > 0), jnp.nan, params)
        step = learner.count if config.batched_branch else clock.step
        every_third = jax.lax.cond(
            step % 3 == 0, lambda p: jnp.sin(p).sum(), lambda p: learner.every_third, params
        )
        learner = Learner(params, every_third, learner.count + 1)
        metrics |= {
            "toy/step": clock.step.astype(jnp.float32),
            "toy/one_sum": jnp.float32(1.0),
            "toy/first": params[0],
        }
        return TrainState(learner, world), metrics

    def act(key, learner, carry, obs, greedy):
        rows = obs.shape[:1]
        drawn = jax.random.randint(key, rows, 0, 3)
        return (jnp.ones(rows, jnp.int32) if greedy else drawn), carry

    size = config.num_envs * config.unroll_length
    return Agent(init, update, act, lambda batch: (), HParams(), env, config, size)


class Case(NamedTuple):
    """What the tools of `laws` need of a Case, for an agent that `purerl.make` cannot build."""

    agent: Agent
    finite: bool = True

    @property
    def config(self) -> Any:
        return self.agent.config

    def make(self) -> Agent:
        return self.agent
