"""PPO: the loss against NumPy, the laws of one update, and probes whose optimum is known."""

import dataclasses
import functools
import math

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import purerl
from purerl.agents import ppo
from purerl.distributions import Categorical, Normal, TanhNormal
from purerl.envs import TimeStep
from purerl.errors import UsageError
from purerl.networks import Policy, actor_critic, bind, check_policy
from purerl.spaces import Box, Discrete, MultiDiscrete
from purerl.types import Clock

pytestmark = pytest.mark.usefixtures("strict_ranks")

KEY = jax.random.key(0)
# Float32 sums of a few dozens of terms of order one.
CLOSE = {"rtol": 2e-5, "atol": 2e-6}
# What the first minibatch computes again what the rollout computed, in another order of sums.
SAME_RATIO = 1e-5


@dataclasses.dataclass(frozen=True)
class Scripted:
    """Episodes of 3 steps in a termination, or `limit` in a truncation. Reward is the time + 1.

    Seen are far from zero: (5, 2 time + 20). What is done changes nothing.
    """

    action_space: object = Discrete(3)
    limit: int | None = None
    name = "test/scripted"
    observation_space = Box.of(-1e3, 1e3, (2,))
    params = {}

    @property
    def max_episode_steps(self):
        return self.limit

    def reset(self, key, params={}):
        return jnp.int32(0), self.see(jnp.int32(0))

    def step(self, key, state, action, params={}):
        reward, state = state + 1.0, state + 1
        over = state >= (self.limit or 3)
        flags = (jnp.bool_(False), over) if self.limit else (over, jnp.bool_(False))
        return state, TimeStep(self.see(state), reward, *flags)

    def see(self, state):
        return jnp.stack([jnp.float32(5.0), 2.0 * state + 20.0])


class Lock:
    """One step: reward 1 for the one right combination, a part of it for each right dial."""

    name = "test/lock"
    observation_space = Box.of(-1.0, 1.0, (1,))
    action_space = MultiDiscrete((3, 2, 4))
    max_episode_steps = None
    params = {}

    def reset(self, key, params={}):
        return jnp.int32(0), jnp.zeros(1)

    def step(self, key, state, action, params={}):
        right = (action == jnp.array([2, 0, 3])).mean()
        return state, TimeStep(jnp.zeros(1), right, jnp.bool_(True), jnp.bool_(False))


class Dial:
    """One step: reward 1 - ((a - 7) / 5)^2 for an action a in [0, 10]."""

    name = "test/dial"
    observation_space = Box.of(-1.0, 1.0, (1,))
    action_space = Box.of(0.0, 10.0, (1,))
    max_episode_steps = None
    params = {}

    def reset(self, key, params={}):
        return jnp.int32(0), jnp.zeros(1)

    def step(self, key, state, action, params={}):
        reward = 1.0 - jnp.square((action[0] - 7.0) / 5.0)
        return state, TimeStep(jnp.zeros(1), reward, jnp.bool_(True), jnp.bool_(False))


class Grid:
    """One of four places is seen, a Discrete observation; the action must name it."""

    name = "test/grid"
    observation_space = Discrete(4)
    action_space = Discrete(4)
    max_episode_steps = None
    params = {}

    def reset(self, key, params={}):
        place = jax.random.randint(key, (), 0, 4)
        return place, place

    def step(self, key, state, action, params={}):
        reward = (action == state).astype(jnp.float32)
        return state, TimeStep(state, reward, jnp.bool_(True), jnp.bool_(False))


BOX = Box.of(np.array([-2.0, 0.0]), np.array([2.0, 5.0]), (2,))
SCRIPTED = Scripted()
TINY = ppo.Config(num_envs=4, unroll_length=8, num_epochs=2, hidden_sizes=(8,))
RECURRENT = dataclasses.replace(TINY, num_minibatches=2, core_size=8)


def tiny(**changes):
    base = RECURRENT if changes.get("core", "none") != "none" else TINY
    return dataclasses.replace(base, **changes)


def real(**hparams):
    """Default HParams with some changed, as float32 arrays."""
    return jax.tree.map(jnp.float32, ppo.HParams(**hparams))


def clock(step, total=100):
    return Clock(jnp.int32(step), jnp.int32(total))


def arrays(tree):
    """Leaves as NumPy arrays; keys as their words."""
    is_key = lambda x: jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return [np.asarray(jax.random.key_data(x) if is_key(x) else x) for x in jax.tree.leaves(tree)]


def flat(tree):
    return np.concatenate([x.ravel().astype(np.float64) for x in arrays(tree)])


