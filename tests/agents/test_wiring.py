"""That what an agent is told reaches what it is for: environment, ring, draws, losses, actions.

The laws compare a run with itself, and the operators have tests of their own; here is what lies
between. One tiny agent of each algorithm, whose update is compiled once.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

import purerl
from purerl.agents import alphazero, ddpg, dqn, muzero, ppo, pqn, sac, sac_discrete, td3
from purerl.envs import TimeStep
from purerl.networks import Network, critics, q_function, tanh_normal_actor
from purerl.ops import statistics
from purerl.replay import Index, Transitions, ring
from purerl.spaces import Box, Discrete
from purerl.types import Clock

KEY = jax.random.key(0)
NUMBER = Box.of(-9.0, 9.0, (1,))
TOWER: dict[str, Any] = {"hidden_sizes": (8,), "activation": "tanh"}
CARTPOLE, PENDULUM = "gymnax/CartPole-v1", "gymnax/Pendulum-v1"
REPLAY: dict[str, Any] = {
    "num_envs": 2,
    "num_rounds": 1,
    "batch_size": 8,
    "capacity": 64,
    "learning_starts": 8,
    "hidden_sizes": (8,),
}
ROLLOUT: dict[str, Any] = {
    "num_envs": 2,
    "unroll_length": 4,
    "num_minibatches": 2,
    "hidden_sizes": (8,),
}
SEARCH: dict[str, Any] = {
    "num_simulations": 4,
    "model_steps": 2,
    "n_step": 3,
    "learning_starts": 16,
}
TOLD: dict[Any, tuple[str, dict[str, Any]]] = {
    ppo: (CARTPOLE, ROLLOUT),
    pqn: (CARTPOLE, ROLLOUT | {"num_epochs": 3}),
    dqn: (CARTPOLE, REPLAY),
    sac_discrete: (CARTPOLE, REPLAY),
    muzero: (CARTPOLE, REPLAY | SEARCH),
    sac: (PENDULUM, REPLAY),
    td3: (PENDULUM, REPLAY),
    ddpg: (PENDULUM, REPLAY),
}
OFF_POLICY = (dqn, sac_discrete, sac, td3, ddpg)
FIRST = 4  # the round that learns first


@functools.cache
def tiny(module):
    env, settings = TOLD[module]
    return module.make(purerl.make(env), module.Config(**settings))


@functools.cache
def compiled(module):
    """(init, update) of `tiny`, both of an environment whose parameters are given."""
    return jax.jit(tiny(module).init), jax.jit(tiny(module).update)


def real(module, **given):
    """HParams with every environment parameter, so that all calls have one structure."""
    agent = tiny(module)
    hparams = agent.hparams._replace(env_params=dict(agent.env.params))._replace(**given)
    return jax.tree.map(jnp.float32, hparams)


def still(module, **given):
    rates = [name for name in module.HParams._fields if name.endswith("learning_rate")]
    return real(module, **{**dict.fromkeys(rates, 0.0), **given})


def run(module, hparams, rounds, total=100):
    """(state, metrics) after so many rounds."""
    init, update = compiled(module)
    state, metrics = init(KEY, hparams), {}
    for i in range(rounds):
        clock = Clock(jnp.int32(i), jnp.int32(total))
        state, metrics = update(jax.random.fold_in(KEY, i), state, hparams, clock)
    return state, metrics


def same(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    bits = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
    return all(np.array_equal(bits(x), bits(y)) for x, y in pairs)


@pytest.mark.parametrize("module", TOLD, ids=lambda m: m.__name__)
def test_a_parameter_of_the_environment_reaches_its_steps(module):
    """Gravity: resets do not know it."""
    name = "g" if TOLD[module][0] == PENDULUM else "gravity"
    usual = real(module)
    heavier = usual._replace(env_params=usual.env_params | {name: 2 * usual.env_params[name]})
    init, update = compiled(module)
    state, clock = init(KEY, usual), Clock(jnp.int32(0), jnp.int32(100))
    assert same(state, init(KEY, heavier))
    after = [update(KEY, state, hparams, clock)[0] for hparams in (usual, heavier)]
    assert not same(after[0].actor, after[1].actor)


@pytest.mark.parametrize("module", [pqn, dqn, sac_discrete, sac, td3, ddpg])
def test_rewards_are_scaled_before_they_are_learnt_from(module):
    """With no future, a critic's loss is a parabola in the scale: E (Q - s r)^2 / 2."""
    given = {"discount": 0.0} | ({"max_grad_norm": 1.0} if module is pqn else {})

    def loss(scale):
        _, metrics = run(module, still(module, **given, reward_scale=scale), FIRST + 1)
        return float(metrics["loss/critic" if "loss/critic" in metrics else "loss/q"])

    none, one, minus, three = (loss(scale) for scale in (0.0, 1.0, -1.0, 3.0))
    slope, bend = (one - minus) / 2, (one + minus) / 2 - none
    assert bend > 0.1  # half the mean square of a reward, of each critic
    assert three == pytest.approx(none + 3 * slope + 9 * bend, rel=1e-3)


