"""The ring: the last T steps of every environment, and what is drawn from them.

Axes: B environments, T steps kept of each, K steps inserted at once, M drawn, L steps of a
sequence, S final observations, W words of a row. Times count the steps of an environment from the
start of the run; the step of time t lies in row t % T. They come from the clock, which all members
of a population share, so that under `vmap` a write stays one contiguous block.
"""

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.errors import UsageError
from purerl.ops import returns
from purerl.ops.batching import over_devices
from purerl.replay.words import Layout, layout
from purerl.types import pytree, static

FEW = 2**13  # numbers, which one core reads in less time than two need to meet
MANY = 2**17  # numbers; XLA splits over threads what it believes reads at least this many


class Steps(NamedTuple):
    """What was lived, leaves [..., *]; `obs` is what was seen before `action`."""

    obs: Any
    action: Any
    reward: Any
    terminated: Any
    truncated: Any
    extras: Any = ()


class Index(NamedTuple):
    """Steps of the ring: environment int32 [M] and time int32 [M]."""

    env: jax.Array
    time: jax.Array


class Transitions(NamedTuple):
    """n steps as one, leaves [M, ...].

    Attributes:
      obs: before the first step.
      action: of the first step.
      reward: discounted sum of the rewards up to the n-th step or the end of the episode.
      next_obs: after the last of those steps: the true final observation where one was truncated.
      discount: of the value of `next_obs`: gamma to the number of steps, 0 after a termination.
    """

    obs: Any
    action: Any
    reward: jax.Array
    next_obs: Any
    discount: jax.Array


@pytree
class Ring:
    """The steps themselves.

    An observation is kept once: the next one is in the next row, and those that no row begins with,
    the final ones of truncated episodes, are kept aside. An environment truncates at most once in
    `limit` steps, so that T / limit of those are enough.

    Attributes:
      rows: uint32 [B, T, W] Steps.
      finals: uint32 [B, S, W'] final observations; that of time t lies in row (t // limit) % S.
      layout: of Steps in a row.
      final_layout: of an observation in a row of finals.
      limit: steps after which an episode is truncated; None if never.
    """

    rows: jax.Array
    finals: jax.Array
    layout: Layout = static()
    final_layout: Layout = static()
    limit: int | None = static()

    @property
    def num_envs(self) -> int:
        """B."""
        return self.rows.shape[0]

    @property
    def length(self) -> int:
        """T."""
        return self.rows.shape[1]


