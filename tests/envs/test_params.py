"""Float parameters: a sweep under vmap equals scalar runs, and each of them does something."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters import partial_eval

import purerl
from purerl.envs import gymnax


def rewards_and_obs(env, params, steps=40):
    def step(carry, key):
        state, action = carry
        state, timestep = env.step(key, state, action, params)
        return (state, 1 - action), (timestep.obs, timestep.reward, timestep.terminated)

    state, _ = env.reset(jax.random.key(0), params)
    keys = jax.random.split(jax.random.key(1), steps)
    return jax.lax.scan(step, (state, jnp.int32(0)), keys)[1]


def test_a_sweep_equals_scalar_runs():
    env = purerl.make("gymnax/CartPole-v1")
    sweep = {"gravity": jnp.array([5.0, 9.8, 20.0]), "length": jnp.array([0.25, 0.5, 1.0])}
    swept = jax.jit(jax.vmap(lambda params: rewards_and_obs(env, params)))(sweep)
    for i in range(3):
        params = {name: float(values[i]) for name, values in sweep.items()}
        alone = jax.jit(lambda params=params: rewards_and_obs(env, params))()
        for a, b in zip(jax.tree.leaves(swept), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-5)
    assert not np.allclose(swept[0][0], swept[0][2], atol=1e-3)


def test_defaults_given_as_parameters_change_nothing():
    env = purerl.make("gymnax/CartPole-v1")
    given = rewards_and_obs(env, {k: jnp.float32(v) for k, v in env.params.items()})
    for a, b in zip(given, rewards_and_obs(env, {}), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_derived_parameters_follow():
    """gymnax keeps total_mass and polemass_length apart from the masses and the length."""
    env = purerl.make("gymnax/CartPole-v1")
    assert not {"total_mass", "polemass_length"} & set(env.params)
    heavy, long = {"masspole": 0.4}, {"length": 2.0}
    settings = env._with(heavy | long)
    np.testing.assert_allclose(settings.total_mass, 1.4)
    np.testing.assert_allclose(settings.polemass_length, 0.8)
    made = purerl.make("gymnax/CartPole-v1", masspole=0.4, length=2.0)
    assert made._defaults == settings
    for a, b in zip(rewards_and_obs(made, {}), rewards_and_obs(env, heavy | long), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_is_no_float_is_set_where_the_environment_is_made():
    env = purerl.make("gymnax/MemoryChain-bsuite", memory_length=2, max_steps_in_episode=7)
    assert env.max_episode_steps == 7
    assert "memory_length" not in env.params
    state, _ = env.reset(jax.random.key(0))
    ends = []
    for _ in range(3):
        state, timestep = env.step(jax.random.key(0), state, jnp.int32(0))
        ends.append(bool(timestep.terminated))
    assert ends == [False, False, True]


def test_an_action_bound_set_at_make_moves_the_action_space():
    assert float(purerl.make("gymnax/Pendulum-v1", max_torque=5.0).action_space.high[0]) == 5.0


@pytest.mark.parametrize("name", [n for n in gymnax.names() if "MNIST" not in n])
def test_every_parameter_has_an_effect_and_is_a_float(name):
    """No listed parameter is dead in the program of what an agent sees: such a sweep would lie."""
    env = purerl.make(name)
    assert all(type(value) is float for value in env.params.values())
    names = sorted(env.params)

    def shown(values, key):
        params = dict(zip(names, values, strict=True))
        state, obs = env.reset(key, params)
        action = env.action_space.sample(key)
        state, first = env.step(key, state, action, params)
        return obs, first, env.step(key, state, action, params)[1]

    values = [jnp.float32(env.params[n]) for n in names]
    program = jax.make_jaxpr(shown)(values, jax.random.key(0)).jaxpr
    _, used = partial_eval.dce_jaxpr(program, [True] * len(program.outvars))
    assert all(used[: len(names)]), [n for n, u in zip(names, used, strict=False) if not u]


@pytest.mark.parametrize("name", [n for n in gymnax.names() if "MNIST" not in n])
def test_no_parameter_moves_the_action_space(name):
    """The space is fixed when the environment is made: to sweep its bounds would do nothing."""
    env = purerl.make(name)
    space = env.action_space
    if space.shape:
        changed = {k: 2 * v + 1 for k, v in env.params.items()}
        moved = gymnax._space(env._env.action_space(env._with(changed)), None)
        np.testing.assert_array_equal(moved.low, space.low)
        np.testing.assert_array_equal(moved.high, space.high)
