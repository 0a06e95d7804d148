"""Operators of action values against brute force, rlax and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from purerl.ops import q_learning

pytestmark = pytest.mark.usefixtures("strict_ranks")
RNG = np.random.default_rng(0)


def project_by_hand(atoms, probs, support):
    """Algorithm 1 of the C51 paper, atom by atom."""
    support = support.astype(np.float64)
    step = (support[-1] - support[0]) / (len(support) - 1)
    out = np.zeros(len(support))
    for atom, mass in zip(atoms, probs, strict=True):
        place = (np.clip(atom, support[0], support[-1]) - support[0]) / step
        place = min(place, len(support) - 1)
        low, high = int(np.floor(place)), int(np.ceil(place))
        if low == high:
            out[low] += mass
        else:
            out[low] += mass * (high - place)
            out[high] += mass * (place - low)
    return out


@pytest.mark.parametrize("size", [2, 11, 51])
def test_projection_equals_brute_force_and_rlax(size):
    support = np.linspace(-3.0, 5.0, size).astype(np.float32)
    atoms = RNG.normal(1.0, 4.0, (20, 17)).astype(np.float32)
    atoms[0, :3] = [-3.0, 5.0, 100.0]
    probs = RNG.dirichlet(np.ones(17), 20).astype(np.float32)
    found = q_learning.project(atoms, probs, jnp.asarray(support))
    by_hand = [project_by_hand(a, p, support) for a, p in zip(atoms, probs, strict=True)]
    np.testing.assert_allclose(found, by_hand, atol=2e-6)
    order = np.argsort(atoms, 1)  # rlax wants rising atoms
    theirs = jax.vmap(rlax.categorical_l2_project, (0, 0, None))(
        np.take_along_axis(atoms, order, 1), np.take_along_axis(probs, order, 1), support
    )
    np.testing.assert_allclose(found, theirs, atol=2e-5)


@pytest.mark.parametrize(
    ("low", "high", "nearest"), [(0.0, 30.0, 0.0), (-10.0, 10.0, 0.0), (2.0, 4.0, 2.0)]
)
def test_what_expects_about_nothing(low, high, nearest):
    support = q_learning.support(low, high, 51)
    probs = jax.nn.softmax(q_learning.nothing_expected(support))
    assert abs(probs @ support - nearest) < 0.06 * (high - low)
    # Everything can still be learnt: float32 has room for the least likely atom.
    assert probs.min() > 1e-10


def test_projection_keeps_mass_and_mean():
    support = jnp.linspace(-10.0, 10.0, 51)
    atoms = RNG.uniform(-9, 9, (50, 30)).astype(np.float32)
    probs = RNG.dirichlet(np.ones(30), 50).astype(np.float32)
    found = q_learning.project(atoms, probs, support)
    np.testing.assert_allclose(found.sum(1), 1.0, atol=1e-5)
    np.testing.assert_allclose(found @ support, (atoms * probs).sum(1), atol=1e-4)


def test_cross_entropy_is_least_where_the_distributions_agree():
    probs = RNG.dirichlet(np.ones(5), 3).astype(np.float32)
    entropy = -(probs * np.log(probs)).sum(1)
    np.testing.assert_allclose(q_learning.cross_entropy(np.log(probs), probs), entropy, rtol=1e-5)
    gradient = jax.grad(lambda x: q_learning.cross_entropy(x, probs).sum())(np.log(probs))
    np.testing.assert_allclose(gradient, 0.0, atol=1e-6)


def test_quantile_huber_equals_brute_force():
    quantiles, targets = RNG.normal(size=(4, 5)), RNG.normal(size=(4, 7)) * 2
    expected = np.zeros(4)
    for row in range(4):
        for i, theta in enumerate(quantiles[row]):
            for target in targets[row]:
                u = target - theta
                huber = 0.5 * u**2 if abs(u) <= 1 else abs(u) - 0.5
                expected[row] += abs((i + 0.5) / 5 - (u < 0)) * huber / 7
    found = q_learning.quantile_huber(jnp.asarray(quantiles), jnp.asarray(targets))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_gradient_of_quantile_huber_is_that_of_its_formula():
    """Which is written out; kappa below and above most errors, and traced as it is in agents."""
    quantiles, targets = RNG.normal(size=(4, 5)), RNG.normal(size=(4, 7)) * 2
    row_weights = jnp.asarray(RNG.uniform(size=4), jnp.float32)

    def plain(theta, kappa):
        error = targets[:, None, :] - theta[:, :, None]
        inside = jnp.abs(error) <= kappa
        huber = jnp.where(inside, 0.5 * error**2, kappa * (jnp.abs(error) - 0.5 * kappa))
        middle = (jnp.arange(5) + 0.5) / 5
        loss = jnp.abs(middle[None, :, None] - (error < 0.0)) * huber / kappa
        return (row_weights * loss.mean(-1).sum(-1)).sum()

    def ours(theta, kappa):
        return (row_weights * q_learning.quantile_huber(theta, targets, kappa)).sum()

    for kappa in (0.1, 1.0, 10.0):
        at = jnp.asarray(quantiles, jnp.float32), jnp.float32(kappa)
        np.testing.assert_allclose(ours(*at), plain(*at), rtol=1e-5)
        found = jax.jit(jax.grad(ours))(*at)
        np.testing.assert_allclose(found, jax.grad(plain)(*at), rtol=1e-5, atol=1e-6)


def test_quantile_huber_of_kappa_0_is_the_quantile_loss():
    """And finite, as is its gradient, where an error is exactly 0."""
    quantiles = jnp.asarray(RNG.normal(size=(4, 5)), jnp.float32)
    targets = jnp.concatenate([quantiles[:, :1], quantiles[:, 1:3] * 2], 1)
    error = np.asarray(targets)[:, None, :] - np.asarray(quantiles)[:, :, None]
    weight = np.abs(((np.arange(5) + 0.5) / 5).reshape(1, 5, 1) - (error < 0))
    loss = lambda q: q_learning.quantile_huber(q, targets, jnp.float32(0.0)).sum()
    np.testing.assert_allclose(loss(quantiles), (weight * np.abs(error)).mean(-1).sum(), rtol=1e-5)
    slope = -(weight * np.sign(error)).mean(-1)
    np.testing.assert_allclose(jax.grad(loss)(quantiles), slope, rtol=1e-5, atol=1e-6)


def test_quantile_huber_is_least_at_the_quantiles():
    samples = jnp.asarray(RNG.exponential(5.0, (1, 4000)))  # broad, so that kappa hardly matters
    quantiles = jnp.zeros((1, 4))
    step = jax.jit(jax.grad(lambda q: q_learning.quantile_huber(q, samples, 0.05).sum()))
    for _ in range(4000):
        quantiles -= 0.05 * step(quantiles)
    wanted = np.quantile(samples, [0.125, 0.375, 0.625, 0.875])
    np.testing.assert_allclose(quantiles[0], wanted, rtol=0.05)


def test_of_action_is_indexing():
    x = RNG.normal(size=(6, 4, 3)).astype(np.float32)
    action = np.array([0, 3, 2, 2, 1, 0], np.int32)
    np.testing.assert_array_equal(q_learning.of_action(x, action), x[np.arange(6), action])
    np.testing.assert_array_equal(
        q_learning.of_action(x[..., 0], action), x[np.arange(6), action, 0]
    )


def test_epsilon_greedy():
    value = jnp.tile(jnp.array([[0.0, 2.0, 1.0, -1.0]]), (40_000, 1))
    numbers = jax.random.uniform(jax.random.key(0), (2, 40_000))
    action = q_learning.epsilon_greedy(numbers, value, 0.4)
    share = np.bincount(action, minlength=4) / 40_000
    np.testing.assert_allclose(share, [0.1, 0.7, 0.1, 0.1], atol=0.01)
    assert (q_learning.epsilon_greedy(numbers, value, 0.0) == 1).all()


def test_epsilon_falls_linearly_and_stays():
    share = jnp.array([0.0, 0.25, 0.5, 1.0])
    epsilon = q_learning.linear_epsilon(share, 0.5, 0.1)
    np.testing.assert_allclose(epsilon, [1.0, 0.55, 0.1, 0.1], rtol=1e-6)
    at_once = q_learning.linear_epsilon(share, 0.0, 0.1)
    np.testing.assert_allclose(at_once, [0.1] * len(share), rtol=1e-6)


def test_huber_is_half_the_square_and_then_linear():
    error = jnp.linspace(-3.0, 3.0, 61)
    np.testing.assert_allclose(q_learning.huber(error), rlax.huber_loss(error), atol=1e-6)
    slope = jax.vmap(jax.grad(q_learning.huber))(error)
    np.testing.assert_allclose(slope, np.clip(error, -1.0, 1.0), atol=1e-6)
