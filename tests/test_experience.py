"""What agents share that learn from steps of the past."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import purerl
from purerl.agents import ddpg, sac, td3
from purerl.experience import action_noise, rounds
from purerl.replay import ring
from purerl.types import Clock

KEY = jax.random.key(0)


def test_noise_is_normal_and_uniform():
    normal, uniform = map(np.asarray, action_noise(KEY, (500, 100, 1, 2), 0.0))
    np.testing.assert_array_equal(normal, jax.random.normal(KEY, (500, 100, 1, 2)))
    assert scipy.stats.kstest(normal.ravel(), "norm").pvalue > 1e-3
    assert scipy.stats.kstest(uniform.ravel(), "uniform", (-1, 2)).pvalue > 1e-3
    assert -1.0 <= uniform.min() < uniform.max() <= 1.0
    assert abs(np.corrcoef(uniform.reshape(-1, 2).T)[0, 1]) < 0.02


def test_noise_that_lasts_is_distributed_as_noise_that_does_not():
    normal, uniform = map(np.asarray, action_noise(KEY, (8, 3, 5000, 2), 0.9))
    for step in (0, 1, -1):  # of the first step as of the last
        assert scipy.stats.kstest(normal[step, step].ravel(), "norm").pvalue > 1e-3
        assert scipy.stats.kstest(uniform[step, step].ravel(), "uniform", (-1, 2)).pvalue > 1e-3


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9, 1.0])
def test_noise_correlates_as_asked_within_and_across_rounds(correlation):
    normal = np.asarray(action_noise(KEY, (4, 3, 5000, 2), correlation)[0]).reshape(12, -1)
    found = np.corrcoef(normal)[0, [1, 3, 11]]
    np.testing.assert_allclose(found, correlation ** np.array([1, 3, 11]), atol=0.04)


def test_environments_and_dimensions_have_noise_of_their_own():
    normal = np.asarray(action_noise(KEY, (1, 5000, 2, 2), 0.5)[0]).reshape(-1, 4)
    np.testing.assert_allclose(np.corrcoef(normal.T), np.eye(4), atol=0.06)


@pytest.mark.parametrize("agent", [sac, td3, ddpg])
def test_actions_correlate_before_and_after_learning_starts(agent):
    """Those kept in the replay: random ones, then the policy's, whose noise is most of them."""
    env = purerl.make("gymnax/Pendulum-v1")
    config = agent.Config(
        num_envs=32, num_rounds=50, batch_size=32, capacity=32 * 200, learning_starts=32 * 100
    )
    made = agent.make(env, config)
    hparams = made.hparams._replace(noise_correlation=0.9)
    rates = [name for name in hparams._fields if name.endswith("learning_rate")]
    hparams = hparams._replace(**dict.fromkeys(rates, 0.0))  # it stays as it is made
    if agent is not sac:
        hparams = hparams._replace(exploration_noise=0.3)
    state = made.init(KEY, hparams)
    for step in range(4):
        key = jax.random.fold_in(KEY, step)
        state, _ = jax.jit(made.update)(key, state, hparams, Clock(step, 4))
    times, envs = np.meshgrid(np.arange(200), np.arange(32), indexing="ij")
    at = ring.Index(envs.ravel(), times.ravel())
    steps = ring.transitions(state.actor.replay, at, 1, 0.99)
    action = np.asarray(steps.action).reshape(200, 32)
    # Of one time over the environments, so that what the policy does of itself tells little.
    found = [np.corrcoef(action[t], action[t + 1])[0, 1] for t in range(199)]
    for first in (0, 50, 100, 150):
        assert 0.8 < np.mean(found[first : first + 49]) < 0.95
    assert np.max(np.abs(found[49::50])) < 0.5  # an iteration begins anew


def test_what_learning_reports_is_averaged_over_the_rounds_that_learn():
    """Of 8 rounds of an iteration, begun with round 16: none, three or all of them learn."""

    def collect(drawn, number, learnt, lived):
        return learnt, lived, {"episode/count": jnp.float32(1), "collect/mean": drawn}

    def learn(drawn, number, learnt, lived):
        return learnt + 1, {"loss/mean": drawn}

    numbers = jnp.arange(8, dtype=jnp.float32)
    for first, mean in ((24, 0.0), (21, 6.0), (0, 3.5)):
        clock = Clock(jnp.int32(2), jnp.int32(9))
        learnt, _, found = rounds(
            collect, learn, jnp.int32(0), (), numbers, clock, num_rounds=8, first=first
        )
        assert learnt == min(24 - first, 8)
        assert found == {"episode/count": 8.0, "collect/mean": 3.5, "loss/mean": mean}


def test_of_several_members_too_only_rounds_that_learn_compute_it():
    """One `lax.cond` on the clock, which vmap leaves a cond and makes no selection."""
    collect = lambda drawn, number, learnt, lived: (learnt, lived, {"episode/count": drawn})
    learn = lambda drawn, number, learnt, lived: (jnp.sin(learnt), {"loss/mean": drawn})

    def run(learnt, clock):
        numbers = jnp.arange(8, dtype=jnp.float32)
        return rounds(collect, learn, learnt, (), numbers, clock, num_rounds=8, first=4)

    clock = Clock(jnp.int32(0), jnp.int32(9))
    alone = str(jax.make_jaxpr(run)(jnp.float32(1), clock))
    together = str(jax.make_jaxpr(jax.vmap(run, (0, None)))(jnp.ones(3), clock))
    for program in (alone, together):
        assert program.count(" cond[") == 1
        assert program.count(" sin ") == 1
        assert "select_n" not in program
