"""Proportional priorities: a sum tree with many branches, on the device.

Schaul et al. 2016, https://arxiv.org/abs/1511.05952, section 3.3. A node has `BRANCHES` children
instead of two, so that a million leaves are seven levels deep, and a level is one contiguous read.

Axes: B environments, T rows of the ring, K steps inserted, M drawn, F children of a node.
"""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from purerl.replay.ring import Index, read, write
from purerl.types import Key, pytree

BRANCHES = 8  # more are fewer levels, each with more to add up


@pytree
class Priorities:
    """The priority of every row of a ring, and their sums.

    Attributes:
      levels: float32 [B, T'], [B, T' / F], ... down to [B, <= F]: leaves, sums of F leaves, sums of
        F of those. T' is T, rounded up so that every level is full.
      highest: float32 [B]: the largest priority that any row has had, with which new rows begin;
        the same number for every environment, an axis that all leaves of an actor have.
    """

    levels: tuple[jax.Array, ...]
    highest: jax.Array


class Draw(NamedTuple):
    """What was drawn.

    Attributes:
      index: M steps of the ring.
      probability: float32 [M], with which each was.
    """

    index: Index
    probability: jax.Array


def init(num_envs: int, length: int) -> Priorities:
    """Of an empty ring [B, T]: all zero, which is never drawn."""
    sizes = [length]
    while sizes[-1] > BRANCHES:
        sizes.append(-(-sizes[-1] // BRANCHES))
    for i in range(len(sizes) - 1, 0, -1):
        sizes[i - 1] = sizes[i] * BRANCHES
    return Priorities(tuple(jnp.zeros((num_envs, n)) for n in sizes), jnp.ones(num_envs))


def insert(
    priorities: Priorities, length: int, time: jax.Array, steps: int, lookahead: int
) -> Priorities:
    """Account for `steps` new rows from `time` on.

    A step can be drawn once `lookahead` more lie behind it; then it has the highest priority so
    far. Those that have too few, and those that were written over, have none.

    Args:
      length: T of the ring.
      time: int32 [], of the first new step.
      steps: K.
      lookahead: as in `ring.uniform`.
    """
    highest = priorities.highest.max()
    ready = time - lookahead + jnp.arange(steps, dtype=jnp.int32)
    fresh = jnp.where(ready >= 0, highest, 0.0)
    values = jnp.concatenate([fresh, jnp.zeros(lookahead)])[-length:]
    levels = _fill(priorities.levels, length, (time + steps - values.size) % length, values)
    return replace(priorities, levels=levels)


def numbers(key: Key, priorities: Priorities, shape: tuple[int, ...]) -> jax.Array:
    """What `draw` needs for M steps, with a shape of (..., M): float32 [..., L, M].

    A number in [0, 1) for every choice on the way down the tree, so that none has to be fine enough
    for all. The first is stratified, as in the paper. The key is consumed.
    """
    *before, batch = shape
    choices = len(priorities.levels) + (priorities.highest.shape[-1] > 1)
    drawn = jax.random.uniform(key, (*before, choices, batch))
    strata = jnp.arange(batch, dtype=jnp.float32).reshape(*(1 for _ in before), 1, batch)
    first = (strata + drawn[..., :1, :]) / batch
    return jnp.concatenate([first, drawn[..., 1:, :]], -2)


def draw(numbers: jax.Array, priorities: Priorities, length: int, time: jax.Array) -> Draw:
    """Draw steps, each with a probability in proportion to its priority.

    Args:
      numbers: [L, M] of `numbers`.
      priorities: of a ring that is not empty.
      length: T of the ring.
      time: int32 [], steps of every environment so far.
    """
    levels, batch = priorities.levels, numbers.shape[1]
    root = levels[-1].sum(1)
    several = root.size > 1
    env = node = jnp.zeros(batch, jnp.int32)
    if several:
        env = _child(jnp.broadcast_to(root.reshape(1, -1), (batch, root.size)), numbers[0])
    children = root.reshape(1, -1)
    for level, number in zip(reversed(levels), numbers[several:], strict=True):
        children = _children(level, env, node)
        chosen = _child(children, number)
        node = node * children.shape[1] + chosen
    chosen = children[jnp.arange(batch), chosen]
    newest = (time - 1) % length
    age = (newest - node) % length  # rows since that step
    return Draw(Index(env, time - 1 - age), chosen / jnp.maximum(root.sum(), 1e-30))


def update(
    priorities: Priorities,
    length: int,
    index: Index,
    priority: jax.Array,
    wanted: jax.Array | bool = True,
) -> Priorities:
    """Set the priorities of steps [M]; where one stands twice, to either.

    If not bool [] `wanted`, to what they are: a `lax.cond` would copy the tree.
    """
    node = index.time % length
    env, levels = index.env, list(priorities.levels)
    priority = jnp.where(wanted, priority, levels[0][env, node])
    levels[0] = levels[0].at[env, node].set(priority)
    for i in range(1, len(levels)):
        node = node // BRANCHES
        sums = _children(levels[i - 1], env, node).sum(1)
        levels[i] = levels[i].at[env, node].set(sums)
    highest = jnp.maximum(priorities.highest, priority.max())
    return Priorities(tuple(levels), highest)


def importance(draw: Draw, items: jax.Array, beta: jax.Array | float) -> jax.Array:
    """[M]: the weights that make up for what is drawn too often, (N P)^-beta over their largest.

    Section 3.4 of the paper; `items` is N, the steps that could have been drawn.
    """
    weight = (items * jnp.maximum(draw.probability, 1e-30)) ** -beta
    return weight / weight.max()


def _children(level: jax.Array, env: jax.Array, node: jax.Array) -> jax.Array:
    """[M, F]: of the nodes int32 [M] of the environments [M], what they are the sums of in the
    level below, `level` [B, N F] or [B, F]."""
    width = min(BRANCHES, level.shape[1])
    return level.reshape(-1, width)[env * (level.shape[1] // width) + node]


def _child(children: jax.Array, number: jax.Array) -> jax.Array:
    """int32 [M]: one of F children [M, F], in proportion, by a number [M] in [0, 1)."""
    size = children.shape[1]
    # A product with a triangle sums faster than a cumulative sum does.
    triangle = jnp.triu(jnp.ones((size, size)))
    sums = jnp.dot(children, triangle, precision=jax.lax.Precision.HIGHEST)
    places = jnp.arange(size, dtype=jnp.int32).reshape(1, -1)
    past = sums > number.reshape(-1, 1) * sums[:, -1:]
    first = jnp.where((children > 0) & past, places, size).min(1)
    # Rounding may leave none past the number: then the last with any mass.
    last = jnp.where(children > 0, places, 0).max(1)
    return jnp.minimum(first, last)


def _fill(
    levels: tuple[jax.Array, ...], length: int, start: jax.Array, values: jax.Array
) -> tuple[jax.Array, ...]:
    """Set K leaves of every environment, from `start` on and around the end of the ring.

    The writes are blocks at a place that all members share, so none becomes a scatter.
    """
    size = values.shape[0]
    # What goes past the end of the ring is at its beginning, in a second block.
    spans = (jnp.minimum(start, length - size), size), (jnp.int32(0), size)
    blocks = []
    for first, n in spans:
        which = (first - start + jnp.arange(n, dtype=jnp.int32)) % length
        new = values[jnp.minimum(which, size - 1)].reshape(1, -1)
        blocks.append(jnp.where((which < size).reshape(1, -1), new, read(levels[0], first, n)))
    # All that is read of the leaves goes into one array from which all is written, so that it is
    # read before. In another order XLA would copy the leaves each time.
    both = jax.lax.optimization_barrier(jnp.concatenate(blocks, 1))
    leaves = levels[0]
    for i, (first, n) in enumerate(spans):
        leaves = write(leaves, both[:, i * n : (i + 1) * n], first)
    out = [leaves]
    for level in levels[1:]:
        spans = tuple((first // BRANCHES, -(-(n - 1) // BRANCHES) + 1) for first, n in spans)
        for first, n in spans:
            n = min(n, level.shape[1])
            begin = jnp.minimum(first, level.shape[1] - n)
            children = read(out[-1], begin * BRANCHES, n * BRANCHES)
            sums = children.reshape(children.shape[0], n, BRANCHES).sum(2)
            level = write(level, sums, begin)
        out.append(level)
    return tuple(out)
