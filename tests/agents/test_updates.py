"""What an update does around its losses: targets, priorities, temperatures, statistics, clipping.

With learning rates of zero networks stay as they are, so that what else moves is told exactly.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_sac import Walk

import purerl
from purerl.agents import alphazero, ddpg, dqn, muzero, ppo, pqn, sac, sac_discrete, td3
from purerl.envs import TimeStep
from purerl.errors import UsageError
from purerl.networks import q_function
from purerl.ops import statistics
from purerl.replay import Index, ring
from purerl.spaces import Box, Discrete
from purerl.types import Clock

KEY = jax.random.key(0)
CARTPOLE, PENDULUM = "gymnax/CartPole-v1", "gymnax/Pendulum-v1"
REPLAY = {"num_envs": 2, "num_rounds": 1, "batch_size": 8, "capacity": 64, "learning_starts": 8,
          "hidden_sizes": (8,)}  # fmt: skip
FIRST = 4  # the round that learns first


def still(agent, **hparams):
    """HParams with which no network changes."""
    rates = [name for name in agent.hparams._fields if name.endswith("learning_rate")]
    return agent.hparams._replace(**{**dict.fromkeys(rates, 0.0), **hparams})


def run(agent, hparams, rounds, change=lambda learner: learner, total=100):
    """The states before and after each of `rounds`, from those of a fresh agent."""
    state, update = agent.init(KEY, hparams), jax.jit(agent.update)
    state = state._replace(learner=change(state.learner))
    states = [state]
    for i in range(rounds):
        clock = Clock(jnp.int32(i), jnp.int32(total))
        state, _ = update(jax.random.fold_in(KEY, i), state, hparams, clock)
        states.append(state)
    return states


def flat(tree):
    return jax.flatten_util.ravel_pytree(tree)[0]


def moved(learner):
    """With a target that is nowhere near its network."""
    return dataclasses.replace(learner, target=jax.tree.map(lambda x: x + 1.0, learner.target))


@pytest.mark.parametrize(
    ("module", "env", "settings", "follows"),
    [
        (sac, PENDULUM, {"num_updates": 1}, 1),
        (sac, PENDULUM, {"num_updates": 3}, 3),
        (sac, PENDULUM, {"num_updates": 3, "policy_period": 3}, 3),  # the actor waits, not these
        (ddpg, PENDULUM, {"num_updates": 3}, 3),
        (td3, PENDULUM, {"num_updates": 3, "policy_period": 1}, 3),
        (td3, PENDULUM, {"num_updates": 3, "policy_period": 2}, 1),  # with the actor, section 5.2
        (sac_discrete, CARTPOLE, {"num_updates": 3}, 3),
    ],
)
def test_targets_follow_after_every_gradient_step(module, env, settings, follows):
    """Not once a round: t <- t + rate (p - t), as often as there are steps."""
    agent = module.make(purerl.make(env), module.Config(**REPLAY, **settings))
    states = run(agent, still(agent, target_rate=0.25), FIRST + 1, moved)
    gaps = []
    for state in states:
        learner = state.learner
        followed = learner.params if module in (td3, ddpg) else learner.params.critics
        gaps.append(flat(learner.target) - flat(followed))
    np.testing.assert_allclose(gaps[FIRST], 1.0, atol=1e-6)  # nothing was learnt yet
    np.testing.assert_allclose(gaps[FIRST + 1], 0.75**follows, atol=1e-6)


@pytest.mark.parametrize(("updates", "period"), [(1, 3), (5, 3), (2, 1)])
def test_dqn_s_target_moves_each_period_of_gradient_steps(updates, period):
    config = dqn.Config(**REPLAY, num_updates=updates, target_period=period)
    agent = dqn.make(purerl.make(CARTPOLE), config)
    states = run(agent, still(agent, target_rate=0.5), FIRST + 6, moved)
    gaps = [float((flat(s.learner.target) - flat(s.learner.params)).mean()) for s in states]
    for i in range(7):
        wanted = 0.5 ** (i * updates // period)
        assert gaps[FIRST + i] == pytest.approx(wanted, rel=1e-4), i


def test_a_new_priority_is_the_error_of_its_own_row():
    """Of U batches drawn at once: every row whose leaf changed has its own error there."""
    config = dqn.Config(**REPLAY | {"batch_size": 4}, num_updates=3, prioritized=True, double=False)
    agent = dqn.make(purerl.make(CARTPOLE), config)
    hparams = still(agent, priority_exponent=0.7, target_rate=0.0)
    *_, state = run(agent, hparams, FIRST + 1)
    learner, actor = state
    time = FIRST + 1
    env, slot = (x.ravel() for x in np.meshgrid(np.arange(2), np.arange(time - 1)))
    rows = ring.transitions(
        actor.experience.replay, Index(jnp.asarray(env), jnp.asarray(slot)), 1, hparams.discount
    )
    q = q_function(agent.env.observation_space, 2, hidden_sizes=(8,))
    value = q.apply(learner.params, rows.obs)[jnp.arange(len(env)), rows.action, 0]
    following = q.apply(learner.target, rows.next_obs)[..., 0].max(1)
    error = jnp.abs(value - rows.reward - rows.discount * following)
    leaf = actor.priorities.levels[0][env, slot]
    drawn = leaf != 1.0  # with which rows begin
    assert 3 <= drawn.sum() <= len(env)
    np.testing.assert_allclose(leaf[drawn], ((error + 1e-6) ** 0.7)[drawn], rtol=1e-5)
    assert np.unique(leaf[drawn]).size == drawn.sum()  # so that an exchange would be seen


def test_dqn_s_loss_is_its_loss_and_its_error_its_error():
    """L = E[(Q - y)^2] / 2 and E|Q - y|: with rewards of 0 and gamma 0, y is 0."""
    config = dqn.Config(**REPLAY, double=False)
    agent = dqn.make(purerl.make(CARTPOLE), config)
    hparams = still(agent, discount=0.0, reward_scale=0.0)
    clock = Clock(jnp.int32(FIRST), jnp.int32(100))
    state = run(agent, hparams, FIRST)[-1]
    bias = lambda x: 0 * x + (3.0 if x.shape == (2,) else 0.0)  # of the head: Q is 3 everywhere
    learner = dataclasses.replace(state.learner, params=jax.tree.map(bias, state.learner.params))
    _, metrics = jax.jit(agent.update)(KEY, state._replace(learner=learner), hparams, clock)
    assert metrics["loss/q"] == pytest.approx(4.5)
    assert metrics["value/error"] == pytest.approx(3.0)
    assert metrics["value/mean"] == pytest.approx(3.0)


def test_dqn_weighs_what_it_draws_by_priority():
    """With beta from importance_exponent to 1: of equal errors the loss is the mean weight's."""
    config = dqn.Config(**REPLAY, double=False, prioritized=True)
    agent = dqn.make(purerl.make(CARTPOLE), config)
    bias = lambda x: 0 * x + (3.0 if x.shape == (2,) else 0.0)  # of the head: Q is 3 everywhere
    of_three = lambda learner: dataclasses.replace(
        learner, params=jax.tree.map(bias, learner.params)
    )
    base = still(agent, discount=0.0, reward_scale=0.0, priority_exponent=1.0)
    state, update = run(agent, base, FIRST + 2, of_three)[-1], jax.jit(agent.update)

    def loss(beta, total):
        hparams = base._replace(importance_exponent=beta)
        clock = Clock(jnp.int32(FIRST + 2), jnp.int32(total))
        return float(update(KEY, state, hparams, clock)[1]["loss/q"])

    start, middle, end = 10**9, 2 * (FIRST + 2), FIRST + 2
    assert loss(0.0, start) == pytest.approx(4.5)
    assert 0 < loss(1.0, start) < 4.4  # what was learnt from has 3 times the priority of the others
    assert loss(0.0, end) == pytest.approx(loss(1.0, start), rel=1e-5)
    assert loss(0.0, middle) == pytest.approx(loss(0.5, start), rel=1e-5)
    assert loss(0.5, start) > loss(1.0, start)


