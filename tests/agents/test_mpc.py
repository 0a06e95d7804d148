"""MPC: its two models against loops, its search against optimal control, its memory, errors."""

import dataclasses
import inspect
import itertools
import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import laws
import numpy as np
import pytest
import scipy.stats

import purerl
from purerl.agents import mpc
from purerl.engine.population import population
from purerl.engine.record import describe, rebuild
from purerl.envs import Revealed, TimeStep, bare, check
from purerl.errors import UsageError
from purerl.networks import Ensemble, gaussian_ensemble
from purerl.ops import statistics
from purerl.replay import Index, Transitions, ring
from purerl.spaces import Box, Discrete
from purerl.types import Clock

KEY = jax.random.key(0)
PENDULUM = "gymnax/Pendulum-v1"
SEARCH = {"horizon": 4, "population": 12, "elites": 3, "iterations": 2}
LEARNED = {
    "model": "learned", "num_envs": 2, "unroll_length": 5, "num_rounds": 1, "num_updates": 2,
    "batch_size": 8, "capacity": 200, "learning_starts": 20, "ensemble": 2, "hidden_sizes": (8,),
    **SEARCH,
}  # fmt: skip


class At(NamedTuple):
    x: jax.Array
    time: jax.Array


@dataclasses.dataclass(frozen=True)
class Linear:
    """x' = F x + G u + noise, reward -(x'x + 0.1 u'u); ends where `last` steps were made."""

    last: int = 1_000
    noise: float = 0.0
    name = "test/linear"
    observation_space = Box.of(-np.inf, np.inf, (2,))
    action_space = Box.of(-4.0, 4.0, (1,))
    max_episode_steps = None
    params = {"push": 1.0}

    def reset(self, key, params={}):
        x = jax.random.uniform(key, (2,), minval=-1.0)
        return At(x, jnp.int32(0)), x

    def step(self, key, state, action, params={}):
        push = jnp.asarray([0.1, 0.5]) * params.get("push", 1.0)
        move = jnp.asarray([[1.0, 0.4], [0.0, 1.0]]) @ state.x
        x = move + push * action[0] + self.noise * jax.random.normal(key, (2,))
        reward = -(state.x @ state.x + 0.1 * action @ action)
        reward = jnp.where(state.time >= self.last, 1000.0, reward)  # nobody should count these
        over = state.time + 1 >= self.last
        return At(x, state.time + 1), TimeStep(x, reward, over, jnp.bool_(False))

    def optimal(self, x, horizon):
        """The first action of the best plan: the finite-horizon Riccati recursion."""
        f, g = np.array([[1.0, 0.4], [0.0, 1.0]]), np.array([[0.1], [0.5]])
        p, gain = np.zeros((2, 2)), None
        for _ in range(horizon):
            gain = np.linalg.solve(0.1 + g.T @ p @ g, g.T @ p @ f)
            p = np.eye(2) + f.T @ p @ (f - g @ gain)
        assert gain is not None
        return -gain @ x


def acted(env, config, obs, plan=None, key=KEY, **hparams):
    """(action, the rest of the plan) of a fresh agent."""
    agent = mpc.make(env, config)
    learner = agent.init(KEY, mpc.HParams(**hparams)).learner
    plan = agent.initial_carry(obs.shape[0]) if plan is None else plan
    return jax.jit(agent.act, static_argnums=4)(key, learner, plan, obs, True)


def iterated(agent, iterations, state=None, hparams=None):
    """The states after each of some iterations, the first before any."""
    update, hparams = jax.jit(agent.update), hparams or agent.hparams
    states = [agent.init(KEY, hparams) if state is None else state]
    for i in range(iterations):
        clock = Clock(jnp.int32(i), jnp.int32(iterations))
        states.append(update(jax.random.key(i), states[-1], hparams, clock)[0])
    return states


# --- the environment as its own model


