"""Agents of continuous actions, and discrete SAC: fixed points, gradients, identities, errors."""

import dataclasses
import re
import runpy
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tables import RandomMDP, trained

import purerl
from purerl.agents import ddpg, dqn, muzero, sac, sac_discrete, td3
from purerl.engine.placement import place
from purerl.engine.population import check_bounds, population
from purerl.engine.programs import compile_programs
from purerl.engine.record import read_config
from purerl.envs import TimeStep
from purerl.errors import UsageError
from purerl.flags import parse
from purerl.networks import critics, deterministic_actor, q_function, tanh_normal_actor
from purerl.replay import Transitions
from purerl.spaces import Box, Discrete

KEY = jax.random.key(0)
OBS, ACTIONS = Box.of(-1.0, 1.0, (3,)), Box.of(-1.0, 1.0, (2,))
TOWER = {"hidden_sizes": (8,), "activation": "tanh"}
PENDULUM = "gymnax/Pendulum-v1"


def batch(rows=32, size=2):
    keys = jax.random.split(KEY, 5)
    obs, after = jax.random.normal(keys[0], (2, rows, 3))
    action = jnp.tanh(jax.random.normal(keys[1], (rows, size)))
    discount = jnp.where(jax.random.bernoulli(keys[2], 0.3, (rows,)), 0.0, 0.9)
    return Transitions(obs, action, jax.random.normal(keys[3], (rows,)), after, discount)


def networks(number=2, **critic):
    return tanh_normal_actor(OBS, ACTIONS, **TOWER), critics(
        OBS, ACTIONS, number, **TOWER, **critic
    )


def learner(actor, critic, temperature=0.5):
    keys = jax.random.split(KEY, 3)
    policy = jax.tree.map(lambda x: 3.0 * x, actor.init(keys[0]))  # far from uniform
    log_temperature = jnp.log(jnp.float32(temperature))
    params = sac.Params(policy, critic.init(keys[1]), log_temperature)
    return params, critic.init(keys[2])


def draws(rows=32, number=2):
    keys = jax.random.split(jax.random.key(7), 3)
    noise = jax.random.normal(keys[0], (2, rows, 2))
    chosen = jax.random.uniform(keys[1], (number,))
    return sac.Draw(noise[0], noise[1], chosen, jax.random.split(keys[2], 3))


# --- SAC


def test_the_backup_of_sac_is_that_of_a_loop():
    actor, critic = networks()
    (now, target), rows, draw = learner(actor, critic), batch(), draws()
    goal = sac.backup(now, target, rows, actor, critic, sac.Config(), draw)
    for i in range(32):
        policy = actor.apply(now.actor, rows.next_obs[i : i + 1])
        before = policy.mean + jnp.exp(policy.log_std) * draw.following[i]
        action = jnp.tanh(before)
        least = min(critic.apply(target, rows.next_obs[i : i + 1], action)[:, 0])
        soft = least - 0.5 * policy.log_prob(before)[0]
        wanted = float(rows.reward[i] + rows.discount[i] * soft)
        assert goal[i] == pytest.approx(wanted, abs=1e-4)
    # Nothing follows a termination; a truncation is not one: the replay gives it its discount.
    ended = np.flatnonzero(rows.discount == 0.0)
    np.testing.assert_array_equal(goal[ended], rows.reward[ended])


@pytest.mark.parametrize("chosen", [1, 2, 4])
def test_the_target_is_the_least_of_a_random_subset(chosen):
    """All subsets of a size equally often; the minimum over the drawn ones, and only them."""
    actor, critic = networks(number=4)
    (now, target), rows = learner(actor, critic), batch(1)
    config = sac.Config(num_critics=4, target_critics=chosen)
    draw = draws(1, 4)
    action, log_prob = sac.sample(actor, now.actor, rows.next_obs, draw.following)
    values = np.asarray(critic.apply(target, rows.next_obs, action))[:, 0]
    goal = jax.vmap(
        lambda u: sac.backup(now, target, rows, actor, critic, config, draw._replace(chosen=u))[0]
    )(jax.random.uniform(KEY, (3000, 4)))
    soft = (goal - rows.reward[0]) / rows.discount[0] + 0.5 * log_prob[0]
    seen = [int(np.abs(values - x).argmin()) for x in np.asarray(soft)]
    assert np.abs(values[seen] - soft).max() < 1e-4
    # The k-th lowest of four is the least of `chosen` with a known probability.
    order = np.argsort(values)
    from math import comb

    for k in range(4):
        share = np.mean([x == order[k] for x in seen])
        expected = comb(3 - k, chosen - 1) / comb(4, chosen)
        assert share == pytest.approx(expected, abs=0.035)