def test_pqn_explores_less_and_less_in_environment_steps():
    agent = pqn.make(purerl.make(CARTPOLE), pqn.Config(num_envs=4, unroll_length=8))
    hparams = still(agent, exploration_fraction=0.5, epsilon_end=0.2)
    state, update = agent.init(KEY, hparams), jax.jit(agent.update)
    for i, wanted in ((0, 1.0), (10, 0.6), (20, 0.2), (30, 0.2)):
        new, metrics = update(KEY, state, hparams, Clock(jnp.int32(i), jnp.int32(40)))
        assert metrics["policy/epsilon"] == pytest.approx(wanted)
        assert new.learner.epsilon == pytest.approx(wanted)


def test_a_row_counts_by_its_weight():
    """That of importance sampling multiplies what is learnt of a row, not its priority."""
    q = q_function(Box.of(-1.0, 1.0, (3,)), 4, hidden_sizes=(8,))
    params, obs = q.init(KEY), jax.random.normal(KEY, (6, 3))
    action, weight = jnp.arange(6) % 4, jnp.linspace(0.1, 1.0, 6)
    rows = dqn.Batch(obs, action, jnp.zeros(6), obs, jnp.zeros(6), weight)
    goal = jnp.full((6, 1), 2.0)
    error = q.apply(params, obs)[jnp.arange(6), action, 0] - 2.0
    for kind, each in (("squared", 0.5 * error**2), ("huber", optax.losses.huber_loss(error))):
        config = dqn.Config(loss=kind)
        found, (errors, _) = dqn.loss(params, goal, rows, q, config, 1.0, ())
        assert found == pytest.approx(float((weight * each).mean()), rel=1e-5)
        np.testing.assert_allclose(errors, jnp.abs(error), rtol=1e-6)


