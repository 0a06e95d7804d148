"""DQN and its relatives: identities, known values and distributions, and what cannot be."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import RandomMDP, trained

import purerl
from purerl.agents import dqn, pqn, sac_discrete
from purerl.envs import TimeStep
from purerl.errors import UsageError
from purerl.networks import QFunction, q_function
from purerl.ops import q_learning
from purerl.replay import Steps, priorities, ring
from purerl.spaces import Box, Discrete
from purerl.types import Clock

KEY = jax.random.key(0)
SPACE = Box.of(-1.0, 1.0, (3,))


TABLE = {"num_envs": 16, "hidden_sizes": (), "schedule": "linear"}
REPLAYED = {**TABLE, "batch_size": 128, "capacity": 102_400, "learning_starts": 1_000}


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize(("n", "limit", "mdp"), [(1, None, 1), (1, 7, 2), (3, None, 3), (3, 7, 1)])
def test_a_table_converges_to_the_optimal_values(n, limit, mdp):
    """With n > 1 the data must be those of the policy that is valued: the replay forgets others."""
    env = RandomMDP(mdp, limit)
    replay = REPLAYED | {"capacity": 102_400 if n == 1 else 25_600}
    config = dqn.Config(**replay, n_step=n, target_period=20, double=False)
    hparams = {"discount": 0.8, "learning_rate": 0.03, "target_rate": 1.0}
    hparams |= {"epsilon_end": 1.0 if n == 1 else 0.02, "exploration_fraction": 0.3}
    learner = trained(dqn, env, config, hparams, updates=100)
    q = q_function(env.observation_space, 3, hidden_sizes=())
    found, optimal = q.apply(learner.params, jnp.arange(5))[..., 0], env.values(0.8)
    if n == 1:
        np.testing.assert_allclose(found, optimal, atol=0.1)
    else:
        np.testing.assert_allclose(found.max(1), optimal.max(1), atol=0.1)
    # Two actions of the third MDP are worth the same to 0.005; all other gaps are above 0.15.
    lost = optimal.max(1) - optimal[np.arange(5), found.argmax(1)]
    assert lost.max() < 0.01


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_pqn_s_table_converges_to_the_optimal_values():
    env = RandomMDP(1, 7)
    config = pqn.Config(**TABLE, unroll_length=32, num_epochs=1, layer_norm=False)
    hparams = {"discount": 0.8, "learning_rate": 0.03, "q_lambda": 0.0, "epsilon_end": 1.0}
    learner = trained(pqn, env, config, hparams, updates=150)
    q = q_function(env.observation_space, 3, hidden_sizes=())
    found = q.apply(learner.params, jnp.arange(5))[..., 0]
    np.testing.assert_allclose(found, env.values(0.8), atol=0.1)


def test_dueling_s_mean_over_actions_is_the_state_s_value():
    q = q_function(SPACE, 4, hidden_sizes=(8,), dueling=True, atoms=3)
    params, obs = q.init(KEY), jax.random.normal(KEY, (6, 3))
    out = q.apply(params, obs)
    assert out.shape == (6, 4, 3)
    moved = jax.tree.map(jnp.copy, params)
    moved["params"]["advantage"]["bias"] += 5.0  # the same for all actions: changes nothing
    np.testing.assert_allclose(q.apply(moved, obs), out, atol=1e-5)
    moved["params"]["value"]["bias"] += 2.0
    np.testing.assert_allclose(q.apply(moved, obs), out + 2.0, atol=1e-5)
    none = jax.tree.map(jnp.zeros_like, params["params"]["advantage"])
    value = q.apply({"params": params["params"] | {"advantage": none}}, obs)  # the same for all
    np.testing.assert_allclose(out.mean(1), value[:, 0], atol=1e-5)
    assert np.abs(out - value).max() > 0.01


def batch(rows=32):
    keys = jax.random.split(KEY, 4)
    obs, after = jax.random.normal(keys[0], (2, rows, 3))
    action = jax.random.randint(keys[1], (rows,), 0, 4)
    discount = jnp.where(jax.random.bernoulli(keys[2], 0.3, (rows,)), 0.0, 0.9)
    return dqn.Batch(
        obs, action, jax.random.normal(keys[3], (rows,)), after, discount, jnp.ones(rows)
    )


@pytest.mark.parametrize("distribution", ["none", "categorical", "quantile"])
def test_double_chooses_by_the_network_and_values_by_its_target(distribution):
    config = dqn.Config(distribution=distribution, atoms=11, v_min=-5.0, v_max=5.0)
    atoms = 1 if distribution == "none" else 11
    q = q_function(SPACE, 4, hidden_sizes=(8,), atoms=atoms)
    params, target = q.init(jax.random.key(1)), q.init(jax.random.key(2))
    rows, noise = batch(), ((), ())
    goal = dqn.backup(params, target, rows, q, config, noise)
    choice = dqn.expected(q.apply(params, rows.next_obs), config).argmax(1)
    value = dqn.expected(q.apply(target, rows.next_obs), config)
    value = value[jnp.arange(32), choice]
    support = q_learning.support(-5.0, 5.0, 11)
    mean = goal @ support if distribution == "categorical" else goal.mean(1)
    inside = jnp.abs(rows.reward) + rows.discount * 5.0 <= 5.0  # nothing was cut off
    wanted = rows.reward + rows.discount * value
    np.testing.assert_allclose(
        jnp.where(inside, mean - wanted, 0.0) if atoms == 11 else mean - wanted, 0.0, atol=1e-4
    )
    # With one network for both there is nothing to choose between double and single.
    single = dataclasses.replace(config, double=False)
    np.testing.assert_array_equal(
        dqn.backup(target, target, rows, q, config, noise),
        dqn.backup(params, target, rows, q, single, noise),
    )


def test_noise_is_drawn_for_acting_and_learning_and_not_for_greedy_actions():
    env = purerl.make("gymnax/CartPole-v1")
    agent = dqn.make(env, dqn.Config(noisy=True, hidden_sizes=(16,), activation="tanh"))
    learner = agent.init(KEY, agent.hparams).learner
    learner = dataclasses.replace(learner, epsilon=jnp.float32(0.0))
    obs = jax.random.normal(KEY, (200, 4))
    act = lambda key, greedy: agent.act(jax.random.key(key), learner, (), obs, greedy)[0]
    np.testing.assert_array_equal(act(1, True), act(2, True))
    assert (act(1, False) != act(2, False)).any()


@dataclasses.dataclass(frozen=True)
class Same:
    """Each step is as the one before, and there is one action."""

    name = "test/same"
    observation_space = Box.of(-1.0, 1.0, (3,))
    action_space = Discrete(1)
    max_episode_steps = None
    params = {}

    def reset(self, key, params={}):
        return jnp.int32(0), jnp.ones(3)

    def step(self, key, state, action, params={}):
        return state, TimeStep(jnp.ones(3), jnp.float32(0), jnp.bool_(False), jnp.bool_(False))


@pytest.mark.parametrize("noisy", [True, False])
def test_noise_is_drawn_for_every_gradient_step_and_network(noisy):
    """Of equal rows, without rewards, with gamma 1: what is not 0 or differs is of the noise."""
    config = dqn.Config(
        noisy=noisy, hidden_sizes=(16,), num_envs=2, num_rounds=1, num_updates=2, batch_size=4,
        capacity=64, learning_starts=8,
    )  # fmt: skip
    agent = dqn.make(Same(), config)
    hparams = agent.hparams._replace(learning_rate=0.0, discount=1.0)
    state, update = agent.init(KEY, hparams), jax.jit(agent.update)
    params = state.learner.params
    learner = dataclasses.replace(state.learner, params=params, target=params)
    state, clock = state._replace(learner=learner), lambda i: Clock(jnp.int32(i), jnp.int32(9))
    for i in range(4):
        state, _ = update(jax.random.fold_in(KEY, i), state, hparams, clock(i))
    found = [update(jax.random.key(i), state, hparams, clock(4))[1] for i in (1, 2)]
    if noisy:
        assert found[0]["loss/q"] > 0  # the target and the network have noise of their own
        assert found[0]["value/mean"] != found[1]["value/mean"]
    else:
        assert found[0]["loss/q"] == pytest.approx(0.0, abs=1e-12)
        assert found[0]["value/mean"] == found[1]["value/mean"]


def test_a_noisy_network_explores_by_epsilon_too():
    env = purerl.make("gymnax/CartPole-v1")
    agent = dqn.make(env, dqn.Config(noisy=True, hidden_sizes=(16,), num_rounds=2))
    update = jax.jit(agent.update)
    for fraction, expected in ((0.5, 0.6), (0.0, 0.2)):
        hparams = agent.hparams._replace(exploration_fraction=fraction, epsilon_end=0.2)
        clock = Clock(jnp.int32(0), jnp.int32(2))  # the last round begins at a quarter of the run
        state, _ = update(KEY, agent.init(KEY, hparams), hparams, clock)
        assert state.learner.epsilon == pytest.approx(expected)


@dataclasses.dataclass(frozen=True)
class Coins:
    """Two steps, each paying by a coin: 0 or 1, then 0 or 2. The action changes nothing."""

    name = "test/coins"
    observation_space = Discrete(2)
    action_space = Discrete(2)
    max_episode_steps = None
    params = {}

    def reset(self, key, params={}):
        return jnp.int32(0), jnp.int32(0)

    def step(self, key, state, action, params={}):
        reward = jax.random.bernoulli(key) * (1.0 + state)
        new = jnp.minimum(state + 1, 1)
        return new, TimeStep(new, reward.astype(jnp.float32), state == 1, jnp.bool_(False))


def test_a_categorical_error_is_the_divergence_which_is_zero_where_nothing_is_to_be_learnt():
    """Not the cross-entropy, which is large wherever returns are spread (Hessel et al. 2018)."""
    config = dqn.Config(distribution="categorical", atoms=11, v_min=-5.0, v_max=5.0)
    q = q_function(SPACE, 4, hidden_sizes=(8,), atoms=11)
    params, obs = q.init(KEY), jax.random.normal(KEY, (6, 3))
    action = jnp.arange(6, dtype=jnp.int32) % 4
    learnt = jax.nn.softmax(q_learning.of_action(q.apply(params, obs), action))
    empty = jnp.zeros(6)
    batch = dqn.Batch(obs, action, empty, obs, empty, jnp.ones(6))
    goal = learnt.at[0].set(jax.nn.one_hot(3, 11))
    _, (errors, _) = dqn.loss(params, goal, batch, q, config, 1.0, ())
    np.testing.assert_allclose(errors[1:], 0.0, atol=1e-6)
    np.testing.assert_allclose(errors[0], -np.log(learnt[0, 3]), rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"dueling": True}, {"noisy": True}])
def test_a_categorical_distribution_begins_with_expecting_nothing(options):
    """Not the 50 in the middle of its support: an optimism that many updates would have to undo."""
    config = dqn.Config(distribution="categorical", learning_starts=100, num_rounds=12, **options)
    agent = dqn.make(purerl.make("gymnax/CartPole-v1"), config)
    hparams = agent.hparams._replace(learning_rate=0.0)
    state = agent.init(KEY, hparams)
    _, metrics = agent.update(KEY, state, hparams, Clock(jnp.int32(0), jnp.int32(1)))
    assert abs(metrics["value/mean"]) < 10.0  # of the rounds that learn


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("distribution", ["categorical", "quantile"])
def test_the_distribution_of_returns_is_learnt(distribution):
    """Wasserstein distance below 0.1 from 0, 1, 1.8 and 2.8, a quarter each."""
    config = dqn.Config(
        **{**REPLAYED, "hidden_sizes": (32,)}, distribution=distribution, atoms=51,
        v_min=-0.5, v_max=3.5, target_period=10,
    )  # fmt: skip
    hparams = {"discount": 0.9, "learning_rate": 5e-3, "target_rate": 1.0, "kappa": 0.05}
    learner = trained(dqn, Coins(), config, hparams, updates=60)
    q = q_function(Coins.observation_space, 2, hidden_sizes=(32,), atoms=51)
    out = q.apply(learner.params, jnp.zeros(1, jnp.int32))[0]
    grid = np.linspace(-1.0, 4.0, 5001)
    truth = (np.array([0.0, 1.0, 1.8, 2.8])[:, None] <= grid).mean(0)
    for action in range(2):
        if distribution == "quantile":
            learnt = (np.asarray(out[action])[:, None] <= grid).mean(0)
        else:
            atoms = q_learning.support(config.v_min, config.v_max, 51)
            mass = np.asarray(jax.nn.softmax(out[action]))
            learnt = ((np.asarray(atoms)[:, None] <= grid) * mass[:, None]).sum(0)
        assert np.abs(learnt - truth).sum() * (grid[1] - grid[0]) < 0.1


def cliffwalk(n):
    """Every walk along the blind cliff of n states: right goes on, wrong falls; 1 at the end.

    Schaul et al. 2016, section 3.1: there are 2^(n + 1) - 2 transitions, one of which has a reward.
    """
    rows = []
    for walk in range(2**n):
        for state in range(n):
            right = walk >> state & 1
            last = state == n - 1
            reward = float(right and last)
            rows.append((state, right, reward, not right or last))
            if not right:
                break
    obs, action, reward, terminated = map(np.array, zip(*rows, strict=True))
    order = np.random.default_rng(0).permutation(len(rows))
    return Steps(
        obs[order].astype(np.int32), action[order].astype(np.int32),
        reward[order].astype(np.float32), terminated[order], np.zeros(len(rows), bool),
    )  # fmt: skip


def test_blind_cliffwalk_needs_fewer_updates_with_priorities():
    """Updates of one transition until the table is right: less than half of those without."""
    n = 9
    steps = cliffwalk(n)
    size = len(steps.reward)
    # The order is shuffled, so a row is what was lived, and what follows is in the table.
    example = jax.tree.map(lambda x: jnp.asarray(x[0]), steps)
    walked = jax.tree.map(lambda x: jnp.asarray(x[:, None]), steps)
    buffer = ring.insert(ring.init(example, 1, size, None), jnp.int32(0), walked)
    truth = np.zeros((n + 1, 2))
    truth[:n, 1] = 0.9 ** np.arange(n - 1, -1, -1)

    def updates(prioritized, seed, limit=200_000):
        tree = priorities.insert(priorities.init(1, size), size, jnp.int32(0), size, 0)

        def unfinished(scanned):
            count, table, _ = scanned
            return (jnp.square(table - truth).mean() > 1e-3) & (count < limit)

        def one(scanned):
            count, table, tree = scanned
            key = jax.random.fold_in(jax.random.key(seed), count)
            if prioritized:
                numbers = priorities.numbers(key, tree, (1,))
                index = priorities.draw(numbers, tree, size, jnp.int32(size)).index
            else:
                index = ring.uniform(jax.random.bits(key, (1,)), buffer, jnp.int32(size), 0)
            row = jax.tree.map(lambda x: x[0, 0], ring.sequences(buffer, index, 1))
            following = jnp.where(row.terminated, 0.0, 0.9 * table[row.obs + 1].max())
            error = row.reward + following - table[row.obs, row.action]
            table = table.at[row.obs, row.action].add(0.5 * error)
            tree = priorities.update(tree, size, index, jnp.abs(error)[None] + 1e-3)
            return count + 1, table, tree

        return int(jax.lax.while_loop(unfinished, one, (0, jnp.zeros((n + 1, 2)), tree))[0])

    with_priorities = np.median([updates(True, seed) for seed in range(3)])
    without = np.median([updates(False, seed) for seed in range(3)])
    assert with_priorities < without / 2


CARTPOLE = "gymnax/CartPole-v1"


@pytest.mark.parametrize(
    ("module", "env", "settings", "said"),
    [
        (dqn, CARTPOLE, {"capacity": 100}, "capacity=100: must hold a batch, batch_size=128"),
        (dqn, CARTPOLE, {"capacity": 1005},
         "capacity=1005: must be a multiple of num_envs * unroll_length = 10"),
        (dqn, "gymnax/Pendulum-v1", {}, "env='gymnax/Pendulum-v1': DQN needs discrete actions"),
        (pqn, "gymnax/Pendulum-v1", {}, "env='gymnax/Pendulum-v1': PQN needs discrete actions"),
        (dqn, CARTPOLE, {"distribution": "categorical", "v_min": 1.0, "v_max": -1.0},
         "v_min=1.0: must be below v_max=-1.0"),
        (dqn, CARTPOLE, {"learning_starts": 10}, "learning_starts=10: must be above"),
        (dqn, CARTPOLE, {"n_step": 200, "capacity": 2000, "learning_starts": 5000},
         "capacity=2000: must be above num_envs * (200 + unroll_length) = 2010"),
        (dqn, CARTPOLE, {"distribution": "categorical", "v_max": float("inf")},
         "v_max=inf: must be a finite number"),
        (dqn, CARTPOLE, {"v_min": float("nan")}, "v_min=nan: must be a finite number"),
        (dqn, CARTPOLE, {"distribution": "categorical", "atoms": 1},
         "atoms=1: a distribution needs at least 2"),
        (dqn, CARTPOLE, {"torso": "cnn"}, "torso='cnn': needs observations"),
        (dqn, CARTPOLE, {"capacity": 1e6}, "capacity=1000000.0: must be an int"),
        (dqn, CARTPOLE, {"hidden_sizes": [64, 64]}, "hidden_sizes=[64, 64]: must be a tuple"),
        (dqn, CARTPOLE, {"hidden_sizes": 64}, "hidden_sizes=64: must be a tuple of ints"),
        (dqn, CARTPOLE, {"double": "no"}, "double='no': must be True or False"),
        (dqn, CARTPOLE, {"distribution": "gaussian"},
         "distribution='gaussian': must be one of none, categorical, quantile"),
        (pqn, CARTPOLE, {"num_minibatches": 7}, "num_minibatches=7: must divide"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(module, env, settings, said):
    with pytest.raises(UsageError) as error:
        module.make(purerl.make(env), module.Config(**settings))
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_another_agent_s_settings_are_one_line():
    for module, other in ((dqn, pqn), (pqn, dqn)):
        with pytest.raises(UsageError) as error:
            module.make(purerl.make(CARTPOLE), other.Config())
        given, wanted = (f"{m.__name__}.Config" for m in (other, module))
        assert str(error.value) == f"config: is {given}; must be {wanted}"


def test_a_network_of_one_s_own_takes_the_noise():
    """DQN hands it some, of a network that has none (); PQN does not."""
    env = purerl.make(CARTPOLE)
    q = QFunction(lambda key: jnp.ones((4, 2)), lambda params, obs: (obs @ params)[..., None])
    with pytest.raises(UsageError, match=r"^q: cannot be applied to \(params, obs, noise\): "):
        dqn.make(env, dqn.Config(), q)
    pqn.make(env, pqn.Config(), q)


def test_errors_are_small_up_to_a_number(nothing_compiles):
    """Divided by an infinite one, losses and gradients would be nothing."""
    agent = dqn.make(purerl.make(CARTPOLE), dqn.Config(distribution="quantile"))
    with pytest.raises(UsageError, match=r"^kappa=inf: must be from 0 to 1e\+06$"):
        purerl.train(agent, 10_000, hparams=agent.hparams._replace(kappa=float("inf")))


def test_learning_must_start_before_the_end(nothing_compiles):
    agent = dqn.make(purerl.make(CARTPOLE), dqn.Config(learning_starts=5_000))
    with pytest.raises(UsageError, match="learning_starts=5000: must be below total_steps=5000"):
        purerl.train(agent, 5_000)


def test_learning_must_start_before_the_end_of_the_last_whole_iteration(nothing_compiles):
    agent = dqn.make(purerl.make(CARTPOLE), dqn.Config(learning_starts=1_000))
    said = "learning_starts=1000: must be below total_steps=1200, 640 in whole iterations"
    with pytest.raises(UsageError, match=said):
        purerl.train(agent, 1_200)
    # Whole rounds of ten steps: the first that learns would be the one after the last.
    agent = dqn.make(purerl.make(CARTPOLE), dqn.Config(learning_starts=1_275))
    with pytest.raises(UsageError, match="learning_starts=1280: must be below total_steps=1280"):
        purerl.train(agent, 1_280)


@pytest.mark.parametrize("module", [dqn, pqn, sac_discrete])
def test_a_network_of_another_shape_is_refused(module):
    env = purerl.make(CARTPOLE)
    wrong = q_function(env.observation_space, 2, atoms=51)
    said = r"q: gives \[1, 2, 51\] for one observation, must give \[1, 2, 1\]"
    with pytest.raises(UsageError, match=said):
        module.make(env, module.Config(), q=wrong)
    dqn.make(env, dqn.Config(distribution="categorical"), q=wrong)
