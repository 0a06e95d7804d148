"""Trees of any types as rows of 32-bit words: one array to write to and one to read from.

Axes: ... any batch axes, W words.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

WORD = 32  # bits


class Part(NamedTuple):
    """Leaves of one type: which, their shapes, and the words where they lie."""

    dtype: str
    leaves: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    begin: int
    end: int

    @property
    def size(self) -> int:
        """Numbers in all of its leaves."""
        return sum(math.prod(shape) for shape in self.shapes)


class Layout(NamedTuple):
    """How a tree lies in a row of words. Hashable, so that it can be part of a tree's structure.

    Every number keeps its bits; booleans take one bit each, bytes a quarter of a word.

    Attributes:
      structure: of the tree.
      parts: one for each type.
    """

    structure: Any
    parts: tuple[Part, ...]

    @property
    def words(self) -> int:
        """W."""
        return self.parts[-1].end if self.parts else 0

    def pack(self, tree: Any) -> jax.Array:
        """Leaves [..., *shape] -> uint32 [..., W]."""
        leaves = jax.tree.leaves(tree)
        words = [_to_words(self._joined(leaves, part)) for part in self.parts]
        return jnp.concatenate(words, -1)

    def unpack(self, rows: jax.Array) -> Any:
        """uint32 [..., W] -> the tree with leaves [..., *shape]."""
        out: list[Any] = [None] * sum(len(part.leaves) for part in self.parts)
        for part in self.parts:
            numbers = _from_words(rows[..., part.begin : part.end], part.dtype, part.size)
            for leaf, value in self._split(numbers, part):
                out[leaf] = value
        return jax.tree.unflatten(self.structure, out)

    def _joined(self, leaves: list[jax.Array], part: Part) -> jax.Array:
        flat = []
        for leaf, shape in zip(part.leaves, part.shapes, strict=True):
            x = leaves[leaf]
            assert x.dtype == part.dtype, f"{x.dtype} where the layout has {part.dtype}"
            flat.append(x.reshape(*x.shape[: x.ndim - len(shape)], -1))
        return jnp.concatenate(flat, -1)

    def _split(self, numbers: jax.Array, part: Part) -> Iterator[tuple[int, jax.Array]]:
        at = 0
        for leaf, shape in zip(part.leaves, part.shapes, strict=True):
            size = math.prod(shape)
            yield leaf, numbers[..., at : at + size].reshape(*numbers.shape[:-1], *shape)
            at += size


def layout(example: Any) -> Layout:
    """The Layout of trees like `example`, a tree of arrays or of their shapes and types."""
    leaves, structure = jax.tree.flatten(example)
    kinds = dict.fromkeys(np.dtype(x.dtype).name for x in leaves)
    parts, begin = [], 0
    for kind in kinds:
        mine = [i for i, x in enumerate(leaves) if np.dtype(x.dtype).name == kind]
        part = Part(kind, tuple(mine), tuple(tuple(leaves[i].shape) for i in mine), begin, 0)
        bits = 1 if kind == "bool" else 8 * jnp.dtype(kind).itemsize
        begin += -(-part.size * bits // WORD)
        parts.append(part._replace(end=begin))
    return Layout(structure, tuple(parts))


def _to_words(x: jax.Array) -> jax.Array:
    """[..., n] of any type -> uint32 [..., W], its bits."""
    size = x.dtype.itemsize
    if x.dtype == bool:
        bits = _padded(x, WORD).astype(jnp.uint32)
        place = jnp.arange(WORD, dtype=jnp.uint32).reshape((1,) * x.ndim + (WORD,))
        return (bits << place).sum(-1, dtype=jnp.uint32)
    if size < 4:
        x = _padded(x, 4 // size)
    words = jax.lax.bitcast_convert_type(x, jnp.uint32)
    return words.reshape(*words.shape[:-2], -1) if size > 4 else words


def _from_words(words: jax.Array, dtype: str, size: int) -> jax.Array:
    """uint32 [..., W] -> [..., size] of that type."""
    if dtype == "bool":
        bits = min(size, WORD)  # of few flags no others are worked out
        place = jnp.arange(bits, dtype=jnp.uint32).reshape((1,) * words.ndim + (bits,))
        numbers = ((words[..., None] >> place) & 1).astype(bool)
    else:
        each = jnp.dtype(dtype).itemsize
        if each > 4:
            words = words.reshape(*words.shape[:-1], -1, each // 4)
        numbers = jax.lax.bitcast_convert_type(words, jnp.dtype(dtype))
    if dtype == "bool" or jnp.dtype(dtype).itemsize < 4:
        numbers = numbers.reshape(*words.shape[:-1], -1)
    return numbers[..., :size]


def _padded(x: jax.Array, unit: int) -> jax.Array:
    """[..., n] -> [..., n / unit rounded up, unit], zeros behind."""
    short = -x.shape[-1] % unit
    x = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, short)])
    return x.reshape(*x.shape[:-1], -1, unit)
