"""Returns and advantages. Axes: T time, ... any batch axes."""

import jax
import jax.numpy as jnp


def generalized_advantage(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    done: jax.Array,
    discount: jax.Array | float,
    gae_lambda: jax.Array | float,
) -> jax.Array:
    """Generalised advantage estimation.

        delta_t = r_t + discount (1 - terminated_t) V(s'_t) - V(s_t)
        A_t     = delta_t + discount lambda (1 - done_t) A_{t+1}

    Schulman et al. 2016, https://arxiv.org/abs/1506.02438, eq. 16, with time limits as in Pardo et
    al. 2018, https://arxiv.org/abs/1712.00378.

    Args:
      reward: [T, ...] r_t.
      value: [T, ...] V(s_t).
      next_value: [T, ...] V(s'_t) at the true successor, also where an episode was cut.
      terminated: bool [T, ...]. No value follows.
      done: bool [T, ...], terminated or truncated: the trace is cut.
      discount: scalar gamma.
      gae_lambda: scalar in [0, 1]; 0 gives one-step errors, 1 Monte Carlo returns minus V.

    Returns:
      [T, ...] advantages. Gradients flow; callers stop them where needed.
    """
    delta = reward + discount * jnp.where(terminated, 0.0, next_value) - value
    decay = jnp.where(done, 0.0, discount * gae_lambda)

    def backward(advantage, now):
        delta, decay = now
        advantage = delta + decay * advantage
        return advantage, advantage

    zero = jnp.zeros_like(delta[0])
    # Unrolled: 16 steps fuse into one kernel, where a loop step of [B] numbers is all overhead.
    return jax.lax.scan(backward, zero, (delta, decay), reverse=True, unroll=4)[1]


def discounted_sum(
    reward: jax.Array, start: jax.Array, discount: jax.Array | float, carry: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Forward discounted sums of rewards, the quantity that reward normalisation measures.

        G_t = discount (1 - start_t) G_{t-1} + r_t

    The cut is where an episode *starts*; cutting with the same step's done, as gym's wrapper did,
    leaks a terminal reward into the next episode.

    Args:
      reward: [T, ...] r_t.
      start: bool [T, ...], whether step t is the first of its episode.
      discount: scalar gamma.
      carry: [...] the sum before step 0.

    Returns:
      (the sum after the last step [...], all sums [T, ...]).
    """

    def forward(total, now):
        reward, start = now
        total = reward + discount * jnp.where(start, 0.0, total)
        return total, total

    return jax.lax.scan(forward, carry, (reward, start), unroll=4)
