"""Every environment keeps the contract, and `check` notices one that does not."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl.envs import TimeStep, brax, check, gymnax, probes
from purerl.envs.gymnax import Gymnax
from purerl.envs.probes import Truncation

# Uncompiled, one step of these takes longer than all their other laws.
SLOW_EAGER = ("Asterix-MinAtar", "Freeway-MinAtar", "Seaquest-MinAtar")


@pytest.mark.parametrize("name", [n for n in gymnax.names() if "MNIST" not in n])
def test_gymnax(name):
    check(purerl.make(name), num_envs=2, eager=not name.endswith(SLOW_EAGER))


def test_gymnax_mnist(mnist):
    env = Gymnax("MNISTBandit-bsuite")
    check(env)
    obs = jax.vmap(lambda key: env.reset(key)[1])(jax.random.split(jax.random.key(0), 100))
    # Read as int8, as gymnax does, the digits above 4 would be negative.
    np.testing.assert_allclose(np.unique(obs), 28 * np.arange(10) / 255, rtol=1e-6)


@pytest.mark.parametrize("name", probes.names())
def test_probes(name):
    check(purerl.make(name))


@pytest.mark.parametrize(
    ("name", "backend", "repeat"),
    [
        ("fast", "spring", 1),
        ("reacher", "spring", 2),
        ("inverted_pendulum", "generalized", 1),
        ("inverted_pendulum", "positional", 1),
        ("inverted_pendulum", "mjx", 1),
    ],
)
def test_brax(name, backend, repeat):
    env = purerl.make(f"brax/{name}", backend=backend, episode_length=10, action_repeat=repeat)
    check(env, num_envs=2, eager=name == "fast")


@pytest.mark.parametrize(
    "name", [n for n in gymnax.names() if n.endswith(("-MinAtar", "Pong-misc"))]
)
def test_bool_observations_lose_nothing(name):
    """What gymnax returns, over random play with resets, is zeros and ones only."""
    env = purerl.make(name)
    raw, params = env._env, env._defaults

    def step(state, key):
        action = env.action_space.sample(key)
        obs, state, _, terminated, _ = raw.step_env(key, state, action, params)
        fresh_obs, fresh = raw.reset_env(jax.random.fold_in(key, 0), params)
        choose = lambda new, old: jnp.where(terminated, new, old)
        return jax.tree.map(choose, env._strong(fresh), env._strong(state)), (obs, fresh_obs)

    @jax.jit
    def play(key):
        _, state = raw.reset_env(key, params)
        return jax.lax.scan(step, env._strong(state), jax.random.split(key, 1500))[1]

    for obs in play(jax.random.key(1)):
        assert obs.dtype == np.float32
        assert set(np.unique(obs)) == {0.0, 1.0}


@pytest.mark.parametrize(("name", "backend"), [("reacher", "spring"), ("inverted_pendulum", "mjx")])
def test_carrying_part_of_brax_s_state_loses_nothing(name, backend):
    """The same rewards and observations as brax itself, which carries all of it."""
    env = purerl.make(f"brax/{name}", backend=backend)
    actions = jax.random.uniform(jax.random.key(1), (20, *env.action_space.shape), minval=-1.0)

    @jax.jit
    def ours(key):
        def step(state, action):
            state, timestep = env.step(key, state, action)
            return state, (timestep.obs, timestep.reward, timestep.terminated)

        return jax.lax.scan(step, env.reset(key)[0], actions)[1]

    @jax.jit
    def theirs(key):
        def step(state, action):
            state = env._env.step(state, action)
            return strong(state), (state.obs, state.reward, state.done)

        strong = lambda tree: jax.tree.map(lambda x: jnp.array(x, jnp.result_type(x)), tree)
        return jax.lax.scan(step, strong(env._env.reset(jax.random.key_data(key))), actions)[1]

    ours, theirs = ours(jax.random.key(0)), theirs(jax.random.key(0))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)
    carried = sum(x.size for x in jax.tree.leaves(env._types.pipeline_state))
    assert sum(x.size for x in env.reset(jax.random.key(0))[0].physics) < carried


def test_brax_action_repeat_adds_rewards_and_counts_physics_steps():
    once, twice = (purerl.make("brax/fast", episode_length=5, action_repeat=n) for n in (1, 2))
    assert (once.max_episode_steps, twice.max_episode_steps) == (5, 3)
    key, push = jax.random.key(0), jnp.ones(1)
    state, a = once.step(key, once.reset(key)[0], push)
    _, b = once.step(key, state, push)
    _, both = twice.step(key, twice.reset(key)[0], push)
    assert a.reward > 0
    np.testing.assert_allclose(both.reward, a.reward + b.reward)
    np.testing.assert_array_equal(both.obs, b.obs)


def test_brax_stays_where_an_episode_ended_inside_a_repeat():
    env = purerl.make("brax/inverted_pendulum", action_repeat=2)

    class Falls:
        """In the place of brax: terminates at every odd step; obs and reward count the steps."""

        def step(self, state, action):
            obs = state.pipeline_state[0] + 1
            done = jnp.float32(obs % 2)
            return dataclasses.replace(
                state, pipeline_state=(obs,), obs=obs[None], reward=obs, done=done
            )

    state = dataclasses.replace(env._types, pipeline_state=(jax.ShapeDtypeStruct((), "float32"),))
    falls = brax.Brax.__new__(brax.Brax)
    falls.__dict__ |= {"_env": Falls(), "_repeat": 2, "_types": state, "_carried": (0,)}
    falls.max_episode_steps, falls._advance = 1, falls._once
    begin = brax.BraxState((jnp.float32(0),), jnp.int32(0))
    after, timestep = falls.step(jax.random.key(0), begin, jnp.zeros(1))
    assert (float(after.physics[0]), float(timestep.reward)) == (1.0, 1.0)
    assert bool(timestep.terminated)
    assert not timestep.truncated  # though it is the last step that it may have


def test_what_terminates_at_the_limit_is_not_truncated():
    """CartPole that falls with its last step; one that does not is cut off."""
    env = purerl.make("gymnax/CartPole-v1", max_steps_in_episode=7)
    state, _ = env.reset(jax.random.key(0))
    last = dataclasses.replace(state, time=jnp.asarray(6, state.time.dtype))
    for angle, ends in ((0.0, (False, True)), (1.0, (True, False))):
        tilted = dataclasses.replace(last, theta=jnp.asarray(angle, state.theta.dtype))
        _, timestep = env.step(jax.random.key(1), tilted, jnp.int32(0))
        assert (bool(timestep.terminated), bool(timestep.truncated)) == ends


@dataclasses.dataclass(frozen=True)
class Noisy(Truncation):
    """A probe with a random observation; each law's breach below changes one thing in it."""

    def reset(self, key, params={}):
        state, _ = super().reset(key, params)
        return state, jax.random.uniform(key, (1,))

    def step(self, key, state, action, params={}):
        state, timestep = super().step(key, state, action, params)
        return state, timestep._replace(obs=jax.random.uniform(key, (1,)))