@pytest.mark.parametrize("params", [{}, {"g": 3.0}])
def test_the_simulation_is_stepping_the_environment(params):
    env, discount = purerl.make(PENDULUM), 0.9
    state, _ = jax.vmap(env.reset)(jax.random.split(KEY, 2))
    action = jax.random.uniform(KEY, (2, 3, 7, 1), minval=-2.0, maxval=2.0)
    found = jax.jit(
        lambda state, action: mpc.simulate(KEY, env, state, action, discount, 1, params)
    )(state, action)
    step = jax.jit(lambda state, action: env.step(KEY, state, action, params))
    for b in range(2):
        for p in range(3):
            now, total = jax.tree.map(lambda x, b=b: x[b], state), 0.0
            for t in range(7):
                now, timestep = step(now, action[b, p, t])
                total += discount**t * float(timestep.reward)
            assert found[b, p] == pytest.approx(total, rel=1e-5)


def test_nothing_counts_after_a_termination_but_all_does_after_a_truncation():
    env = Linear(last=3)
    state, _ = jax.vmap(env.reset)(jax.random.split(KEY, 2))
    state = state._replace(time=jnp.array([0, 2]))  # three steps to go, and one
    action = jnp.zeros((2, 1, 6, 1))
    found = mpc.simulate(KEY, env, state, action, 1.0, 1, {})[:, 0]
    free = mpc.simulate(KEY, Linear(), state, action[:, :, :3], 1.0, 1, {})[:, 0]
    assert found[0] == pytest.approx(float(free[0]), rel=1e-6)
    assert found[1] == pytest.approx(-float(state.x[1] @ state.x[1]), rel=1e-6)
    pendulum = purerl.make(PENDULUM, max_steps_in_episode=2)
    state, _ = jax.vmap(pendulum.reset)(jax.random.split(KEY, 1))
    run = lambda env: mpc.simulate(KEY, env, state, jnp.zeros((1, 1, 6, 1)), 1.0, 1, {})
    np.testing.assert_array_equal(run(pendulum), run(purerl.make(PENDULUM)))


def test_chances_are_shared_by_candidates_and_averaged_over_particles():
    env = Linear(noise=0.5)
    state = At(jnp.zeros((3, 2)), jnp.zeros(3, jnp.int32))
    run = lambda particles: mpc.simulate(
        KEY, env, state, jnp.zeros((3, 4, 2, 1)), 1.0, particles, {}
    )
    few, many = run(1), run(4000)
    np.testing.assert_allclose(few, jnp.repeat(few[:, :1], 4, 1), rtol=1e-6)
    assert len(np.unique(few[:, 0])) == 3, "environments meet different chances"
    # The state after one step has a variance of 0.25 in each of two dimensions.
    np.testing.assert_allclose(many, -0.5, atol=0.03)


def test_the_plan_is_that_of_optimal_control():
    env, horizon = Linear(), 6
    config = mpc.Config(horizon=horizon, population=400, elites=20, iterations=25)
    known = Revealed(env)
    state, obs = jax.vmap(known.reset)(jax.random.split(KEY, 3))
    action, plan = acted(env, config, obs, deviation=1.0)
    for i in range(3):
        np.testing.assert_allclose(action[i], env.optimal(state.x[i], horizon), atol=0.02)
    # What is left of the plan is optimal too, one step later, for the steps that are left.
    after = jax.vmap(lambda s, a: env.step(KEY, s, a)[0])(state, action)
    for i in range(3):
        left = env.optimal(after.x[i], horizon - 1)
        np.testing.assert_allclose(4.0 * plan[i, 0], left, atol=0.05)


