"""Numbers as categorical distributions, on a scale that squeezes large ones. Axes: Z atoms."""

import jax
import jax.numpy as jnp

from purerl.ops import q_learning

EPS = 1e-3
"""Of the linear part, without which the transform has no inverse that is Lipschitz."""


def squeeze(x: jax.Array | float) -> jax.Array:
    """h(x) = sign(x) (sqrt(|x| + 1) - 1) + eps x, any shape.

    Pohlen et al. 2018, https://arxiv.org/abs/1805.11593, proposition A.2.
    """
    x = jnp.asarray(x, jnp.float32)
    return jnp.sign(x) * (jnp.sqrt(jnp.abs(x) + 1.0) - 1.0) + EPS * x


def stretch(y: jax.Array) -> jax.Array:
    """The inverse of `squeeze`, any shape (Pohlen et al. 2018, proposition A.2 iii).

    There as ((root - 1) / (2 eps))^2 - 1, where in float32 small numbers lose all their digits.
    """
    size = jnp.abs(y)
    root = jnp.sqrt(1.0 + 4.0 * EPS * (size + 1.0 + EPS))
    # z = 2 (|y| + 1 + eps) / (root + 1), without its 1: all that is small stays apart.
    above = (2.0 * (size + EPS) - 4.0 * EPS * (size + 1.0 + EPS) / (root + 1.0)) / (root + 1.0)
    return jnp.sign(y) * above * (above + 2.0)


def support(low: float, high: float, atoms: int) -> jax.Array:
    """float32 [Z]: what the atoms stand for after `squeeze`, even from h(low) to h(high)."""
    return jnp.linspace(squeeze(low), squeeze(high), atoms)


def encode(x: jax.Array, support: jax.Array) -> jax.Array:
    """[...] -> [..., Z]: mass on the two atoms next to h(x), with h(x) as its mean."""
    probs = q_learning.project(squeeze(x).reshape(-1, 1), jnp.ones((x.size, 1)), support)
    return probs.reshape(*x.shape, -1)


def decode(logits: jax.Array, support: jax.Array) -> jax.Array:
    """[..., Z] -> [...]: the number whose h is the mean of the distribution."""
    return stretch(jax.nn.softmax(logits) @ support)
