"""Rows of batches: packing, shuffling and choosing."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as Spec

from purerl.types import Key

DATA_AXIS = "data"
"""The mesh axis over which devices share one batch, where there is a mesh."""


def pack(tree: Any) -> tuple[dict[str, jax.Array], Callable[[dict[str, jax.Array]], Any]]:
    """Lay leaves [N, ...] of one dtype side by side, so that a row is one contiguous read.

    Returns:
      (packed, unpack): packed maps a dtype's name to [N, width]; unpack takes any rows of it
      [M, width] back to the tree with leaves [M, ...].
    """
    leaves, structure = jax.tree.flatten(tree)
    groups: dict[str, list[int]] = {}
    for i, leaf in enumerate(leaves):
        groups.setdefault(leaf.dtype.name, []).append(i)
    flat = [leaf.reshape(leaf.shape[0], -1) for leaf in leaves]
    packed = {name: jnp.concatenate([flat[i] for i in of], 1) for name, of in groups.items()}

    def unpack(rows: dict[str, jax.Array]) -> Any:
        out: list[Any] = [None] * len(leaves)
        for name, of in groups.items():
            column = 0
            for i in of:
                width = math.prod(leaves[i].shape[1:])
                part = rows[name][:, column : column + width]
                out[i] = part.reshape(part.shape[0], *leaves[i].shape[1:])
                column += width
        return jax.tree.unflatten(structure, out)

    return packed, unpack


def take(packed: dict[str, jax.Array], index: jax.Array) -> dict[str, jax.Array]:
    """The rows `index` [M] of what `pack` packed; of a batch that devices share, each its part.

    Whole on every device and read there, the rows cost one collective an iteration. Left where the
    environments are, they would cost one for every minibatch.
    """
    index = over_devices(index)
    return {name: over_devices(on_every_device(x)[index]) for name, x in packed.items()}


def over_devices(x: jax.Array) -> jax.Array:
    """Split the first axis over the devices that share a batch; without any, x as it is."""
    return jax.lax.with_sharding_constraint(x, Spec(DATA_AXIS)) if _shared() else x


def on_every_device(x: jax.Array) -> jax.Array:
    """Have x whole on all the devices that share a batch; without any, x as it is."""
    return jax.lax.with_sharding_constraint(x, Spec()) if _shared() else x


def _shared() -> bool:
    mesh = jax.sharding.get_abstract_mesh()
    return not mesh.empty and mesh.shape.get(DATA_AXIS, 1) > 1


_NARROW = 4  # fewer rows or columns mix too little


def shuffles(key: Key, number: int, rows: int, columns: int, rounds: int = 4) -> jax.Array:
    """Pseudo-random permutations of range(rows * columns), int32 [number, rows * columns].

    A Feistel network on the grid: every round shifts each column by its own random number of rows,
    then each row by its own random number of columns. Both are bijections, and with truly random
    shifts four rounds cannot be told from a random permutation by few questions (Luby and Rackoff
    1988, https://doi.org/10.1137/0217022). The key is consumed.

    A grid of few columns or rows leaves neighbours together; of one, there are only rotations. Then
    it is another grid of that size, or a sort where there is none.
    """
    size = rows * columns
    if min(rows, columns) < _NARROW:
        columns = max(n for n in range(1, math.isqrt(size) + 1) if size % n == 0)
        rows = size // columns
    if columns < _NARROW:
        permutation = lambda key: jax.random.permutation(key, jnp.arange(size, dtype=jnp.int32))
        return jax.vmap(permutation)(jax.random.split(key, number))
    # One draw for all of them: every separate call adds its own hash to compile.
    bits = jax.random.bits(key, (number, rounds, columns + rows)).astype(jnp.uint32)

    def shuffle(bits: jax.Array) -> jax.Array:
        down = (bits[:, :columns] % rows).astype(jnp.int32)
        right = (bits[:, columns:] % columns).astype(jnp.int32)
        row, column = jnp.divmod(jnp.arange(size, dtype=jnp.int32), columns)
        for i in range(rounds):
            row = (row + down[i][column]) % rows
            column = (column + right[i][row]) % columns
        return row * columns + column

    return jax.vmap(shuffle)(bits)


def split(tree: Any, number: int) -> Any:
    """Leaves [M, ...] as `number` batches, [number, M / number, ...]: neighbours together."""
    return jax.tree.map(lambda x: x.reshape(number, -1, *x.shape[1:]), tree)


def strided(tree: Any, number: int) -> Any:
    """Leaves [M, ...] as `number` batches, [number, M / number, ...]: row i is in batch i % number.

    Rows may be drawn in strata, as by priority: so every batch holds some of every stratum.
    """
    return jax.tree.map(lambda x: jnp.swapaxes(x.reshape(-1, number, *x.shape[1:]), 0, 1), tree)


def where_row(mask: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """Row i of x where mask[i], else of y: [B] against two arrays [B, ...]."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.vmap(lambda m, a, b: jax.lax.select(m, a, b))(mask, x, y)
    return jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)), x, y)
