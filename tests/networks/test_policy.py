"""The Policy law, actions in the environment's units, and networks that are not Linen's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl.distributions import Categorical, MultiCategorical, Normal, TanhNormal
from purerl.networks import actor_critic, bind
from purerl.networks.policy import to_env
from purerl.spaces import Box, Discrete, MultiDiscrete

pytestmark = pytest.mark.usefixtures("strict_ranks")

KEY = jax.random.key(0)
T, B = 9, 4
OBS, ACTIONS = Box.of(-1.0, 1.0, (3,)), Discrete(5)
# The same float32 products, batched over time or not.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@functools.cache
def network(core="none", shared=False, actions=ACTIONS, squash=False):
    policy = actor_critic(
        OBS, actions, hidden_sizes=(8,), core=core, core_size=6, shared=shared, squash=squash
    )
    return policy, jax.jit(policy.init)(KEY)


def some(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def memory(policy, seed=1):
    """A carry full of other episodes' numbers."""
    return jax.tree.map(lambda x: some(seed, x.shape), policy.initial_carry(B))


def close(x, y):
    assert jax.tree.structure(x) == jax.tree.structure(y)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), x, y)


def stepped(policy, params, carry, obs, start):
    def step(carry, now):
        carry, *out = policy.step(params, carry, *now)
        return carry, tuple(out)

    carry, out = jax.lax.scan(step, carry, (obs, start))
    return carry, *out


def starts(seed=2):
    """Starts in the middle, rows with none, and one with two in a row."""
    start = np.random.default_rng(seed).random((T, B)) < 0.25
    start[:, 0], start[3:5, 1] = False, True
    return jnp.asarray(start)


CASES = [(c, s) for c in ("none", "gru", "lstm") for s in (False, True)]
cases = pytest.mark.parametrize(("core", "shared"), CASES)


@cases
def test_unroll_equals_a_scan_of_step(core, shared):
    policy, params = network(core, shared)
    inputs = params, memory(policy), some(3, (T, B, 3)), starts()
    close(jax.jit(policy.unroll)(*inputs), jax.jit(functools.partial(stepped, policy))(*inputs))


@cases
def test_unroll_in_two_parts_equals_one(core, shared):
    policy, params = network(core, shared)
    unroll = jax.jit(policy.unroll)
    obs, start = some(3, (T, B, 3)), starts()
    carry, *whole = unroll(params, memory(policy), obs, start)
    half, *first = unroll(params, memory(policy), obs[:5], start[:5])
    end, *second = unroll(params, half, obs[5:], start[5:])
    close(jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, second), whole)
    close(end, carry)


@cases
def test_a_start_forgets_everything_before_it(core, shared):
    policy, params = network(core, shared)
    unroll = jax.jit(policy.unroll)
    obs, start = some(3, (T, B, 3)), jnp.zeros((T, B), bool).at[4].set(True)
    carry, *with_past = unroll(params, memory(policy), obs, start)
    new, *afresh = unroll(params, policy.initial_carry(B), obs[4:], jnp.zeros((T - 4, B), bool))
    close(jax.tree.map(lambda x: x[4:], with_past), afresh)
    close(carry, new)
    before = unroll(params, policy.initial_carry(B), obs[:4], start[:4])[2]
    if core != "none":  # and without a start it remembers
        assert np.abs(with_past[1][:4] - before).max() > 1e-3


@cases
def test_a_start_is_of_one_row(core, shared):
    """Restarting row 2 leaves the other rows as they were."""
    policy, params = network(core, shared)
    unroll = jax.jit(policy.unroll)
    obs, none = some(3, (T, B, 3)), jnp.zeros((T, B), bool)
    _, _, without = unroll(params, memory(policy), obs, none)
    _, _, value = unroll(params, memory(policy), obs, none.at[4, 2].set(True))
    changed = (value != without).any(0)
    assert changed.tolist() == [False, False, core != "none", False]


@cases
def test_carry_has_the_batch_first(core, shared):
    policy, params = network(core, shared)
    carry = policy.initial_carry(B)
    assert (carry == ()) == (core == "none")
    assert all(x.shape == (B, 6) for x in jax.tree.leaves(carry))
    after, _, value = policy.step(params, carry, some(3, (B, 3)), jnp.ones(B, bool))
    aval = lambda x: (x.shape, x.dtype, x.weak_type)
    assert jax.tree.map(aval, after) == jax.tree.map(aval, carry)
    assert value.shape == (B,)


def test_separate_networks_share_nothing_but_a_shared_one_does():
    for shared in (False, True):
        policy, params = network("gru", shared)
        step = lambda p: policy.step(p, memory(policy), some(3, (B, 3)), jnp.zeros(B, bool))
        of_value = jax.grad(lambda p: step(p)[2].sum())(params)["params"]
        of_policy = jax.grad(lambda p: (step(p)[1].logits ** 2).sum())(params)["params"]
        nonzero = lambda tree: any(map(jnp.any, jax.tree.leaves(tree)))
        touched = lambda grads: {name for name, tree in grads.items() if nonzero(tree)}
        both = touched(of_value) & touched(of_policy)
        assert both == ({"torsos_0", "cores_0"} if shared else set())


