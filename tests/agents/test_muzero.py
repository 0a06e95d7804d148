"""MuZero's gradients against their scale, and what it learns."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl.agents import muzero
from purerl.agents.muzero import Config
from purerl.envs.matches import SelfPlay
from purerl.networks import Model
from purerl.ops import two_hot
from purerl.ops.q_learning import cross_entropy
from purerl.ops.unrolled import Targets
from purerl.types import Clock

KEY = jax.random.key(0)
ACTIONS = 2


def test_what_the_model_unrolls_weighs_less_and_less():
    """Each step of the dynamics halves what reaches the representation; K of them share 1."""
    steps, rows, atoms = 2, 5, 3
    config = Config(model_steps=steps, atoms=atoms)
    tilt = jax.random.normal(KEY, (atoms, atoms))
    model = Model(
        init=lambda key: (),
        represent=lambda latent, obs: latent,
        dynamics=lambda params, latent, action: (latent, latent @ tilt),
        predict=lambda params, latent: (jnp.zeros((rows, ACTIONS)), jnp.zeros((rows, atoms))),
    )
    reward = jax.random.uniform(KEY, (steps + 1, rows))
    one = jnp.ones((steps + 1, rows))
    even = jnp.full((steps + 1, rows, ACTIONS), 1 / ACTIONS)
    goal = Targets(reward, 0 * one, even, one, one, one)
    latent = jax.random.normal(jax.random.key(1), (rows, atoms))
    action = jnp.zeros((steps, rows), jnp.int32)
    loss = lambda latent: muzero.loss(
        latent, jnp.zeros(rows), action, goal, model, config, muzero.HParams()
    )
    found, (errors, terms) = jax.grad(loss, has_aux=True)(latent)
    support = two_hot.support(config.v_min, config.v_max, atoms)

    def alone(latent, k):
        return cross_entropy(latent @ tilt, two_hot.encode(reward[k], support)).mean()

    wanted = sum(0.5**k / steps * jax.grad(alone)(latent, k) for k in range(1, steps + 1))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-7)
    losses = sum(float(alone(latent, k)) / steps for k in range(1, steps + 1))
    assert terms["loss/reward"] == pytest.approx(losses, rel=1e-5)
    # The first policy and value count whole, those of K further steps one whole together.
    assert terms["loss/policy"] == pytest.approx(2 * np.log(ACTIONS), rel=1e-5)
    np.testing.assert_allclose(errors, 0.0, atol=1e-6)


CONFIG = Config(
    num_envs=4, num_rounds=4, batch_size=16, capacity=400, learning_starts=80, num_simulations=4,
    latent_size=8, hidden_sizes=(8,), atoms=11, model_steps=2, n_step=3, v_max=2.0,
)  # fmt: skip


def trained(env, config, updates, hparams=None, seed=0):
    agent = muzero.make(env, config)
    hparams = hparams or agent.hparams
    state, update = agent.init(jax.random.key(seed), hparams), jax.jit(agent.update)
    metrics = {}
    for i in range(updates):
        clock = Clock(jnp.int32(i), jnp.int32(updates))
        key = jax.random.fold_in(jax.random.key(seed + 1), i)
        state, metrics = update(key, state, hparams, clock)
    return agent, state, metrics


def expect(agent, state, obs):
    """The value of observations, as the agent's network has it."""
    config = agent.config
    model = muzero.muzero_model(
        agent.env.observation_space, agent.env.action_space.n, atoms=config.atoms,
        latent_size=config.latent_size, torso=config.torso, hidden_sizes=config.hidden_sizes,
    )  # fmt: skip
    params = state.learner.params
    _, value = model.predict(params, model.represent(params, obs))
    return two_hot.decode(value, two_hot.support(config.v_min, config.v_max, config.atoms))


