"""Targets of an unrolled model against a loop."""

import jax.numpy as jnp
import numpy as np
import pytest

from purerl.ops.unrolled import targets

K, N_STEP, ROWS, ACTIONS = 3, 4, 200, 2


def sequences(seed=0, ends=0.15):
    """What `targets` takes, at random, with ends of both kinds."""
    rng = np.random.default_rng(seed)
    shape = (K + N_STEP, ROWS)
    end = rng.random(shape) < ends
    cut = end & (rng.random(shape) < 0.5)
    weights = rng.dirichlet(np.ones(ACTIONS), (K + 1, ROWS))
    reward, following = rng.normal(size=shape), rng.normal(size=shape)
    return [jnp.asarray(x) for x in (reward, end & ~cut, cut, weights, following)]


@pytest.mark.parametrize("discount", [0.9, -1.0])
def test_targets_equal_a_loop(discount):
    given = sequences()
    found = targets(*given, N_STEP, discount)
    reward, terminated, truncated, weights, following = (np.asarray(x, float) for x in given)
    for row in range(ROWS):
        terminal = cut = False  # of the episode that the sequence begins in
        for k in range(K + 1):
            if k:  # the reward of the step before, which was made unless an end came earlier
                assert found.reward_mask[k, row] == float(not cut)
                wanted = 0.0 if terminal or cut else reward[k - 1, row]
                assert found.reward[k, row] == pytest.approx(wanted, abs=1e-6)
                if not (terminal or cut):
                    terminal = bool(terminated[k - 1, row])
                    cut = bool(truncated[k - 1, row])
            assert found.policy_mask[k, row] == float(not (terminal or cut))
            assert found.value_mask[k, row] == float(not cut)
            total, factor = 0.0, 1.0
            for i in range(k, k + N_STEP):
                if terminal or cut:
                    break
                total += factor * reward[i, row]
                factor *= discount
                if terminated[i, row]:
                    break
                if truncated[i, row] or i == k + N_STEP - 1:
                    total += factor * following[i, row]
                    break
            assert found.value[k, row] == pytest.approx(total, abs=1e-5)
            np.testing.assert_allclose(found.weights[k, row], weights[k, row], rtol=1e-6)


def test_an_episode_that_ends_with_its_first_step_is_learnt_from():
    """The first-step mask of a peer is 1 - done_0: it drops what every terminal step teaches."""
    reward, _, _, weights, following = sequences()
    never = jnp.zeros_like(reward, bool)
    found = targets(reward, never.at[0].set(True), never, weights, following, N_STEP, 0.9)
    assert (found.policy_mask[0] == 1).all()
    assert (found.value_mask[0] == 1).all()
    np.testing.assert_allclose(found.value[0], reward[0], rtol=1e-6)
    np.testing.assert_allclose(found.reward[1], reward[0], rtol=1e-6)
    assert (found.reward_mask[1] == 1).all()
    # After the end: absorbed, worth nothing, no policy.
    assert (found.value[1:] == 0).all()
    assert (found.value_mask[1:] == 1).all()
    assert (found.policy_mask[1:] == 0).all()
    # A truncation instead bootstraps, and nothing after it is learnt.
    found = targets(reward, never, never.at[0].set(True), weights, following, N_STEP, 0.9)
    np.testing.assert_allclose(found.value[0], reward[0] + 0.9 * following[0], rtol=1e-5)
    assert (found.value_mask[1:] == 0).all()
    assert (found.reward_mask[2:] == 0).all()
    assert (found.reward_mask[1] == 1).all()
