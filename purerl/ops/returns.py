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
    # Unrolled: 4 steps fuse into one kernel, where a loop step of [B] numbers is all overhead.
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


def n_step(
    reward: jax.Array,
    terminated: jax.Array,
    truncated: jax.Array,
    discount: jax.Array | float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The first n steps as one: their discounted rewards, and how the value after them counts.

    The sum stops with the first step that ends an episode, m of n. What follows counts
    gamma^m (1 - terminated_m), also where the episode was truncated (Hessel et al. 2018,
    https://arxiv.org/abs/1710.02298, multi-step learning; time limits as in Pardo et al. 2018).

    Args:
      reward: [n, ...].
      terminated: bool [n, ...].
      truncated: bool [n, ...].
      discount: scalar gamma.

    Returns:
      (sum of rewards [...], discount of the value that follows [...], index of the last step that
      counts, int32 [...]).
    """
    total = jnp.zeros_like(reward[0])
    weight, last = jnp.ones_like(total), jnp.zeros(total.shape, jnp.int32)
    running = jnp.ones(total.shape, bool)
    for i in range(reward.shape[0]):
        last = jnp.where(running, i, last)
        total += jnp.where(running, weight * reward[i], 0.0)
        weight = jnp.where(running, discount * weight, weight)
        weight = jnp.where(running & terminated[i], 0.0, weight)
        running &= ~(terminated[i] | truncated[i])
    return total, weight, last


def lambda_return(
    reward: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    done: jax.Array,
    discount: jax.Array | float,
    trace: jax.Array | float,
) -> jax.Array:
    """Lambda-returns of a value function.

        G_t = r_t + discount (1 - terminated_t) ((1 - lambda_t) V(s'_t) + lambda_t G_{t+1})

    with lambda_t = 0 where the episode was cut and at the last step (Daley and Amato 2019,
    https://arxiv.org/abs/1810.09967, eq. 5; Gallici et al. 2024, https://arxiv.org/abs/2407.04811,
    section 3). V(s'_t) is that of the successor of step t, not of the one after it.

    Args:
      reward: [T, ...] r_t.
      next_value: [T, ...] V(s'_t) at the true successor, also where an episode was cut.
      terminated: bool [T, ...]. No value follows.
      done: bool [T, ...], terminated or truncated: the trace is cut.
      discount: scalar gamma.
      trace: scalar lambda in [0, 1].

    Returns:
      [T, ...] returns. Gradients flow; callers stop them where needed.
    """
    decay = jnp.where(terminated, 0.0, discount)
    next_value = jnp.where(terminated, 0.0, next_value)  # it has no meaning, and may be no number
    blend = jnp.where(done, 0.0, trace)

    def backward(following, now):
        reward, next_value, decay, blend = now
        total = reward + decay * ((1.0 - blend) * next_value + blend * following)
        return total, total

    scanned = (reward, next_value, decay, blend)
    return jax.lax.scan(backward, next_value[-1], scanned, reverse=True, unroll=4)[1]
