"""The cross-entropy method: a normal distribution moved to where a score is high.

Axes: B problems solved abreast, P candidates of each, * of one solution.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purerl.types import Key


class Belief(NamedTuple):
    """Where good solutions are thought to be: independent normal numbers.

    Attributes:
      mean: [B, *].
      deviation: [B, *], standard deviations.
    """

    mean: jax.Array
    deviation: jax.Array


def maximize(
    key: Key,
    score: Callable[[Key, jax.Array], jax.Array],
    belief: Belief,
    population: int,
    elites: int,
    iterations: int,
    smoothing: jax.Array | float = 0.0,
    low: float = -1.0,
    high: float = 1.0,
) -> tuple[Belief, jax.Array]:
    """Move a belief to where a score is high; in each iteration, of the best E of P candidates x,

        mean      <- s mean      + (1 - s) mean of the x
        deviation <- s deviation + (1 - s) deviation of the x

    de Boer et al. 2005, https://doi.org/10.1007/s10479-005-5724-z, algorithm 3.1 with normal
    distributions and smoothed updating (section 3.4, where alpha is 1 - s). Candidates are clipped
    to the bounds, and so their mean lies within them. They come in pairs, mean +- deviation z, and
    of equal ones the first are taken: where the score is flat, the mean stays where it is, with an
    even number of elites and away from the bounds.

    Args:
      key: consumed.
      score: (key, candidates [B, P, *]) -> [B, P]; what is no number comes last.
      belief: to begin with, its mean within the bounds.
      population: P.
      elites: E, from 1 to P.
      iterations: of sampling and moving; none leaves the belief as it is.
      smoothing: s in [0, 1], how much of the old belief stays.
      low: bound of every number of a solution.
      high: likewise.

    Returns:
      The belief, and [iterations, B] the mean score of the elites that each iteration found.
    """
    problems, *shape = belief.mean.shape

    def iteration(belief: Belief, number: jax.Array):
        sample_key, score_key = jax.random.split(jax.random.fold_in(key, number))
        half = jax.random.normal(sample_key, (problems, -(-population // 2), *shape))
        noise = jnp.stack([half, -half], 2).reshape(problems, -1, *shape)[:, :population]
        spread = belief.mean[:, None] + belief.deviation[:, None] * noise
        candidates = jnp.clip(spread, low, high)
        value = score(score_key, candidates)
        value, index = jax.lax.top_k(jnp.where(jnp.isnan(value), -jnp.inf, value), elites)
        rows = index.reshape(problems, elites, *(1 for _ in shape))
        best = jnp.take_along_axis(candidates, rows, 1)
        found = Belief(best.mean(1), best.std(1))
        move = lambda old, new: smoothing * old + (1.0 - smoothing) * new
        return jax.tree.map(move, belief, found), value.mean(1)

    # Numbered, not given a key each: JAX 0.11 takes a vmap of a scan over keys for a reuse of them.
    return jax.lax.scan(iteration, belief, jnp.arange(iterations, dtype=jnp.uint32))