@pytest.mark.parametrize(
    ("rate", "moves"),
    [("critic_learning_rate", "critics"), ("actor_learning_rate", "actor"),
     ("temperature_learning_rate", "log_temperature")],
)  # fmt: skip
def test_each_rate_of_sac_is_of_its_own_part(rate, moves):
    hparams = still(sac, **{rate: 1e-3})
    before, after = (run(sac, hparams, n)[0].learner.params for n in (FIRST, FIRST + 1))
    changed = [
        name for name in before._fields if not same(getattr(before, name), getattr(after, name))
    ]
    assert changed == [moves]


@dataclasses.dataclass(frozen=True)
class Endless:
    """Shows the time and never ends."""

    action_space: Box | Discrete
    name = "test/endless"
    observation_space = Box.of(0.0, 1e6, (1,))
    max_episode_steps = None
    params = {}

    def reset(self, key, params={}):
        return jnp.int32(0), jnp.zeros(1)

    def step(self, key, state, action, params={}):
        obs = (state + 1)[None].astype(jnp.float32)
        return state + 1, TimeStep(obs, jnp.float32(1.0), jnp.bool_(False), jnp.bool_(False))


def endless(module):
    return Endless(Discrete(2) if module in (dqn, sac_discrete) else Box.of(-1.0, 1.0, (1,)))


@pytest.mark.parametrize("module", OFF_POLICY)
def test_what_is_lived_lies_in_the_ring_in_order_and_all_of_it_is_drawn_from(module, monkeypatch):
    """Actions in it are drawn evenly until learning starts, whatever the policy would do."""
    times, uniform = [], ring.uniform

    def spied(numbers, replay, time, lookahead):
        jax.debug.callback(lambda t: times.append(int(t)), time)
        return uniform(numbers, replay, time, lookahead)

    monkeypatch.setattr(ring, "uniform", spied)
    many = {"num_envs": 8, "unroll_length": 16, "num_rounds": 2, "capacity": 2048}
    config = module.Config(**REPLAY | many | {"learning_starts": 1024})
    agent = module.make(endless(module), config)
    state = agent.init(KEY, agent.hparams)
    if module is not dqn:
        state = state._replace(learner=one_sided(state.learner))
    update = jax.jit(lambda *args: agent.update(*args))
    for i in range(5):
        clock = Clock(jnp.int32(i), jnp.int32(100))
        state, _ = update(jax.random.fold_in(KEY, i), state, agent.hparams, clock)
    replay = (state.actor.experience if module is dqn else state.actor).replay
    env, slot = (jnp.asarray(x.ravel()) for x in np.meshgrid(np.arange(8), np.arange(159)))
    rows = ring.transitions(replay, Index(env, slot), 1, 1.0)
    np.testing.assert_array_equal(rows.obs[:, 0], slot)
    np.testing.assert_array_equal(rows.next_obs[:, 0], slot + 1)
    jax.effects_barrier()
    assert times == [144, 160]  # of each environment, in the rounds that learn
    action = np.asarray(rows.action).ravel()[slot < 128]
    if isinstance(agent.env.action_space, Discrete):
        likely = scipy.stats.binomtest(int(action.sum()), len(action)).pvalue
    else:
        likely = scipy.stats.kstest(action, "uniform", (-1, 2)).pvalue
    assert likely > 1e-3


def one_sided(learner):
    """With an actor whose mean, or whose logit of the second of two actions, is far up."""
    up = lambda x: x + jnp.where(jnp.arange(x.shape[-1]) == x.shape[-1] - 1, 9.0, 0.0)
    actor = jax.tree.map(up, learner.params.actor)
    return dataclasses.replace(learner, params=learner.params._replace(actor=actor))


@pytest.mark.parametrize("module", [dqn, sac, td3, ddpg])
def test_n_steps_are_learnt_from_and_no_draw_runs_over_the_head(module, monkeypatch):
    drawn, summed, uniform, transitions = [], [], ring.uniform, ring.transitions
    monkeypatch.setattr(ring, "uniform", lambda *a: drawn.append(a[3]) or uniform(*a))
    monkeypatch.setattr(ring, "transitions", lambda *a: summed.append(a[2]) or transitions(*a))
    config = module.Config(**REPLAY | {"learning_starts": 16}, n_step=3)
    agent = module.make(endless(module), config)
    hparams = agent.hparams
    state = jax.eval_shape(agent.init, KEY, hparams)
    jax.eval_shape(agent.update, KEY, state, hparams, Clock(jnp.int32(0), jnp.int32(9)))
    assert set(drawn) == set(summed) == {3}


