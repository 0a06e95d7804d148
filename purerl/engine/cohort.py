"""The members on their devices: states, keys, hyperparameters, and who sits in which row.

Axes: M members, P rows, E episodes of an evaluation.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl.engine.checkpoint import Checkpoints
from purerl.engine.evolution import evolve
from purerl.engine.placement import Placement, on_host
from purerl.engine.population import EVOLVE, Population, keys, stream
from purerl.engine.programs import Evaluation, Programs, RunState
from purerl.types import Metrics


class Saved(NamedTuple):
    """What a checkpoint holds.

    Attributes:
      state: RunState, every leaf [P, ...].
      hparams: HParams [P] as they are now.
      member: int32 [P], who sits in the row; -1 for padding.
      dropped: int32 [P], the iteration at which halving dropped that member; -1 while it trains.
    """

    state: RunState
    hparams: Any
    member: Any
    dropped: Any


class Cohort:
    """A population in the middle of a run.

    Attributes:
      population: who they are, in the order of members.
      state: RunState in the order of rows.
      hparams: HParams in the order of rows.
      rows: int [P], the member in each row; -1 for padding.
      dropped: int [M], the iteration at which a member was dropped; -1 while it trains.
    """

    def __init__(self, population: Population, place: Placement, programs: Programs):
        self.population, self._place, self._programs = population, place, programs
        self.rows = place.order()
        self.dropped = np.full(population.size, -1)
        self._seat()
        hparams = jax.tree.map(lambda x: x[self._who()], population.hparams)
        self.hparams = place.put(hparams)
        self.state = programs.init(self._keys, self.hparams)

    @property
    def row(self) -> np.ndarray:
        """int [M], the row of each member."""
        return rows_of(self.rows)

    @property
    def active(self) -> int:
        """Members that are still trained."""
        return int((self.dropped < 0).sum())

    @property
    def failed(self) -> np.ndarray:
        """int [M], the iteration at which each turned non-finite, else -1."""
        return failed(self.by_member(self.state.frozen), self.dropped)

    def by_member(self, tree: Any) -> Any:
        """Host arrays [M, ...] of arrays [P, ...]; all processes must ask."""
        row = self.row
        return jax.tree.map(lambda x: np.asarray(x)[row], on_host(tree))

    def members(self) -> RunState:
        """The state with leaves [M, ...], in the order of members."""
        if np.array_equal(self.rows, np.arange(self.population.size)):
            return self.state
        spread = self._place.replicated if jax.process_count() > 1 else None
        return jax.tree.map(lambda x: _take(spread)(x, self.row), self.state)

    def advance(self, step: int, count: int, total: int) -> Metrics:
        """`count` iterations from `step`, of a run of `total`; metrics [P] on the devices."""
        clock = np.int32(step), np.int32(count), np.int32(total)
        self.state, metrics = self._programs.iterate(
            self.state, self._keys, self.hparams, *clock, self._groups
        )
        return metrics

    def evaluate(self, step: int) -> Evaluation:
        """Host arrays [M, E]; of the dropped members, as they were when they were dropped."""
        found = self._evaluate(step, self.dropped < 0)
        for at in np.unique(self.dropped[self.dropped >= 0]):
            then = self._evaluate(int(at), self.dropped == at)
            found = jax.tree.map(lambda x, y: np.where((self.dropped == at)[:, None], y, x),
                                 found, then)  # fmt: skip
        return found

    def drop(self, members: np.ndarray, step: int) -> None:
        """Train these members [n] no further: their learners stay as they are.

        The rows of the others move together, an equal share to every shard; the programs are the
        same, and run over fewer groups.
        """
        self.dropped[members] = step
        stopped = self._place.put(np.where(self._active(), -1, step).astype(np.int32))
        self.state = self.state._replace(frozen=_stop(self.state.frozen, stopped))
        order = self._place.compact(self._active())
        self.rows = self.rows[order]
        self.state, self.hparams = self._reorder((self.state, self.hparams), order)
        self._seat()

    def evolve(self, scores: np.ndarray, step: int) -> int:
        """Let the worst members go on from copies of the best (`evolve`); how many did.

        scores: [M], NaN for those that have none.
        """
        full = np.append(scores, np.nan)[self.rows]  # padding is row -1
        low = jax.tree.map(lambda x: x.min(), self.population.hparams)
        high = jax.tree.map(lambda x: x.max(), self.population.hparams)
        key = stream(jax.random.key(self.population.seeds[0]), EVOLVE, step)
        hparams = jax.tree.map(np.asarray, on_host(self.hparams))
        parent, hparams = jax.device_get(evolve(key, full.astype(np.float32), hparams, low, high))
        self.state, _ = self._reorder((self.state, self.hparams), parent)
        self.hparams = self._place.put(hparams)
        return int((parent != np.arange(len(parent))).sum())

    def save(self, checkpoints: Checkpoints, step: int) -> None:
        """Write a checkpoint in the background."""
        dropped = np.append(self.dropped, -1)[self.rows].astype(np.int32)
        seats = self._place.put((self.rows.astype(np.int32), dropped))
        checkpoints.save(step, Saved(self.state, self.hparams, *seats))

    def restore(self, checkpoints: Checkpoints, step: int) -> None:
        """As a run on any number of devices saved it."""
        rows = checkpoints.rows(step)
        like = jax.eval_shape(
            lambda: Saved(self.state, self.hparams, *(jnp.zeros(len(self.rows), jnp.int32),) * 2)
        )
        if rows == len(self.rows):
            spread = jax.tree.map(lambda _: self._place.population, like)
            spread = spread._replace(state=self._place.shardings(like.state))
        else:
            like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((rows, *x.shape[1:]), x.dtype), like)
            even = rows % self._place.shards == 0
            anywhere = self._place.population if even else self._place.replicated
            spread = jax.tree.map(lambda _: anywhere, like)
        del self.state, self.hparams  # so that what is restored finds room
        saved = checkpoints.restore(step, like, spread)
        member, dropped = on_host((saved.member, saved.dropped))
        seated = member >= 0
        self.dropped[member[seated]] = dropped[seated]
        if rows == len(self.rows):
            self.rows, self.state, self.hparams = member.astype(int), saved.state, saved.hparams
        else:
            row = rows_of(member)
            self.rows = self._place.order()
            order = row[self._who()]
            self.state, self.hparams = self._reorder((saved.state, saved.hparams), order)
            if self.active < self.population.size:
                order = self._place.compact(self._active())
                self.rows = self.rows[order]
                self.state, self.hparams = self._reorder((self.state, self.hparams), order)
        self._seat()

    def _who(self) -> np.ndarray:
        """int [P] the member whose seed and numbers a row has: padding copies the last."""
        return np.where(self.rows < 0, self.population.size - 1, self.rows)

    def _active(self) -> np.ndarray:
        return (self.rows >= 0) & (self.dropped[self._who()] < 0)

    def _seat(self) -> None:
        """What depends on who sits where."""
        seeds = self._place.put(self.population.seeds[self._who()])
        self._keys = _keys(self._place.population)(seeds)
        self._groups = self._place.put(self._place.groups(self._active()))

    def _evaluate(self, step: int, members: np.ndarray) -> Evaluation:
        wanted = self._place.put((self.rows >= 0) & members[self._who()])
        learner = self.state.train.learner
        found = self._programs.evaluate(learner, self._keys, self.hparams, np.int32(step), wanted)
        return self.by_member(found)

    def _reorder(self, tree: tuple[RunState, Any], order: np.ndarray) -> tuple[RunState, Any]:
        """Rows in another order, also from one shard to another."""
        state, hparams = jax.block_until_ready(tree)
        spread = (
            self._place.shardings(state),
            jax.tree.map(lambda _: self._place.population, hparams),
        )
        # One at a time: with several in flight, the devices of a CPU wait for each other in vain.
        take = lambda x, to: jax.block_until_ready(_take(to)(x, order))
        return jax.tree.map(take, (state, hparams), spread)


def rows_of(member: np.ndarray) -> np.ndarray:
    """int [M], the row of each member, of int [P] the member in each row; -1 is padding."""
    seated = np.flatnonzero(member >= 0)
    return seated[np.argsort(member[seated])]


def failed(frozen: np.ndarray, dropped: np.ndarray) -> np.ndarray:
    """int [M], when each turned non-finite, else -1. Halving freezes too: that is no failure."""
    return np.where((dropped >= 0) & (frozen >= dropped), -1, frozen)


@functools.cache
def _keys(sharding: Any) -> Any:
    return jax.jit(keys, out_shardings=sharding)


@functools.cache
def _take(sharding: Any) -> Any:
    return jax.jit(lambda x, order: x[order], out_shardings=sharding)


@jax.jit
def _stop(frozen: jax.Array, stopped: jax.Array) -> jax.Array:
    return jnp.where(frozen < 0, stopped, frozen)