@functools.cache
def compiled(env, config, policy=None):
    """(agent, jitted init, jitted update), shared by the tests of this file."""
    agent = ppo.make(env, config, policy)
    return agent, jax.jit(agent.init), jax.jit(agent.update)


def run(env, config, iterations, hparams=None, seed=0, policy=None):
    """States (the first before any update) and metrics of a few iterations."""
    _, init, update = compiled(env, config, policy)
    hparams = hparams or real()
    states, metrics = [init(jax.random.key(seed), hparams)], []
    for i in range(iterations):
        state, terms = update(jax.random.key(1000 * seed + i + 1), states[-1], hparams, clock(i))
        states.append(state)
        metrics.append(jax.tree.map(float, terms))
    return states, metrics


# The loss against NumPy ---------------------------------------------------------------------------


def linear_policy(actions=3):
    """Logits and value are linear in the observation."""

    def apply(params, obs):
        out = jnp.tensordot(obs, params, 1)
        return Categorical(out[..., :-1]), out[..., -1]

    return bind(lambda key: jax.random.normal(key, (2, actions + 1)), apply, Discrete(actions))


def some_batch(rows=32, length=1, spread=0.5, seed=0):
    """A batch whose ratios lie on both sides of both clips, with advantages of both signs."""
    rng = np.random.default_rng(seed)
    normal = lambda *shape: rng.normal(size=(rows, length, *shape)).astype(np.float32)
    action = rng.integers(0, 3, (rows, length)).astype(np.int32)
    params = np.asarray(linear_policy().init(KEY))
    obs = normal(2)
    logits = obs @ params[:, :3]
    log_prob = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    old = np.take_along_axis(log_prob, action[..., None], -1)[..., 0] + spread * normal()
    start = np.zeros((rows, length), bool)
    batch = ppo.Batch(
        obs, start, action, old.astype(np.float32), normal(), normal(), normal(), carry=()
    )
    return jnp.asarray(params), jax.tree.map(jnp.asarray, batch)


def loss_in_numpy(params, batch, config, hparams):
    """Eq. 7 and 9 of the paper, row by row."""
    params, batch = np.asarray(params, np.float64), jax.tree.map(np.float64, batch)
    advantage = batch.advantage.ravel()
    if config.normalize_advantage:
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    obs = batch.obs.reshape(-1, 2)
    columns = (x.ravel() for x in (batch.action, batch.log_prob, batch.value, batch.value_target))
    policy, value_error, entropy, kl, clipped = [], [], [], [], []
    for o, a, (action, old, v, target) in zip(obs, advantage, zip(*columns), strict=True):  # noqa: B905
        *logits, value = o @ params
        p = np.exp(logits) / np.exp(logits).sum()
        ratio = p[int(action)] / math.exp(old)
        lowest, highest = 1 - float(hparams.clip_eps), 1 + float(hparams.clip_eps)
        policy.append(-min(ratio * a, min(max(ratio, lowest), highest) * a))
        errors = [(value - target) ** 2]
        if config.clip_value:
            eps = float(hparams.value_clip_eps)
            errors.append((v + min(max(value - v, -eps), eps) - target) ** 2)
        value_error.append(max(errors) / 2)
        entropy.append(-(p * np.log(p)).sum())
        kl.append(ratio - 1 - math.log(ratio))
        clipped.append(not lowest <= ratio <= highest)
    terms = {
        "loss/policy": np.mean(policy),
        "loss/value": np.mean(value_error),
        "policy/entropy": np.mean(entropy),
        "policy/kl": np.mean(kl),
        "policy/clip_fraction": np.mean(clipped),
    }
    total = terms["loss/policy"] + float(hparams.value_coef) * terms["loss/value"]
    return total - float(hparams.entropy_coef) * terms["policy/entropy"], terms


@pytest.mark.parametrize("clip_value", [False, True])
@pytest.mark.parametrize("normalize_advantage", [False, True])
@pytest.mark.parametrize("length", [1, 4])
def test_loss_equals_numpy(clip_value, normalize_advantage, length):
    config = tiny(clip_value=clip_value, normalize_advantage=normalize_advantage)
    hparams = real(clip_eps=0.3, value_coef=0.7, entropy_coef=0.2, value_clip_eps=0.4)
    params, batch = some_batch(length=length)
    total, terms = ppo.loss(params, batch, linear_policy(), config, hparams, KEY)
    expected, expected_terms = loss_in_numpy(params, batch, config, hparams)
    assert 0.1 < expected_terms["policy/clip_fraction"] < 0.9
    np.testing.assert_allclose(total, expected, **CLOSE)
    for name, value in expected_terms.items():
        np.testing.assert_allclose(terms[name], value, **CLOSE, err_msg=name)