def test_the_density_of_actions_integrates_to_one_and_is_that_of_the_samples():
    """In one dimension, by the trapezoidal rule over actions in (-1, 1)."""
    space = Box.of(-1.0, 1.0, (1,))
    actor = tanh_normal_actor(OBS, space, **TOWER)
    params = jax.tree.map(lambda x: 20.0 * x, actor.init(KEY))
    obs = jax.random.normal(KEY, (1, 3))
    policy = actor.apply(params, obs)
    action = jnp.linspace(-1 + 1e-6, 1 - 1e-6, 200_001)
    density = jnp.exp(jax.vmap(lambda a: policy.log_prob(jnp.arctanh(a).reshape(1, 1))[0])(action))
    assert jnp.trapezoid(density, action) == pytest.approx(1.0, abs=5e-3)
    noise = jax.random.normal(KEY, (100_000, 1))
    drawn, log_prob = sac.sample(actor, params, jnp.repeat(obs, 100_000, 0), noise)
    assert drawn.mean() == pytest.approx(float(jnp.trapezoid(density * action, action)), abs=0.01)
    entropy = -jnp.trapezoid(jax.scipy.special.xlogy(density, density), action)
    assert -log_prob.mean() == pytest.approx(float(entropy), abs=0.02)


def test_the_actor_s_gradient_is_that_of_finite_differences():
    """d(temperature log pi - Q) / d theta, and its part dQ/da da/dtheta by itself."""
    actor, critic = networks()
    (now, _), rows, draw = learner(actor, critic), batch(), draws()
    flat, back = jax.flatten_util.ravel_pytree(now.actor)
    direction = jax.random.normal(jax.random.key(3), flat.shape)
    direction /= jnp.linalg.norm(direction)
    for temperature in (0.0, 0.5):
        here = now._replace(log_temperature=jnp.log(jnp.float32(temperature)))

        def loss(x, here=here):
            config = sac.Config()
            return sac.actor_loss(back(x), here, rows.obs, actor, critic, config, draw)[0]

        step = 1e-2
        slope = (loss(flat + step * direction) - loss(flat - step * direction)) / (2 * step)
        assert jax.grad(loss)(flat) @ direction == pytest.approx(float(slope), rel=0.02, abs=1e-4)


@pytest.mark.parametrize(("log_prob", "rises"), [(3.0, True), (-3.0, False)])
def test_the_temperature_rises_where_there_is_too_little_entropy(log_prob, rises):
    grad = sac.temperature_gradient(jnp.float32(log_prob), -1.0)
    change, _ = optax.adam(0.1).update(grad, optax.adam(0.1).init(jnp.float32(0.0)))
    assert (change > 0) == rises
    assert sac.temperature_gradient(jnp.float32(1.0), -1.0) == 0.0


def test_no_two_passes_of_an_update_drop_by_one_key():
    """Nor by one that another pass makes for its critics of its own key."""
    used = []

    class Seen:
        def apply(self, params, obs, action, key):
            used.append(jax.random.key_data(key))
            used.extend(jax.random.key_data(jax.random.split(key, 3)))
            return jnp.zeros((2, len(obs)))

    actor, critic = networks()
    params, target = learner(actor, critic)
    config, draw, rows = sac.Config(dropout=0.5), draws(4), batch(4)
    sac.backup(params, target, rows, actor, Seen(), config, draw)
    sac.critic_loss(params.critics, rows.reward, rows, Seen(), config, draw)
    sac.actor_loss(params.actor, params, rows.obs, actor, Seen(), config, draw)
    assert len({tuple(np.asarray(x).tolist()) for x in used}) == len(used) == 12


def test_dropout_is_for_learning_only_and_differs_between_critics():
    _, critic = networks(dropout=0.5)
    params = jax.tree.map(lambda x: jnp.repeat(x[:1], 2, 0), critic.init(KEY))  # twice the same
    rows = batch()
    plain = critic.apply(params, rows.obs, rows.action)
    np.testing.assert_array_equal(plain[0], plain[1])
    value = critic.apply(params, rows.obs, rows.action, KEY)
    assert (value[0] != value[1]).mean() > 0.9
    again = critic.apply(params, rows.obs, rows.action, KEY)
    np.testing.assert_array_equal(value, again)


