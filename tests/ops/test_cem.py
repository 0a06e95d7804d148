"""The cross-entropy method against NumPy, and on functions whose optimum is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl.ops import cem

pytestmark = pytest.mark.usefixtures("strict_ranks")

KEY = jax.random.key(0)
TOP = jnp.array([[0.3, -0.7], [0.0, 0.9], [5.0, -0.2]])  # of each problem; one is out of bounds


def quadratic(key, x):
    weight = jnp.array([1.0, 3.0]).reshape(1, 1, 2)
    return -(weight * jnp.square(x - TOP[:, None])).sum(2)


def start(problems=3, *shape, deviation=0.5):
    shape = (problems, *(shape or (2,)))
    return cem.Belief(jnp.zeros(shape), jnp.full(shape, deviation))


def test_the_top_of_a_quadratic_is_found_and_the_bounds_are_kept():
    found, _ = cem.maximize(KEY, quadratic, start(), 64, 16, 20)
    np.testing.assert_allclose(found.mean, jnp.clip(TOP, -1.0, 1.0), atol=0.06)
    assert found.deviation.max() < 0.01
    wide = start(deviation=4.0)
    wider, _ = cem.maximize(KEY, quadratic, wide, 64, 8, 20, low=-9.0, high=9.0)
    np.testing.assert_allclose(wider.mean, TOP, atol=0.05)


def test_one_iteration_is_that_of_numpy():
    population, elites, smoothing = 16, 5, 0.3
    belief = cem.Belief(0.2 * TOP[:2], jnp.full((2, 2), 0.8))
    score = lambda key, x: quadratic(key, jnp.concatenate([x, x[:1]]))[:2]
    found, best = cem.maximize(KEY, score, belief, population, elites, 1, smoothing)
    mean, top = np.asarray(belief.mean), np.asarray(TOP)
    sample_key, _ = jax.random.split(jax.random.fold_in(KEY, 0))
    half = np.asarray(jax.random.normal(sample_key, (2, population // 2, 2)))
    noise = np.stack([half, -half], 2).reshape(2, population, 2)
    for i in range(2):
        x = np.clip(mean[i] + 0.8 * noise[i], -1, 1)
        assert (np.abs(x) == 1).any(), "no candidate was clipped"
        value = -(np.square(x - top[i]) * [1, 3]).sum(1)
        rows = np.argsort(-value)[:elites]
        moved = smoothing * mean[i] + (1 - smoothing) * x[rows].mean(0)
        spread = smoothing * 0.8 + (1 - smoothing) * x[rows].std(0)
        np.testing.assert_allclose(found.mean[i], moved, atol=1e-6)
        np.testing.assert_allclose(found.deviation[i], spread, atol=1e-6)
        assert best[0, i] == pytest.approx(value[rows].mean(), abs=1e-5)


@pytest.mark.parametrize("settings", [{"iterations": 0}, {"iterations": 3, "smoothing": 1.0}])
def test_without_iterations_or_all_smooth_the_belief_stays(settings):
    belief = cem.Belief(0.1 * TOP, jnp.full((3, 2), 0.3))
    found, best = cem.maximize(KEY, quadratic, belief, 8, 2, **settings)
    jax.tree.map(np.testing.assert_array_equal, found, belief)
    assert best.shape == (settings["iterations"], 3)


@pytest.mark.parametrize("seed", range(5))
def test_the_elites_of_a_concave_score_never_get_worse(seed):
    _, best = cem.maximize(jax.random.key(seed), quadratic, start(), 64, 8, 12)
    assert (jnp.diff(best, axis=0) >= -1e-6).all()
    assert (best[-1] > best[0]).all()


def test_what_is_no_number_comes_last():
    score = lambda key, x: jnp.where(x[..., 0] > 0.0, jnp.nan, x[..., 0])
    found, best = cem.maximize(KEY, score, start(), 64, 8, 6)
    assert jnp.isfinite(best).all()
    assert (jnp.abs(found.mean[:, 0]) < 0.1).all()


def test_candidates_never_leave_the_bounds():
    score = lambda key, x: jnp.where((jnp.abs(x) > 1.0).any((2, 3)), 1e9, x.sum((2, 3)))
    found, best = cem.maximize(KEY, score, start(2, 3, 2, deviation=10.0), 32, 4, 5)
    assert 5.0 < best.max() <= 6.0
    assert (found.mean > 0.5).all()
    assert (found.mean <= 1.0).all()


def test_a_flat_score_leaves_the_mean_where_it_is():
    """Candidates come in pairs around it, and of equals the first are taken."""
    belief = start(2, 4)._replace(mean=jnp.full((2, 4), 0.2))
    belief = belief._replace(deviation=jnp.full((2, 4), 0.1))
    found, _ = cem.maximize(KEY, lambda key, x: jnp.zeros(x.shape[:2]), belief, 15, 6, 3)
    np.testing.assert_allclose(found.mean, belief.mean, atol=1e-6)


def test_problems_do_not_see_each_other():
    other = lambda key, x: quadratic(key, x).at[1].multiply(-1.0)
    one, _ = cem.maximize(KEY, quadratic, start(), 16, 4, 4)
    two, _ = cem.maximize(KEY, other, start(), 16, 4, 4)
    np.testing.assert_array_equal(one.mean[jnp.array([0, 2])], two.mean[jnp.array([0, 2])])
    assert (one.mean[1] != two.mean[1]).any()


def test_every_iteration_has_its_own_chances_and_a_score_its_own_key():
    flat = lambda key, x: jax.random.normal(key, x.shape[:2])
    _, best = cem.maximize(KEY, flat, start(), 16, 4, 6)
    assert len(np.unique(best)) == best.size
    with jax.debug_key_reuse(True):
        jax.make_jaxpr(lambda key: cem.maximize(key, flat, start(), 16, 4, 2))(KEY)