@pytest.mark.parametrize("clip_value", [False, True])
def test_gradient_equals_finite_differences_of_numpy(clip_value):
    config = tiny(clip_value=clip_value)
    hparams = real(entropy_coef=0.2)
    params, batch = some_batch()
    ours = jax.grad(lambda p: ppo.loss(p, batch, linear_policy(), config, hparams, KEY)[0])(params)
    for index in np.ndindex(*params.shape):
        ahead, behind = (np.array(params, np.float64) for _ in range(2))
        ahead[index] += 1e-6
        behind[index] -= 1e-6
        high, low = (loss_in_numpy(p, batch, config, hparams)[0] for p in (ahead, behind))
        np.testing.assert_allclose(ours[index], (high - low) / 2e-6, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("ratio", "advantage", "flows"),
    [
        (1.5, 1.0, False),  # already likelier than the clip allows, and good: no further
        (1.5, -1.0, True),  # likelier though bad: back
        (0.5, -1.0, False),
        (0.5, 1.0, True),
        (1.1, 1.0, True),
        (0.9, -1.0, True),
    ],
)
def test_gradient_is_zero_beyond_the_clip(ratio, advantage, flows):
    params, batch = some_batch(rows=1, spread=0.0)
    batch = dataclasses.replace(
        batch,
        log_prob=batch.log_prob - math.log(ratio),
        advantage=jnp.full((1, 1), advantage),
    )
    config, hparams = tiny(normalize_advantage=False), real(value_coef=0.0, entropy_coef=0.0)
    gradient = jax.grad(lambda p: ppo.loss(p, batch, linear_policy(), config, hparams, KEY)[0])
    assert bool(jnp.any(gradient(params) != 0)) is flows


# Optimiser ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "norm"), [(100.0, 0.5), (1e-3, None)])
def test_the_norm_that_is_clipped_is_that_of_all_gradients(scale, norm):
    grads = {"a": jnp.array([3.0, 0.0]) * scale, "b": jnp.array([[4.0]]) * scale}
    adam = ppo.optimizer(tiny(), real(max_grad_norm=0.5), clock(0))
    _, state = adam.update(grads, adam.init(grads), grads)
    first_moment = flat(optax.tree.get(state, "mu")) / 0.1  # (1 - b1) times what Adam was given
    expected = flat(grads) * (norm / (5 * scale) if norm else 1.0)
    np.testing.assert_allclose(first_moment, expected, rtol=1e-5)


def test_adam_has_the_epsilon_of_the_literature():
    """1e-5 (Huang et al. 2022, detail 3): a gradient of that size makes half a step."""
    adam, gradient = ppo.optimizer(tiny(), real(learning_rate=1.0), clock(0)), jnp.array([1e-5])
    np.testing.assert_allclose(adam.update(gradient, adam.init(gradient))[0], -0.5, rtol=1e-3)


def test_the_linear_schedule_ends_at_zero_and_is_linear():
    grads = jnp.array([1.0, -1.0])
    config, hparams = tiny(schedule="linear"), real(learning_rate=0.1)

    def size(config, step):
        adam = ppo.optimizer(config, hparams, clock(step, 8))
        return np.abs(adam.update(grads, adam.init(grads), grads)[0]).max()

    steps = range(9)
    full = size(tiny(), 0)
    np.testing.assert_allclose(full, 0.1, rtol=1e-3)
    expected = [full * (1 - step / 8) for step in steps]
    np.testing.assert_allclose([size(config, step) for step in steps], expected, rtol=1e-5)
    np.testing.assert_allclose([size(tiny(), step) for step in steps], full, rtol=1e-6)
    assert size(config, 8) == 0


# One update ---------------------------------------------------------------------------------------

CASES = {
    "discrete": (SCRIPTED, {}),
    "multi-discrete": (Lock(), {}),
    "discrete observation": (Grid(), {}),
    "continuous": (Scripted(BOX), {}),
    "squashed": (Scripted(BOX), {"squash": True}),
    "normalised": (Scripted(BOX), {"normalize_obs": True, "normalize_reward": True}),
    "gru": (
        Scripted(limit=5),
        {"core": "gru", "normalize_obs": True, "normalize_reward": True},
    ),
    "shared lstm": (Scripted(BOX, limit=5), {"core": "lstm", "shared_torso": True, "squash": True}),
}
cases = pytest.mark.parametrize("case", CASES)