MEAN, DEVIATION = jnp.array([0.5, -0.3, 1.0]), jnp.array([0.5, 2.0, 3.0])


class Normal:
    """An environment that shows (obs - MEAN) / DEVIATION."""

    def __init__(self, env):
        self.env, self.action_space, self.params = env, env.action_space, env.params
        self.name, self.max_episode_steps = "test/normal", env.max_episode_steps
        self.observation_space = Box.of(-jnp.inf, jnp.inf, env.observation_space.shape)

    def reset(self, key, params={}):
        state, obs = self.env.reset(key, params)
        return state, (obs - MEAN) / DEVIATION

    def step(self, key, state, action, params={}):
        state, timestep = self.env.step(key, state, action, params)
        return state, timestep._replace(obs=(timestep.obs - MEAN) / DEVIATION)


@pytest.mark.parametrize("module", [ppo, sac, td3])
def test_everything_that_learns_sees_normalised_observations(module):
    """Acting, learning, and what follows an iteration's last step or a cut: as if shown so."""
    env = purerl.make(PENDULUM, max_steps_in_episode=3)
    settings = ROLLOUT if module is ppo else REPLAY
    learners = []
    for world, normalize in ((env, True), (Normal(env), False)):
        agent = module.make(world, module.Config(**settings, normalize_obs=normalize))
        state, update = agent.init(KEY, agent.hparams), jax.jit(agent.update)
        if normalize:  # too many were seen for a few more to count
            stats = statistics.Running(MEAN, DEVIATION**2, jnp.float32(2**40))
            state = state._replace(learner=dataclasses.replace(state.learner, obs_stats=stats))
        before = state.learner.params
        for i in range(FIRST + 2):
            clock = Clock(jnp.int32(i), jnp.int32(100))
            state, _ = update(jax.random.fold_in(KEY, i), state, agent.hparams, clock)
        learners.append(state.learner.params)
    flat = lambda tree: jax.flatten_util.ravel_pytree(tree)[0]
    learnt = np.abs(flat(learners[0]) - flat(before)).max()
    np.testing.assert_allclose(flat(learners[0]), flat(learners[1]), atol=1e-3 * learnt)


