"""What an observation or an action may be."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from purerl.types import Key


@dataclasses.dataclass(frozen=True)
class Discrete:
    """The integers 0 to n - 1, int32 []."""

    n: int
    shape = ()
    dtype = np.dtype(np.int32)

    def sample(self, key: Key) -> jax.Array:
        """A uniform member, int32 []."""
        return jax.random.randint(key, (), 0, self.n)

    def contains(self, x: jax.Array) -> jax.Array:
        """bool []: whether x lies in the space."""
        return (x >= 0) & (x < self.n)


@dataclasses.dataclass(frozen=True)
class MultiDiscrete:
    """A vector of integers, entry i from 0 to nvec[i] - 1, int32 [len(nvec)]."""

    nvec: tuple[int, ...]
    dtype = np.dtype(np.int32)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.nvec),)

    def sample(self, key: Key) -> jax.Array:
        """A uniform member, int32 [len(nvec)]."""
        return jax.random.randint(key, self.shape, 0, jnp.asarray(self.nvec))

    def contains(self, x: jax.Array) -> jax.Array:
        """bool []: whether x lies in the space."""
        return jnp.all((x >= 0) & (x < jnp.asarray(self.nvec)))


@dataclasses.dataclass(frozen=True, eq=False)
class Box:
    """Arrays of one shape between two bounds, which may be infinite.

    Attributes:
      low: the lower bound, of `shape`, in `dtype`.
      high: the upper bound, likewise.
    """

    low: np.ndarray
    high: np.ndarray
    shape: tuple[int, ...]
    dtype: np.dtype

    @classmethod
    def of(
        cls,
        low: npt.ArrayLike,
        high: npt.ArrayLike,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike = np.float32,
    ) -> "Box":
        """A box from bounds that broadcast to `shape`."""
        dtype = np.dtype(dtype)
        spread = (np.broadcast_to(np.asarray(bound, dtype), shape) for bound in (low, high))
        return cls(*spread, shape=tuple(shape), dtype=dtype)

    @property
    def bounded(self) -> bool:
        """Whether every bound is finite; limits beyond 1e30 count as infinite."""
        return bool(np.all(np.abs(self.low) < 1e30) and np.all(np.abs(self.high) < 1e30))

    def sample(self, key: Key) -> jax.Array:
        """A uniform member; a standard normal one, clipped, where a bound is infinite."""
        if self.dtype == bool:
            return jax.random.bernoulli(key, shape=self.shape)
        if np.issubdtype(self.dtype, np.integer):
            if self.dtype.itemsize >= 4:
                return _integers(key, self)
            # Wider, as one above the highest may not be there.
            low, high = self.low.astype(np.int32), self.high.astype(np.int32)
            return jax.random.randint(key, self.shape, low, high + 1).astype(self.dtype)
        if self.bounded:
            return jax.random.uniform(key, self.shape, self.dtype, self.low, self.high)
        return jnp.clip(jax.random.normal(key, self.shape, self.dtype), self.low, self.high)

    def contains(self, x: jax.Array) -> jax.Array:
        """bool []: whether x lies in the space."""
        return jnp.all((x >= self.low) & (x <= self.high))


def _integers(key: Key, box: Box) -> jax.Array:
    """Uniform in a box of 32 bits: what lies above the lower bound, as an unsigned number."""
    width = (box.high.astype(np.int64) - box.low.astype(np.int64)).astype(np.uint32)
    bits = jax.random.bits(key, box.shape, jnp.uint32)
    most = np.uint32(np.iinfo(np.uint32).max)
    above = jnp.where(width == most, bits, bits % (np.minimum(width, most - 1) + 1))
    return above.astype(box.dtype) + box.low


type Space = Discrete | MultiDiscrete | Box