@cases
def test_the_first_ratio_is_1_in_every_iteration(case):
    """The first minibatch sees what the rollout saw: statistics, memory, log-probabilities."""
    env, changes = CASES[case]
    states, metrics = run(env, tiny(**changes), 4, real(learning_rate=0.01))
    if case == "continuous":  # where those beyond the box are clipped, but not their densities
        policy = actor_critic(
            env.observation_space, env.action_space, hidden_sizes=tiny().hidden_sizes
        )
        obs = jnp.zeros((200, *env.observation_space.shape))
        _, chosen, _ = policy.step(states[-1].learner.params, (), obs, None)
        assert np.abs(chosen.sample(KEY)).max() > 1.0
    assert max(terms["policy/ratio_error"] for terms in metrics) < SAME_RATIO
    assert all(np.isfinite(list(terms.values())).all() for terms in metrics)
    moved = np.abs(flat(states[-1].learner.params) - flat(states[0].learner.params)).max()
    assert moved > 0.01  # so that the later iterations did not look at the first policy


@cases
def test_state_types_are_fixed_and_rows_are_environments(case):
    env, changes = CASES[case]
    (first, second, *_), _ = run(env, tiny(**changes), 4, real(learning_rate=0.01))
    aval = lambda x: (x.shape, x.dtype, x.weak_type)
    assert jax.tree.map(aval, first) == jax.tree.map(aval, second)
    assert all(x.shape[0] == 4 for x in jax.tree.leaves(first.actor))


@pytest.mark.parametrize("case", ["gru", "shared lstm"])
def test_an_update_is_clean(case):
    """No key twice, no rank promotion, no NaN."""
    env, changes = CASES[case]
    agent = ppo.make(env, tiny(**changes))
    with jax.debug_key_reuse(True), jax.numpy_rank_promotion("raise"), jax.debug_nans(True):
        state = jax.jit(lambda *args: agent.init(*args))(jax.random.key(0), real())
        update = jax.jit(lambda *args: agent.update(*args))
        state, _ = update(jax.random.key(1), state, real(), clock(0))
        obs = state.actor.env.obs
        for greedy in (True, False):
            act = jax.jit(lambda key, *args: agent.act(key, *args, greedy))
            act(jax.random.key(2), state.learner, agent.initial_carry(4), obs)


def test_two_seeds_differ_and_one_seed_does_not():
    a, again, b = (run(SCRIPTED, TINY, 1, seed=seed)[0] for seed in (0, 0, 1))
    for i in range(2):
        np.testing.assert_array_equal(flat(a[i].learner), flat(again[i].learner))
        assert np.abs(flat(a[i].learner.params) - flat(b[i].learner.params)).max() > 0.01


def test_sweeps_equal_scalar_runs():
    agent, init, update = compiled(SCRIPTED, TINY)
    each = [
        real(learning_rate=1e-3, discount=0.9, clip_eps=0.1),
        real(learning_rate=1e-2, entropy_coef=0.3, gae_lambda=0.5),
    ]
    together = jax.tree.map(lambda *x: jnp.stack(x), *each)
    states = jax.jit(jax.vmap(agent.init, (None, 0)))(KEY, together)
    step = jax.jit(jax.vmap(agent.update, (None, 0, 0, None)))
    many = step(jax.random.key(1), states, together, clock(0))[0].learner.params
    for i, hparams in enumerate(each):
        one, _ = update(jax.random.key(1), init(KEY, hparams), hparams, clock(0))
        row = flat(jax.tree.map(lambda x: x[i], many))
        # Adam's first steps divide by tiny gradients, so rounding grows to a part of the step.
        np.testing.assert_allclose(row, flat(one.learner.params), atol=0.02 * hparams.learning_rate)
    assert np.abs(flat(jax.tree.map(lambda x: x[0] - x[1], many))).max() > 1e-3


