"""Acting in B environments for T steps: the one scan that steps environments in training."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.envs.environment import (
    Chance,
    Environment,
    ResetMode,
    Restart,
    VectorState,
    restarts,
    step_batch,
)
from purerl.ops.batching import where_row
from purerl.types import EnvParams, Key, Metrics


class Rollout(NamedTuple):
    """T steps of B environments.

    Attributes:
      obs: [T, B, ...] what the policy saw.
      start: bool [T, B], whether `obs` is the first of its episode: memory is made afresh there.
      reward: float32 [T, B].
      terminated: bool [T, B].
      truncated: bool [T, B].
      extras: whatever the policy added, leaves [T, B, ...].
      final: (carry, obs), leaves [K, B, ...]: what the policy remembered and the true final
        observation at the k-th truncation of an environment. K is the most that T steps can
        hold, so this is exact and costs K rows, not T.
    """

    obs: jax.Array
    start: jax.Array
    reward: jax.Array
    terminated: jax.Array
    truncated: jax.Array
    extras: Any
    final: tuple[Any, jax.Array]

    @property
    def done(self) -> jax.Array:
        """bool [T, B]: the episode ended with this step, for either reason."""
        return self.terminated | self.truncated


def unroll(
    key: Key,
    env: Environment,
    act: Callable[..., tuple[Any, jax.Array, Any]],
    state: VectorState,
    carry: Any,
    length: int,
    params: EnvParams,
    reset_mode: ResetMode,
) -> tuple[VectorState, Any, Rollout, Metrics]:
    """Step every environment `length` times; the key is consumed.

    Args:
      key: consumed.
      env: steps one environment.
      act: (key, carry, obs [B, ...], start [B]) -> (carry, environment action [B, ...], extras).
      state: B environments.
      carry: the policy's memory, leaves [B, ...].
      length: T.
      params: float parameters of the environment, {} for its defaults.
      reset_mode: where ended episodes start again, see `restarts`.

    Returns:
      (state, carry, Rollout, metrics of the episodes that ended).
    """
    restart, drawn = chances(key, env, state.start.shape[0], (length,), params, reset_mode)
    return play(drawn, env, act, state, carry, params, restart)


def chances(
    key: Key,
    env: Environment,
    num_envs: int,
    shape: tuple[int, ...],
    params: EnvParams,
    reset_mode: ResetMode,
    noise: Callable[[Key, tuple[int, ...]], Any] = jax.random.split,
) -> tuple[Restart, tuple[Any, Chance]]:
    """All that is random in steps, for `play`; the key is consumed.

    Drawn at once, from as few keys as there are kinds of it: on a CPU a random number more in a
    loop takes as long as a small product, and every level of keys is a loop more to compile.

    Args:
      key: consumed.
      env: what is lived in.
      num_envs: B.
      shape: axes of steps: (T,), or (R, K) for R rounds of K.
      params: float parameters of the environment.
      reset_mode: where ended episodes start again, see `restarts`.
      noise: (key, shape) -> what the policy is to get, leaves [*shape, ...]; by default keys.

    Returns:
      (where ended episodes start again, (noise, Chance) with leaves [*shape, ...]).
    """
    pool_key, act_key, step_key, restart_key = jax.random.split(key, 4)
    restart = restarts(pool_key, env, num_envs, params, reset_mode)
    rows = (*shape, num_envs)
    chance = Chance(jax.random.split(step_key, rows), restart.draw(restart_key, rows))
    return restart, (noise(act_key, shape), chance)


def play(
    drawn: tuple[Any, Chance],
    env: Environment,
    act: Callable[..., tuple[Any, jax.Array, Any]],
    state: VectorState,
    carry: Any,
    params: EnvParams,
    restart: Restart,
) -> tuple[VectorState, Any, Rollout, Metrics]:
    """`unroll` with randomness drawn before, by `chances`; `act` gets its noise for a key."""
    num_envs, length = state.start.shape[0], jax.tree.leaves(drawn)[0].shape[0]
    limit = env.max_episode_steps
    slots = jnp.arange(0 if limit is None else -(-length // limit))

    def step(scanned, now):
        state, carry, final, truncations = scanned
        noise, chance = now
        carry, action, extras = act(noise, carry, state.obs, state.start)
        new, timestep = step_batch(chance, env, state, action, params, restart)
        write = timestep.truncated[None] & (slots[:, None] == truncations[None])
        seen = jax.tree.map(
            lambda x: jnp.broadcast_to(x, (slots.size, *x.shape)), (carry, timestep.obs)
        )
        final = jax.tree.map(lambda x, y: where_row(write, x, y), seen, final)
        row = (state.obs, state.start, timestep.reward, timestep.terminated, timestep.truncated)
        episode = (new.episode_return, new.episode_length)
        return (new, carry, final, truncations + timestep.truncated), (row, extras, episode)

    blank = jax.tree.map(lambda x: jnp.zeros((slots.size, *x.shape), x.dtype), (carry, state.obs))
    scanned = (state, carry, blank, jnp.zeros(num_envs, jnp.int32))
    (state, carry, final, _), (row, extras, episode) = jax.lax.scan(step, scanned, drawn)
    rollout = Rollout(*row, extras, final)
    return state, carry, rollout, _episode_metrics(rollout.done, *episode)


def successor_values(value: jax.Array, last: jax.Array, final: jax.Array, rollout: Rollout):
    """V at the true successor of every step, [T, B].

    Args:
      value: [T, B] V of each observation acted on.
      last: [B] V of the observation after the last step.
      final: [K, B] V of `rollout.final`.
      rollout: the steps.

    Returns:
      V(obs[t + 1]) within an episode; V of the final observation where one was truncated. Where
      one terminated, what is returned has no meaning and must not be used.
    """
    following = jnp.concatenate([value[1:], last[None]])
    if final.shape[0] == 0:
        return following
    if final.shape[0] == 1:
        return jnp.where(rollout.truncated, final, following)
    slot = jnp.maximum(jnp.cumsum(rollout.truncated, 0) - 1, 0)
    return jnp.where(rollout.truncated, jnp.take_along_axis(final, slot, 0), following)


def _episode_metrics(done: jax.Array, returns: jax.Array, lengths: jax.Array) -> Metrics:
    """Sums over the episodes that ended; means are taken where counts are known, on the host."""
    return {
        "episode/return_sum": jnp.where(done, returns, 0.0).sum(),
        "episode/length_sum": jnp.where(done, lengths, 0).sum().astype(jnp.float32),
        "episode/count": done.sum().astype(jnp.float32),
    }
