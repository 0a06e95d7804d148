"""Dynamics against gymnasium: the same state and action give the same next state, reward, flags.

gymnasium computes in float64 on NumPy, gymnax in float32; the tolerance is float32's.
"""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl

N = 300
FIELDS = {
    "CartPole-v1": ("x", "x_dot", "theta", "theta_dot"),
    "Pendulum-v1": ("theta", "theta_dot"),
    "MountainCar-v0": ("position", "velocity"),
    "MountainCarContinuous-v0": ("position", "velocity"),
    "Acrobot-v1": ("joint_angle1", "joint_angle2", "velocity_1", "velocity_2"),
}
# States over all of what can be reached, and a little of what cannot; not terminal ones.
HIGH = {
    "CartPole-v1": ([-2.4, -3, -0.209, -3], [2.4, 3, 0.209, 3]),
    "Pendulum-v1": ([-10, -8], [10, 8]),
    "MountainCar-v0": ([-1.2, -0.07], [0.499, 0.07]),
    "MountainCarContinuous-v0": ([-1.2, -0.07], [0.449, 0.07]),
    "Acrobot-v1": ([-np.pi, -np.pi, -12.5, -28.2], [np.pi, np.pi, 12.5, 28.2]),
}


def sample(name: str) -> tuple[np.ndarray, np.ndarray]:
    """N states and N actions; continuous actions also beyond their space."""
    rng = np.random.default_rng(0)
    states = rng.uniform(*HIGH[name], (N, len(FIELDS[name]))).astype(np.float32)
    space = purerl.make(f"gymnax/{name}").action_space
    if space.shape:
        return states, rng.uniform(1.5 * space.low, 1.5 * space.high, (N, 1)).astype(np.float32)
    return states, rng.integers(0, space.n, N).astype(np.int32)


def ours(name: str, states: np.ndarray, actions: np.ndarray):
    env = purerl.make(f"gymnax/{name}")
    key = jax.random.key(0)
    begin, _ = env.reset(key)
    fields = FIELDS[name]

    @jax.jit
    @jax.vmap
    def step(state, action):
        state = begin.replace(**{f: state[i] for i, f in enumerate(fields)})
        after, timestep = env.step(key, state, action)
        return jnp.stack([getattr(after, f) for f in fields]), timestep

    after, timestep = step(states, actions)
    return np.asarray(after), jax.tree.map(np.asarray, timestep)


def theirs(name: str, states: np.ndarray, actions: np.ndarray):
    env = gymnasium.make(name).unwrapped
    space = purerl.make(f"gymnax/{name}").action_space
    env.reset(seed=0)
    rows = []
    for state, action in zip(states.astype(np.float64), actions, strict=True):
        env.reset()
        env.state = state.copy()
        # The library clips actions to their space, which is all that gymnasium promises to take.
        action = np.clip(action, space.low, space.high) if space.shape else int(action)
        obs, reward, terminated, truncated, _ = env.step(action)
        rows.append((np.array(env.state), obs, reward, terminated, truncated))
    return [np.array(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("name", FIELDS)
def test_one_step_is_gymnasium_s(name):
    states, actions = sample(name)
    after, timestep = ours(name, states, actions)
    want, obs, reward, terminated, truncated = theirs(name, states, actions)
    wall = np.zeros(N, bool)
    if name == "MountainCarContinuous-v0":
        # gymnax stops a car that moves left beyond its goal (`position >= goal_position`), where
        # gymnasium stops one that moves left into the wall (`position == min_position`).
        wall = (want[:, 0] == np.float32(-1.2)) | (want[:, 0] == -1.2)
        wall &= after[:, 1] < 0
    if name == "Acrobot-v1":
        # An angle at the edge may be wrapped to either end: -pi or pi.
        after, want = after.copy(), want.copy()
        after[:, :2] = np.unwrap(np.stack([want[:, :2], after[:, :2]]), axis=0)[1]
    free = ~wall
    # Acrobot integrates velocities near 28 over 0.2 s: errors there reach 1e-3 of them.
    tolerance = {"rtol": 1e-4, "atol": 2e-3 if name == "Acrobot-v1" else 2e-5}
    np.testing.assert_allclose(after[free], want[free], **tolerance)
    np.testing.assert_allclose(timestep.obs[free], obs[free], **tolerance)
    np.testing.assert_allclose(timestep.reward, reward, rtol=1e-4, atol=1e-4)
    edge = near_the_edge(name, want)
    np.testing.assert_array_equal(timestep.terminated[~edge], terminated[~edge])
    assert not truncated.any()
    assert not timestep.truncated.any()
    if name != "Pendulum-v1":
        assert 5 < terminated.sum() < N, "the states must meet both sides of the end"


def near_the_edge(name: str, state: np.ndarray) -> np.ndarray:
    """Where float32 and float64 may fall on two sides of a terminal condition."""
    if name == "CartPole-v1":
        edges = np.abs(state[:, [0, 2]]) - [2.4, 12 * 2 * np.pi / 360]
        return (np.abs(edges) < 1e-5).any(1)
    if name == "Acrobot-v1":
        return np.abs(-np.cos(state[:, 0]) - np.cos(state[:, 0] + state[:, 1]) - 1) < 1e-3
    if name.startswith("MountainCar"):
        goal = 0.5 if name == "MountainCar-v0" else 0.45
        return np.abs(state[:, 0] - goal) < 1e-6
    return np.zeros(len(state), bool)


def test_mountain_car_continuous_keeps_its_speed_at_the_wall():
    """gymnax 1.0.1 differs from gymnasium here: a car that has hit the left wall keeps pressing.

    The condition under which the speed is set to zero is on the goal rather than on the wall. It
    shows for the steps that the car needs to overcome a speed of at most 0.07.
    """
    states, actions = np.float32([[-1.19, -0.05]]), np.float32([[0.0]])
    after, _ = ours("MountainCarContinuous-v0", states, actions)
    want, *_ = theirs("MountainCarContinuous-v0", states, actions)
    np.testing.assert_allclose(after[0, 0], want[0, 0], rtol=1e-6)
    assert want[0, 1] == 0
    assert after[0, 1] < -0.04


@pytest.mark.parametrize("name", FIELDS)
def test_episodes_have_gymnasium_s_length(name):
    assert purerl.make(f"gymnax/{name}").max_episode_steps == gymnasium.spec(name).max_episode_steps


@pytest.mark.parametrize("name", FIELDS)
def test_actions_and_observations_are_gymnasium_s(name):
    env, other = purerl.make(f"gymnax/{name}"), gymnasium.make(name)
    assert env.observation_space.shape == other.observation_space.shape
    assert env.action_space.shape == other.action_space.shape
    if env.action_space.shape:
        np.testing.assert_allclose(env.action_space.low, other.action_space.low)
        np.testing.assert_allclose(env.action_space.high, other.action_space.high)
    else:
        assert env.action_space.n == other.action_space.n
