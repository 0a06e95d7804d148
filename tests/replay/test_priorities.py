"""The sum tree against plain sums; draws in proportion; weights that undo them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from purerl.replay import Index, priorities
from purerl.replay.priorities import BRANCHES


def consistent(tree):
    """Every level holds the sums of the one below."""
    for below, level in zip(tree.levels, tree.levels[1:], strict=False):
        sums = np.asarray(below).reshape(*level.shape, BRANCHES).sum(2)
        np.testing.assert_allclose(level, sums, rtol=1e-6)


def random_updates(tree, length, seed, rounds=20, batch=32):
    rng = np.random.default_rng(seed)
    envs = tree.highest.shape[0]
    leaves = np.asarray(tree.levels[0]).copy()
    update = jax.jit(priorities.update, static_argnums=1)
    for _ in range(rounds):
        pick = rng.choice(envs * length, batch, replace=False)
        env, slot = (x.astype(np.int32) for x in np.divmod(pick, length))
        value = rng.gamma(0.5, size=batch).astype(np.float32)
        leaves[env, slot] = value
        time = slot + length * rng.integers(0, 3)
        index = Index(jnp.asarray(env), jnp.asarray(time, jnp.int32))
        tree = update(tree, length, index, jnp.asarray(value))
    return tree, leaves


@pytest.mark.parametrize(("envs", "length"), [(1, 5), (2, 64), (3, 100), (2, 5000), (1, 300_000)])
def test_updates_keep_every_sum(envs, length):
    tree, leaves = (
        random_updates(priorities.init(envs, length), length, 0)[:2]
        if (envs * length >= 32)
        else random_updates(priorities.init(envs, length), length, 0, batch=3)
    )
    np.testing.assert_array_equal(tree.levels[0], leaves)
    consistent(tree)
    assert tree.levels[-1].shape[1] <= BRANCHES


def test_the_first_choice_of_each_draw_is_in_a_stratum_of_its_own():
    found = priorities.numbers(jax.random.key(0), priorities.init(2, 64), (3, 128))
    strata = np.floor(np.asarray(found[:, 0]) * 128)
    np.testing.assert_array_equal(strata, np.broadcast_to(np.arange(128), (3, 128)))
    others = np.asarray(found[:, 1:])
    assert 0.0 <= others.min() < 0.1
    assert 0.9 < others.max() < 1.0


@pytest.mark.parametrize("block", [1, 4, 20])
@pytest.mark.parametrize("lookahead", [0, 1, 3])
@pytest.mark.parametrize("length", [20, 140])
def test_inserts_open_and_close_rows(block, lookahead, length):
    """Drawable is what has enough behind it and was not written over, through wrap-around."""
    tree = priorities.init(2, length)
    insert = jax.jit(priorities.insert, static_argnums=(1, 3, 4))
    for time in range(0, 3 * length, block):
        tree = insert(tree, length, jnp.int32(time), block, lookahead)
        end = time + block
        expected = np.zeros(tree.levels[0].shape[1])
        for t in range(max(0, end - length), end - lookahead):
            expected[t % length] = 1.0
        np.testing.assert_array_equal(tree.levels[0][0], expected)
        consistent(tree)


def test_new_rows_have_the_highest_priority_so_far():
    tree = priorities.insert(priorities.init(2, 10), 10, jnp.int32(0), 4, 0)
    index = Index(jnp.array([1], jnp.int32), jnp.array([2], jnp.int32))
    tree = priorities.update(tree, 10, index, jnp.array([7.0]))
    tree = priorities.insert(tree, 10, jnp.int32(4), 2, 0)
    assert tree.levels[0][0, 4] == tree.levels[0][1, 5] == 7.0
    assert tree.levels[0][0, 3] == 1.0


@pytest.mark.parametrize(("envs", "length"), [(1, 40), (3, 40), (4, 200)])
def test_draws_are_in_proportion(envs, length):
    tree, leaves = random_updates(priorities.init(envs, length), length, 1)
    numbers = priorities.numbers(jax.random.key(0), tree, (200_000,))
    drawn = jax.jit(priorities.draw, static_argnums=2)(numbers, tree, length, jnp.int32(3 * length))
    leaves = leaves[:, :length].astype(np.float64)
    share = leaves / leaves.sum()
    cells = np.zeros_like(share)
    slot = np.asarray(drawn.index.time) % length
    np.add.at(cells, (np.asarray(drawn.index.env), slot), 1)
    assert (cells[share == 0] == 0).all()
    often = share * cells.sum() > 5
    expected = share[often] * cells.sum()
    found = cells[often] * expected.sum() / cells[often].sum()
    assert stats.chisquare(found, expected).pvalue > 1e-3
    np.testing.assert_allclose(drawn.probability, share[drawn.index.env, slot], rtol=1e-5)


def test_drawn_times_are_those_of_the_rows():
    length, time = 10, 37
    tree = priorities.init(1, length)
    for t in range(time):
        tree = priorities.insert(tree, length, jnp.int32(t), 1, 2)
    numbers = priorities.numbers(jax.random.key(0), tree, (500,))
    drawn = priorities.draw(numbers, tree, length, jnp.int32(time))
    assert set(np.asarray(drawn.index.time)) == set(range(time - length, time - 2))


def test_what_has_no_priority_is_never_drawn():
    """Not at the ends of the numbers, where rounding could."""
    length, batch = 1000, 512
    rng = np.random.default_rng(0)
    value = jnp.asarray(rng.gamma(0.5, size=2 * length) * (rng.random(2 * length) < 0.1))
    env, slot = (x.ravel().astype(np.int32) for x in np.meshgrid([0, 1], np.arange(length)))
    index = Index(jnp.asarray(env), jnp.asarray(slot))
    tree = priorities.update(priorities.init(2, length), length, index, jnp.float32(value))
    numbers = priorities.numbers(jax.random.key(0), tree, (batch,))
    ends = jnp.asarray([0.0, 1e-38, 0.5, 1 - 2**-24], jnp.float32)
    for drawn in (numbers, ends[rng.integers(0, 4, numbers.shape)]):
        found = priorities.draw(drawn, tree, length, jnp.int32(length)).index
        assert (tree.levels[0][found.env, found.time] > 0).all()


def test_an_update_that_is_not_wanted_changes_nothing():
    tree, _ = random_updates(priorities.init(2, 100), 100, 0)
    index = Index(jnp.array([0, 1, 1]), jnp.array([0, 7, 7]))
    update = jax.jit(priorities.update, static_argnums=1)
    same = update(tree, 100, index, jnp.full(3, 1e6), jnp.bool_(False))
    jax.tree.map(np.testing.assert_array_equal, same, tree)
    other = update(tree, 100, index, jnp.full(3, 1e6), jnp.bool_(True))
    assert (other.levels[0][index.env, index.time] == 1e6).all()
    consistent(other)


def test_importance_weights_are_unbiased():
    """With beta 1 the weighted mean over draws is the plain mean over all rows."""
    length = 50
    tree, leaves = random_updates(priorities.init(2, length), length, 2, rounds=10)
    leaves = np.maximum(leaves, 0.05)
    env, slot = (x.ravel().astype(np.int32) for x in np.meshgrid([0, 1], np.arange(length)))
    index = Index(jnp.asarray(env), jnp.asarray(slot))
    tree = priorities.update(tree, length, index, jnp.asarray(leaves[env, slot]))
    numbers = priorities.numbers(jax.random.key(3), tree, (400_000,))
    drawn = priorities.draw(numbers, tree, length, jnp.int32(length))
    value = np.random.default_rng(0).normal(size=(2, length))
    weight = np.asarray(priorities.importance(drawn, jnp.float32(2 * length), 1.0), np.float64)
    assert weight.max() == 1.0
    seen = value[drawn.index.env, drawn.index.time]
    estimate = (weight * seen).sum() / weight.sum()
    spread = np.sqrt(np.average((seen - estimate) ** 2, weights=weight**2) / len(seen))
    assert abs(estimate - value.mean()) < 5 * max(spread, 1e-3)
    assert abs(seen.mean() - value.mean()) > 5 * spread  # without weights it would be biased
    none = priorities.importance(drawn, jnp.float32(2 * length), 0.0)
    assert (none == 1.0).all()


def test_inserts_do_not_scatter_under_vmap():
    tree = priorities.init(2, 5000)
    wide = jax.tree.map(lambda x: jnp.broadcast_to(x, (4, *x.shape)), tree)
    insert = lambda tree, time: priorities.insert(tree, 5000, time, 4, 3)
    jaxpr = jax.make_jaxpr(jax.vmap(insert, (0, None)))(wide, jnp.int32(8))
    assert "scatter" not in str(jaxpr)
    draw = lambda numbers, tree, time: priorities.draw(numbers, tree, 5000, time)
    numbers = jnp.zeros((4, *priorities.numbers(jax.random.key(0), tree, (8,)).shape))
    assert "scatter" not in str(jax.make_jaxpr(jax.vmap(draw, (0, 0, None)))(numbers, wide, 9))