def breach(change):
    """An environment like Noisy, with `change(key, state, timestep)` after each step."""

    class Broken(Noisy):
        def step(self, key, state, action, params={}):
            return change(key, *super().step(jax.random.fold_in(key, 0), state, action, params))

    return Broken()


@jax.custom_batching.custom_vmap
def shy(x):
    """x, but one more under vmap."""
    return x


@shy.def_vmap
def _(axis_size, in_batched, x):
    return jnp.clip(x + 1, -1, 1), True


def dice(shape):
    return jax.pure_callback(
        lambda: np.random.default_rng().uniform(size=shape).astype(np.float32),
        jax.ShapeDtypeStruct(shape, np.float32),
        vmap_method="sequential",
    )


BREACHES = {
    "types: step: obs": lambda k, s, t: (s, t._replace(obs=t.obs[0])),
    "types: reward": lambda k, s, t: (s, t._replace(reward=jnp.int32(1))),
    "types: truncated": lambda k, s, t: (s, t._replace(truncated=jnp.float32(t.truncated))),
    "state: .time": lambda k, s, t: (s._replace(time=s.time + 0.5), t),
    "state: step returns another tree": lambda k, s, t: (tuple(s), t),
    "keys": lambda k, s, t: (
        s,
        t._replace(obs=jax.random.uniform(k, (1,)) * jax.random.uniform(k, (1,))),
    ),
    "values: an observation leaves": lambda k, s, t: (s, t._replace(obs=t.obs + 2)),
    "values: a reward is not finite": lambda k, s, t: (s, t._replace(reward=t.reward / 0)),
    "values: a step is both": lambda k, s, t: (s, t._replace(terminated=t.truncated)),
    "limits: truncated after": lambda k, s, t: (s, t._replace(truncated=s.time >= 3)),
    "limits: an episode goes on": lambda k, s, t: (s, t._replace(truncated=s.time == 9)),
    "determinism": lambda k, s, t: (s, t._replace(obs=dice((1,)))),
    "vmap": lambda k, s, t: (s, t._replace(obs=shy(t.obs))),
    "jit": lambda k, s, t: (
        s,
        t if isinstance(t.obs, jax.core.Tracer) else t._replace(obs=-t.obs - 0.1),
    ),
}


def test_the_unbroken_environment_passes():
    check(breach(lambda key, state, timestep: (state, timestep)))


@pytest.mark.parametrize("law", BREACHES)
def test_check_names_the_law_that_is_broken(law):
    with pytest.raises(AssertionError, match=law):
        check(breach(BREACHES[law]))


@pytest.mark.parametrize(("change", "said"), [(5.0, "leaves its space"), (np.nan, "is not finite")])
def test_check_looks_at_what_reset_shows(change, said):
    class Astray(Noisy):
        def reset(self, key, params={}):
            state, obs = super().reset(key, params)
            return state, obs + change

    with pytest.raises(AssertionError, match=f"values: an observation of reset {said}"):
        check(Astray())


def test_check_notices_a_truncation_where_none_is_declared():
    class Endless(Noisy):
        max_episode_steps = None

    with pytest.raises(AssertionError, match="limits: max_episode_steps is None"):
        check(Endless())


def test_check_notices_a_lost_final_observation(monkeypatch):
    """As the auto-reset of gymnax and gym before 0.26: the step shows the new start."""
    module = sys.modules["purerl.envs.check"]
    true_step = module.step_batch

    def forgetful(*args):
        state, timestep = true_step(*args)
        return state, TimeStep(state.obs, *timestep[1:])

    monkeypatch.setattr(module, "step_batch", forgetful)
    with pytest.raises(AssertionError, match="vmap: a row of a batch differs"):
        check(Noisy())


def test_check_notices_an_episode_that_goes_on_from_its_end(monkeypatch):
    module = sys.modules["purerl.envs.check"]
    true_step = module.step_batch

    def endless(*args):
        state, timestep = true_step(*args)
        return state._replace(obs=timestep.obs), timestep

    monkeypatch.setattr(module, "step_batch", endless)
    with pytest.raises(AssertionError, match="auto-reset: after an episode ended"):
        check(Noisy())
