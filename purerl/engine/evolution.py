"""Who goes on: successive halving and population-based training. Axes: C configurations, P rows."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purerl.analysis import iqm
from purerl.errors import UsageError
from purerl.types import Key

SHARE = 0.2  # of the population: replaced, and copied from
FACTORS = (0.8, 1.2)  # a number that is copied is multiplied by one of these


def rungs(updates: int, configurations: int) -> tuple[int, ...]:
    """The iterations at which halving drops the worse half, until one configuration is left.

    Successive halving (Jamieson and Talwalkar 2016, https://arxiv.org/abs/1502.07943, figure 1)
    with the whole run as the largest budget: at each rung survivors have trained twice as long.

    Raises:
      UsageError: the run is too short for that many.
    """
    count = (configurations - 1).bit_length()
    if updates < 2**count:
        need = f"{configurations} configurations need {2**count} iterations"
        raise UsageError(f"halving: {need}; there are {updates}")
    return tuple(updates // 2 ** (count - i) for i in range(count))


def worse_half(scores: np.ndarray, active: np.ndarray) -> np.ndarray:
    """The configurations to drop: int, of those active [C] the worse half, rounded down.

    scores: [C, seeds], NaN where there is none. The better have the larger interquartile mean; of
    equals the earlier is kept.
    """
    known = [iqm(row[np.isfinite(row)]) if np.isfinite(row).any() else -np.inf for row in scores]
    running = np.flatnonzero(active)
    ranked = running[np.argsort(-np.array(known)[running], kind="stable")]
    return np.sort(ranked[-(-len(ranked) // 2) :])


@jax.jit
def evolve(key: Key, scores: jax.Array, hparams: Any, low: Any, high: Any) -> tuple[jax.Array, Any]:
    """One step of population-based training -> (parent int32 [P], HParams [P]).

    Jaderberg et al. 2017, https://arxiv.org/abs/1711.09846, section 4.1.1: truncation selection and
    perturbation. The worst fifth goes on from copies of the best fifth, drawn evenly; each of their
    numbers is multiplied by 0.8 or 1.2 and kept between `low` and `high`, the ends of the range it
    was drawn from. Numbers that do not sweep stay.

    Args:
      key: consumed.
      scores: [P], higher is better; -inf for a member that failed, NaN for a row that is no member.
      hparams: leaves [P].
      low: as `hparams`, leaves [].
      high: as `hparams`, leaves [].
    """
    choose_key, factor_key = jax.random.split(key)
    part = ~jnp.isnan(scores)
    count = part.sum()
    few = jnp.where(count > 1, jnp.maximum(1, (SHARE * count).astype(jnp.int32)), 0)
    order = jnp.argsort(jnp.where(part, -scores, jnp.inf), stable=True)  # best first, absent last
    place = jnp.argsort(order)  # of each row
    replaced = part & (place >= count - few)
    draw = jax.random.randint(choose_key, scores.shape, 0, jnp.maximum(few, 1))
    parent = jnp.where(replaced, order[draw], jnp.arange(scores.size))

    leaves, structure = jax.tree.flatten(hparams)
    # A row's own numbers do not depend on how many rows there are, as padding is some of them.
    factors = jax.random.choice(factor_key, jnp.array(FACTORS), (scores.size, len(leaves)))
    bounds = zip(leaves, factors.T, jax.tree.leaves(low), jax.tree.leaves(high), strict=True)
    explored = [
        jnp.where(replaced & (least < most), jnp.clip(x[parent] * by, least, most), x[parent])
        for x, by, least, most in bounds
    ]
    return parent.astype(jnp.int32), jax.tree.unflatten(structure, explored)