def test_updates_beyond_the_target_kl_are_masked():
    """What is applied is the longest run of updates from the first on that stays below.

    Swept over many targets: as many updates are always the same updates, so none is taken up
    again after one was masked, although many of the minibatches that follow are below the target.
    """
    config = tiny(num_minibatches=8)
    agent, init, _ = compiled(SCRIPTED, config)
    # A first minibatch has a KL of zero, but for rounding; the next ones do not.
    targets = np.array([-1.0, 1e-5, *np.geomspace(1e-4, 0.3, 200), np.inf], np.float32)
    sweep = real(learning_rate=0.02)._replace(target_kl=jnp.asarray(targets))
    axes = jax.tree.map(lambda x: 0 if x.ndim else None, sweep)
    before = init(KEY, real())
    step = jax.jit(jax.vmap(agent.update, (None, None, axes, None)))
    many, _ = step(jax.random.key(1), before, sweep, clock(0))
    counts = np.asarray(optax.tree.get(many.learner.opt_state, "count"))
    assert counts[0] == 0
    assert counts[1] == 1
    assert counts[-1] == config.num_epochs * config.num_minibatches
    assert (np.diff(counts) >= 0).all()
    assert len(set(counts)) > 3
    of_count = {0: flat(before.learner.params)}
    for i, count in enumerate(counts):
        params = flat(jax.tree.map(lambda x: x[i], many.learner.params))
        np.testing.assert_array_equal(of_count.setdefault(count, params), params)


def test_a_masked_iteration_does_not_mask_the_next():
    states, _ = run(SCRIPTED, TINY, 3, real(learning_rate=0.02, target_kl=1e-5))
    counts = [int(optax.tree.get(state.learner.opt_state, "count")) for state in states]
    assert counts == [0, 1, 2, 3]


def test_nothing_is_learnt_once_the_schedule_has_ended():
    _, init, update = compiled(SCRIPTED, tiny(schedule="linear"))
    state = init(KEY, real())
    moved = lambda step: np.abs(
        flat(update(jax.random.key(1), state, real(), clock(step, 10))[0].learner.params)
        - flat(state.learner.params)
    ).max()
    assert moved(10) == 0
    assert 0 < moved(9) < 0.2 * moved(0)


def scripted_rows(iterations, config=TINY, period=3):
    """times [iterations, T, B]: every environment of Scripted goes 0, 1, 2, 0, 1, 2, ..."""
    times = np.arange(iterations * config.unroll_length) % period
    return np.repeat(times[:, None], config.num_envs, 1).reshape(
        iterations, config.unroll_length, config.num_envs
    )


def test_observation_statistics_are_those_of_all_before():
    env, changes = CASES["normalised"]
    states, _ = run(env, tiny(**changes), 4, real(learning_rate=0.01))
    times = scripted_rows(4)
    np.testing.assert_array_equal(states[0].learner.obs_stats.count, 0)
    for i in range(1, 5):
        stats, seen = states[i].learner.obs_stats, 2.0 * times[:i].ravel() + 20
        assert stats.count == seen.size
        np.testing.assert_allclose(stats.mean, [5.0, seen.mean()], rtol=1e-5)
        np.testing.assert_allclose(stats.variance, [0.0, seen.var()], rtol=1e-4, atol=1e-5)


def test_a_discrete_observation_is_a_name_and_not_normalised():
    """A number that is not whole has no one-hot code, so the policy would go blind."""
    plain, normalised = (run(Grid(), tiny(normalize_obs=flag), 3)[0][-1] for flag in (False, True))
    np.testing.assert_array_equal(flat(plain.learner.params), flat(normalised.learner.params))


def test_return_statistics_are_those_of_the_discounted_sums():
    env, changes = CASES["normalised"]
    states, _ = run(env, tiny(**changes), 4, real(learning_rate=0.01))
    total, sums = np.zeros(4), []
    for i, times in enumerate(scripted_rows(4)):
        for time in times:
            total = (time + 1) + 0.99 * np.where(time == 0, 0.0, total)
            sums.append(total)
        stats = states[i + 1].learner.return_stats
        np.testing.assert_allclose(stats.variance, np.var(sums), rtol=1e-4)
        np.testing.assert_allclose(states[i + 1].actor.discounted, total, rtol=1e-5)


def test_normalised_rewards_have_no_scale_and_logged_ones_keep_theirs():
    env, changes = CASES["normalised"]
    moves, logged = {}, {}
    for normalize in (True, False):
        config = tiny(**changes | {"normalize_reward": normalize})
        for scale in (1.0, 1000.0):
            hparams = real(learning_rate=0.01, reward_scale=scale)
            states, metrics = run(env, config, 4, hparams)
            moves[normalize, scale] = flat(states[-1].learner.params)
            logged[normalize, scale] = [
                (m["episode/return_sum"], m["episode/count"]) for m in metrics
            ]
    np.testing.assert_allclose(moves[True, 1.0], moves[True, 1000.0], atol=1e-3)
    assert np.abs(moves[False, 1.0] - moves[False, 1000.0]).max() > 0.01
    assert len({tuple(x) for x in logged.values()}) == 1
    ended = [4 * np.count_nonzero(times[:, 0] == 2) for times in scripted_rows(4)]
    assert logged[True, 1.0] == [(6.0 * n, n) for n in ended]