def test_an_actor_that_is_updated_seldom_is_updated_when_due():
    """With one gradient step a round, the actor changes in every third and the critics in all."""
    config = sac.Config(
        policy_period=3, num_rounds=1, batch_size=16, capacity=100, learning_starts=10,
        hidden_sizes=(8,),
    )  # fmt: skip
    agent = sac.make(purerl.make(PENDULUM), config)
    state = agent.init(KEY, agent.hparams)
    update = jax.jit(agent.update)
    changed = []
    for i in range(25):
        clock = purerl.types.Clock(jnp.int32(i), jnp.int32(25))
        new, _ = update(jax.random.key(i), state, agent.hparams, clock)
        differs = lambda x, y: bool(
            jnp.any(jax.flatten_util.ravel_pytree(x)[0] != jax.flatten_util.ravel_pytree(y)[0])
        )
        changed.append(
            (
                differs(new.learner.params.critics, state.learner.params.critics),
                differs(new.learner.params.actor, state.learner.params.actor),
                differs(new.learner.params.log_temperature, state.learner.params.log_temperature),
            )
        )
        state = new
    assert changed[:10] == [(False, False, False)] * 10
    assert [c for c, _, _ in changed[10:]] == [True] * 15
    assert [a for _, a, _ in changed[10:]] == [False, False, True] * 5
    assert [t for _, _, t in changed[10:]] == [False, False, True] * 5


def metrics(period=1, **hparams):
    """Of the last iteration of a short run, in which nothing is learnt."""
    config = sac.Config(
        policy_period=period, num_rounds=30, batch_size=512, capacity=600, learning_starts=30,
        hidden_sizes=(8,),
    )  # fmt: skip
    agent = sac.make(purerl.make(PENDULUM), config)
    still = dict.fromkeys([n for n in sac.HParams._fields if n.endswith("learning_rate")], 0.0)
    chosen = agent.hparams._replace(**{**still, **hparams})
    state, update = agent.init(KEY, chosen), jax.jit(agent.update)
    for i in range(5):
        clock = purerl.types.Clock(jnp.int32(i), jnp.int32(5))
        state, found = update(jax.random.key(i), state, chosen, clock)
    return state, found


def test_what_an_actor_that_waits_reports_is_an_average_over_its_own_steps():
    _, often = metrics(period=1)
    _, seldom = metrics(period=3)
    assert seldom["policy/entropy"] == pytest.approx(float(often["policy/entropy"]), abs=0.06)


def test_a_temperature_of_zero_is_finite():
    state, found = metrics(initial_temperature=0.0)
    assert jnp.isfinite(jax.flatten_util.ravel_pytree(state.learner.params)[0]).all()
    assert found["policy/temperature"] < 1e-20


@pytest.mark.parametrize("module", [sac, sac_discrete])
def test_a_fixed_temperature_is_that_of_the_hyperparameters(module):
    """Which population-based training changes in the middle of a run."""
    name = "gymnax/Pendulum-v1" if module is sac else "gymnax/CartPole-v1"
    config = module.Config(
        num_envs=2, num_rounds=2, batch_size=4, capacity=64, learning_starts=6, hidden_sizes=(4,),
        temperature="fixed",
    )  # fmt: skip
    agent = module.make(purerl.make(name), config)
    hparams = jax.tree.map(jnp.float32, agent.hparams)
    update, clock = jax.jit(agent.update), purerl.types.Clock(jnp.int32(3), jnp.int32(9))
    state = agent.init(KEY, hparams._replace(initial_temperature=0.2))
    for temperature in (0.2, 0.3):
        chosen = hparams._replace(initial_temperature=jnp.float32(temperature))
        state, found = update(KEY, state, chosen, clock)
        assert found["policy/temperature"] == pytest.approx(temperature)


# --- REDQ and DroQ


@pytest.mark.parametrize(
    "env",
    [
        "gymnax/Pendulum-v1",
        "gymnax/MountainCarContinuous-v0",
        "brax/hopper",
        "brax/inverted_pendulum",
    ],
)
@pytest.mark.parametrize(
    ("variant", "own"),
    [
        ("redq", {"num_critics": 10, "target_critics": 2}),
        ("droq", {"num_critics": 2, "target_critics": 2, "dropout": 0.01, "layer_norm": True}),
    ],
)
def test_the_variants_are_those_of_their_papers(env, variant, own):
    """Chen et al. 2021, algorithm 1, and Hiraoka et al. 2022, algorithm 2: whatever the presets of
    SAC say of the environment, nothing else in the critics and in how often they learn differs."""
    suite = env.split("/")[0]
    _, config, hparams = parse(sac, suite, env, [], variant)
    plain = {"dropout": 0.0, "layer_norm": False, "temperature": "learned", "n_step": 1}
    both = {"num_updates": 20, "policy_period": 20, "actor_values": "mean", "batch_size": 256}
    if suite == "brax":
        both |= {"hidden_sizes": (256, 256), "learning_starts": 5_000, "normalize_obs": False}
    for field, value in {**plain, **both, **own}.items():
        assert getattr(config, field) == value, field
    assert config.num_envs * config.unroll_length == 1  # so these are 20 an environment step
    rates = hparams.critic_learning_rate, hparams.actor_learning_rate
    assert (*rates, hparams.temperature_learning_rate) == (3e-4, 3e-4, 3e-4)
    assert (hparams.target_rate, hparams.discount) == (0.005, 0.99)


