"""Distributions against scipy, numeric integration, frequencies and finite differences."""

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from purerl.distributions import Categorical, MultiCategorical, Normal, TanhNormal

KEY = jax.random.key(0)
NVEC = (3, 1, 2)
# Float32 sums of a few terms of order ten.
CLOSE = {"rtol": 2e-6, "atol": 5e-6}
# A true hypothesis falls below this once in 10 000 runs, and the keys here are fixed.
UNLIKELY = 1e-4


@pytest.fixture(autouse=True)
def _no_rank_promotion():
    with jax.numpy_rank_promotion("raise"):
        yield


def normals(shape, scale=1.0, seed=0):
    values = np.random.default_rng(seed).normal(size=shape) * scale
    return jnp.asarray(values, jnp.float32)


def example(family, batch=(), seed=0):
    """A distribution with `batch` axes; for the Gaussians in two actions."""
    if family is Categorical:
        return Categorical(normals((*batch, 5), 2.0, seed))
    if family is MultiCategorical:
        return MultiCategorical(normals((*batch, sum(NVEC)), 2.0, seed), NVEC)
    mean, log_std = normals((*batch, 2), 1.0, seed), normals((*batch, 2), 0.5, seed + 1)
    return family(mean, log_std)


FAMILIES = [Categorical, MultiCategorical, Normal, TanhNormal]
families = pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)


def everything(d, other, key):
    """The result of every method, by name."""
    action = d.sample(key)
    return {
        "sample": action,
        "mode": d.mode(),
        "log_prob": d.log_prob(action),
        "entropy": d.entropy(key),
        "kl": d.kl(other),
        "squash": d.squash(action),
    }


@families
@pytest.mark.parametrize("batch", [(), (7,), (2, 3)], ids=str)
def test_batch_axes_are_kept(family, batch):
    d = example(family, batch)
    event = {Categorical: (), MultiCategorical: (len(NVEC),)}.get(family, (2,))
    dtype = jnp.int32 if family in (Categorical, MultiCategorical) else jnp.float32
    got = jax.eval_shape(everything, d, d, KEY)
    for name in ("sample", "mode", "squash"):
        assert (got[name].shape, got[name].dtype) == (batch + event, dtype), name
    for name in ("log_prob", "entropy", "kl"):
        assert (got[name].shape, got[name].dtype) == (batch, jnp.float32), name


@families
def test_vmap_over_members_equals_each_alone(family):
    members = [example(family, (4,), seed) for seed in range(3)]
    others = [example(family, (4,), seed + 10) for seed in range(3)]
    stack = lambda trees: jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    keys = jax.random.split(KEY, 3)
    alone = jax.jit(everything)
    together = jax.jit(jax.vmap(everything))(stack(members), stack(others), keys)
    one_by_one = stack([alone(*each) for each in zip(members, others, keys, strict=True)])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), together, one_by_one)


@families
def test_entropy_and_kl_are_what_samples_average_to(family):
    d, other, n = example(family, seed=3), example(family, seed=4), 40_000

    @jax.jit
    def estimates(key):
        action = jax.vmap(d.sample)(jax.random.split(key, n))
        log_p, log_q = jax.vmap(d.log_prob)(action), jax.vmap(other.log_prob)(action)
        return -log_p, log_p - log_q

    entropy, kl = estimates(KEY)
    assert abs(np.mean(kl) - d.kl(other)) < 4.0 * np.std(kl) / np.sqrt(n)
    if family is not TanhNormal:  # whose entropy is itself an estimate, integrated below
        assert abs(np.mean(entropy) - d.entropy()) < 4.0 * np.std(entropy) / np.sqrt(n)


# Categorical


@pytest.mark.parametrize("actions", [2, 18])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_categorical_equals_scipy(actions, scale):
    d, other = Categorical(normals((64, actions), scale)), Categorical(normals((64, actions), 2.0))
    action = np.random.default_rng(1).integers(actions, size=64)
    log_p = scipy.special.log_softmax(np.asarray(d.logits, np.float64), -1)
    q = scipy.special.softmax(np.asarray(other.logits, np.float64), -1)
    np.testing.assert_allclose(d.log_prob(action), log_p[np.arange(64), action], 1e-5, 1e-5)
    np.testing.assert_allclose(d.entropy(), scipy.stats.entropy(np.exp(log_p), axis=-1), 1e-5, 1e-5)
    kl = scipy.stats.entropy(np.exp(log_p), q, axis=-1)
    np.testing.assert_allclose(d.kl(other), kl, 1e-5, 1e-5)
    np.testing.assert_array_equal(d.mode(), np.argmax(log_p, -1))