def test_the_planner_has_the_environment_s_parameters():
    env = Linear()
    config = mpc.Config(horizon=3, population=200, elites=10, iterations=15)
    _, obs = jax.vmap(Revealed(env).reset)(jax.random.split(KEY, 2))
    usual, _ = acted(env, config, obs, env_params={"push": 1.0})
    other, _ = acted(env, config, obs, env_params={"push": -1.0})
    np.testing.assert_allclose(other, -usual, atol=0.02)
    assert (jnp.abs(usual) > 0.1).all()
    soon, _ = acted(env, config, obs, discount=0.0)  # what an action costs, and nothing later
    assert (jnp.abs(soon) < 0.1 * jnp.abs(usual)).all()
    agent = mpc.make(env, mpc.Config(**SEARCH))
    swept = agent.hparams._replace(env_params={"push": 0.5}, discount=0.7)
    start = agent.init(KEY, swept._replace(discount=0.9))
    settings = iterated(agent, 1, start, swept)[1].learner.settings
    assert settings.env_params["push"] == 0.5
    assert settings.discount == np.float32(0.7), "a new value is heard of"


def test_a_revealed_environment_shows_its_state_and_changes_nothing_else():
    env = purerl.make(PENDULUM, max_steps_in_episode=9)
    known = Revealed(env)
    check(known, eager=False)
    assert (known.name, known.params, known.max_episode_steps) == (env.name, env.params, 9)
    keys = jax.random.split(KEY, 4)
    own, shown = jax.vmap(env.reset)(keys), jax.vmap(known.reset)(keys)
    for _ in range(10):
        assert laws.changed(own[0], shown[0]) == []
        assert shown[1].dtype == jnp.uint32
        assert laws.changed(known.layout.unpack(shown[1]), own[0]) == []
        action = jax.vmap(env.action_space.sample)(keys)
        own_step = jax.jit(jax.vmap(env.step))(keys, own[0], action)
        shown_step = jax.jit(jax.vmap(known.step))(keys, shown[0], action)
        assert laws.changed(own_step[1]._replace(obs=()), shown_step[1]._replace(obs=())) == []
        own, shown = ((s, t.obs) for s, t in (own_step, shown_step))


def test_a_state_with_a_random_key_is_only_planned_in_with_a_learnt_model():
    class Keyed:
        name, max_episode_steps, params = "test/keyed", 9, {}
        observation_space, action_space = Box.of(-1.0, 1.0, (2,)), Box.of(-1.0, 1.0, (1,))

        def reset(self, key, params={}):
            return (key, jnp.int32(0)), jnp.zeros(2)

        def step(self, key, state, action, params={}):
            time = state[1] + 1
            obs = jax.random.uniform(key, (2,))
            return (key, time), TimeStep(obs, action[0], jnp.bool_(False), time >= 9)

    with pytest.raises(UsageError, match="env='test/keyed': has a random key in its state"):
        mpc.make(Keyed(), mpc.Config(**SEARCH))
    agent = mpc.make(Keyed(), mpc.Config(**SEARCH, model="learned"))
    state = jax.eval_shape(agent.init, KEY, agent.hparams)
    assert state.actor.env.obs.shape[1:] == (2,)


def test_the_record_of_a_run_knows_the_environment_that_is_revealed():
    env = purerl.make(PENDULUM, max_steps_in_episode=9)
    agent = mpc.make(env, mpc.Config(**SEARCH))
    assert bare(agent.env) is bare(env) is env
    stored = describe(agent, population(agent.hparams, 2))
    assert stored["env"] == {"name": PENDULUM, "kwargs": {"max_steps_in_episode": 9}}
    assert rebuild(stored) is agent


# --- the learnt model


def learner_of(model, inputs, outputs, **hparams):
    """With statistics that are not those of nothing."""
    numbers = lambda seed, size: jax.random.normal(jax.random.key(seed), (size,))
    stats = [
        statistics.Running(0.3 * numbers(s, n), jnp.exp(0.2 * numbers(s + 1, n)), jnp.float32(9.0))
        for s, n in ((1, inputs), (3, outputs))
    ]
    return mpc.Learner(model.init(KEY), (), *stats, mpc.HParams(**hparams))


