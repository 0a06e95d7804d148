"""Running statistics against NumPy over everything seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl.ops import statistics

pytestmark = pytest.mark.usefixtures("strict_ranks")


def seen(batches, shape):
    running = statistics.init(shape)
    for batch in batches:
        running = statistics.update(running, batch)
    return running


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_any_split_gives_the_statistics_of_the_whole(shape, seed):
    rng = np.random.default_rng(seed)
    data = (rng.normal(size=(500, *shape)) * 3 + 20).astype(np.float32)
    cuts = np.sort(rng.choice(np.arange(1, 500), rng.integers(1, 30), replace=False))
    running = seen(np.split(data, cuts), shape)
    assert running.count == 500
    np.testing.assert_allclose(running.mean, data.mean(0, dtype=np.float64), rtol=1e-5)
    np.testing.assert_allclose(running.variance, data.var(0, dtype=np.float64), rtol=1e-4)


def test_leading_axes_are_samples():
    data = np.random.default_rng(0).normal(size=(8, 6, 2)).astype(np.float32)
    over = seen([data[:4], data[4:]], (2,))
    flat = seen([data.reshape(-1, 2)], (2,))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), over, flat)
    assert over.count == 48


def test_a_small_spread_far_from_zero():
    data = (1e4 + np.random.default_rng(0).normal(size=(2000, 1))).astype(np.float32)
    running = seen(np.split(data, 20), (1,))
    np.testing.assert_allclose(running.variance, data.var(0, dtype=np.float64), rtol=0.01)


def test_counting_goes_on_beyond_2_to_the_24():
    full = statistics.Running(jnp.zeros(1), jnp.ones(1), jnp.float32(2**24))
    assert full.count + 1 == full.count  # why batches are added whole
    for _ in range(4):
        full = statistics.update(full, jnp.full((2**20, 1), 2.0))
    assert full.count == 2**24 + 4 * 2**20
    share = 4 / 20
    np.testing.assert_allclose(full.mean, 2.0 * share, rtol=1e-5)
    np.testing.assert_allclose(full.variance, (1 - share) + 4 * share * (1 - share), rtol=1e-5)


def test_a_count_that_stops_growing_keeps_the_variance():
    """It adds to a mean that forgets; what is forgotten must leave the variance too."""
    full = statistics.Running(jnp.zeros(1), jnp.full(1, 4.0), jnp.float32(2.0**44))
    batch = jnp.tile(jnp.array([[-1.0], [1.0]]), (2**19, 1))  # too few to be counted
    for _ in range(8):
        full = statistics.update(full, batch)
    assert full.count == 2.0**44
    assert full.variance < 4.0


def test_nothing_seen_changes_nothing():
    x = jnp.array([[-3.0, 0.5], [9.0, 1e-3]])
    np.testing.assert_array_equal(statistics.normalize(statistics.init((2,)), x), x)


def test_normalized_data_has_mean_0_and_variance_1_and_is_clipped():
    data = (np.random.default_rng(0).normal(size=(4000, 3)) * [1, 5, 0.01] + 7).astype(np.float32)
    running = seen([data], (3,))
    x = statistics.normalize(running, data.reshape(40, 100, 3))
    assert x.shape == (40, 100, 3)
    np.testing.assert_allclose(x.mean((0, 1)), 0.0, atol=1e-3)
    np.testing.assert_allclose(x.std((0, 1)), 1.0, rtol=2e-3)
    np.testing.assert_array_equal(statistics.normalize(running, jnp.full(3, 1e6), 5.0), 5.0)
    np.testing.assert_array_equal(statistics.normalize(running, jnp.full(3, -1e6)), -10.0)


def test_a_constant_feature_stays_finite():
    running = seen([jnp.full((10, 2), 3.0)], (2,))
    np.testing.assert_array_equal(statistics.normalize(running, jnp.full((4, 2), 3.0)), 0.0)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32])
def test_observations_that_are_not_floats(dtype):
    data = np.random.default_rng(0).integers(0, 2, (64, 3)).astype(dtype)
    running = seen([data[:20], data[20:]], (3,))
    np.testing.assert_allclose(running.mean, data.mean(0), rtol=1e-5)
    np.testing.assert_allclose(running.variance, data.var(0), rtol=1e-5)
    normal = statistics.normalize(running, jnp.asarray(data))
    assert normal.dtype == jnp.float32
    np.testing.assert_allclose(normal.mean(0), 0.0, atol=1e-5)


def test_update_keeps_its_types():
    before = statistics.init((3,))
    after = statistics.update(before, jnp.ones((4, 3)))
    aval = lambda x: (x.shape, x.dtype, x.weak_type)
    assert jax.tree.map(aval, before) == jax.tree.map(aval, after)


def test_members_keep_their_own():
    data = np.random.default_rng(0).normal(size=(3, 50, 2)).astype(np.float32)
    data += np.arange(3, dtype=np.float32)[:, None, None]
    many = jax.vmap(statistics.update, (None, 0))(statistics.init((2,)), data)
    np.testing.assert_allclose(many.mean, data.mean(1), rtol=1e-4, atol=1e-5)