@pytest.mark.parametrize("actions", [2, 3, 18, 64, 65])  # either side of _INVERSE_CDF_UP_TO
def test_categorical_frequencies(actions):
    logits, n = normals((2, actions)), 50_000
    draw = jax.jit(lambda key: Categorical(jnp.broadcast_to(logits, (n, 2, actions))).sample(key))
    action = np.asarray(draw(KEY))
    for row in range(2):
        seen = np.bincount(action[:, row], minlength=actions)
        expected = n * scipy.special.softmax(np.asarray(logits[row], np.float64))
        assert scipy.stats.chisquare(seen, expected, sum_check=False).pvalue > UNLIKELY
    # The rows of a batch are drawn apart from each other.
    if actions == 3:
        table = np.histogram2d(*action.T, bins=3)[0]
        assert scipy.stats.chi2_contingency(table).pvalue > UNLIKELY


def test_a_single_choice_is_certain():
    d = Categorical(normals((4, 1)))
    np.testing.assert_array_equal(d.sample(KEY), np.zeros(4, np.int32))
    np.testing.assert_allclose(d.log_prob(d.sample(KEY)), np.zeros(4), **CLOSE)


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1.0 - 2.0**-23])
def test_forbidden_action_is_not_drawn_at_the_edge_of_the_uniform(uniform, monkeypatch):
    fixed = lambda key, shape, dtype: jnp.full(shape, uniform, dtype)
    monkeypatch.setattr(jax.random, "uniform", fixed)
    rng = np.random.default_rng(2)
    forbidden = rng.random((5000, 7)) < 0.5
    forbidden[np.arange(5000), rng.integers(7, size=5000)] = False
    logits = jnp.where(forbidden, -jnp.inf, normals((5000, 7), 3.0))
    action = np.asarray(jax.jit(lambda logits: Categorical(logits).sample(KEY))(logits))
    assert not forbidden[np.arange(5000), action].any()


@pytest.mark.parametrize("actions", [4, 65])
def test_forbidden_actions_add_nothing(actions):
    free = normals((6, actions - 2), 2.0)
    wall = jnp.full((6, 1), -jnp.inf)
    masked = Categorical(jnp.concatenate([wall, free, wall], -1))
    other = Categorical(masked.logits * 0.5)
    small, small_other = Categorical(free), Categorical(free * 0.5)
    action = jnp.arange(6, dtype=jnp.int32) % (actions - 2)
    drawn = np.asarray(jax.jit(jax.vmap(masked.sample))(jax.random.split(KEY, 2000)))
    assert drawn.min() >= 1
    assert drawn.max() <= actions - 2
    everywhere = Categorical(jnp.pad(free, [(0, 0), (1, 1)]))
    assert np.all(np.isposinf(everywhere.kl(masked)))
    assert np.all(np.isneginf(masked.log_prob(jnp.zeros(6, jnp.int32))))

    def terms(d, other, action):
        values = d.log_prob(action), d.entropy(), d.kl(other)
        return values[0].sum() + 2.0 * values[1].sum() + 3.0 * values[2].sum(), values

    value_and_grad = jax.jit(jax.value_and_grad(terms, (0, 1), has_aux=True))
    (_, values), gradients = value_and_grad(masked, other, action + 1)
    (_, small_values), small_gradients = value_and_grad(small, small_other, action)
    np.testing.assert_allclose(values, small_values, **CLOSE)
    for gradient, want in zip(gradients, small_gradients, strict=True):
        np.testing.assert_array_equal(gradient.logits[:, [0, -1]], 0.0)
        np.testing.assert_allclose(gradient.logits[:, 1:-1], want.logits, **CLOSE)


def test_categorical_survives_extreme_logits():
    d = Categorical(jnp.array([[3e38, -3e38, 0.0], [-3e38, -3e38, -3e38], [0.0, -200.0, -1e4]]))
    terms = lambda d: jnp.sum(d.entropy() + d.kl(Categorical(jnp.zeros((3, 3)))))
    value, gradient = jax.value_and_grad(terms)(d)
    np.testing.assert_allclose(d.entropy(), [0.0, np.log(3.0), 0.0], atol=1e-6)
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient.logits))
    drawn = np.asarray(jax.vmap(d.sample)(jax.random.split(KEY, 100)))
    np.testing.assert_array_equal(drawn[:, [0, 2]], 0)
    assert set(drawn[:, 1]) == {0, 1, 2}