def test_what_is_imagined_is_a_loop_over_the_members():
    """Without noise: each member goes on from what itself predicted, and all are averaged."""
    model = gaussian_ensemble(3, 3, 2, hidden_sizes=(8,), activation="tanh")
    learner = learner_of(model, 3, 3, discount=0.9)
    still = learner.params._replace(low=jnp.full(3, -60.0), high=jnp.full(3, -50.0))
    learner = dataclasses.replace(learner, params=still)
    obs = jax.random.normal(KEY, (2, 2))
    action = jax.random.uniform(KEY, (2, 3, 5, 1), minval=-1.0)
    found = mpc.imagine(KEY, model, learner, obs, action, 2)
    standard = lambda running, x: (x - running.mean) / jnp.sqrt(running.variance + 1e-8)
    back = lambda running, y: running.mean + jnp.sqrt(running.variance + 1e-8) * y
    for b in range(2):
        for p in range(3):
            total = 0.0
            for e in range(2):
                now = obs[b]
                for t in range(5):
                    x = standard(learner.inputs, jnp.concatenate([now, action[b, p, t]]))
                    mean, _ = model.apply(learner.params, jnp.broadcast_to(x, (2, 1, 3)))
                    y = back(learner.outputs, mean[e, 0])
                    now, total = now + y[:2], total + 0.9**t * float(y[2])
            assert found[b, p] == pytest.approx(total / 2, abs=1e-3)


def test_particles_spread_as_the_model_says_and_candidates_share_their_chances():
    """Changes of variance v, the observation as reward: var(sum) = v (1 + 4 + ...) / (E Q)."""
    model = gaussian_ensemble(2, 2, 2, hidden_sizes=(), activation="tanh")
    plain = learner_of(model, 2, 2)
    blank = jax.tree.map(jnp.zeros_like, plain.params.towers)["params"]["Head_0"]
    kernel = blank["kernel"].at[:, 1, 0].set(1.0)  # the mean of the reward is the observation
    towers = {"params": {"Head_0": {**blank, "kernel": kernel}}}
    params = Ensemble(towers, jnp.full(2, -3.0), jnp.full(2, -1.0))
    learner = dataclasses.replace(
        plain, params=params, inputs=statistics.init((2,)), outputs=statistics.init((2,))
    )
    variance = float(jnp.exp(model.apply(params, jnp.zeros((2, 1, 2)))[1][0, 0, 0]))
    assert 0.05 < variance < 0.4
    found = mpc.imagine(KEY, model, learner, jnp.zeros((3000, 1)), jnp.zeros((3000, 2, 4, 1)), 3)
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    assert found[:, 0].mean() == pytest.approx(0.0, abs=0.05)
    assert found[:, 0].var() == pytest.approx(variance * (1 + 4 + 9) / 6, rel=0.1)


def test_the_loss_is_the_likelihood_of_scipy():
    model = gaussian_ensemble(4, 3, 2, hidden_sizes=(8,), activation="swish")
    params = model.init(KEY)
    keys = jax.random.split(KEY, 3)
    known = jax.random.bernoulli(keys[2], 0.8, (2, 16, 3)).astype(jnp.float32)
    rows = mpc.Examples(
        jax.random.normal(keys[0], (2, 16, 4)), jax.random.normal(keys[1], (2, 16, 3)), known
    )
    loss, error = mpc.likelihood_loss(params, rows, model, 0.1)
    mean, log_variance = map(np.asarray, model.apply(params, rows.x))
    wanted = 0.1 * 3 * (0.5 + 10.0)
    for e in range(2):
        density = scipy.stats.norm.logpdf(rows.y[e], mean[e], np.exp(0.5 * log_variance[e]))
        wanted -= density[np.asarray(known[e]) > 0].mean()
    assert loss == pytest.approx(wanted, abs=1e-4)
    square = [np.square(mean[e] - rows.y[e])[np.asarray(known[e]) > 0].mean() for e in range(2)]
    assert error == pytest.approx(np.sqrt(np.mean(square)), abs=1e-5)
    slope = jax.grad(lambda p: mpc.likelihood_loss(p, rows, model, 0.1)[0])(params)
    assert all(jnp.abs(x).max() > 0 for x in jax.tree.leaves(slope))


