"""Running mean and variance, for normalising what a network sees."""

import jax
import jax.numpy as jnp

from purerl.types import pytree


@pytree
class Running:
    """Mean and variance of everything seen so far.

    Attributes:
      mean: [...].
      variance: [...], of the population (divided by count).
      count: float32 []. It stops growing at 2**24 batches; from then on the oldest is forgotten.
    """

    mean: jax.Array
    variance: jax.Array
    count: jax.Array


def init(shape: tuple[int, ...] = ()) -> Running:
    """Nothing seen yet: mean 0 and variance 1, so that `normalize` only clips."""
    return Running(jnp.zeros(shape), jnp.ones(shape), jnp.float32(0.0))


def update(running: Running, batch: jax.Array) -> Running:
    """Add a batch [..., *shape], its leading axes being samples.

    Chan et al. 1979, "Updating formulae and a pairwise algorithm for computing sample variances",
    eq. 2.1.
    """
    axes = tuple(range(batch.ndim - running.mean.ndim))
    count = jnp.float32(batch.size / max(running.mean.size, 1))
    mean, variance = batch.mean(axes), batch.var(axes)
    total = running.count + count
    delta = mean - running.mean
    share = count / total
    rest = 1.0 - share  # not count / total, which is 1 once the count stops growing
    within = running.variance * rest + variance * share
    return Running(running.mean + delta * share, within + delta**2 * share * rest, total)


def normalize(running: Running, x: jax.Array, limit: float = 10.0) -> jax.Array:
    """(x - mean) / sqrt(variance), clipped to +-limit; the shape of x."""
    lift = (1,) * (x.ndim - running.mean.ndim) + running.mean.shape
    scale = jax.lax.rsqrt(running.variance + 1e-8).reshape(lift)
    return jnp.clip((x - running.mean.reshape(lift)) * scale, -limit, limit)