def known_value(time):
    """The value that the two policies below give to the step of an episode at `time`."""
    return 0.3 * (time + 1) ** 2 + 0.2 * time


def knowing():
    """A policy without memory: it reads the time off the observation."""

    def apply(params, obs):
        value = known_value((obs[..., 1] - 20) / 2) + 0.0 * params.sum()
        return Categorical(params * jnp.ones((*value.shape, 3))), value

    return bind(lambda key: jnp.zeros(3), apply, Discrete(3))


def counting():
    """A policy with memory: it counts the steps of its episode."""

    def step(params, carry, obs, start):
        count = jnp.where(start, 0.0, carry) + 1.0
        logits = params * jnp.ones((*count.shape, 3))
        value = 0.3 * count**2 + 0.1 * (obs[..., 1] - 20) + 0.0 * params.sum()
        return count, Categorical(logits), value

    def unroll(params, carry, obs, start):
        def one(carry, now):
            carry, *out = step(params, carry, *now)
            return carry, tuple(out)

        carry, out = jax.lax.scan(one, carry, (obs, start))
        return carry, *out

    return Policy(lambda key: jnp.zeros((1, 3)), jnp.zeros, step, unroll, lambda action: action)


@pytest.mark.parametrize(
    ("make", "limit", "minibatches"),
    [
        (knowing, None, 4),
        (knowing, 5, 4),
        (counting, None, 2),
        (counting, 8, 1),
        (counting, 2, 1),
    ],
)
def test_advantages_are_of_the_true_successors(make, limit, minibatches):
    """The value loss before anything is learnt is half the mean square advantage.

    By hand, from episodes that are known in advance: V of a final observation is that of a
    policy which still remembers the episode; and every row is in one minibatch.
    """
    core = "none" if make is knowing else "gru"
    config = tiny(num_epochs=1, num_minibatches=minibatches, core=core, unroll_length=12)
    hparams = real(learning_rate=0.0, discount=0.9, gae_lambda=0.7, reward_scale=2.0)
    with jax.numpy_rank_promotion("allow"):  # in the policies above
        _, metrics = run(Scripted(limit=limit), config, 2, hparams, policy=make())
    period = limit or 3
    for times, terms in zip(scripted_rows(2, config, period), metrics, strict=True):
        advantage, squares = 0.0, []
        for time in reversed(times[:, 0]):
            over = time == period - 1
            after = 0.0 if over and not limit else known_value(time + 1)
            delta = 2.0 * (time + 1) + 0.9 * after - known_value(time)
            advantage = delta + (0.0 if over else 0.9 * 0.7 * advantage)
            squares.append(advantage**2)
        np.testing.assert_allclose(terms["loss/value"], np.mean(squares) / 2, rtol=1e-5)


def test_actions_reach_the_environment_in_its_units():
    env, changes = CASES["squashed"]
    agent, init, _ = compiled(env, tiny(**changes))
    state = init(KEY, real())
    obs = state.actor.env.obs
    for greedy in (True, False):
        action, carry = agent.act(KEY, state.learner, agent.initial_carry(4), obs, greedy)
        assert action.shape == (4, 2)
        assert carry == ()
        assert jax.vmap(BOX.contains)(action).all()
    greedy = agent.act(KEY, state.learner, (), obs, True)[0]
    np.testing.assert_allclose(greedy, np.tile([0.0, 2.5], (4, 1)), atol=0.1)


def test_equal_settings_give_the_same_agent():
    assert ppo.make(SCRIPTED, TINY) is ppo.make(Scripted(), dataclasses.replace(TINY))


# Networks of one's own ----------------------------------------------------------------------------


class Net(nnx.Module):
    """An actor-critic in flax NNX."""

    def __init__(self, rngs):
        self.hidden = nnx.Linear(2, 8, rngs=rngs)
        self.out = nnx.Linear(8, 4, rngs=rngs)

    def __call__(self, obs):
        out = self.out(nnx.tanh(self.hidden(obs)))
        return Categorical(out[..., :3]), out[..., 3]


def nnx_policy():
    graph = nnx.graphdef(Net(nnx.Rngs(0)))
    init = lambda key: nnx.state(Net(nnx.Rngs(key)))
    return bind(init, lambda params, obs: nnx.merge(graph, params)(obs), Discrete(3))