# MultiCategorical


def test_multi_categorical_is_the_product_of_its_parts():
    d, other = example(MultiCategorical, (9,)), example(MultiCategorical, (9,), 1)
    action = np.random.default_rng(0).integers(NVEC, size=(9, len(NVEC))).astype(np.int32)
    ends = np.cumsum(NVEC)[:-1]
    parts = [Categorical(x) for x in jnp.split(d.logits, ends, -1)]
    others = [Categorical(x) for x in jnp.split(other.logits, ends, -1)]

    def product(parts, others):
        log_prob = sum(part.log_prob(action[:, k]) for k, part in enumerate(parts))
        entropy = sum(part.entropy() for part in parts)
        kl = sum(p.kl(q) for p, q in zip(parts, others, strict=True))
        return log_prob, entropy, kl, jnp.stack([part.mode() for part in parts], -1)

    joint = jax.jit(lambda d, other: (d.log_prob(action), d.entropy(), d.kl(other), d.mode()))
    for got, want in zip(joint(d, other), jax.jit(product)(parts, others), strict=True):
        np.testing.assert_allclose(got, want, **CLOSE)


def test_multi_categorical_joint_frequencies():
    d, n = example(MultiCategorical), 50_000
    action = np.asarray(jax.jit(jax.vmap(d.sample))(jax.random.split(KEY, n)))
    seen = np.bincount(np.ravel_multi_index(tuple(action.T), NVEC), minlength=np.prod(NVEC))
    every = np.stack(np.unravel_index(np.arange(np.prod(NVEC)), NVEC), -1).astype(np.int32)
    expected = n * np.exp(np.asarray(jax.vmap(d.log_prob)(every), np.float64))
    assert scipy.stats.chisquare(seen, expected, sum_check=False).pvalue > UNLIKELY


def test_multi_categorical_names_a_wrong_width():
    with pytest.raises(ValueError, match=r"logits \[\.\.\., 5\] do not fit nvec=\(2, 2\)"):
        MultiCategorical(jnp.zeros((3, 5)), (2, 2)).mode()


# Normal and TanhNormal


def test_normal_equals_scipy():
    d, action = example(Normal, (50,)), normals((50, 2), 3.0, 7)
    law = scipy.stats.norm(np.asarray(d.mean, np.float64), np.exp(np.asarray(d.log_std, float)))
    np.testing.assert_allclose(d.log_prob(action), law.logpdf(action).sum(-1), **CLOSE)
    np.testing.assert_allclose(d.entropy(), law.entropy().sum(-1), **CLOSE)
    np.testing.assert_array_equal(d.mode(), d.mean)


def test_normal_kl_by_integration():
    d = Normal(normals((5, 1)), normals((5, 1), 0.5, 1))
    other = Normal(normals((5, 1), 1.0, 2), normals((5, 1), 0.5, 3))
    x = np.linspace(-15.0, 15.0, 20_001)
    p, q = (scipy.stats.norm(np.asarray(n.mean), np.exp(np.asarray(n.log_std))) for n in (d, other))
    want = np.trapezoid(p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), x, axis=-1)
    np.testing.assert_allclose(d.kl(other), want, rtol=1e-5)


def test_normal_kl_of_nearly_equal_policies():
    log_std = np.float32([[1e-3], [-1e-3], [7e-4], [3e-4]])
    near, standard = Normal(jnp.zeros((4, 1)), jnp.asarray(log_std)), Normal(*jnp.zeros((2, 4, 1)))
    wide = log_std[:, 0].astype(np.float64)
    np.testing.assert_allclose(near.kl(standard), 0.5 * np.expm1(2.0 * wide) - wide, rtol=2e-3)


@pytest.mark.parametrize("family", [Normal, TanhNormal])
def test_shared_log_std_equals_the_same_spread_out(family):
    d = example(family, (6,))
    shared = family(d.mean, d.log_std[0])
    spread = family(d.mean, jnp.broadcast_to(d.log_std[0], (6, 2)))
    got, want = everything(shared, shared, KEY), everything(spread, spread, KEY)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), got, want)
    crossed = shared.kl(example(family, (6,), 5))
    np.testing.assert_allclose(crossed, spread.kl(example(family, (6,), 5)), **CLOSE)