def test_sac_counts_what_it_lives_among_what_was_seen():
    agent = sac.make(purerl.make(PENDULUM), sac.Config(**REPLAY, normalize_obs=True))
    state, update = agent.init(KEY, agent.hparams), jax.jit(agent.update)
    for i in range(3):
        clock = Clock(jnp.int32(i), jnp.int32(100))
        state, _ = update(jax.random.fold_in(KEY, i), state, agent.hparams, clock)
    env, slot = (jnp.asarray(x.ravel()) for x in np.meshgrid(np.arange(2), np.arange(3)))
    lived = ring.sequences(state.actor.replay, Index(env, slot), 1).obs[:, 0]
    stats = state.learner.obs_stats
    assert stats.count == 6
    np.testing.assert_allclose(stats.mean, lived.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(stats.variance, lived.var(0), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("module", TOLD, ids=lambda m: m.__name__)
def test_greedy_actions_leave_nothing_to_chance(module):
    """And sampled ones do, but of a policy that has none."""
    agent = tiny(module)
    learner = compiled(module)[0](KEY, real(module)).learner
    obs = jax.vmap(agent.env.reset)(jax.random.split(KEY, 64))[1]
    carry, keys = agent.initial_carry(64), jax.random.split(KEY, 2)
    for greedy in (True, False):
        act = jax.jit(lambda key, greedy=greedy: agent.act(key, learner, carry, obs, greedy)[0])
        fixed = greedy or module in (td3, ddpg)
        assert np.array_equal(act(keys[0]), act(keys[1])) == fixed, greedy


@pytest.mark.parametrize("module", [ppo, pqn, dqn, muzero, alphazero])
def test_linear_schedules_end_at_zero(module):
    params = jnp.array([1.0, -1.0])

    def size(schedule, step):
        hparams = module.HParams(learning_rate=0.1)
        if "weight_decay" in hparams._fields:
            hparams = hparams._replace(weight_decay=0.0)
        clock = Clock(jnp.int32(step), jnp.int32(8))
        adam = module.optimizer(module.Config(schedule=schedule), hparams, clock)
        return float(jnp.abs(adam.update(params, adam.init(params), params)[0]).max())

    full = size("constant", 0)
    assert full == pytest.approx(0.1, rel=0.01)
    for step in (0, 4, 8):
        assert size("linear", step) == pytest.approx(full * (1 - step / 8), abs=1e-7), step
        assert size("constant", step) == pytest.approx(full), step


@pytest.mark.parametrize("module", [ppo, pqn])
def test_every_epoch_has_every_minibatch(module):
    state, _ = run(module, real(module), 1)
    config = tiny(module).config
    steps = optax.tree.get(state.learner.opt_state, "count")
    assert steps == config.num_epochs * config.num_minibatches > 1


def test_sac_s_critics_learn_of_what_was_seen_before_the_action():
    obs, action = jax.random.normal(KEY, (2, 5, 1))
    critic = critics(NUMBER, NUMBER, 2, **TOWER)
    params, goal = critic.init(KEY), jnp.arange(5.0)
    batch = Transitions(obs, action, jnp.zeros(5), obs + 1.0, jnp.zeros(5))
    nothing = jnp.zeros((5, 1))
    draw = sac.Draw(nothing, nothing, jnp.zeros(2), jax.random.split(KEY, 3))
    found, mean = sac.critic_loss(params, goal, batch, critic, sac.Config(), draw)
    wanted = 0.0
    for one in range(2):
        for i in range(5):
            value = float(critic.apply(params, obs[i : i + 1], action[i : i + 1])[one, 0])
            wanted += 0.5 * (value - float(goal[i])) ** 2 / 5
    assert found == pytest.approx(wanted, rel=1e-5)
    assert mean == pytest.approx(float(critic.apply(params, obs, action).mean()), rel=1e-5)


@pytest.mark.parametrize(("told", "wanted"), [("min", [1.0, -5.0, 2.0]), ("mean", [2.0, 0.0, 3.0])])
def test_what_the_critics_tell_sac_s_actor(told, wanted):
    """The least of them, or in REDQ and DroQ their mean."""
    values = jnp.array([[1.0, 5.0, 4.0], [3.0, -5.0, 2.0]])
    obs, keys = jnp.ones((3, 1)), jax.random.split(KEY, 3)
    draw = sac.Draw(jnp.zeros((3, 1)), jnp.zeros((3, 1)), jnp.zeros(2), keys)
    actor = tanh_normal_actor(NUMBER, NUMBER, **TOWER)
    params = sac.Params(actor.init(KEY), jnp.ones(2), jnp.log(jnp.float32(0.5)))
    critic = Network(lambda key: jnp.ones(2), lambda params, obs, action: values)
    config = sac.Config(actor_values=told)
    found, log_prob = sac.actor_loss(params.actor, params, obs, actor, critic, config, draw)
    assert found == pytest.approx(0.5 * float(log_prob) - np.mean(wanted), rel=1e-5)


def test_discrete_sac_s_twins_begin_apart_and_the_least_counts():
    params = run(sac_discrete, real(sac_discrete), 0)[0].learner.params
    one, two = (jax.tree.map(lambda x, i=i: x[i], params.critics) for i in (0, 1))
    assert not same(one, two)
    obs, following = jax.random.normal(KEY, (2, 6, 4))
    q = q_function(Box.of(-9.0, 9.0, (4,)), 2, hidden_sizes=(8,))
    action, reward, discount = jnp.arange(6) % 2, jnp.arange(6.0), jnp.full(6, 0.9)
    batch = Transitions(obs, action, reward, following, discount)
    twins = jax.vmap(q.init)(jax.random.split(jax.random.key(1), 2))
    policy = q.init(jax.random.key(2))
    params = sac_discrete.Params(policy, twins, jnp.log(jnp.float32(0.3)))
    each = [jax.tree.map(lambda x, i=i: x[i], twins) for i in (0, 1)]

    def least(seen):
        return np.minimum(q.apply(each[0], seen)[..., 0], q.apply(each[1], seen)[..., 0])

    def chances(seen):
        logits = np.asarray(q.apply(policy, seen)[..., 0], np.float64)
        probs = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        return probs, np.log(probs)

    probs, logs = chances(following)
    soft = (probs * (least(following) - 0.3 * logs)).sum(1)
    found = sac_discrete.backup(params, twins, batch, q)
    np.testing.assert_allclose(found, reward + 0.9 * soft, rtol=1e-4)
    probs, logs = chances(obs)
    _, metrics = sac_discrete.loss(params, found, batch, q, jnp.float32(0.1))
    wanted = (probs * (0.3 * logs - least(obs))).sum(1).mean()
    assert metrics["loss/policy"] == pytest.approx(wanted, rel=1e-4)


def test_muzero_s_draws_have_all_behind_them_that_is_unrolled(monkeypatch):
    drawn, uniform = [], ring.uniform
    monkeypatch.setattr(ring, "uniform", lambda *a: drawn.append(a[3]) or uniform(*a))
    config = muzero.Config(**REPLAY | SEARCH)
    agent = muzero.make(purerl.make(CARTPOLE), config)
    state = jax.eval_shape(agent.init, KEY, agent.hparams)
    clock = Clock(jnp.int32(0), jnp.int32(9))
    jax.eval_shape(agent.update, KEY, state, agent.hparams, clock)
    assert set(drawn) == {config.model_steps + config.n_step}