@pytest.mark.parametrize("make", [nnx_policy, linear_policy])
def test_a_network_that_is_not_linens(make):
    # NNX broadcasts its biases.
    with jax.numpy_rank_promotion("allow"):
        states, metrics = run(SCRIPTED, TINY, 2, policy=make())
    assert np.abs(flat(states[2].learner.params) - flat(states[0].learner.params)).max() > 0
    assert max(terms["policy/ratio_error"] for terms in metrics) < SAME_RATIO


@pytest.mark.parametrize("family", [Normal, TanhNormal])
def test_what_is_done_is_what_the_policy_s_distribution_says(family):
    """A squashed one of one's own acts by the tanh of what it stores, greedy and in training."""

    def apply(params, obs):
        return family(jnp.broadcast_to(params, obs.shape), jnp.full_like(obs, -20.0)), obs[..., 0]

    env = Copycat()
    policy = bind(lambda key: jnp.full(1, 0.8), apply, env.action_space)
    config = ppo.Config(num_envs=2, unroll_length=4, num_minibatches=1, num_epochs=1)
    agent = ppo.make(env, config, policy)
    wanted = 2.0 * (np.tanh(0.8) if family is TanhNormal else 0.8)
    state = agent.init(KEY, agent.hparams)
    for greedy in (True, False):
        action, _ = agent.act(KEY, state.learner, (), jnp.zeros((3, 1)), greedy)
        np.testing.assert_allclose(action, wanted, rtol=1e-5)
    hparams = agent.hparams._replace(learning_rate=0.0)
    state, _ = jax.jit(agent.update)(KEY, state, hparams, Clock(jnp.int32(0), jnp.int32(1)))
    np.testing.assert_allclose(state.actor.env.obs, wanted, rtol=1e-5)


class Copycat:
    """Shows the last action; nothing else happens."""

    name, max_episode_steps, params = "test/copycat", None, {}
    observation_space = Box.of(-2.0, 2.0, (1,))
    action_space = Box.of(-2.0, 2.0, (1,))

    def reset(self, key, params={}):
        return jnp.zeros(1), jnp.zeros(1)

    def step(self, key, state, action, params={}):
        flag = jnp.bool_(False)
        return action, TimeStep(action, jnp.float32(0.0), flag, flag)


class Bits(Copycat):
    """Actions that are integers in a Box."""

    name = "test/bits"
    action_space = Box.of(0, 1, (2,), np.int32)


def test_integers_in_a_box_are_not_continuous():
    """Cut off they would be 1 only at the very end of the range."""
    with pytest.raises(UsageError) as caught:
        ppo.make(Bits(), TINY)
    assert str(caught.value) == "env='test/bits': PPO needs float actions in a Box, not int32"


def test_an_advantage_of_one_step_cannot_be_normalised():
    config = ppo.Config(num_envs=4, unroll_length=2, num_minibatches=8)
    with pytest.raises(UsageError, match=r"^num_minibatches=8: leaves one step in each, whose adv"):
        ppo.make(SCRIPTED, config)
    ppo.make(SCRIPTED, dataclasses.replace(config, normalize_advantage=False))


@pytest.mark.parametrize(("value", "action", "said"), [
    (lambda x: x, Discrete(3), "value of shape [2, 1] for two observations, must give [2]"),
    (lambda x: x[..., 0], Discrete(3), None),
    (lambda x: x[..., 0], MultiDiscrete((2, 3)), "action of shape [2] for two observations, "
     "must give [2, 2]"),
])  # fmt: skip
def test_a_policy_of_other_shapes_is_refused(value, action, said):
    """The value's last axis is forgotten most easily: it would be broadcast against the rewards."""
    apply = lambda params, obs: (Categorical(obs @ params), value(obs))
    policy = bind(lambda key: jnp.ones((1, 3)), apply, action)
    see = lambda: check_policy(policy, Box.of(-1.0, 1.0, (1,)), action)
    if said is None:
        see()
        return
    with pytest.raises(UsageError) as caught:
        see()
    assert str(caught.value) == f"policy: gives a {said}"


