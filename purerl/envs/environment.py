"""The environment contract, and its vectorised form with auto-reset.

Axes: B environments.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from purerl.ops.batching import on_every_device, where_row
from purerl.spaces import Space
from purerl.types import EnvParams, Key

type ResetMode = Literal["pool", "full"]


class TimeStep(NamedTuple):
    """What one step shows, before any reset.

    Attributes:
      obs: the true successor's observation, also at the end of an episode.
      reward: float32 [].
      terminated: bool []. The episode ended in the task itself: no value follows.
      truncated: bool []. It was only cut at a limit: a value follows. False where `terminated`.
    """

    obs: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array

    @property
    def done(self) -> jax.Array:
        """bool []: the episode is over, for either reason."""
        return self.terminated | self.truncated


class Environment(Protocol):
    """One world, as pure functions of explicit state. No auto-reset inside.

    Attributes:
      name: the name `purerl.make` knows it by.
      observation_space: shape, dtype and bounds of an observation.
      action_space: what `step` takes.
      max_episode_steps: the step at which an episode is truncated; None if it never is. No
        episode is truncated earlier. Evaluations end an episode of an environment without a limit
        after 1000 steps, and count what it had by then.
      params: the float parameters of the dynamics, name -> default.
    """

    @property
    def name(self) -> str: ...
    @property
    def observation_space(self) -> Space: ...
    @property
    def action_space(self) -> Space: ...
    @property
    def max_episode_steps(self) -> int | None: ...
    @property
    def params(self) -> EnvParams: ...

    def reset(self, key: Key, params: EnvParams = ...) -> tuple[Any, jax.Array]:
        """Draw an initial state; the key is consumed. -> (state, obs)."""
        ...

    def step(
        self, key: Key, state: Any, action: jax.Array, params: EnvParams = ...
    ) -> tuple[Any, TimeStep]:
        """One transition; the key is consumed. -> (state, TimeStep), state types unchanged."""
        ...


class VectorState(NamedTuple):
    """B environments being lived in.

    Attributes:
      env: their states, every leaf [B, ...].
      obs: [B, ...] what the policy sees next.
      start: bool [B], true where `obs` is the first of its episode.
      episode_return: float32 [B], undiscounted, of the episode so far.
      episode_length: int32 [B], steps of the episode so far.
    """

    env: Any
    obs: jax.Array
    start: jax.Array
    episode_return: jax.Array
    episode_length: jax.Array


def reset_batch(key: Key, env: Environment, num_envs: int, params: EnvParams) -> VectorState:
    """Fresh episodes in `num_envs` environments; the key is consumed."""
    state, obs = jax.vmap(env.reset, (0, None))(jax.random.split(key, num_envs), params)
    zero = jnp.zeros(num_envs)
    return VectorState(state, obs, jnp.ones(num_envs, bool), zero, zero.astype(jnp.int32))


class Restart(NamedTuple):
    """Where ended episodes start again.

    Attributes:
      draw: (key, shape) -> what is random about it, [*shape], the last axis that of environments.
      begin: (that [B]) -> (states, obs) of `num_envs` rows.
    """

    draw: Callable[[Key, tuple[int, ...]], Any]
    begin: Callable[[Any], tuple[Any, jax.Array]]


class Chance(NamedTuple):
    """What is random in one step of B environments.

    Attributes:
      step: keys [B] of the environments.
      restart: of `Restart.draw`.
    """

    step: Key
    restart: Any


def restarts(
    key: Key, env: Environment, num_envs: int, params: EnvParams, mode: ResetMode
) -> Restart:
    """Where ended episodes start again; the key is consumed.

    full: a fresh reset for every environment at every step, the cost of which is paid whether or
      not an episode ended.
    pool: `num_envs` fresh states are drawn once, here, and each restart picks one of them at
      random. Make a new pool every iteration: then every start is a fresh draw, shared at most
      among the episodes of one iteration.
    """
    if mode == "full":
        fresh = lambda keys: jax.vmap(env.reset, (0, None))(keys, params)
        return Restart(jax.random.split, fresh)
    pool = jax.vmap(env.reset, (0, None))(jax.random.split(key, num_envs), params)
    pool = jax.tree.map(on_every_device, pool)  # or every restart would ask the other devices
    return Restart(
        # Any row is as likely as another but for B in 2**32; `randint` draws three times for less.
        lambda key, shape: (jax.random.bits(key, shape) % num_envs).astype(jnp.int32),
        lambda rows: jax.tree.map(lambda x: x[rows], pool),
    )


def step_batch(
    chance: Chance,
    env: Environment,
    state: VectorState,
    action: jax.Array,
    params: EnvParams,
    restart: Restart,
) -> tuple[VectorState, TimeStep]:
    """Step B environments and start ended ones again.

    Returns:
      The state, whose `obs` is the first of a new episode where one ended, and the time step,
      whose `obs` is the true successor. `episode_return` and `episode_length` of the state still
      count the step just made: they are cleared when the next episode takes its first step.
    """
    stepped, timestep = jax.vmap(env.step, (0, 0, 0, None))(chance.step, state.env, action, params)
    # A replay keeps bits, and takes rewards for float32.
    timestep = timestep._replace(reward=timestep.reward.astype(jnp.float32))
    done = timestep.done
    fresh, fresh_obs = restart.begin(chance.restart)
    new = VectorState(
        env=jax.tree.map(lambda x, y: where_row(done, x, y), fresh, stepped),
        obs=where_row(done, fresh_obs, timestep.obs),
        start=done,
        episode_return=jnp.where(state.start, 0.0, state.episode_return) + timestep.reward,
        episode_length=jnp.where(state.start, 0, state.episode_length) + 1,
    )
    return new, timestep