def init(example: Steps, num_envs: int, capacity: int, limit: int | None) -> Ring:
    """An empty ring for `capacity` steps of all environments together.

    Args:
      example: one step of one environment: arrays, or their shapes and types.
      num_envs: B.
      capacity: B T.
      limit: steps after which the environment truncates; None if it never does.
    """
    length = capacity // num_envs
    # Without a limit there are none; one row stays, as a checkpoint has no arrays of no elements.
    slots = 1 if limit is None else -(-length // limit) + 1
    row, final = layout(example), layout(example.obs)
    zeros = lambda rows, words: jnp.zeros((num_envs, rows, words), jnp.uint32)
    return Ring(zeros(length, row.words), zeros(slots, final.words), row, final, limit)


def check_replay(config: Any, lookahead: int = 1) -> None:
    """Raise UsageError for a capacity or a start of learning that cannot be, before compiling.

    Args:
      config: with num_envs, unroll_length, batch_size, capacity and learning_starts.
      lookahead: steps that must lie behind one that is drawn.
    """
    capacity, unit = config.capacity, config.num_envs * config.unroll_length
    if capacity % unit:
        raise UsageError(
            f"capacity={capacity}: must be a multiple of num_envs * unroll_length = {unit}"
        )
    if capacity < config.batch_size:
        raise UsageError(f"capacity={capacity}: must hold a batch, batch_size={config.batch_size}")
    least = config.num_envs * (lookahead + config.unroll_length)
    for name in ("capacity", "learning_starts"):
        if (steps := getattr(config, name)) <= least:
            said = f"must be above num_envs * ({lookahead} + unroll_length) = {least}"
            raise UsageError(f"{name}={steps}: {said}")


def insert(ring: Ring, time: jax.Array, steps: Steps, finals: Any = None) -> Ring:
    """Write K steps of every environment over the oldest.

    Args:
      ring: T a multiple of K.
      time: int32 [], of the first of these steps; a multiple of K.
      steps: leaves [K, B, ...].
      finals: [F, B, ...] the observation after the f-th truncation among these steps of each
        environment, as `Rollout.final` has them.
    """
    by_env = lambda x: jnp.swapaxes(x, 0, 1)
    block = ring.layout.pack(jax.tree.map(by_env, steps))
    rows = write(ring.rows, block, time % ring.length)
    if ring.limit is None:
        return replace(ring, rows=rows)
    cut = by_env(steps.truncated)  # [B, K]
    ordinal = jnp.cumsum(cut, 1) - 1
    found = by_env(ring.final_layout.pack(finals))  # [B, F, W']
    kept, first = ring.finals, time // ring.limit
    # The steps lie in one window of `limit` steps or in several; each has a row of its own.
    windows = (time + jnp.arange(cut.shape[1], dtype=jnp.int32)) // ring.limit
    for i in range(-(-(cut.shape[1] - 1) // ring.limit) + 1):
        here = cut & (windows == first + i).reshape(1, -1)
        which = jnp.where(here, ordinal, 0).max(1)
        new = jnp.take_along_axis(found, which.reshape(-1, 1, 1), 1)
        slot = (first + i) % kept.shape[1]
        old = read(kept, slot, 1)
        kept = write(kept, jnp.where(here.any(1).reshape(-1, 1, 1), new, old), slot)
    return replace(ring, rows=rows, finals=kept)


def count(ring: Ring, time: jax.Array, lookahead: int) -> jax.Array:
    """int32 []: steps of each environment, `time` of which were lived, that have `lookahead` more
    behind them in the ring."""
    return jnp.maximum(jnp.minimum(time, ring.length) - lookahead, 0)


def uniform(numbers: jax.Array, ring: Ring, time: jax.Array, lookahead: int) -> Index:
    """Draw steps, with replacement, that have `lookahead` more behind them in the ring.

    Every step is as likely as any other but for B T in 2**32. Before there is one, what comes has
    no meaning.

    Args:
      numbers: uint32 [M], random bits.
      ring: B T below 2**31.
      time: int32 [], steps of every environment so far.
      lookahead: steps that must lie behind one.
    """
    size = jnp.maximum(count(ring, time, lookahead), 1).astype(jnp.uint32)
    pick = jax.lax.rem(numbers, jnp.broadcast_to(ring.num_envs * size, numbers.shape))
    env = jax.lax.div(pick, jnp.broadcast_to(size, numbers.shape))
    age = (pick - env * size).astype(jnp.int32)
    return Index(env.astype(jnp.int32), jnp.maximum(time - ring.length, 0) + age)


def sequences(ring: Ring, index: Index, length: int) -> Steps:
    """The L steps from each of `index` on, leaves [M, L, ...]."""
    return ring.layout.unpack(_rows(ring, index, length))


def transitions(ring: Ring, index: Index, n: int, discount: jax.Array | float) -> Transitions:
    """The n-step transition from each of `index` on (Sutton 1988; as in Rainbow)."""
    rows = _rows(ring, index, n + 1)
    steps: Steps = ring.layout.unpack(rows)
    by_time = lambda x: jnp.swapaxes(x[:, :n], 0, 1)
    reward, decay, last = returns.n_step(
        by_time(steps.reward), by_time(steps.terminated), by_time(steps.truncated), discount
    )
    first: Steps = ring.layout.unpack(rows[:, 0])
    following: Steps = ring.layout.unpack(_pick(rows[:, 1:], last))
    next_obs = following.obs
    if ring.limit is not None:
        cut = _pick(steps.truncated[:, :n], last)
        final = _final(ring, Index(index.env, index.time + last))
        choose = lambda x, y: jnp.where(cut.reshape(cut.shape + (1,) * (x.ndim - 1)), x, y)
        next_obs = jax.tree.map(choose, final, next_obs)
    return Transitions(first.obs, first.action, reward, next_obs, decay)


def final_observations(ring: Ring, index: Index, truncated: jax.Array) -> Any:
    """The true final observation, leaves [M, ...], after the first truncation in each sequence.

    Where bool [M, L] `truncated` is nowhere true, what comes has no meaning; None if episodes of
    this environment are never truncated.
    """
    if ring.limit is None:
        return None
    return _final(ring, Index(index.env, index.time + truncated.argmax(1).astype(jnp.int32)))


def _final(ring: Ring, index: Index) -> Any:
    """The final observations kept for the steps of `index`, leaves [M, ...]."""
    assert ring.limit is not None
    slot = _remainder(jax.lax.div(index.time, _like(ring.limit, index.time)), ring.finals.shape[1])
    return ring.final_layout.unpack(_gather(ring.finals, index.env, slot))


def _rows(ring: Ring, index: Index, length: int) -> jax.Array:
    """uint32 [M, L, W]."""
    steps = jnp.arange(length, dtype=jnp.int32).reshape(1, -1)
    slot = _remainder(index.time.reshape(-1, 1) + steps, ring.length)
    return _gather(ring.rows, index.env.reshape(-1, 1), slot)


def _gather(buffer: jax.Array, env: jax.Array, slot: jax.Array) -> jax.Array:
    """Rows of `buffer` [B, T, W]: int32 env and slot of one shape [...] -> [..., W].

    XLA's CPU backend works out an index again for every word that is read, and reads again for
    every use: with barriers before and after, indices are worked out once and rows read once, which
    takes two thirds of the time.
    """
    at = jax.lax.optimization_barrier(env * buffer.shape[1] + slot)
    rows = _take(buffer.reshape(-1, buffer.shape[-1]), at.reshape(-1))
    return over_devices(jax.lax.optimization_barrier(rows.reshape(*at.shape, -1)))


def _take(buffer: jax.Array, at: jax.Array) -> jax.Array:
    """Rows of `buffer` [N, W]: int32 [M] -> [M, W]; there is no check that `at` is below N."""
    few_of_many = at.size * buffer.shape[1] <= FEW and buffer.size >= MANY
    ways = {"cpu": _take_in_place} if few_of_many else {}
    return jax.lax.platform_dependent(buffer, at, default=_take_plainly, **ways)


def _take_plainly(buffer: jax.Array, at: jax.Array) -> jax.Array:
    return buffer.at[at].get(mode="promise_in_bounds", wrap_negative_indices=False)


def _take_in_place(buffer: jax.Array, at: jax.Array) -> jax.Array:
    """The same, into the beginning of an array of one row more.

    XLA's CPU backend takes a few rows of a large array for a read of all of it, and splits that
    over threads. They meet after it, and what follows may go on on another core, which has nothing
    of it in its cache. What is written in place into something larger is never split.
    """
    larger = jnp.zeros((1, at.size + 1, buffer.shape[1]), buffer.dtype)
    start = jax.lax.optimization_barrier(jnp.int32(0))  # of a known one XLA makes something else
    written = write(larger, _take_plainly(buffer, at)[None], start)
    return jax.lax.optimization_barrier(written)[0, :-1]


def _like(number: int, x: jax.Array) -> jax.Array:
    return jnp.full(x.shape, number, x.dtype)


def _remainder(x: jax.Array, size: int) -> jax.Array:
    """x % size of x >= 0: `%` also tells signs apart."""
    return jax.lax.rem(x, _like(size, x))


def _pick(x: jax.Array, column: jax.Array) -> jax.Array:
    """[M, L, ...], int32 [M] -> [M, ...]: one column of each row."""
    if x.shape[1] == 1:
        return x[:, 0]
    at = column.reshape(column.shape + (1,) * (x.ndim - 1))
    return jnp.take_along_axis(x, at, 1)[:, 0]


def write(buffer: jax.Array, block: jax.Array, start: jax.Array) -> jax.Array:
    """`buffer` [B, T, ...] with `block` [B, K, ...] in its columns from int32 [] `start` on.

    `vmap` of `dynamic_update_slice` is a scatter even where all members write to one place. This
    one stays what it is, one copy of contiguous bytes for each environment.
    """
    return _writer(1)(buffer, block, start)


def read(buffer: jax.Array, start: jax.Array, length: int) -> jax.Array:
    """The columns `start` to `start + length` of `buffer` [B, T, ...]; under `vmap` as `write`."""
    return _reader(1, length)(buffer, start)


def _unless_batched(plain: Callable[..., Any], outer: Callable[..., Any]) -> Callable[..., Any]:
    """`plain`, and under vmap `outer` as long as the last argument is shared by the batch."""
    function = jax.custom_batching.custom_vmap(plain)

    @function.def_vmap
    def rule(size: int, batched: Any, *args: Any):
        if batched[-1]:
            return jax.vmap(plain, tuple(0 if b else None for b in batched))(*args), True
        wide = lambda x, b: x if b else jnp.broadcast_to(x, (size, *x.shape))
        spread = [wide(x, b) for x, b in zip(args[:-1], batched[:-1], strict=True)]
        return outer(*spread, args[-1]), True

    return function


@functools.cache
def _writer(axis: int) -> Callable[..., jax.Array]:
    def plain(buffer: jax.Array, block: jax.Array, start: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(buffer, block, start, axis)

    return _unless_batched(plain, lambda *args: _writer(axis + 1)(*args))


@functools.cache
def _reader(axis: int, length: int) -> Callable[..., jax.Array]:
    def plain(buffer: jax.Array, start: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(buffer, start, length, axis)

    return _unless_batched(plain, lambda *args: _reader(axis + 1, length)(*args))