# What cannot be -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("num_envs", 0, "positive"),
        ("unroll_length", -1, "positive"),
        ("num_epochs", 0, "positive"),
        ("num_minibatches", 0, "positive"),
        ("core_size", 0, "positive"),
        ("hidden_sizes", (8, 0), "positive"),
        ("num_minibatches", 5, "32"),
        ("activation", "gelu", "tanh"),
        ("torso", "transformer", "mlp"),
        ("torso", "cnn", "height"),
        ("core", "rnn", "gru"),
        ("schedule", "cosine", "linear"),
        ("reset_mode", "cached", "pool"),
        ("squash", True, "continuous"),
    ],
)
def test_wrong_settings_are_named_in_one_line(field, value, allowed):
    with pytest.raises(UsageError) as error:
        ppo.make(SCRIPTED, tiny(**{field: value}))
    message = str(error.value)
    assert message.startswith(f"{field}=")
    assert "\n" not in message
    assert allowed in message
    shown = value[-1] if isinstance(value, tuple) else value
    assert str(shown) in message.split(":")[0]


def test_minibatches_of_a_recurrent_policy_divide_the_environments():
    with pytest.raises(UsageError, match=r"num_minibatches=8: must divide num_envs .* = 4"):
        ppo.make(SCRIPTED, tiny(core="gru", num_minibatches=8))
    ppo.make(SCRIPTED, tiny(num_minibatches=8))


# Probes -------------------------------------------------------------------------------------------

LEARN = ppo.Config(num_envs=16, unroll_length=16, num_minibatches=2, hidden_sizes=(16,))
GAMMA = 0.8


@functools.cache
def learnt(env, iterations=60, squash=False, core="none", learning_rate=0.01):
    """Train on a probe. -> (agent, policy, state, mean return of the last quarter)."""
    config = dataclasses.replace(LEARN, core=core, core_size=16, squash=squash)
    policy = actor_critic(
        env.observation_space,
        env.action_space,
        hidden_sizes=config.hidden_sizes,
        core=core,
        core_size=16,
        squash=squash,
    )
    agent = ppo.make(env, config, policy)
    hparams = real(learning_rate=learning_rate, discount=GAMMA, entropy_coef=0.0)

    def train(key):
        def iterate(state, i):
            now = Clock(i, jnp.int32(iterations))
            return agent.update(jax.random.fold_in(key, i), state, hparams, now)

        return jax.lax.scan(iterate, agent.init(key, hparams), jnp.arange(iterations))

    state, metrics = jax.jit(train)(jax.random.key(3))
    last = {name: x[-iterations // 4 :].sum() for name, x in metrics.items()}
    return agent, policy, state, float(last["episode/return_sum"] / last["episode/count"])


def first_values(env, policy, state):
    """V of first observations, and what it should be."""
    _, obs = jax.vmap(env.reset)(jax.random.split(jax.random.key(9), 16))
    start = jnp.ones(16, bool)
    value = policy.step(state.learner.params, policy.initial_carry(16), obs, start)[2]
    return value, env.optimal_value(obs, GAMMA)


@pytest.mark.parametrize("name", ["value", "discount", "obs-value", "truncation"])
def test_probes_of_the_value(name):
    """For the truncation probe a critic that took the cut for an end would be at 2.2, not 5."""
    env = purerl.make(f"probe/{name}")
    _, policy, state, _ = learnt(env, 150 if name == "truncation" else 60)
    value, expected = first_values(env, policy, state)
    np.testing.assert_allclose(value, expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("name", ["policy", "obs-policy", "policy-continuous"])
def test_probes_of_the_policy(name):
    env = purerl.make(f"probe/{name}")
    agent, _, state, _ = learnt(env, 60 if name != "policy-continuous" else 120)
    keys = jax.random.split(jax.random.key(9), 16)
    world, obs = jax.vmap(env.reset)(keys)
    action, _ = agent.act(KEY, state.learner, agent.initial_carry(16), obs, True)
    reward = jax.vmap(env.step)(keys, world, action)[1].reward
    np.testing.assert_allclose(reward, 1.0, atol=0.01)


def test_actions_are_rewarded_in_the_units_of_the_environment():
    """Were the rollout to take the policy's own action, it would be led to another one."""
    agent, _, state, _ = learnt(Dial(), 120, squash=True)
    action, _ = agent.act(KEY, state.learner, (), jnp.zeros((1, 1)), True)
    np.testing.assert_allclose(action, 7.0, atol=0.5)


def test_memory_solves_what_needs_memory():
    assert learnt(purerl.make("probe/memory"), 100, core="gru")[3] > 0.9


def test_without_memory_it_is_a_coin_toss():
    assert abs(learnt(purerl.make("probe/memory"), 100)[3]) < 0.2


def test_multi_discrete_and_discrete_observations_are_learnt():
    assert learnt(Lock(), 60)[3] > 0.95
    assert learnt(Grid(), 60)[3] > 0.95
