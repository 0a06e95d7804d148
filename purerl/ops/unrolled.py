"""What a model that is unrolled along a lived sequence should say, step by step.

Axes: K unrolled steps, n steps of a return, N sequences, A actions.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from purerl.ops import returns


class Targets(NamedTuple):
    """What the model should say after k = 0 .. K steps, leaves [K + 1, N, ...], and what counts.

    Attributes:
      reward: of the k-th step; nothing for k = 0.
      value: the n-step return from there.
      weights: [A] the searched policy.
      reward_mask: float32, 0 for k = 0 and after a truncation.
      value_mask: 0 after a truncation; after a termination values of 0 are learnt.
      policy_mask: 0 after either; 1 for k = 0 always.
    """

    reward: jax.Array
    value: jax.Array
    weights: jax.Array
    reward_mask: jax.Array
    value_mask: jax.Array
    policy_mask: jax.Array


def targets(
    reward: jax.Array, terminated: jax.Array, truncated: jax.Array, weights: jax.Array,
    next_value: jax.Array, n: int, discount: jax.Array | float,
) -> Targets:  # fmt: skip
    """Targets of sequences (Schrittwieser et al. 2020, section 3 and appendix G).

    Args:
      reward: [K + n, N].
      terminated: bool [K + n, N].
      truncated: bool [K + n, N].
      weights: [K + 1, N, A].
      next_value: [K + n, N] of the true successor of each step.
      n: steps of a return.
      discount: gamma, or -gamma where the other player moves next.
    """
    steps = reward.shape[0] - n  # K

    def from_step(k: int):
        part = lambda x: x[k : k + n]
        total, weight, last = returns.n_step(
            part(reward), part(terminated), part(truncated), discount
        )
        following = jnp.take_along_axis(part(next_value), last.reshape(1, -1), 0)[0]
        return total + weight * following

    value = jnp.stack([from_step(k) for k in range(steps + 1)])
    running, over = [jnp.ones_like(terminated[0])], [jnp.zeros_like(terminated[0])]
    for k in range(steps):
        over.append(over[-1] | (running[-1] & terminated[k]))
        running.append(running[-1] & ~terminated[k] & ~truncated[k])
    alive, absorbed = jnp.stack(running), jnp.stack(over)
    shift = lambda x, first: jnp.concatenate([first[None], x[:-1]])
    none = jnp.zeros_like(reward[0])
    return Targets(
        reward=jnp.where(shift(alive, none > 0), shift(reward[: steps + 1], none), 0.0),
        value=jnp.where(alive, value, 0.0),
        weights=weights,
        reward_mask=shift((alive | absorbed).astype(jnp.float32), none),
        value_mask=(alive | absorbed).astype(jnp.float32),
        policy_mask=alive.astype(jnp.float32),
    )