@pytest.mark.parametrize("suite", ["gymnax", pytest.param("brax", marks=pytest.mark.slow)])
@pytest.mark.parametrize("variant", ["redq", "droq"])
def test_the_experiments_of_the_variants_run(variant, suite, tmp_path, monkeypatch):
    script = Path(__file__).parents[2] / "experiments" / f"{variant}_{suite}.py"
    small = "--total-steps 128 --num-rounds 32 --learning-starts 80 --eval-every 0"
    small += " --eval-episodes 1 --batch-size 8 --capacity 64 --hidden-sizes 8"
    small += " --env fast --episode-length 10" if suite == "brax" else ""
    monkeypatch.setattr(
        sys, "argv", [str(script), *small.split(), "--run-dir", str(tmp_path / "r")]
    )
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(script), run_name="__main__")
    assert left.value.code == 0
    stored = read_config(tmp_path / "r")["config"]
    assert (stored["num_updates"], stored["policy_period"]) == (20, 20)
    assert stored["num_critics"] == {"redq": 10, "droq": 2}[variant]


def test_the_actor_and_the_temperature_wait_for_the_last_of_the_gradient_steps():
    """One step of theirs a round, that is an environment step: Adam counts them."""
    config = sac.Config(
        num_updates=20, policy_period=20, num_rounds=8, batch_size=8, capacity=64,
        learning_starts=16, hidden_sizes=(8,),
    )  # fmt: skip
    agent = sac.make(purerl.make(PENDULUM), config)
    state, update = agent.init(KEY, agent.hparams), jax.jit(agent.update)
    for i in range(4):
        clock = purerl.types.Clock(jnp.int32(i), jnp.int32(4))
        state, _ = update(jax.random.key(i), state, agent.hparams, clock)
    counts = [int(adam[0].count) for adam in state.learner.opt_states]
    assert counts == [16, 20 * 16, 16]


# --- TD3 and DDPG


@pytest.mark.parametrize("module", [sac, td3, ddpg])
def test_rewards_of_n_steps_are_what_is_learnt_from(module):
    """With a target that never moves a critic's loss is of n rewards: of one, if n were ignored."""
    losses = []
    for n in (1, 20):
        config = module.Config(
            num_envs=4, n_step=n, num_rounds=32, batch_size=64, capacity=4_000,
            learning_starts=100, hidden_sizes=(8,),
        )  # fmt: skip
        agent = module.make(purerl.make(PENDULUM), config)
        hparams = agent.hparams._replace(target_rate=0.0, critic_learning_rate=0.0)
        _, metrics = jax.jit(agent.update)(
            KEY, agent.init(KEY, hparams), hparams, purerl.types.Clock(jnp.int32(0), jnp.int32(1))
        )
        losses.append(float(metrics["loss/critic"]))
    assert losses[1] > 20 * losses[0] > 0.0  # nearly 400 times, being of squares


def test_target_noise_is_clipped_and_actions_stay_in_bounds():
    hparams = td3.HParams(target_noise=0.2, target_noise_clip=0.3)
    noise = 10.0 * jax.random.normal(KEY, (1000, 2))
    action = jnp.tanh(jax.random.normal(jax.random.key(1), (1000, 2)))
    moved = td3.smoothed(action, noise, hparams)
    assert jnp.abs(moved - action).max() <= 0.3 + 1e-6
    assert jnp.abs(moved).max() == 1.0
    inside = jnp.abs(0.2 * noise) < 0.3
    inside &= jnp.abs(action + 0.2 * noise) < 1.0
    np.testing.assert_allclose(moved[inside], (action + 0.2 * noise)[inside], atol=1e-6)
    np.testing.assert_array_equal(
        td3.smoothed(action, noise, td3.HParams(target_noise=0.0)), action
    )


