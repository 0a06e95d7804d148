"""Auto-reset: where episodes start, what their last step shows, and how they are counted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import purerl
from purerl.envs import reset_batch, restarts, step_batch
from purerl.rollout import chances

B = 32
CART = purerl.make("gymnax/CartPole-v1")


def live(env, mode, iterations, steps, num_envs=B, seed=0):
    """Random actions; every leaf [iterations, steps, B, ...]: the state and the time step."""

    def iteration(state, key):
        restart, drawn = chances(key, env, num_envs, (steps,), {}, mode)

        def step(state, now):
            key, chance = now
            action = jax.vmap(env.action_space.sample)(jax.random.split(key, num_envs))
            state, timestep = step_batch(chance, env, state, action, {}, restart)
            return state, (state, timestep)

        return jax.lax.scan(step, state, drawn)

    @jax.jit
    def run(key):
        reset_key, run_key = jax.random.split(key)
        state = reset_batch(reset_key, env, num_envs, {})
        return jax.lax.scan(iteration, state, jax.random.split(run_key, iterations))[1]

    return jax.tree.map(np.asarray, run(jax.random.key(seed)))


def p_values(starts: np.ndarray) -> np.ndarray:
    """Of a Kolmogorov-Smirnov test of each coordinate against direct resets."""
    keys = jax.random.split(jax.random.key(1), 4000)
    direct = np.asarray(jax.vmap(lambda key: CART.reset(key)[1])(keys))
    return np.array([stats.ks_2samp(starts[:, i], direct[:, i]).pvalue for i in range(4)])


@pytest.fixture(scope="module")
def lives():
    return {mode: live(CART, mode, iterations=25, steps=40)[0] for mode in ("full", "pool")}


def test_full_restarts_are_fresh_resets(lives):
    state = lives["full"]
    starts = state.obs[state.start]
    assert len(starts) > 500
    assert len(np.unique(starts, axis=0)) == len(starts), "every start is a draw of its own"
    assert (p_values(starts) > 1e-3).all()


def test_pool_restarts_are_distributed_as_resets(lives):
    state = lives["pool"]
    # One pool serves an iteration: its starts repeat, and a repeated draw tells nothing new.
    pools = [np.unique(state.obs[i][state.start[i]], axis=0) for i in range(len(state.obs))]
    assert (p_values(np.concatenate(pools)) > 1e-3).all()
    assert state.start.sum() > sum(map(len, pools)), "starts do repeat"


def test_a_pool_is_drawn_anew_each_iteration(lives):
    state = lives["pool"]
    pools = [set(map(tuple, state.obs[i][state.start[i]])) for i in range(len(state.obs))]
    assert all(1 < len(pool) <= B for pool in pools)
    assert sum(map(len, pools)) == len(set.union(*pools)), "no start is met in two iterations"


def test_the_test_of_distribution_notices_one_cached_start():
    """As brax's AutoResetWrapper does: each environment starts again where it first started."""
    _, first = jax.vmap(CART.reset)(jax.random.split(jax.random.key(0), B))
    assert (p_values(np.tile(first, (20, 1))) < 1e-3).any()


def test_the_final_observation_is_kept():
    state, timestep = live(CART, "full", iterations=1, steps=100)
    done = timestep.done
    assert done.sum() > B
    x, theta = timestep.obs[..., 0], timestep.obs[..., 2]
    over = (np.abs(x) > 2.4) | (np.abs(theta) > 12 * 2 * np.pi / 360)
    np.testing.assert_array_equal(over, done)
    assert (np.abs(state.obs[done]) <= 0.05).all(), "and the next is a start"
    np.testing.assert_array_equal(state.obs[~done], timestep.obs[~done])


def test_episodes_are_counted_over_their_boundaries():
    """Five steps of reward 1 each: the count shows 1, 2, 3, 4, 5, and starts again at 1."""
    state, timestep = live(purerl.make("probe/truncation", steps=5), "full", 1, 13, num_envs=2)
    want = np.tile((np.arange(13) % 5 + 1)[None, :, None], (1, 1, 2))
    np.testing.assert_array_equal(state.episode_length, want)
    np.testing.assert_array_equal(state.episode_return, want)
    np.testing.assert_array_equal(state.start, want == 5)
    np.testing.assert_array_equal(timestep.truncated, want == 5)
    assert not timestep.terminated.any()


@pytest.mark.parametrize("mode", ["full", "pool"])
def test_a_new_episode_has_a_new_state(mode):
    """The cue answered is the one shown at this episode's start, not at an earlier one's."""
    env = purerl.make("probe/memory", delay=2)
    state, timestep = live(env, mode, 1, 30, num_envs=8)
    cue = np.concatenate([np.asarray(state.env.cue)[0, 2:-3:3]])
    shown = state.obs[0, 2:-3:3, :, 0]
    np.testing.assert_array_equal(cue, shown)
    np.testing.assert_array_equal(state.env.cue[0, 3:-2:3], shown)
    answers = timestep.reward[0, 5::3]
    assert set(np.unique(answers)) == {-1.0, 1.0}
    np.testing.assert_array_equal(state.episode_return[0, 5::3], answers)


def test_every_environment_restarts_in_its_own_place():
    """Rows are drawn apart: in one step of pool restarts, not all get the same one."""
    env = purerl.make("probe/obs-value")
    state, _ = live(env, "pool", 1, 3, num_envs=64)
    assert (np.abs(state.obs[..., 0].mean(-1)) < 0.6).all()


def test_parameters_reach_both_reset_and_step():
    env = purerl.make("gymnax/PointRobot-misc")
    params = {"circle_radius": jnp.float32(50.0)}
    state = reset_batch(jax.random.key(0), env, B, params)
    assert float(jnp.linalg.norm(state.env.goal, axis=-1).min()) > 49
    restart = restarts(jax.random.key(1), env, B, params, "pool")
    state, _ = restart.begin(restart.draw(jax.random.key(2), (B,)))
    assert float(jnp.linalg.norm(state.goal, axis=-1).min()) > 49
