"""Networks that predict what follows an action, and how sure they are.

Axes: E members of an ensemble, N rows, I inputs, O outputs.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.networks.continuous import Network, Tower
from purerl.types import Key

LOG_VARIANCE = (-10.0, 0.5)
"""Least and greatest logarithm of a variance, before learning moves them."""


class Ensemble(NamedTuple):
    """Parameters: of the members, leaves [E, ...], and the bounds [O] that they share.

    Attributes:
      towers: one network for each member.
      low: soft bound of the log-variances from below.
      high: from above.
    """

    towers: Any
    low: jax.Array
    high: jax.Array


class Gaussian(NamedTuple):
    """Independent normal outputs.

    Attributes:
      mean: [E, N, O].
      log_variance: [E, N, O].
    """

    mean: jax.Array
    log_variance: jax.Array


def gaussian_ensemble(inputs: int, outputs: int, number: int, **tower: Any) -> Network:
    """params, x [E, N, I] -> Gaussian [E, N, O] of E = `number` independent networks.

        h = high - softplus(high - head)
        log_variance = low + softplus(h - low)

    Chua et al. 2018, https://arxiv.org/abs/1805.12114, appendix A.1: outside of where data were
    seen a variance cannot leave the bounds, which are learnt. One network mapped over parameters
    [E, ...], so that products are batched; keyword arguments are of `Tower`.
    """
    module = Tower(2 * outputs, **tower)

    def init(key: Key) -> Ensemble:
        x = jnp.zeros((1, inputs))
        towers = jax.vmap(lambda key: module.init(key, x))(jax.random.split(key, number))
        low, high = (jnp.full(outputs, bound, jnp.float32) for bound in LOG_VARIANCE)
        return Ensemble(towers, low, high)

    def apply(params: Ensemble, x: jax.Array) -> Gaussian:
        found: Any = jax.vmap(module.apply)(params.towers, x)
        mean, head = jnp.split(found, 2, -1)
        low, high = params.low.reshape(1, 1, -1), params.high.reshape(1, 1, -1)
        below = high - jax.nn.softplus(high - head)
        return Gaussian(mean, low + jax.nn.softplus(below - low))

    return Network(init, apply)