def test_td3_with_one_critic_no_delay_and_no_smoothing_is_ddpg():
    """Bit for bit, through collecting and learning, with what each of the three changes seen."""
    same = {
        "num_envs": 2, "num_rounds": 8, "batch_size": 16, "capacity": 200, "learning_starts": 20,
        "hidden_sizes": (8,), "normalize_obs": True,
    }  # fmt: skip
    env = purerl.make(PENDULUM)

    def parameters(module, config, **hparams):
        agent = module.make(env, config)
        result = purerl.train(
            agent, 12 * agent.steps_per_update, eval_every=0, eval_episodes=1,
            hparams=agent.hparams._replace(**hparams),
        )  # fmt: skip
        params = result.state.train.learner.params
        return jax.flatten_util.ravel_pytree((params[0], params[1]))[0]

    plain = parameters(ddpg, ddpg.Config(**same))
    alike = {"num_critics": 1, "policy_period": 1}
    np.testing.assert_array_equal(
        parameters(td3, td3.Config(**same, **alike), target_noise=0.0), plain
    )
    others = [
        parameters(td3, td3.Config(**same, **alike)),
        parameters(td3, td3.Config(**same, **{**alike, "policy_period": 2}), target_noise=0.0),
    ]
    assert all(np.abs(other - plain).max() > 1e-6 for other in others)
    twin = td3.Config(**same, **{**alike, "num_critics": 2})
    assert parameters(td3, twin, target_noise=0.0).size > plain.size


@pytest.mark.parametrize("module", [td3, ddpg])
def test_the_deterministic_gradient_is_dq_da_times_da_dtheta(module):
    actor = deterministic_actor(OBS, ACTIONS, **TOWER)
    critic = critics(OBS, ACTIONS, 1, **TOWER)
    params, values, rows = actor.init(KEY), critic.init(jax.random.key(1)), batch()
    found = jax.grad(module.actor_loss)(params, values, rows.obs, actor, critic)
    action, pull = jax.vjp(lambda p: actor.apply(p, rows.obs), params)
    slope = jax.grad(lambda a: critic.apply(values, rows.obs, a).mean())(action)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, -y, atol=1e-6), found, pull(slope)[0])
    flat, back = jax.flatten_util.ravel_pytree(params)
    direction = jax.random.normal(KEY, flat.shape) / flat.size**0.5
    at = lambda s: module.actor_loss(back(flat + s * direction), values, rows.obs, actor, critic)
    slope = (at(1e-2) - at(-1e-2)) / 2e-2
    along = jax.flatten_util.ravel_pytree(found)[0] @ direction
    assert along == pytest.approx(float(slope), rel=0.02, abs=1e-5)


def test_the_least_of_td3_s_critics_is_the_target_and_the_first_is_climbed():
    actor, critic = deterministic_actor(OBS, ACTIONS, **TOWER), critics(OBS, ACTIONS, 3, **TOWER)
    target, rows = td3.Networks(actor.init(KEY), critic.init(KEY)), batch()
    hparams = td3.HParams(target_noise=0.0)
    goal = td3.backup(target, rows, actor, critic, jnp.zeros((32, 2)), hparams)
    values = critic.apply(target.critics, rows.next_obs, actor.apply(target.actor, rows.next_obs))
    np.testing.assert_allclose(goal, rows.reward + rows.discount * values.min(0), atol=1e-6)
    other = jax.tree.map(lambda x: x.at[1:].set(0.0), target.critics)
    gradient = jax.grad(td3.actor_loss)
    same = gradient(target.actor, other, rows.obs, actor, critic)
    jax.tree.map(
        np.testing.assert_array_equal,
        gradient(target.actor, target.critics, rows.obs, actor, critic),
        same,
    )


# --- where truncation and the scale of actions show


