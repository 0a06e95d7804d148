"""Packing is lossless; the shuffle is a permutation, and a random one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from purerl.ops.batching import pack, shuffles, split, strided, where_row

pytestmark = pytest.mark.usefixtures("strict_ranks")

KEY = jax.random.key(0)
# A true hypothesis falls below this once in 10 000 runs, and the keys here are fixed.
UNLIKELY = 1e-4


def mixed(rows):
    rng = np.random.default_rng(0)
    return {
        "obs": jnp.asarray(rng.normal(size=(rows, 2, 3)), jnp.float32),
        "done": jnp.asarray(rng.random((rows,)) < 0.5),
        "carry": (jnp.asarray(rng.normal(size=(rows, 4)), jnp.float32),),
        "action": jnp.asarray(rng.integers(-9, 9, (rows, 1)), jnp.int32),
        "grid": jnp.asarray(rng.integers(0, 2, (rows, 5, 5)), bool),
        "small": jnp.asarray(rng.integers(0, 255, (rows, 2)), jnp.uint8),
        "nothing": (),
        "empty": jnp.zeros((rows, 0), jnp.float32),
    }


def same(x, y):
    assert jax.tree.structure(x) == jax.tree.structure(y)
    for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_every_row_is_in_one_batch():
    """Neighbours together, or of every stratum some."""
    rows = {"a": jnp.arange(12), "b": jnp.arange(24).reshape(12, 2)}
    for found, wanted in (
        (split(rows, 3), [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]),
        (strided(rows, 3), [[0, 3, 6, 9], [1, 4, 7, 10], [2, 5, 8, 11]]),
    ):
        np.testing.assert_array_equal(found["a"], wanted)
        np.testing.assert_array_equal(found["b"][..., 0], 2 * np.array(wanted))


def test_one_array_a_dtype():
    packed, _ = pack(mixed(7))
    shapes = {name: x.shape for name, x in packed.items()}
    assert shapes == {"float32": (7, 10), "bool": (7, 26), "int32": (7, 1), "uint8": (7, 2)}


@pytest.mark.parametrize("index", [[0, 1, 2, 3, 4, 5, 6], [5], [3, 3, 0], []], ids=str)
def test_unpacked_rows_are_the_rows(index):
    tree = mixed(7)
    packed, unpack = pack(tree)
    index = jnp.asarray(index, jnp.int32)
    rows = unpack({name: x[index] for name, x in packed.items()})
    same(rows, jax.tree.map(lambda x: x[index], tree))


def test_pack_under_vmap():
    members = jax.tree.map(lambda x: jnp.stack([x, x[::-1]]), mixed(7))

    def pick(tree, index):
        packed, unpack = pack(tree)
        return unpack({name: x[index] for name, x in packed.items()})

    index = jnp.array([[2, 5], [0, 6]])
    for i in range(2):
        expected = jax.tree.map(lambda x: x[i][index[i]], members)
        same(jax.tree.map(lambda x: x[i], jax.jit(jax.vmap(pick))(members, index)), expected)


SHAPES = [(1, 1), (1, 7), (7, 1), (2, 2), (13, 1), (5, 7), (16, 8), (31, 37), (128, 64), (2, 1009)]


@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_a_shuffle_is_a_permutation(rows, columns):
    orders = shuffles(KEY, 8, rows, columns)
    assert orders.dtype == jnp.int32
    everything = np.broadcast_to(np.arange(rows * columns), orders.shape)
    np.testing.assert_array_equal(np.sort(orders, 1), everything)
    assert rows * columns < 10 or len(np.unique(orders, axis=0)) == 8


def orders_of(rows, columns, count, rounds=4, seed=0):
    draw = jax.jit(lambda key: shuffles(key, count, rows, columns, rounds))
    return np.asarray(draw(jax.random.key(seed)))


def worst_z(orders, statistic):
    """The largest |z| of the statistics' means against those of NumPy's permutations."""
    rng = np.random.default_rng(0)
    ours = statistic(orders)
    batch = np.broadcast_to(np.arange(orders.shape[1]), orders.shape)
    true = statistic(rng.permuted(batch, axis=1))
    error = np.sqrt((ours.var(0) + true.var(0)) / len(orders) + 1e-12)
    return np.abs((ours.mean(0) - true.mean(0)) / error).max()


def limit_of_z(count):
    return scipy.stats.norm.isf(UNLIKELY / 2 / count)


def together(orders, minibatches=4):
    """[keys, pairs]: whether two rows of the batch fall into one minibatch."""
    size = orders.shape[1]
    where = np.empty_like(orders)
    np.put_along_axis(where, orders, np.broadcast_to(np.arange(size), orders.shape), 1)
    group = where // (size // minibatches)
    first, second = np.triu_indices(size, 1)
    return (group[:, first] == group[:, second]).astype(np.float64)


@pytest.mark.parametrize(("rows", "columns"), [(6, 4), (4, 6), (12, 2), (2, 12)])
def test_every_position_is_equally_likely(rows, columns):
    orders = orders_of(rows, columns, 4000)
    size = rows * columns
    for position in range(size):
        counts = np.bincount(orders[:, position], minlength=size)
        assert scipy.stats.chisquare(counts).pvalue > UNLIKELY / size


PAIRED = [(6, 4), (4, 6), (8, 8), (24, 1), (2, 12), (1, 38)]


@pytest.mark.parametrize(("rows", "columns"), PAIRED)
def test_any_two_rows_share_a_minibatch_equally_often(rows, columns):
    orders = orders_of(rows, columns, 4000)
    pairs = together(orders).shape[1]
    assert worst_z(orders, together) < limit_of_z(pairs)


def test_neighbours_in_the_batch_are_not_neighbours_in_the_order():
    """Steps of one environment, and environments of one step, are spread over minibatches."""
    orders = orders_of(16, 8, 2000)

    def near(orders):
        row, column = np.divmod(orders.reshape(len(orders), 4, -1), 8)
        count = lambda x, n: np.stack([(x == i).sum(-1) for i in range(n)], -1)
        crowd = lambda x, n: np.square(count(x, n)).sum((-1, -2))[:, None]
        return np.concatenate([crowd(row, 16), crowd(column, 8)], 1).astype(np.float64)

    assert worst_z(orders, near) < limit_of_z(2)


def test_one_round_would_be_seen():
    assert worst_z(orders_of(6, 4, 4000, rounds=1), together) > limit_of_z(276)


def test_a_shuffle_sorts_nothing():
    jaxpr = str(jax.make_jaxpr(lambda key: shuffles(key, 2, 64, 128))(KEY))
    assert "sort[" not in jaxpr
    assert "sort[" in str(jax.make_jaxpr(lambda key: jax.random.permutation(key, 64))(KEY))


def test_a_shuffle_uses_no_key_twice():
    with jax.debug_key_reuse(True):
        jax.jit(lambda key: shuffles(key, 2, 3, 5))(jax.random.key(1))


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 2, 2)], ids=str)
def test_where_row_chooses_whole_rows(shape):
    mask = jnp.array([True, False, False, True])
    x, y = jnp.ones(shape), jnp.zeros(shape)
    chosen = where_row(mask, x, y)
    for i in range(4):
        np.testing.assert_array_equal(chosen[i], float(mask[i]))


def test_where_row_takes_keys():
    x, y = jax.random.split(jax.random.key(1), 3), jax.random.split(jax.random.key(2), 3)
    chosen = jax.jit(where_row)(jnp.array([True, False, True]), x, y)
    expected = [x[0], y[1], x[2]]
    assert all((chosen[i] == expected[i]).item() for i in range(3))
