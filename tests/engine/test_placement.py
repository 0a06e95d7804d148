"""Rows of members on a mesh: nobody is lost, nobody is doubled, and padding is never active."""

import collections
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl import UsageError
from purerl.engine.placement import CPU_BATCH, Placement, place

DEVICES = len(jax.devices())


def placed(members, shards, batch):
    """A placement on a mesh that this machine need not have: only its arithmetic is used."""

    class Mesh:
        shape = {"population": shards, "data": 1}
        size = shards

    return Placement(members, batch, Mesh())  # type: ignore[arg-type]


CASES = [(m, d, b) for m in (1, 2, 7, 12, 64) for d in (1, 2, 3, 8) for b in (1, 2, 5)]


@pytest.mark.parametrize(("members", "shards", "batch"), CASES)
def test_every_member_has_one_row(members, shards, batch):
    place = placed(members, shards, batch)
    order = place.order()
    assert order.shape == (place.rows,) == (shards * place.local,)
    assert place.local % batch == 0
    assert sorted(order[order >= 0]) == list(range(members))
    assert place.rows - members < shards * batch + shards  # little padding


@pytest.mark.parametrize(("members", "shards", "batch"), CASES)
def test_groups_cover_the_active_rows(members, shards, batch):
    """After compacting, the groups that run hold all active rows, and are as few as can be."""
    place = placed(members, shards, batch)
    rng = np.random.default_rng(members)
    for share in (0.0, 0.3, 1.0):
        active = (place.order() >= 0) & (rng.random(place.rows) <= share)
        order = place.compact(active)
        assert sorted(order) == list(range(place.rows))
        moved = active[order]
        groups = place.groups(moved)
        runs = np.arange(place.local) < groups[:, None] * batch
        assert not (moved.reshape(shards, -1) & ~runs).any()
        most = -(-int(active.sum()) // shards)
        assert groups.max() == -(-most // batch)
        by_shard = moved.reshape(shards, -1).sum(1)
        assert by_shard.max() - by_shard.min() <= 1


def test_a_world_that_indexes_by_nothing_compiles_on_two_devices():
    """XLA 0.11 crashed the process on shard_map's operands of no elements (SpaceInvaders)."""
    if DEVICES < 2:
        pytest.skip("needs two devices")
    where = place(members=2, devices=2)
    nothing = jnp.zeros(0, jnp.int32)

    def body(x):
        seen = x.at[nothing].set(jnp.zeros((0, 3)))  # closes over what has no elements
        return jax.lax.fori_loop(0, 3, lambda i, y: y.at[nothing].set(0.0) + 1.0, seen)

    run = jax.jit(where.each_shard(body, (True,)))
    closed = jax.make_jaxpr(where.each_shard(body, (True,)))(jnp.zeros((2, 3)))
    assert all(np.size(c) for c in closed.consts)
    np.testing.assert_array_equal(run(jnp.zeros((2, 3))), 3.0)


def test_what_is_chosen():
    sizes = lambda **kwargs: (lambda p: (p.shards, p.data, p.batch, p.local))(place(**kwargs))
    assert CPU_BATCH == 4  # the lines below count on it
    assert sizes(members=12, devices=1) == (1, 1, 4, 12)
    assert sizes(members=7, devices=1) == (1, 1, 4, 8)  # a prime number is padded, not run singly
    assert sizes(members=5, devices=1) == (1, 1, 3, 6)
    assert sizes(members=12, devices=1, batch=100) == (1, 1, 12, 12)
    assert sizes(members=12, devices=1, batch=5) == (1, 1, 4, 12)
    assert sizes(members=12, devices=1, groups=6) == (1, 1, 2, 12)
    assert sizes(members=2, devices=1, groups=6) == (1, 1, 1, 2)
    if DEVICES >= 2:
        assert sizes(members=12, devices=2) == (2, 1, 3, 6)
        assert sizes(members=1, devices=2) == (1, 1, 1, 1)  # the other has nothing to do
        assert sizes(members=3, devices=2, data_parallel=2) == (1, 2, 3, 3)
        assert sizes(members=3, devices=2, data_parallel="all") == (1, 2, 3, 3)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"devices": 0}, "devices=0: must be positive"),
        ({"devices": 10_000}, f"devices=10000: there are {DEVICES} ("),
        ({"data_parallel": 0}, "data_parallel=0: must be positive"),
        ({"devices": 1, "data_parallel": 2}, "data_parallel=2: must divide devices=1"),
    ],
)
def test_what_cannot_be(kwargs, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        place(4, **kwargs)


def test_every_process_has_a_part(monkeypatch):
    """A process without a device would wait for nothing, or not know how much memory it has."""
    Device = collections.namedtuple("Device", ["platform", "process_index"])
    monkeypatch.setattr(jax, "devices", lambda: [Device("cpu", i // 2) for i in range(4)])
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    said = "devices=2: leaves 1 of 2 processes without any; there are 4, in the order of processes"
    with pytest.raises(UsageError, match=f"^{said}$"):
        place(8, devices=2)