@pytest.mark.parametrize(
    ("actions", "squash", "family", "shape"),
    [
        (Discrete(5), False, Categorical, ()),
        (MultiDiscrete((2, 3)), False, MultiCategorical, (2,)),
        (Box.of(-2.0, 2.0, (3,)), False, Normal, (3,)),
        (Box.of(-2.0, 2.0, (3,)), True, TanhNormal, (3,)),
    ],
    ids=lambda x: getattr(x, "__name__", None),
)
def test_the_action_space_decides_the_distribution(actions, squash, family, shape):
    policy, params = network(actions=actions, squash=squash)
    for batch in [(B,), (T, B)]:
        obs = some(3, (*batch, 3))
        run = policy.step if batch == (B,) else policy.unroll
        _, distribution, value = run(params, (), obs, jnp.zeros(batch, bool))
        action = policy.env_action(distribution.squash(distribution.sample(KEY)))
        assert type(distribution) is family
        assert action.shape == (*batch, *shape)
        assert distribution.log_prob(distribution.mode()).shape == batch
        assert value.shape == batch
        assert jax.vmap(actions.contains)(action.reshape(-1, *shape)).all()


def test_a_discrete_observation_is_one_hot():
    policy = actor_critic(Discrete(4), ACTIONS, hidden_sizes=(8,))
    params = policy.init(KEY)
    assert params["params"]["torsos_0"]["Dense_0"]["kernel"].shape == (4, 8)
    _, distribution, value = policy.step(params, (), jnp.arange(4), jnp.ones(4, bool))
    kernel = params["params"]["torsos_1"]["Dense_0"]["kernel"]
    head = params["params"]["value_head"]["kernel"]
    np.testing.assert_allclose(value, (jnp.tanh(kernel) @ head.T)[:, 0], **CLOSE)
    assert distribution.logits.shape == (4, 5)


def test_actions_are_mapped_onto_the_box():
    low, high = np.array([-2.0, 0.0], np.float32), np.array([3.0, 10.0], np.float32)
    to = to_env(Box.of(low, high, (2,)))
    raw = jnp.array([[-1.0, 1.0], [0.0, 0.5], [-7.0, 30.0]])
    expected = low + (np.clip(raw, -1, 1) + 1) / 2 * (high - low)
    np.testing.assert_allclose(to(raw), expected, **CLOSE)
    np.testing.assert_allclose(to(raw[:, None])[:, 0], expected, **CLOSE)


def test_actions_keep_the_shape_of_the_box():
    to = to_env(Box.of(-2.0, 2.0, (2, 3)))
    flat = some(0, (4, 6)) / 4
    np.testing.assert_allclose(to(flat), 2 * flat.reshape(4, 2, 3), **CLOSE)
    np.testing.assert_allclose(to(flat[None])[0], to(flat))


def test_an_unbounded_or_discrete_action_passes_as_it_is():
    raw = some(0, (4, 2)) * 100
    np.testing.assert_array_equal(to_env(Box.of(-np.inf, np.inf, (2,)))(raw), raw)
    action = jnp.arange(5)
    assert to_env(Discrete(5))(action) is action


def test_where_one_bound_is_infinite_the_others_hold():
    space = Box.of([-1.0, 0.0], [1.0, np.inf], (2,))
    action = jnp.array([[5.0, -3.0], [0.5, 7.0]])
    np.testing.assert_array_equal(to_env(space)(action), [[1.0, 0.0], [0.5, 7.0]])


def test_a_plain_jax_network_can_be_bound():
    def init(key):
        return {"w": jax.random.normal(key, (3, 6)) / 3, "b": jnp.zeros(6)}

    def apply(params, obs):
        out = jnp.tensordot(obs, params["w"], 1)
        out = out + params["b"].reshape((1,) * (out.ndim - 1) + (6,))
        return Categorical(out[..., :5]), out[..., 5]

    policy = bind(init, apply, ACTIONS)
    params = policy.init(KEY)
    inputs = params, policy.initial_carry(B), some(3, (T, B, 3)), starts()
    close(policy.unroll(*inputs), stepped(policy, *inputs))
    assert policy.initial_carry(B) == ()


def test_a_network_with_memory_can_be_bound():
    """Its memory begins anew where an episode does, in a row of its own."""

    def init(key):
        return jax.random.normal(key, (3 + 6, 6)) / 3

    def apply(params, carry, obs):
        carry = jnp.tanh(jnp.concatenate([obs, carry], -1) @ params)
        return carry, Categorical(carry[:, :5]), carry[:, 5]

    empty = lambda batch: jnp.full((batch, 6), 0.5)
    policy = bind(init, apply, ACTIONS, empty)
    params, carry, obs, start = policy.init(KEY), memory(policy), some(3, (T, B, 3)), starts()
    found = policy.unroll(params, carry, obs, start)
    close(found, stepped(policy, params, carry, obs, start))
    _, _, value = found
    for t, row in ((t, row) for row in range(B) for t in range(T)):
        begins = max([0, *(s for s in range(t + 1) if start[s, row])])
        x = carry[row] if not start[begins, row] else empty(1)[0]
        for s in range(begins, t + 1):
            x = jnp.tanh(jnp.concatenate([obs[s, row], x]) @ params)
        np.testing.assert_allclose(value[t, row], x[5], **CLOSE)
