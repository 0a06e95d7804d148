"""Living with a replay: what agents share that learn from steps of the past.

Axes: B environments, K steps collected at once.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purerl.envs import Environment, Restart, VectorState, reset_batch
from purerl.replay import Ring, Steps, ring
from purerl.rollout import play
from purerl.types import Clock, EnvParams, Key, Metrics, added_up, pytree


@pytree
class Experience:
    """Environments [B, ...] and their last steps."""

    env: VectorState
    replay: Ring


def first_round(config: Any) -> int:
    """The round that learns first: the one after `learning_starts` steps of all environments.

    config: with num_envs, unroll_length and learning_starts.
    """
    return -(-config.learning_starts // (config.num_envs * config.unroll_length))


def begin(
    key: Key,
    env: Environment,
    num_envs: int,
    capacity: int,
    action: Any,
    params: EnvParams,
) -> Experience:
    """Fresh environments and an empty ring; the key is consumed.

    Args:
      key: consumed.
      env: what is lived in.
      num_envs: B.
      capacity: steps that are kept, of all environments.
      action: of one environment, as it is kept: a tree of jax.ShapeDtypeStruct.
      params: float parameters of the environment.
    """
    world = reset_batch(key, env, num_envs, params)
    flag, number = jax.ShapeDtypeStruct((), bool), jax.ShapeDtypeStruct((), jnp.float32)
    obs = jax.ShapeDtypeStruct(world.obs.shape[1:], world.obs.dtype)
    example = Steps(obs, action, number, flag, flag)
    return Experience(world, ring.init(example, num_envs, capacity, env.max_episode_steps))


def action_noise(
    key: Key, shape: tuple[int, ...], correlation: jax.typing.ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """(standard normal, uniform in [-1, 1]), float32 [R, K, B, A]; the key is consumed.

    For the policy's noise, and for a random action before learning starts. They are one number read
    in two ways: of a step only one of them is used. Over the R K steps it is an autoregression,
    n_t = c n_(t-1) + sqrt(1 - c^2) e_t, beginning anew with each call, and each n_t is distributed
    as e_t. Noise that lasts gets further than noise that cancels itself out (Eberhard et al. 2023,
    https://openreview.net/forum?id=hQ9V5QN27eS, which compares kinds of it).

    Args:
      key: consumed.
      shape: (R, K, B, A), rounds of K steps, environments and action dimensions.
      correlation: c, with the noise of the step before, from 0 to 1.
    """
    fresh = jax.random.normal(key, (shape[0] * shape[1], *shape[2:]))
    scale = jnp.sqrt(1.0 - jnp.square(correlation))

    def follow(before, now):
        fresh, first = now
        after = jnp.where(first, fresh, correlation * before + scale * fresh)
        return after, after

    first = jnp.arange(fresh.shape[0]) == 0
    _, noise = jax.lax.scan(follow, jnp.zeros_like(fresh[0]), (fresh, first))
    noise = noise.reshape(shape)
    return noise, jax.lax.erf(noise * np.float32(np.sqrt(0.5)))


def collect(
    drawn: Any,
    env: Environment,
    behave: Callable[..., tuple[jax.Array, Any]],
    experience: Experience,
    time: jax.Array,
    params: EnvParams,
    restart: Restart,
) -> tuple[Experience, jax.Array, Metrics]:
    """K steps of every environment, into the ring.

    Args:
      drawn: from `rollout.chances`, for K steps.
      env: what is lived in.
      behave: (noise, obs [B, ...]) -> (environment action [B, ...], what to keep, leaves [B, ...]).
      experience: so far.
      time: int32 [], steps of every environment so far.
      params: float parameters of the environment.
      restart: where ended episodes start again.

    Returns:
      (Experience, observations [K, B, ...] acted on, metrics of the episodes that ended).
    """

    def act(noise: Any, carry: Any, obs: jax.Array, start: jax.Array):
        del start
        action, kept = behave(noise, obs)
        return carry, action, kept

    world, _, lived, metrics = play(drawn, env, act, experience.env, (), params, restart)
    steps = Steps(lived.obs, lived.extras, lived.reward, lived.terminated, lived.truncated)
    replay = ring.insert(experience.replay, time, steps, lived.final[1])
    return Experience(world, replay), lived.obs, metrics


def rounds(
    collect: Callable[..., tuple[Any, Any, Metrics]],
    learn: Callable[..., tuple[Any, ...]],
    learnt: Any,
    lived: Any,
    drawn: Any,
    clock: Clock,
    num_rounds: int,
    first: int,
    remember: Callable[..., Any] | None = None,
) -> tuple[Any, Any, Metrics]:
    """Scan `num_rounds` rounds, of which those before round `first` of the run only collect.

    Whether one learns is decided by the clock, which all members share: `lax.cond` stays one.

    Args:
      collect: (drawn, number, learnt, lived) -> (learnt, lived, metrics).
      learn: (drawn, number, learnt, lived) -> (learnt, metrics), or where there is `remember`
        (learnt, found, metrics).
      learnt: what learning changes; small, as it passes through the `lax.cond`.
      lived: what collecting changes, and `remember`: the Experience, and what belongs to it.
      drawn: all that is random, drawn before, leaves [num_rounds, ...].
      clock: in iterations of `num_rounds` rounds each.
      num_rounds: of one iteration.
      first: the round of the run that learns first.
      remember: (lived, found, learned) -> lived: what learning changes of what was lived; bool []
        `learned` says whether it did this round. Not in `learn`: XLA copies what a `lax.cond`
        changes, in each round all of it.

    Returns:
      (learnt, lived, metrics): summed (`types.added_up`) or averaged, over rounds; those of
        learning over the rounds that learn, and 0 if none does.
    """

    traced_once = jax.jit(learn, inline=True)  # below for its shapes, then for its sake

    def round(state: Any, now: Any):
        (learnt, lived), (drawn, number) = state, now
        learnt, lived, metrics = collect(drawn, number, learnt, lived)
        ask = lambda: traced_once(drawn, number, learnt, lived)
        blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(ask)[1:])
        learned = number >= first
        learnt, *found, terms = jax.lax.cond(learned, ask, lambda: (learnt, *blank))
        if remember is not None:
            lived = remember(lived, *found, learned)
        return (learnt, lived), (metrics, terms)

    numbers = clock.step * num_rounds + jnp.arange(num_rounds, dtype=jnp.int32)
    (learnt, lived), (metrics, terms) = jax.lax.scan(round, (learnt, lived), (drawn, numbers))
    learning = jnp.maximum((numbers >= first).sum(), 1)
    over = lambda name, x, rounds: x.sum() if added_up(name) else x.sum() / rounds
    lives = {k: over(k, x, num_rounds) for k, x in metrics.items()}
    return learnt, lived, lives | {k: over(k, x, learning) for k, x in terms.items()}