@dataclasses.dataclass(frozen=True)
class Plane(Walk):
    """With actions of two dimensions."""

    name = "test/plane"
    action_space = Box.of(0.0, 4.0, (2,))


@pytest.mark.parametrize(
    ("module", "env", "size"), [(sac, Plane(), 2.0), (sac_discrete, Walk, np.log(3.0))]
)
def test_the_temperature_seeks_the_entropy_that_is_wanted(module, env, size):
    """Which is given for one dimension, or as a share of the greatest there is."""
    env = RandomStates() if module is sac_discrete else env
    agent = module.make(env, module.Config(**REPLAY))
    rate = {"temperature_learning_rate": 0.1} if module is sac else {"learning_rate": 0.1}
    entropy = entropy_of(agent, still(agent))
    assert abs(entropy - entropy / size) > 0.06  # so that the size would be missed
    for more, rises in ((-0.05, False), (0.05, True)):
        hparams = still(agent, **rate, target_entropy=float((entropy + more) / size))
        *_, last, now = run(agent, hparams, FIRST + 1)
        change = now.learner.params.log_temperature - last.learner.params.log_temperature
        assert (change > 0) == rises, more


def entropy_of(agent, hparams):
    """The policy's entropy in the first round that learns."""
    state, update, found = agent.init(KEY, hparams), jax.jit(agent.update), []
    for i in range(FIRST + 1):
        clock = Clock(jnp.int32(i), jnp.int32(100))
        state, metrics = update(jax.random.fold_in(KEY, i), state, hparams, clock)
        found.append(float(metrics["policy/entropy"]))
    return found[-1]


@dataclasses.dataclass(frozen=True)
class RandomStates:
    """Observations at random, three actions."""

    name = "test/random-states"
    observation_space = Box.of(-1.0, 1.0, (2,))
    action_space = Discrete(3)
    max_episode_steps = None
    params = {}

    def reset(self, key, params={}):
        return jnp.int32(0), jax.random.uniform(key, (2,), minval=-1.0)

    def step(self, key, state, action, params={}):
        obs = jax.random.uniform(key, (2,), minval=-1.0)
        return state, TimeStep(obs, jnp.float32(0.0), jnp.bool_(False), jnp.bool_(False))


@pytest.mark.parametrize(
    ("module", "settings"),
    [(ppo, {"num_envs": 2, "unroll_length": 4, "num_minibatches": 1}),
     *((module, REPLAY) for module in (sac, td3, ddpg))],
)  # fmt: skip
def test_what_acts_sees_what_was_learnt_from(module, settings):
    """The observation statistics of training, in evaluation too."""
    env = purerl.make(PENDULUM)
    agent = module.make(env, module.Config(**settings, normalize_obs=True))
    plain = module.make(env, module.Config(**settings))
    learner = agent.init(KEY, agent.hparams).learner
    mean, deviation = jnp.array([0.5, -0.3, 2.0]), jnp.array([0.5, 2.0, 3.0])
    seen = mean + deviation * jax.random.normal(KEY, (4096, 3))
    stats = statistics.update(statistics.init((3,)), seen)
    learner = dataclasses.replace(learner, obs_stats=stats)
    obs = mean + deviation * jax.random.uniform(jax.random.key(1), (32, 3), minval=-2, maxval=2)
    normal = (obs - seen.mean(0)) / seen.std(0)
    carry = agent.initial_carry(32)
    for greedy in (True, False):
        found, _ = agent.act(KEY, learner, carry, obs, greedy)
        wanted, _ = plain.act(KEY, learner, carry, normal, greedy)
        raw, _ = plain.act(KEY, learner, carry, obs, greedy)
        assert np.abs(found - wanted).max() < 0.02 * np.abs(raw - wanted).max()


