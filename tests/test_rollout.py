"""The rollout against a plain Python account of a scripted world.

Every observation of that world is different: it carries the episode's random number and the time
in it, so that any row out of place is seen.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl.envs import TimeStep, reset_batch
from purerl.rollout import successor_values, unroll
from purerl.spaces import Box, Discrete

pytestmark = pytest.mark.usefixtures("strict_ranks")

B = 5
# Undiscounted sums of at most a few dozens of float32 rewards, in one order.
CLOSE = {"rtol": 1e-6, "atol": 1e-5}


@dataclasses.dataclass(frozen=True)
class Scripted:
    """Seen: (the episode's number in [0, 1), the time in it). Terminates after 3 to 7 steps.

    Reward number + 10 time + 100 action, times a parameter.
    """

    limit: int | None = None
    name = "test/scripted"
    observation_space = Box.of(0.0, 1e3, (2,))
    action_space = Discrete(4)
    params = {"scale": 1.0}

    @property
    def max_episode_steps(self):
        return self.limit

    def reset(self, key, params={}):
        state = jax.random.uniform(key), jnp.int32(0)
        return state, self.see(state)

    def step(self, key, state, action, params={}):
        scale = (self.params | dict(params))["scale"]
        number, time = state
        reward = scale * (number + 10.0 * time + 100.0 * action)
        state = number, time + 1
        terminated = time + 1 >= jnp.int32(3 + number * 5)
        truncated = ~terminated & (time + 1 >= (self.limit or 1000))
        return state, TimeStep(self.see(state), reward, terminated, truncated)

    def see(self, state):
        number, time = state
        return jnp.stack([number, time.astype(jnp.float32)])


def act(key, carry, obs, start):
    """A random action; the memory is the sum of this episode's actions and its length."""
    action = jax.random.randint(key, (obs.shape[0],), 0, 4)
    total, count = (jnp.where(start, 0, x) for x in carry)
    carry = total + action, count + 1
    return carry, action, {"action": action, "carry": carry}


@functools.cache
def lived(limit, length, mode, unrolls=2, scale=1.0):
    """`unrolls` rollouts, one after the other, and the states before and after them, as NumPy."""
    env = Scripted(limit)
    params = {"scale": scale}
    state = reset_batch(jax.random.key(0), env, B, params)
    carry = jnp.full(B, 77), jnp.full(B, 77)
    run = jax.jit(lambda key, *args: unroll(key, env, act, *args, length, params, mode))
    out = []
    for key in jax.random.split(jax.random.key(1), unrolls):
        before = state
        state, carry, rollout, metrics = run(key, state, carry)
        out.append((before, state, carry, rollout, metrics))
    return jax.tree.map(np.asarray, out)


WORLDS = [(None, 12), (5, 12), (4, 4), (4, 3), (3, 10), (1, 4)]
MODES = [(*world, "pool") for world in WORLDS] + [(None, 12, "full"), (3, 10, "full")]
worlds = pytest.mark.parametrize(("limit", "length", "mode"), MODES)


@worlds
def test_rows_line_up(limit, length, mode):
    for before, after, _, rollout, _ in lived(limit, length, mode):
        number, time = rollout.obs[..., 0], rollout.obs[..., 1]
        following = np.concatenate([rollout.obs[1:], after.obs[None]])
        starts = np.concatenate([rollout.start[1:], after.start[None]])
        np.testing.assert_array_equal(rollout.obs[0], before.obs)
        np.testing.assert_array_equal(rollout.start[0], before.start)
        # A step and its reward are of the same row.
        action = rollout.extras["action"]
        np.testing.assert_allclose(rollout.reward, number + 10 * time + 100 * action, **CLOSE)
        # An episode ends when its number says so, or else at the limit, and for one reason only.
        ends = time + 1 >= np.int32(3 + number * 5)
        np.testing.assert_array_equal(rollout.terminated, ends)
        at_limit = time + 1 == limit if limit else np.zeros_like(ends)
        np.testing.assert_array_equal(rollout.truncated, at_limit & ~ends)
        # What follows an end is a start, and nothing else is.
        np.testing.assert_array_equal(starts, rollout.done)
        np.testing.assert_array_equal(following[rollout.done][:, 1], 0)
        goes_on = ~rollout.done
        np.testing.assert_array_equal(following[goes_on][:, 0], number[goes_on])
        np.testing.assert_array_equal(following[goes_on][:, 1], time[goes_on] + 1)
        assert rollout.done.any() or length < 4


@worlds
def test_new_episodes_are_new(limit, length, mode):
    for before, after, _, rollout, _ in lived(limit, length, mode):
        new = np.concatenate([rollout.obs[1:], after.obs[None]])[rollout.done][:, 0]
        if mode == "full":
            assert len(np.unique(new)) == len(new)
        assert not np.isin(new, before.obs[:, 0]).any()


def test_a_pool_is_drawn_anew_each_time():
    (_, _, _, first, _), (_, _, _, second, _) = lived(3, 10, "pool")
    drawn = lambda rollout: np.unique(rollout.obs[1:][rollout.start[1:]][:, 0])
    assert len(drawn(first)) <= B
    assert not np.isin(drawn(first), drawn(second)).any()


def truncations(rollout):
    """(time, environment, how many came before it there) of every truncation."""
    return [(t, b, int(rollout.truncated[:t, b].sum())) for t, b in np.argwhere(rollout.truncated)]


@worlds
def test_final_keeps_what_was_there_before_the_reset(limit, length, mode):
    for _, _, _, rollout, _ in lived(limit, length, mode):
        carry, obs = rollout.final
        slots = 0 if limit is None else -(-length // limit)
        assert obs.shape == (slots, B, 2)
        assert all(x.shape == (slots, B) for x in carry)
        for t, b, k in truncations(rollout):
            np.testing.assert_array_equal(obs[k, b], rollout.obs[t, b] + [0, 1])
            for kept, lived_then in zip(carry, rollout.extras["carry"], strict=True):
                assert kept[k, b] == lived_then[t, b]


@pytest.mark.parametrize(("limit", "length"), [w for w in WORLDS if w[0]])
def test_truncations_are_met(limit, length):
    assert sum(rollout.truncated.sum() for *_, rollout, _ in lived(limit, length, "pool")) > 0


def test_several_truncations_of_one_environment_all_have_a_row():
    most = max(k for *_, rollout, _ in lived(3, 10, "pool") for *_, k in truncations(rollout))
    assert most >= 2


@worlds
def test_memory_goes_on_across_rollouts(limit, length, mode):
    sums = np.zeros((2, B))
    for _, _, carry, rollout, _ in lived(limit, length, mode):
        for t in range(length):
            sums = np.where(rollout.start[t], 0, sums)
            sums += np.stack([rollout.extras["action"][t], np.ones(B)])
            np.testing.assert_array_equal([x[t] for x in rollout.extras["carry"]], sums)
        np.testing.assert_array_equal(carry, sums)


def value_of(carry, obs):
    """Any function of memory and observation that tells them apart."""
    return carry[0] + 3.7 * carry[1] + 13.1 * obs[..., 0] + 0.3 * obs[..., 1]


@worlds
def test_successor_values(limit, length, mode):
    for _, _, _, rollout, _ in lived(limit, length, mode):
        value = value_of(rollout.extras["carry"], rollout.obs)
        last = np.arange(B) + 1000.0
        ours = successor_values(
            jnp.asarray(value), jnp.asarray(last), jnp.asarray(value_of(*rollout.final)), rollout
        )
        for t in range(length):
            for b in range(B):
                if rollout.terminated[t, b]:
                    continue
                if rollout.truncated[t, b]:
                    carry = [x[t, b] for x in rollout.extras["carry"]]
                    expected = value_of(carry, rollout.obs[t, b] + np.array([0, 1]))
                else:
                    expected = value[t + 1, b] if t + 1 < length else last[b]
                np.testing.assert_allclose(ours[t, b], expected, rtol=1e-6)


@worlds
def test_episode_metrics_sum_what_ended(limit, length, mode):
    returns, lengths = np.zeros(B), np.zeros(B)
    for _, after, _, rollout, metrics in lived(limit, length, mode, unrolls=3):
        ended_returns, ended_lengths = [], []
        for t in range(length):
            returns, lengths = returns + rollout.reward[t], lengths + 1
            done = rollout.done[t]
            ended_returns += list(returns[done])
            ended_lengths += list(lengths[done])
            returns, lengths = np.where(done, 0, returns), np.where(done, 0, lengths)
        assert metrics["episode/count"] == len(ended_returns)
        np.testing.assert_allclose(metrics["episode/return_sum"], sum(ended_returns), **CLOSE)
        assert metrics["episode/length_sum"] == sum(ended_lengths)
        assert all(x.shape == () and x.dtype == np.float32 for x in metrics.values())
        alive = ~after.start
        np.testing.assert_allclose(after.episode_return[alive], returns[alive], **CLOSE)
        np.testing.assert_array_equal(after.episode_length[alive], lengths[alive])


def test_environment_parameters_reach_the_steps():
    (_, _, _, plain, _), _ = lived(5, 12, "pool")
    (_, _, _, scaled, _), _ = lived(5, 12, "pool", scale=2.0)
    np.testing.assert_allclose(scaled.reward, 2 * plain.reward, **CLOSE)


def test_no_key_is_used_twice():
    env = Scripted(5)
    with jax.debug_key_reuse(True):
        for mode in ("pool", "full"):
            state = jax.jit(lambda key: reset_batch(key, env, B, {}))(jax.random.key(0))
            carry = jnp.zeros(B, jnp.int32), jnp.zeros(B, jnp.int32)
            run = lambda key, *args: unroll(key, env, act, *args, 6, {}, mode)
            jax.jit(run)(jax.random.key(1), state, carry)
