"""The probes' optimal values, found again by trying everything."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl.envs import probes

GAMMA = 0.9
DISCRETE = [n for n in probes.names() if n not in ("probe/policy-continuous", "probe/truncation")]


def start(env, cue: float):
    """A first state with this cue, and its observation; None where reset never draws it."""
    for seed in range(20):
        state, obs = env.reset(jax.random.key(seed))
        if float(state.cue) == cue:
            return state, obs
    return None


def discounted_return(env, state, actions) -> float:
    total = 0.0
    for t, action in enumerate(actions):
        state, timestep = env.step(jax.random.key(0), state, jnp.asarray(action))
        total += GAMMA**t * float(timestep.reward)
        if timestep.terminated:
            return total
    raise AssertionError("the probe did not terminate")


@pytest.mark.parametrize("name", DISCRETE)
def test_optimal_values_by_brute_force(name):
    env = purerl.make(name)
    starts = [found for cue in (-1.0, 0.0, 1.0) if (found := start(env, cue))]
    assert len(starts) in (1, 2)
    for state, obs in starts:
        plans = itertools.product((0, 1), repeat=4)
        best = max(discounted_return(env, state, plan) for plan in plans)
        np.testing.assert_allclose(best, env.optimal_value(obs, GAMMA), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "kwargs", "value"),
    [
        ("probe/value", {}, 1.0),
        ("probe/discount", {}, 0.9),
        ("probe/policy", {}, 1.0),
        ("probe/policy-continuous", {}, 1.0),
        ("probe/obs-policy", {}, 1.0),
        ("probe/truncation", {}, 10.0),
        ("probe/memory", {"delay": 2}, 0.81),
    ],
)
def test_optimal_values_as_numbers(name, kwargs, value):
    env = purerl.make(name, **kwargs)
    obs = env.reset(jax.random.key(0))[1]
    np.testing.assert_allclose(env.optimal_value(obs, GAMMA), value, rtol=1e-6)
    batch = jnp.broadcast_to(obs, (3, 2, 1))
    np.testing.assert_allclose(env.optimal_value(batch, GAMMA), np.full((3, 2), value), rtol=1e-6)


def test_the_continuous_optimum_is_one_half():
    env = purerl.make("probe/policy-continuous")
    state, _ = env.reset(jax.random.key(0))
    actions = np.linspace(-2, 2, 401, dtype=np.float32)[:, None]
    rewards = jax.vmap(lambda a: env.step(jax.random.key(0), state, a)[1].reward)(actions)
    np.testing.assert_allclose(actions[np.argmax(rewards)], 0.5, atol=1e-6)
    np.testing.assert_allclose(np.max(rewards), 1.0)
    assert float(rewards[0]) == float(rewards[100]), "beyond its space an action is clipped"


def test_truncation_is_worth_an_endless_stream():
    """Living on past the cut, as the value function imagines, pays 1 / (1 - gamma)."""
    env = purerl.make("probe/truncation", steps=3)
    state, obs = env.reset(jax.random.key(0))
    total, cuts = 0.0, []
    for t in range(200):
        state, timestep = env.step(jax.random.key(0), state, jnp.int32(0))
        assert not timestep.terminated
        np.testing.assert_array_equal(timestep.obs, obs)  # so the time left cannot be seen
        total, cuts = total + GAMMA**t * float(timestep.reward), [*cuts, bool(timestep.truncated)]
    np.testing.assert_allclose(total, env.optimal_value(obs, GAMMA), rtol=1e-6)
    assert cuts[:3] == [False, False, True]


@pytest.mark.parametrize("name", ["probe/obs-policy", "probe/memory"])
def test_a_policy_that_does_not_see_the_cue_gets_nothing(name):
    """Mean reward over both cues, for every policy of the last observation alone."""
    env = purerl.make(name)
    starts = [start(env, -1.0), start(env, 1.0)]
    means = []
    for plan in itertools.product((0, 1), repeat=3):
        policy = dict(zip((-1.0, 0.0, 1.0), plan, strict=True))
        total = 0.0
        for state, obs in starts:
            done = False
            while not done:
                action = policy[float(obs[0])]
                state, timestep = env.step(jax.random.key(0), state, jnp.int32(action))
                obs, done = timestep.obs, bool(timestep.done)
                total += float(timestep.reward)
        means.append(total / 2)
    if name == "probe/memory":
        assert set(means) == {0.0}
    else:  # this probe shows the cue when it asks: policies that read it get -1, 0 or 1
        assert set(means) == {-1.0, 0.0, 1.0}


def test_both_cues_are_equally_likely():
    env = purerl.make("probe/memory")
    keys = jax.random.split(jax.random.key(0), 4000)
    cues = jax.vmap(lambda key: env.reset(key)[1])(keys)
    assert set(np.unique(cues)) == {-1.0, 1.0}
    assert abs(float(cues.mean())) < 0.05  # three standard errors