@pytest.mark.parametrize("module", [ppo, pqn, dqn, muzero, alphazero])
def test_gradients_are_clipped_by_the_norm_of_all_of_them(module):
    """Not each number by itself: a large gradient keeps its direction."""
    params = {"a": jnp.zeros(3), "b": jnp.zeros((2, 2))}
    numbers = jax.random.normal(KEY, (2, 7))
    grads = [
        {"a": scale * x[:3], "b": scale * x[3:].reshape(2, 2)}
        for x, scale in zip(numbers, (1000.0, 1e-3), strict=True)
    ]
    hparams = module.HParams(max_grad_norm=0.5)
    clock = Clock(jnp.int32(0), jnp.int32(10))
    optimizer = module.optimizer(module.Config(), hparams, clock)
    limited = lambda tree: jax.tree.map(
        lambda x: x * jnp.minimum(1.0, 0.5 / optax.tree.norm(tree)), tree
    )
    free = module.optimizer(module.Config(), hparams._replace(max_grad_norm=jnp.inf), clock)
    one, two = optimizer.init(params), free.init(params)
    for tree in grads:  # of Adam's first step no size is seen; the second has what it remembers
        found, one = optimizer.update(tree, one, params)
        wanted, two = free.update(limited(tree), two, params)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4), found, wanted)
    assert optax.tree.norm(found) > 0


@dataclasses.dataclass(frozen=True)
class Steps:
    """Shows the time, pays it, and is over after 5 steps: cut off, or at an end of its own."""

    cut: bool = True
    name = "test/steps"
    observation_space = Box.of(0.0, 10.0, (1,))
    action_space = Discrete(2)
    params = {}

    @property
    def max_episode_steps(self):
        return 5 if self.cut else None

    def reset(self, key, params={}):
        return jnp.int32(0), jnp.zeros(1)

    def step(self, key, state, action, params={}):
        time, over = state + 1, state + 1 >= 5
        reward = state.astype(jnp.float32)
        ends = (~over & over, over) if self.cut else (over, ~over & over)
        return time, TimeStep(time[None].astype(jnp.float32), reward, *ends)


@pytest.mark.parametrize("cut", [True, False])
def test_pqn_learns_towards_lambda_returns_that_end_with_the_episode(cut):
    """At a cut the value of the true last observation follows, and the trace goes no further."""
    env, length = Steps(cut), 12
    config = pqn.Config(
        num_envs=2, unroll_length=length, num_epochs=1, num_minibatches=1, hidden_sizes=(8,)
    )
    agent = pqn.make(env, config)
    hparams = still(agent, exploration_fraction=0.0, epsilon_end=0.0, q_lambda=0.65, discount=0.9)
    state = agent.init(KEY, hparams)
    _, metrics = agent.update(KEY, state, hparams, Clock(jnp.int32(0), jnp.int32(1)))
    q = q_function(env.observation_space, 2, hidden_sizes=(8,), activation="relu", layer_norm=True)
    value = np.asarray(q.apply(state.learner.params, jnp.arange(6.0)[:, None])[..., 0].max(1))
    times = np.arange(length) % 5
    target, following = np.zeros(length), value[length % 5]
    for t in reversed(range(length)):
        last = times[t] == 4
        bootstrap = 0.0 if last and not cut else value[times[t] + 1]
        blend = 0.0 if last or t == length - 1 else 0.65
        target[t] = times[t] + 0.9 * ((1 - blend) * bootstrap + blend * following)
        following = target[t]
    wanted = 0.5 * np.mean((value[times] - target) ** 2)
    assert metrics["loss/q"] == pytest.approx(wanted, rel=1e-4)


def test_pqn_normalises_its_layers_unless_told_otherwise():
    """Without a target network it is what keeps it from diverging."""
    assert pqn.Config().layer_norm
    learner = pqn.make(purerl.make(CARTPOLE)).init(KEY, pqn.HParams()).learner
    paths = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(learner)]
    assert any("LayerNorm" in path for path in paths)


def test_the_replay_of_a_grid_keeps_a_bit_for_each_cell():
    env = purerl.make("gymnax/Breakout-MinAtar")
    agent = dqn.make(env, dqn.Config(torso="cnn"))
    state = jax.eval_shape(agent.init, KEY, agent.hparams)
    cells = np.prod(env.observation_space.shape)
    bits, numbers = cells + 2, 2  # those of the ends; the reward and the action
    assert state.actor.experience.replay.rows.shape[-1] == -(-bits // 32) + numbers


class Unhashable(Steps):
    """As a dataclass is that is neither frozen nor compared by identity."""

    __hash__ = None


@pytest.mark.parametrize("module", [ppo, pqn, dqn, sac_discrete, muzero, alphazero])
def test_what_cannot_be_hashed_is_one_line(module):
    with pytest.raises(UsageError, match="env='test/steps': must be hashable: a dataclass is if"):
        module.make(Unhashable(), module.Config())
    for sizes in ([8], np.array([8])):
        with pytest.raises(UsageError, match=r"^hidden_sizes=.*\[8\].*: must be a tuple$"):
            module.make(Steps(), module.Config(hidden_sizes=sizes))
