"""Which steps of a ring are learnt from: evenly drawn, or by their priorities where there are some.

Axes: B environments, T rows of the ring, K steps inserted, M drawn. `tree` is a Priorities, or ()
where every step is as likely as any other.
"""

from typing import Any

import jax
import jax.numpy as jnp

from purerl.replay import priorities, ring
from purerl.replay.priorities import Priorities
from purerl.replay.ring import Index, Ring
from purerl.types import Key

type Tree = Priorities | tuple[()]


def numbers(key: Key, tree: Tree, shape: tuple[int, ...]) -> jax.Array:
    """What `draw` needs for M steps, with a shape of (..., M), drawn ahead; the key is consumed."""
    if isinstance(tree, Priorities):
        return priorities.numbers(key, tree, shape)
    return jax.random.bits(key, shape)


def insert(tree: Tree, length: int, time: jax.Array, steps: int, lookahead: int) -> Tree:
    """Account for K new rows from `time` on, as `priorities.insert` does."""
    if isinstance(tree, Priorities):
        return priorities.insert(tree, length, time, steps, lookahead)
    return tree


def draw(
    numbers: jax.Array, replay: Ring, tree: Tree, time: jax.Array, lookahead: int, beta: Any
) -> tuple[Index, jax.Array]:
    """(M steps, float32 [M] the importance weight of each: 1 where all are as likely).

    Args:
      numbers: of `numbers`.
      replay: not empty.
      tree: see above.
      time: int32 [], steps of every environment so far.
      lookahead: steps that must lie behind one.
      beta: of `priorities.importance`.
    """
    if isinstance(tree, Priorities):
        chosen = priorities.draw(numbers, tree, replay.length, time)
        items = replay.num_envs * ring.count(replay, time, lookahead)
        return chosen.index, priorities.importance(chosen, items, beta)
    return ring.uniform(numbers, replay, time, lookahead), jnp.ones(numbers.shape[-1])


def judged(tree: Tree, index: Index, errors: jax.Array, exponent: Any) -> Any:
    """M steps with the priorities [M] that their errors give them; () where there are none.

    (|error| + 1e-6)^exponent, of Schaul et al. 2016, https://arxiv.org/abs/1511.05952, section 3.3.

    Args:
      tree: see above.
      index: M steps.
      errors: [U, M / U], not negative, of batches as `batching.strided` makes them.
      exponent: alpha.
    """
    if not isinstance(tree, Priorities):
        return ()
    error = jnp.swapaxes(errors, 0, 1).reshape(-1)
    return index, (error + 1e-6) ** exponent


def remember(tree: Tree, length: int, found: Any, wanted: jax.Array) -> Tree:
    """The tree with what `judged` found, if bool [] `wanted`."""
    if not isinstance(tree, Priorities):
        return tree
    index, priority = found
    return priorities.update(tree, length, index, priority, wanted)