@dataclasses.dataclass(frozen=True)
class Walk:
    """Reward 1 - (action - 2)^2 for an action from 0 to 4, for ever; cut off after 5 steps."""

    name = "test/walk"
    observation_space = Box.of(-1.0, 1.0, (1,))
    action_space = Box.of(0.0, 4.0, (1,))
    max_episode_steps = 5
    params = {}

    def reset(self, key, params={}):
        return jnp.int32(0), jnp.zeros(1)

    def step(self, key, state, action, params={}):
        reward = 1.0 - jnp.square(action[0] - 3.0)
        return state + 1, TimeStep(jnp.zeros(1), reward, jnp.bool_(False), state + 1 >= 5)


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("module", [td3, ddpg, sac])
def test_the_best_action_and_its_value_through_truncations(module):
    """The best action is 3, worth 1 / (1 - 0.9) = 10; ending with the episode it would be 4.1."""
    config = module.Config(
        num_envs=4, batch_size=64, capacity=20_000, learning_starts=200, hidden_sizes=(32,),
        **({"temperature": "fixed"} if module is sac else {}),
    )  # fmt: skip
    hparams = {"discount": 0.9, "critic_learning_rate": 3e-3, "actor_learning_rate": 1e-3}
    hparams |= {"target_rate": 0.05}
    hparams |= {"initial_temperature": 1e-3} if module is sac else {"exploration_noise": 0.3}
    hparams |= {"target_noise": 0.0} if module is td3 else {}  # which would cost 0.16 a step
    agent = module.make(Walk(), config)
    found = trained(module, Walk(), config, hparams, updates=40)
    obs = jnp.zeros((1, 1))
    action, _ = agent.act(KEY, found, (), obs, True)
    assert action[0, 0] == pytest.approx(3.0, abs=0.15)
    number = 1 if module is ddpg else 2
    critic = critics(Walk.observation_space, Walk.action_space, number, hidden_sizes=(32,),
                     activation="relu")  # fmt: skip
    values = found.params[1]
    value = critic.apply(values, obs, (action - 2.0) / 2.0)
    np.testing.assert_allclose(value, 10.0, atol=0.7)


# --- discrete SAC


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize(("temperature", "mdp"), [(1.0, 1), (3.0, 2)])
def test_the_soft_fixed_point_is_that_of_soft_value_iteration(temperature, mdp):
    env = RandomMDP(mdp, 7)
    config = sac_discrete.Config(
        num_envs=16, hidden_sizes=(), batch_size=128, capacity=102_400, temperature="fixed"
    )
    hparams = {"discount": 0.8, "learning_rate": 0.005, "initial_temperature": temperature}
    learner = trained(sac_discrete, env, config, hparams, updates=150)
    q = q_function(env.observation_space, 3, hidden_sizes=())
    at = jnp.arange(5)
    wanted = env.soft_values(0.8, temperature)
    for i in range(2):
        params = jax.tree.map(lambda x, i=i: x[i], learner.params.critics)
        np.testing.assert_allclose(q.apply(params, at)[..., 0], wanted, rtol=0.03, atol=0.1)
    probs, _ = sac_discrete.policy(q.apply(learner.params.actor, at)[..., 0])
    np.testing.assert_allclose(probs, jax.nn.softmax(wanted / temperature), atol=0.12)


def test_an_action_of_no_probability_adds_nothing():
    logits = jnp.array([[0.0, -200.0, 1.0]])
    probs, log_probs = sac_discrete.policy(logits)
    assert jnp.isfinite(probs * log_probs).all()
    slope = jax.grad(lambda x: (jnp.multiply(*sac_discrete.policy(x))).sum())(logits)
    assert jnp.isfinite(slope).all()


def test_the_discrete_losses_change_only_what_they_are_of():
    q = q_function(OBS, 3, hidden_sizes=(4,))
    params = sac_discrete.Params(
        q.init(KEY), jax.vmap(q.init)(jax.random.split(KEY, 2)), jnp.float32(0.3)
    )
    rows = batch()._replace(action=jnp.arange(32) % 3)
    grad = jax.grad(lambda p, goal: sac_discrete.loss(p, goal, rows, q, 0.5)[0])
    one, two = grad(params, jnp.zeros(32)), grad(params, jnp.ones(32))
    jax.tree.map(np.testing.assert_array_equal, one.actor, two.actor)
    assert jax.flatten_util.ravel_pytree(one.critics)[0].any()
    probs, log_probs = sac_discrete.policy(q.apply(params.actor, rows.obs)[..., 0])
    entropy = -(probs * log_probs).sum(1).mean()
    assert one.log_temperature == pytest.approx(float(entropy - 0.5), abs=1e-5)


# --- what cannot be


@dataclasses.dataclass(frozen=True)
class Unbounded(Walk):
    name = "test/unbounded"
    action_space = Box.of(-np.inf, np.inf, (1,))