def test_log_variances_stay_between_their_bounds_however_far_the_inputs():
    model = gaussian_ensemble(2, 2, 3, hidden_sizes=(8,), activation="relu")
    params = model.init(KEY)
    x = 1e4 * jax.random.normal(KEY, (3, 100, 2))
    _, log_variance = model.apply(params, x)
    assert (log_variance > -10.01).all()
    assert (log_variance < 0.51).all()
    assert log_variance.min() < -9.9
    assert log_variance.max() > 0.4


def test_what_was_seen_after_a_termination_is_not_learnt_from():
    obs = jax.random.normal(KEY, (4, 2, 3))
    batch = Transitions(
        obs, jnp.ones((4, 1)), jnp.arange(4.0), obs + 2.0, jnp.array([1.0, 0.0, 1.0, 1.0])
    )
    found = mpc.examples(batch, 2)
    assert found.x.shape == (4, 7)
    assert found.y.shape == found.known.shape == (4, 7)
    np.testing.assert_allclose(found.y[0, :6], 2.0, atol=1e-6)
    np.testing.assert_array_equal(found.y[1, :6], 0.0)
    np.testing.assert_array_equal(found.known.sum(1), [7, 1, 7, 7])
    np.testing.assert_array_equal(found.y[:, 6], jnp.arange(4.0))


