"""Returns against hand-made tables, NumPy loops and rlax."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl.ops.returns import discounted_sum, generalized_advantage, lambda_return, n_step

pytestmark = pytest.mark.usefixtures("strict_ranks")

# Float32 sums of some dozens of terms of order one.
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
DISCOUNT, LAMBDA = 0.9, 0.8


def random_steps(shape, seed=0, end=0.15):
    """reward, value, next_value, terminated, done of random episodes; V(s') where it means one."""
    rng = np.random.default_rng(seed)
    terminated = rng.random(shape) < end
    truncated = (rng.random(shape) < end) & ~terminated
    reward, value, final = (rng.normal(size=shape).astype(np.float32) for _ in range(3))
    last = rng.normal(size=(1, *shape[1:])).astype(np.float32)
    next_value = np.where(truncated, final, np.concatenate([value[1:], last]))
    next_value = np.where(terminated, np.nan, next_value)  # must not be looked at
    return reward, value, next_value, terminated, terminated | truncated


def by_definition(reward, value, next_value, terminated, done, discount, gae_lambda):
    """A_t = sum_k (discount lambda)^k delta_{t+k}, to the end of the episode: two loops."""
    steps = len(reward)
    after = np.where(terminated, 0.0, next_value)
    delta = reward + discount * after - value
    advantage = np.zeros_like(delta, np.float64)
    for column in np.ndindex(*reward.shape[1:]):
        for t in range(steps):
            for k in range(t, steps):
                advantage[(t, *column)] += (discount * gae_lambda) ** (k - t) * delta[(k, *column)]
                if done[(k, *column)]:
                    break
    return advantage


@pytest.mark.parametrize("shape", [(1,), (40,), (33, 3), (5, 2, 2)], ids=str)
@pytest.mark.parametrize("end", [0.0, 0.15, 1.0])
def test_advantage_equals_its_definition(shape, end):
    steps = random_steps(shape, end=end)
    expected = by_definition(*steps, DISCOUNT, LAMBDA)
    np.testing.assert_allclose(generalized_advantage(*steps, DISCOUNT, LAMBDA), expected, **CLOSE)


def test_advantage_equals_rlax_on_every_episode():
    rlax = pytest.importorskip("rlax", exc_type=ImportError)
    steps = reward, value, next_value, terminated, done = random_steps((64,), seed=1)
    ours = generalized_advantage(*steps, DISCOUNT, LAMBDA)
    ends = [*(np.flatnonzero(done) + 1), 64]
    assert terminated.any()
    assert (done & ~terminated).any()
    for begin, end in zip([0, *ends[:-1]], ends, strict=True):
        if begin == end:
            continue
        part = slice(begin, end)
        values = np.append(value[part], np.nan_to_num(next_value[end - 1]))
        discounts = np.float32(DISCOUNT) * ~terminated[part]
        theirs = rlax.truncated_generalized_advantage_estimation(
            reward[part], discounts.astype(np.float32), LAMBDA, values
        )
        np.testing.assert_allclose(ours[part], theirs, **CLOSE)


def test_lambda_0_gives_one_step_errors():
    steps = reward, value, next_value, terminated, _ = random_steps((30, 2))
    after = np.where(terminated, 0.0, next_value)
    one_step = reward + DISCOUNT * after - value
    np.testing.assert_allclose(generalized_advantage(*steps, DISCOUNT, 0.0), one_step, **CLOSE)


def test_lambda_1_gives_returns_minus_value():
    reward, value, next_value, terminated, done = random_steps((30,), seed=2)
    expected, following = np.zeros(30), 0.0
    for t in reversed(range(30)):
        if t == 29 or done[t]:
            following = 0.0 if terminated[t] else next_value[t]
        following = reward[t] + DISCOUNT * following
        expected[t] = following - value[t]
    ours = generalized_advantage(reward, value, next_value, terminated, done, DISCOUNT, 1.0)
    np.testing.assert_allclose(ours, expected, **CLOSE)


def test_discount_0_gives_reward_minus_value():
    steps = random_steps((30, 2))
    ours = generalized_advantage(*steps, 0.0, LAMBDA)
    np.testing.assert_allclose(ours, steps[0] - steps[1], **CLOSE)


def test_two_episodes_of_constant_reward():
    """Reward 1, V = 5: three steps to a termination, two to a truncation before V = 7, one more.

    delta within an episode 1 + 0.5 * 5 - 5 = -1.5; at the termination 1 - 5 = -4; at the
    truncation 1 + 0.5 * 7 - 5 = -0.5; the trace decays by 0.5 * 0.5.
    """
    reward, value = jnp.ones(6), jnp.full(6, 5.0)
    next_value = jnp.array([5.0, 5.0, 99.0, 5.0, 7.0, 5.0])
    terminated = jnp.array([0, 0, 1, 0, 0, 0], bool)
    done = jnp.array([0, 0, 1, 0, 1, 0], bool)
    ours = generalized_advantage(reward, value, next_value, terminated, done, 0.5, 0.5)
    expected = [-1.5 - 0.25 * 2.5, -1.5 - 0.25 * 4, -4, -1.5 - 0.25 * 0.5, -0.5, -1.5]
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("transform", ["jit", "vmap"])
def test_advantage_under_transformations(transform):
    steps = random_steps((20, 3))
    expected = generalized_advantage(*steps, DISCOUNT, LAMBDA)
    if transform == "jit":
        ours = jax.jit(generalized_advantage)(*steps, DISCOUNT, LAMBDA)
    else:
        over = functools.partial(jax.vmap, in_axes=(1,) * 5 + (None, None), out_axes=1)
        ours = over(generalized_advantage)(*steps, DISCOUNT, LAMBDA)
    np.testing.assert_allclose(ours, expected, **CLOSE)


def test_gradients_flow_and_no_terminal_value_leaks_into_them():
    reward, value, next_value, terminated, done = random_steps((20,))
    total = lambda v, n: generalized_advantage(
        reward, v, n, terminated, done, DISCOUNT, LAMBDA
    ).sum()
    of_value, of_next = jax.grad(total, (0, 1))(value, np.nan_to_num(next_value))
    assert np.isfinite(of_value).all()
    assert (of_value != 0).all()
    np.testing.assert_array_equal(of_next != 0, ~terminated)


def test_a_terminal_reward_stays_in_its_episode():
    """The cut is where an episode starts; gym's wrapper cut with the same step's done."""
    start = jnp.array([True, False, True])
    for transform in (lambda f: f, jax.jit):
        last, sums = transform(discounted_sum)(jnp.ones(3), start, 0.99, jnp.float32(100.0))
        np.testing.assert_allclose(sums, [1.0, 1.99, 1.0], rtol=1e-6)
        assert last == sums[-1]
    rows = jnp.stack([start, jnp.array([False, True, False])], 1)
    columns = jax.vmap(discounted_sum, (None, 1, None, 0), (0, 1))
    _, sums = columns(jnp.ones(3), rows, 0.99, jnp.array([100.0, 1.0]))
    np.testing.assert_allclose(sums, [[1.0, 1.99], [1.99, 1.0], [1.0, 1.99]], rtol=1e-6)


def test_discounted_sum_goes_on_across_calls():
    rng = np.random.default_rng(3)
    reward = rng.normal(size=(37, 2)).astype(np.float32)
    start = rng.random((37, 2)) < 0.2
    expected, total = [], np.zeros(2)
    for r, s in zip(reward, start, strict=True):
        total = r + DISCOUNT * np.where(s, 0.0, total)
        expected.append(total)
    carry, parts = jnp.zeros(2), []
    for part in (slice(0, 5), slice(5, 21), slice(21, 37)):
        carry, sums = discounted_sum(reward[part], start[part], DISCOUNT, carry)
        parts.append(sums)
    np.testing.assert_allclose(np.concatenate(parts), expected, **CLOSE)
    np.testing.assert_allclose(carry, expected[-1], **CLOSE)


def lambda_return_by_hand(reward, next_value, terminated, truncated, discount, trace):
    """One loop backwards; `next_value[t]` is max Q at the successor of step t."""
    out = np.zeros_like(reward)
    following = next_value[-1]
    for t in reversed(range(len(reward))):
        if terminated[t]:
            out[t] = reward[t]
        elif truncated[t] or t == len(reward) - 1:
            out[t] = reward[t] + discount * next_value[t]
        else:
            out[t] = reward[t] + discount * ((1 - trace) * next_value[t] + trace * following)
        following = out[t]
    return out


def history(steps=30, seed=0):
    rng = np.random.default_rng(seed)
    reward, next_value = rng.normal(size=(2, steps)).astype(np.float32)
    terminated = rng.random(steps) < 0.15
    truncated = (rng.random(steps) < 0.15) & ~terminated
    return reward, next_value, terminated, truncated


@pytest.mark.parametrize("trace", [0.0, 0.65, 1.0])
def test_lambda_returns_equal_a_loop(trace):
    reward, next_value, terminated, truncated = history()
    done = terminated | truncated
    unseen = np.where(terminated, np.nan, next_value)  # must not be looked at
    found = lambda_return(reward, unseen, terminated, done, 0.9, trace)
    expected = lambda_return_by_hand(reward, next_value, terminated, truncated, 0.9, trace)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_lambda_returns_equal_rlax():
    rlax = pytest.importorskip("rlax", exc_type=ImportError)
    reward, next_value, terminated, _ = history()
    found = lambda_return(reward, next_value, terminated, terminated, 0.9, 0.8)
    theirs = rlax.lambda_returns(reward, 0.9 * ~terminated, next_value, 0.8)
    np.testing.assert_allclose(found, theirs, rtol=1e-5, atol=1e-5)


def test_lambda_returns_are_not_off_by_one():
    """The peers' mistake: bootstrapping step t from Q two steps on.

    Without rewards and discount, and with a value that only the third state has, a one-step return
    sees it from the second state and from no other.
    """
    value = np.float32([0.0, 0.0, 7.0, 0.0, 0.0])  # of s_0 ... s_4
    zeros, never = np.zeros(4, np.float32), np.zeros(4, bool)
    found = lambda_return(zeros, value[1:], never, never, 1.0, 0.0)
    np.testing.assert_array_equal(found, [0.0, 7.0, 0.0, 0.0])


def test_n_step_equals_a_loop():
    reward = history(seed=3)[0][:3]
    for mask in range(64):
        terminated = np.array([mask >> i & 1 for i in range(3)], bool)
        truncated = np.array([mask >> (i + 3) & 1 for i in range(3)], bool) & ~terminated
        total, weight = 0.0, 1.0
        for t in range(3):
            total += weight * reward[t]
            weight *= 0.9 * (1 - terminated[t])
            if terminated[t] or truncated[t]:
                break
        found = n_step(*map(jnp.asarray, (reward, terminated, truncated)), 0.9)
        np.testing.assert_allclose(found[0], total, rtol=1e-6)
        np.testing.assert_allclose(found[1], weight, rtol=1e-6)
        assert found[2] == t