@pytest.mark.parametrize(
    ("name", "obs"), [("probe/discount", [[0.0], [1.0]]), ("probe/obs-value", [[-1.0], [1.0]])]
)
def test_it_learns_the_values_of_probes(name, obs):
    env, discount = purerl.make(name), 0.9
    hparams = muzero.HParams(learning_rate=1e-2, discount=discount)
    prioritized = name == "probe/obs-value"
    agent, state, _ = trained(env, replace(CONFIG, prioritized=prioritized), 100, hparams)
    obs = jnp.asarray(obs)
    wanted = jnp.asarray([0.9, 1.0]) if name == "probe/discount" else obs[:, 0]
    np.testing.assert_allclose(expect(agent, state, obs), wanted, atol=0.08)


def test_values_pass_through_truncations():
    """The probe is worth 1 / (1 - gamma) though every episode of it is cut."""
    env = purerl.make("probe/truncation")
    hparams = muzero.HParams(learning_rate=1e-2, discount=0.5)
    agent, state, _ = trained(env, CONFIG, 120, hparams)
    obs = jnp.zeros((1, 1))
    wanted = env.optimal_value(obs, 0.5)
    np.testing.assert_allclose(expect(agent, state, obs), wanted, atol=0.15)


def test_it_finds_the_better_action():
    agent, state, _ = trained(purerl.make("probe/policy"), CONFIG, 60)
    act = jax.jit(lambda obs: agent.act(KEY, state.learner, (), obs, True)[0])
    action = act(jnp.zeros((8, 1)))
    assert (action == 1).all()


def test_reanalysed_targets_are_searched_afresh():
    """With nothing learnt between, both are searches of one network: only the noise differs."""
    still = muzero.HParams(learning_rate=0.0, weight_decay=0.0)
    env = purerl.make("probe/policy")
    *_, old = trained(env, CONFIG, 8, still)
    fresh = replace(CONFIG, reanalyse=True)
    *_, new = trained(env, fresh, 8, still)
    assert new["loss/policy"] == pytest.approx(float(old["loss/policy"]), rel=0.1)
    assert new["value/mean"] == pytest.approx(float(old["value/mean"]), abs=0.05)


def test_a_discount_that_changes_is_planned_with():
    """As under population-based training; what was set at first must not stay."""
    agent = muzero.make(purerl.make("probe/policy"), CONFIG)
    state = agent.init(KEY, agent.hparams)
    changed = agent.hparams._replace(discount=0.5)
    clock = Clock(jnp.int32(0), jnp.int32(1))
    state, _ = jax.jit(agent.update)(KEY, state, changed, clock)
    assert state.learner.discount == 0.5


def test_a_game_is_lived_from_both_sides():
    env = purerl.make("game/tic_tac_toe")
    agent, state, metrics = trained(env, CONFIG, 6)
    assert state.learner.discount < 0
    assert state.actor.experience.env.env.shape == (4, 3, 3)
    both = SelfPlay(env.game, CONFIG.opening)
    assert agent.env is env
    assert both.max_episode_steps is None
    boards = jnp.asarray([[[1, -1, 1], [-1, 1, -1], [0, 0, 0]]], jnp.int8)
    obs = jnp.stack([boards == 1, boards == -1], -1)
    act = jax.jit(lambda key: agent.act(key, state.learner, (), obs, False)[0])
    for seed in range(5):
        assert int(act(jax.random.key(seed))[0]) >= 6  # never a cell that is taken
    assert all(jnp.isfinite(x) for x in metrics.values())


@pytest.mark.parametrize(
    ("env", "changes", "said"),
    [
        ("gymnax/Pendulum-v1", {}, "env='gymnax/Pendulum-v1': MuZero needs discrete actions"),
        ("gymnax/CartPole-v1", {"v_min": 2.0}, "v_min=2.0: must be below v_max=1.0"),
        ("gymnax/CartPole-v1", {"atoms": 1}, "atoms=1: must be at least 2"),
        ("gymnax/CartPole-v1", {"torso": "resnet"}, "torso='resnet': needs observations"),
        ("gymnax/CartPole-v1", {"num_simulations": 0}, "num_simulations=0: must be positive"),
        ("gymnax/CartPole-v1", {"capacity": 64}, "capacity=64: must hold a batch, batch_size=128"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(env, changes, said):
    with pytest.raises(purerl.UsageError, match=said.replace("[", r"\[")) as caught:
        muzero.make(purerl.make(env), Config(**changes))
    assert "\n" not in str(caught.value)