def test_standardising_and_back():
    """Also of what is far out, as a reward that is paid once in a thousand steps."""
    running = statistics.update(statistics.init((3,)), jax.random.normal(KEY, (50, 3)) * 4.0 + 1.0)
    y = jax.random.normal(KEY, (5, 2, 3)).at[0, 0].set(100.0)
    found = mpc.standardized(running, running, mpc.Examples(y, y, jnp.ones_like(y)))
    assert jnp.abs(found.y).max() > 20.0
    assert jnp.abs(found.x).max() == 10.0
    back = mpc.unstandardized(running, found.y)
    np.testing.assert_allclose(back, y, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def lives():
    """States of a learning agent, and the agent: 10 steps an iteration, learning from 20 on."""
    agent = mpc.make(purerl.make(PENDULUM, max_steps_in_episode=8), mpc.Config(**LEARNED))
    state = agent.init(KEY, agent.hparams)
    same = jax.tree.map(lambda x: jnp.repeat(x[:1], 2, 0), state.learner.params.towers)
    params = state.learner.params._replace(towers=same)
    learner = dataclasses.replace(state.learner, params=params)
    return agent, iterated(agent, 4, state._replace(learner=learner))


def test_actions_are_random_and_nothing_is_learnt_until_learning_starts(lives):
    _, states = lives
    params = [state.learner.params for state in states]
    assert [bool(laws.changed(a, b)) for a, b in itertools.pairwise(params)] == [
        False, True, True, True,
    ]  # fmt: skip
    planned = [bool(jnp.any(state.actor.plan != 0.0)) for state in states]
    assert planned == [False, False, False, True, True]
    counts = [float(state.learner.inputs.count) for state in states]
    assert counts == [0.0, 0.0, 32.0, 64.0, 96.0]


def test_members_learn_from_rows_of_their_own(lives):
    """They began alike: only different rows can have parted them."""
    _, states = lives
    before, after = (jax.tree.map(np.asarray, states[i].learner.params.towers) for i in (1, 2))
    assert laws.changed(*(jax.tree.map(lambda x, i=i: x[i], before) for i in (0, 1))) == []
    assert laws.changed(*(jax.tree.map(lambda x, i=i: x[i], after) for i in (0, 1)))


def test_the_replay_holds_what_was_lived(lives):
    """The change that is learnt is that of the environment, also where an episode was cut."""
    agent, states = lives
    replay = states[-1].actor.replay
    steps = replay.layout.unpack(replay.rows)
    assert (jnp.abs(steps.action) <= 1.0).all()
    angle = jnp.arctan2(steps.obs[..., 1], steps.obs[..., 0])
    speed, torque = steps.obs[..., 2], 2.0 * steps.action[..., 0]
    cost = jnp.square(angle) + 0.1 * jnp.square(speed) + 0.001 * jnp.square(torque)
    np.testing.assert_allclose(steps.reward[:, :40], -cost[:, :40], atol=1e-3)
    assert agent.env.max_episode_steps == 8
    assert steps.truncated[:, 7::8][:, :2].all()
    env, time = (x.ravel() for x in np.meshgrid(np.arange(len(angle)), np.arange(18)))
    batch = ring.transitions(replay, Index(jnp.asarray(env), jnp.asarray(time)), 1, 1.0)
    flat = lambda x: x[env, time]
    turn = flat(speed) + 0.05 * (15.0 * jnp.sin(flat(angle)) + 3.0 * flat(torque))
    turn = jnp.clip(turn, -8.0, 8.0)
    after = flat(angle) + 0.05 * turn
    wanted = jnp.stack([jnp.cos(after), jnp.sin(after), turn], -1) - flat(steps.obs)
    np.testing.assert_allclose(mpc.examples(batch, 1).y[:, :3], wanted, atol=1e-4)


@pytest.mark.slow
def test_a_learnt_model_predicts_what_happens():
    """After 600 steps, plans of 5 steps are worth what the environment says, to a few percent.

    Not longer ones: upright the pendulum is unstable, and errors grow exponentially.
    """
    settings = LEARNED | {
        "num_envs": 4, "unroll_length": 25, "num_updates": 400, "batch_size": 64,
        "capacity": 10_000, "hidden_sizes": (32, 32), "learning_starts": 300, "ensemble": 3,
    }  # fmt: skip
    env = purerl.make(PENDULUM)
    agent = mpc.make(env, mpc.Config(**settings))
    learner = iterated(agent, 6)[-1].learner
    state, obs = jax.vmap(env.reset)(jax.random.split(KEY, 16))
    action = jnp.repeat(jax.random.uniform(KEY, (16, 8, 2, 1), minval=-1.0), 3, 2)[:, :, :5]
    model = gaussian_ensemble(4, 4, 3, hidden_sizes=(32, 32), activation="swish")
    found = mpc.imagine(KEY, model, learner, obs, action, 4)
    wanted = mpc.simulate(KEY, env, state, 2.0 * action, 1.0, 1, {})
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.99
    assert jnp.abs(found - wanted).mean() < 0.1 * jnp.abs(wanted - wanted.mean()).mean()


# --- memory and bounds


@pytest.mark.parametrize("settings", [SEARCH, LEARNED], ids=["true", "learned"])
def test_plans_and_actions_stay_in_bounds(settings):
    agent = mpc.make(purerl.make(PENDULUM), mpc.Config(**settings))
    _, obs = jax.vmap(agent.env.reset)(jax.random.split(KEY, 5))
    action, plan = acted(bare(agent.env), agent.config, obs, deviation=20.0)
    assert action.shape == (5, 1)
    assert (jnp.abs(action) <= 2.0).all()
    assert (jnp.abs(plan) <= 1.0).all()
    assert jnp.abs(plan).max() > 0.5


def test_the_next_search_begins_with_the_rest_of_the_plan():
    """A search that moves nothing gives the plan back, a step on."""
    env = purerl.make(PENDULUM)
    _, obs = jax.vmap(Revealed(env).reset)(jax.random.split(KEY, 3))
    plan = jax.random.uniform(KEY, (3, 4, 1), minval=-1.0)
    action, rest = acted(env, mpc.Config(**SEARCH), obs, plan, smoothing=1.0)
    np.testing.assert_allclose(action, 2.0 * plan[:, 0], atol=1e-6)
    np.testing.assert_array_equal(rest[:, :3], plan[:, 1:])
    np.testing.assert_array_equal(rest[:, 3], 0.0)


def test_the_plan_is_forgotten_at_the_start_of_an_episode():
    config = mpc.Config(num_envs=2, unroll_length=1, num_rounds=1, **SEARCH)
    agent = mpc.make(purerl.make(PENDULUM), config)
    state = agent.init(KEY, agent.hparams)

    def after(plan, start):
        world = state.actor.env._replace(start=jnp.full(2, start))
        actor = mpc.Actor(world, (), plan)
        return iterated(agent, 1, state._replace(actor=actor))[1].actor.plan

    old, none = jnp.full((2, 4, 1), 0.9), jnp.zeros((2, 4, 1))
    np.testing.assert_array_equal(after(old, True), after(none, True))
    assert (after(old, False) != after(none, False)).any()
    np.testing.assert_array_equal(after(none, False), after(none, True))
    np.testing.assert_array_equal(agent.initial_carry(2), none)


# --- laws of the true model, whose learners begin alike: those that its own branches could break

TRUE = laws.Case(
    "mpc-true", mpc, PENDULUM, mpc.Config(num_envs=2, unroll_length=2, num_rounds=2, **SEARCH),
    sweep=("deviation", (0.3, 0.6)),
)  # fmt: skip


@pytest.mark.parametrize(
    "law",
    [
        laws.make_is_cached,
        laws.settings_are_split,
        laws.state_types_are_fixed,
        laws.actors_lead_with_environments,
        laws.acts_in_the_action_space,
        laws.keys_ranks_and_numbers_are_clean,
        laws.chunks_do_not_matter,
        laws.resuming_is_exact,
        laws.companions_do_not_matter,
        laws.sweeps_equal_scalars,
        laws.conds_survive_the_member_axis,
    ],
    ids=lambda law: law.__name__,
)
def test_the_true_model_keeps_the_laws(law, tmp_path):
    arguments = (TRUE, tmp_path) if "directory" in inspect.signature(law).parameters else (TRUE,)
    law(*arguments)


# --- what cannot be


@pytest.mark.parametrize(
    ("env", "settings", "said"),
    [
        ("gymnax/CartPole-v1", {},
         "env='gymnax/CartPole-v1': MPC needs continuous actions, not Discrete(n=2)"),
        (PENDULUM, {"elites": 9, "population": 8}, "elites=9: must be at most population=8"),
        (PENDULUM, {"horizon": 0}, "horizon=0: must be positive"),
        (PENDULUM, {"iterations": 0}, "iterations=0: must be positive"),
        (PENDULUM, {"particles": -1}, "particles=-1: must be positive"),
        (PENDULUM, {"model": "false"}, "model='false': must be one of true, learned"),
        (PENDULUM, {"model": "learned", "capacity": 25},
         "capacity=25: must hold a batch, batch_size=32"),
        (PENDULUM, {"model": "learned", "learning_starts": 5}, "learning_starts=5: must be above"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line_before_anything_compiles(env, settings, said):
    with pytest.raises(UsageError) as error:
        mpc.make(purerl.make(env), mpc.Config(**settings))
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_the_true_model_needs_no_replay():
    mpc.make(purerl.make(PENDULUM), mpc.Config(capacity=1, batch_size=8, learning_starts=1))


def test_a_learnt_model_needs_observations_that_change_by_numbers():
    actions = purerl.make(PENDULUM).action_space
    env = types.SimpleNamespace(name="names", action_space=actions, observation_space=Discrete(5))
    mpc.check(env, mpc.Config(model="true"))
    with pytest.raises(UsageError, match="model='learned' needs observations in a Box"):
        mpc.check(env, mpc.Config(model="learned"))