@pytest.mark.parametrize(
    ("module", "env", "settings", "said"),
    [
        (sac, "gymnax/CartPole-v1", {},
         "env='gymnax/CartPole-v1': SAC needs continuous actions, not Discrete(n=2)"),
        (td3, "gymnax/CartPole-v1", {}, "env='gymnax/CartPole-v1': TD3 needs continuous"),
        (ddpg, "gymnax/CartPole-v1", {}, "env='gymnax/CartPole-v1': DDPG needs continuous"),
        (sac_discrete, PENDULUM, {}, f"env='{PENDULUM}': discrete SAC needs discrete actions"),
        (sac, Unbounded(), {},
         "env='test/unbounded': SAC needs finite action bounds, not -inf to inf"),
        (sac, PENDULUM, {"policy_period": -1}, "policy_period=-1: must be positive"),
        (td3, PENDULUM, {"policy_period": 0}, "policy_period=0: must be positive"),
        (sac, PENDULUM, {"target_critics": 3},
         "target_critics=3: must be at most num_critics=2"),
        (sac, PENDULUM, {"dropout": 1.0}, "dropout=1.0: must be from 0 to below 1"),
        (ddpg, PENDULUM, {"capacity": 100}, "capacity=100: must hold a batch, batch_size=256"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line_before_anything_compiles(module, env, settings, said):
    env = purerl.make(env) if isinstance(env, str) else env
    with pytest.raises(UsageError) as error:
        module.make(env, module.Config(**settings))
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("hparams", "said"),
    [
        ({"initial_temperature": -1.0}, "initial_temperature=-1: must be at least 0"),
        ({"discount": [0.9, 1.5]}, "discount=1.5: must be from 0 to 1"),
        ({"critic_learning_rate": float("nan")}, "critic_learning_rate=nan: must be at least 0"),
    ],
)
def test_a_hyperparameter_out_of_bounds(hparams, said, nothing_compiles):
    agent = sac.make(purerl.make(PENDULUM))
    with pytest.raises(UsageError) as error:
        purerl.train(agent, 10_000, hparams=agent.hparams._replace(**hparams))
    assert str(error.value) == said


def test_the_ends_of_the_bounds_are_allowed():
    hparams = sac.HParams(discount=[0.0, 1.0], initial_temperature=0.0, critic_learning_rate=0.0)
    check_bounds(population(hparams, 2))


class Integers(Walk):
    name = "test/integers"
    action_space = Box.of(0, 3, (1,), np.int32)


def test_boxes_of_integers_are_not_continuous():
    with pytest.raises(UsageError, match=r"^env='test/integers': TD3 needs continuous actions"):
        td3.make(Integers())


@pytest.mark.parametrize("module", [sac, td3, ddpg])
def test_actions_without_bounds_are_refused(module):
    class Endless(Walk):
        name = "test/endless"
        action_space = Box.of(-jnp.inf, jnp.inf, (1,))

    with pytest.raises(
        UsageError, match=r"^env='test/endless': .* needs finite action bounds, not"
    ):
        module.make(Endless())


def test_layer_norm_is_in_the_critics_where_it_is_asked_for():
    """Before each activation: what comes in may have any scale."""
    obs, action = jax.random.normal(KEY, (6, *OBS.shape)), jnp.zeros((6, *ACTIONS.shape))
    first = lambda x: 8.0 * x if x.shape[1:] == (5, 16) else x  # the first kernel
    for layer_norm in (True, False):
        critic = critics(OBS, ACTIONS, 2, hidden_sizes=(16,), activation="relu",
                         layer_norm=layer_norm)  # fmt: skip
        params = critic.init(KEY)
        out = critic.apply(params, obs, action)
        scaled = critic.apply(jax.tree.map(first, params), obs, action)
        assert np.allclose(out, scaled, rtol=1e-2, atol=1e-3) == layer_norm
        env = purerl.make(PENDULUM)
        learner = sac.make(env, sac.Config(layer_norm=layer_norm)).init(KEY, sac.HParams()).learner
        named = lambda tree: "LayerNorm" in str(jax.tree.structure(tree))
        assert named(learner.params.critics) == named(learner.target) == layer_norm
        assert not named(learner.params.actor)


def test_critics_are_batched_products():
    """Ten critics take as many products as two, forward and backward: of larger batches."""
    obs, action = jnp.zeros((6, *OBS.shape)), jnp.zeros((6, *ACTIONS.shape))

    def products(number):
        critic = critics(OBS, ACTIONS, number, hidden_sizes=(16, 16), activation="relu")
        loss = lambda params: critic.apply(params, obs, action).sum()
        return str(jax.make_jaxpr(jax.grad(loss))(critic.init(KEY))).count("dot_general")

    assert products(10) == products(2) > 4


class Names(Walk):
    """Its observation is one of five names."""

    name = "test/names"
    observation_space = Discrete(5)

    def reset(self, key, params={}):
        state, _ = super().reset(key, params)
        return state, jnp.int32(4)

    def step(self, key, state, action, params={}):
        state, timestep = super().step(key, state, action, params)
        return state, timestep._replace(obs=jnp.int32(3))


def test_each_name_reads_its_own_row():
    """Exchange rows of the first kernel, and what the names give is exchanged."""
    actor = deterministic_actor(
        Discrete(5), Box.of(-1.0, 1.0, (1,)), hidden_sizes=(8,), activation="tanh"
    )
    params, order = actor.init(KEY), np.array([2, 0, 4, 1, 3])
    params["params"]["Head_0"]["kernel"] *= 100.0
    plain = actor.apply(params, jnp.arange(5))
    assert len(set(np.round(plain[:, 0].tolist(), 4))) == 5
    layer = params["params"]["Dense_0"]
    layer["kernel"] = layer["kernel"][order]
    np.testing.assert_allclose(actor.apply(params, jnp.arange(5)), plain[order], rtol=1e-5)


@pytest.mark.parametrize("module", [sac, td3, ddpg])
def test_an_observation_that_is_a_name_is_one_hot(module):
    """And not normalised, as if the last were five times the first."""
    config = module.Config(
        num_envs=2, num_rounds=2, batch_size=4, capacity=32, learning_starts=8, hidden_sizes=(8,),
        normalize_obs=True,
    )  # fmt: skip
    agent = module.make(Names(), config)
    state = agent.init(KEY, agent.hparams)
    first = {x.shape[-2:] for x in jax.tree.leaves(state.learner.params) if x.shape[-1:] == (8,)}
    assert {(5, 8), (6, 8)} <= first  # of the actor, and of critics, which have the action too
    for i in range(3):
        clock = purerl.types.Clock(jnp.int32(i), jnp.int32(3))
        state, metrics = jax.jit(agent.update)(KEY, state, agent.hparams, clock)
    assert state.learner.obs_stats.count == 0
    assert all(np.isfinite(x) for x in metrics.values())


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="of XLA's threads on a CPU")
@pytest.mark.parametrize("capacity", [2**18])
@pytest.mark.parametrize(("module", "env"), [(sac, PENDULUM), (dqn, "gymnax/CartPole-v1")])
def test_no_kernel_of_a_small_update_is_split_over_threads(module, env, capacity):
    """XLA splits what it takes to be much arithmetic, however little is left when it is fused, and
    what it takes to read the whole of a large replay. The threads meet after each such kernel, and
    what follows may go on on another core, which has nothing of it in its cache: with three of them
    SAC was slower on two cores than on one.
    """
    settings = module.Config(
        num_envs=4, batch_size=256, capacity=capacity, hidden_sizes=(64, 64), learning_starts=256
    )
    agent = module.make(purerl.make(env), settings)
    text = compile_programs(agent, place(1, devices=1), 1, 1).iterate.as_text()
    assert "outer_dimension_partitions" in text, "XLA says it in other words now"
    products = lambda computation: len(re.findall(r" dot\(|calls=%?\S*ynn|ynn_fusion", computation))
    update = max(text.split("\n}"), key=products)
    assert products(update) > 10
    assert re.findall(r'%(\S+) = .*outer_dimension_partitions":\["', update) == []


@pytest.mark.parametrize(
    ("module", "env", "settings", "members"),
    [
        (sac, PENDULUM, {}, 4),
        (dqn, "gymnax/CartPole-v1", {"prioritized": True, "n_step": 3}, 1),
        (dqn, "gymnax/CartPole-v1", {"prioritized": True, "n_step": 3}, 4),
        (muzero, "gymnax/CartPole-v1", {"prioritized": True, "num_simulations": 2}, 1),
    ],
)
def test_an_update_copies_nothing_as_large_as_the_replay(module, env, settings, members):
    """What a `lax.cond` changes is, and what is written before all reads of it are known done."""
    small = {"num_envs": 4, "batch_size": 16, "capacity": 40_000, "learning_starts": 1000}
    agent = module.make(purerl.make(env), module.Config(**settings, **small))
    programs = compile_programs(agent, place(members, devices=1), 1, 1)
    state = jax.eval_shape(lambda: agent.init(jax.random.key(0), agent.hparams))
    large = [x.shape for x in jax.tree.leaves(state.actor) if x.size >= 40_000]
    assert len(large) == 1 + bool(settings.get("prioritized"))
    text = programs.iterate.as_text()
    for shape in large:
        made = re.findall(rf"= \w+\[(?:\d+,)?{','.join(map(str, shape))}\]\S* ([\w-]+)\(", text)
        assert {"parameter", "get-tuple-element"} <= set(made)
        assert not {"copy", "select", "concatenate", "broadcast"} & set(made)