@pytest.mark.parametrize("family", [Normal, TanhNormal])
def test_gaussian_samples(family):
    d, n = example(family), 50_000
    raw = np.asarray(jax.jit(jax.vmap(d.sample))(jax.random.split(KEY, n)))
    for i in range(2):
        law = scipy.stats.norm(float(d.mean[i]), float(jnp.exp(d.log_std[i])))
        assert scipy.stats.kstest(raw[:, i], law.cdf).pvalue > UNLIKELY
    assert abs(np.corrcoef(raw.T)[0, 1]) < 4.0 / np.sqrt(n)
    bounded = np.asarray(d.squash(raw))
    np.testing.assert_allclose(bounded, np.tanh(raw) if family is TanhNormal else raw, rtol=1e-6)


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (1.5, 0.7), (-0.5, -2.0)])
def test_tanh_normal_integrates(mean, log_std):
    """Over a = tanh(u): the density has mass one, and the entropy and the divergence it implies."""
    d = TanhNormal(jnp.array([mean]), jnp.array([log_std]))
    other = TanhNormal(jnp.array([0.2]), jnp.array([0.1]))
    u = np.linspace(mean - 9.0 * np.exp(log_std), mean + 9.0 * np.exp(log_std), 40_001)
    a_per_u = np.cosh(u) ** -2.0
    raw = jnp.asarray(u, jnp.float32)[:, None]
    at = lambda law: np.asarray(jax.vmap(law.log_prob)(raw), np.float64)
    density = np.exp(at(d)) * a_per_u
    assert np.trapezoid(density, u) == pytest.approx(1.0, abs=1e-5)
    kl = np.trapezoid(density * (at(d) - at(other)), u)
    assert float(d.kl(other)) == pytest.approx(kl, rel=1e-4)
    entropy = -np.trapezoid(density * at(d), u)
    one_each = np.asarray(jax.jit(jax.vmap(d.entropy))(jax.random.split(KEY, 20_000)))
    assert abs(one_each.mean() - entropy) < 4.0 * one_each.std() / np.sqrt(20_000)


def test_tanh_normal_log_prob_far_out():
    u = np.array([-50.0, -15.0, -9.3, 0.0, 1e-4, 9.3, 15.0, 50.0])
    d = TanhNormal(jnp.array([0.5]), jnp.array([1.0]))
    # log(1 - tanh^2) = -2 log cosh, which float64 holds up to |u| = 700.
    want = scipy.stats.norm(0.5, np.e).logpdf(u) + 2.0 * np.log(np.cosh(u))
    log_prob = lambda x: d.log_prob(x[None])
    value, slope = jax.vmap(jax.value_and_grad(log_prob))(jnp.asarray(u, jnp.float32))
    np.testing.assert_allclose(value, want, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(slope, 2.0 * np.tanh(u) - (u - 0.5) / np.e**2, rtol=1e-5, atol=1e-6)


# Gradients


@families
def test_gradients_equal_finite_differences(family):
    """In float64, of every parameter, through log_prob, entropy, kl and where it flows the draw."""
    with jax.enable_x64(True):
        wide = lambda tree: jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), tree)
        d, other = wide(example(family, (3,))), wide(example(family, (3,), 5))
        action, weight = d.sample(KEY), jnp.array([0.3, -1.0, 2.0])

        def loss(d, other):
            terms = d.log_prob(action) + 0.7 * d.entropy(KEY) + 1.3 * d.kl(other)
            if family in (Normal, TanhNormal):
                terms = terms + jnp.sum(jnp.sin(d.squash(d.sample(KEY))), -1)
            return jnp.sum(weight * terms)

        flat, unflatten = jax.flatten_util.ravel_pytree((d, other))
        value = jax.jit(lambda x: loss(*unflatten(x)))
        step = 1e-5 * jnp.eye(flat.size)
        sides = [jax.vmap(value)(jnp.broadcast_to(flat, step.shape) + s) for s in (step, -step)]
        slope = jax.jit(jax.grad(value))(flat)
        np.testing.assert_allclose(slope, (sides[0] - sides[1]) / 2e-5, atol=1e-7)
