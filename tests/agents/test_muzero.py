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
from purerl.ops.search import Plan
from purerl.ops.unrolled import Targets
from purerl.replay import Steps
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


@pytest.mark.parametrize(
    ("n_step", "model_steps", "reanalyse"),
    # With the last, there is a step between that no target reads.
    [(3, 2, False), (1, 2, True), (3, 2, True), (3, 1, True)],
)
def test_reanalysed_targets_are_searched_afresh(n_step, model_steps, reanalyse):
    """What was found when the steps were lived, spoilt in the replay, is not learnt from."""
    config = replace(CONFIG, reanalyse=reanalyse, n_step=n_step, model_steps=model_steps)
    hparams = muzero.HParams(learning_rate=0.0, weight_decay=0.0, discount=0.5)
    agent, state, _ = trained(purerl.make("probe/truncation"), config, 7, hparams)
    lived = state.actor.experience
    layout = lived.replay.layout
    steps = layout.unpack(lived.replay.rows)
    plans = steps.action._replace(
        weights=jnp.zeros_like(steps.action.weights).at[..., 0].set(0.5),
        value=jnp.full_like(steps.action.value, config.v_max),
    )
    rows = layout.pack(steps._replace(action=plans))
    spoilt = replace(lived, replay=replace(lived.replay, rows=rows))
    clock, update = Clock(jnp.int32(7), jnp.int32(8)), jax.jit(agent.update)
    before, after = (
        update(KEY, state._replace(actor=replace(state.actor, experience=x)), hparams, clock)[1]
        for x in (lived, spoilt)
    )
    for name in ("value/mean", "loss/value", "loss/policy"):
        assert np.isclose(before[name], after[name], rtol=1e-5) == reanalyse, name


@pytest.mark.parametrize("n_step", [1, 2, 4])
def test_goals_are_of_the_steps_that_follow(n_step):
    """Against a loop over one sequence after another: returns up to an end, a cut or n steps."""
    config, rng = replace(CONFIG, n_step=n_step, model_steps=3), np.random.default_rng(n_step)
    k, rows = config.model_steps, 40
    length = k + n_step + 1
    reward, value = rng.normal(size=(2, length, rows)).astype(np.float32)
    after = rng.normal(size=rows).astype(np.float32)
    weights = rng.dirichlet([1.0, 1.0], (length, rows)).astype(np.float32)
    ended = rng.random((length, rows))
    terminated, truncated = ended < 0.15, ended > 0.85
    truncated &= truncated.cumsum(0) == 1  # the first, whose final observation is kept
    hparams, gamma = muzero.HParams(reward_scale=2.0), -0.5
    nothing = jnp.zeros((length, rows))
    lived = Steps(nothing, nothing, *map(jnp.asarray, (reward, terminated, truncated)))
    plans = Plan(nothing, jnp.asarray(weights), jnp.asarray(value))
    found = muzero.goals(lived, plans, jnp.asarray(after), config, hparams, gamma)

    for i in range(rows):
        over = cut = False
        for j in range(k + 1):
            if over or cut:
                assert (found.policy_mask[j, i], found.value_mask[j, i]) == (0, 0 if cut else 1)
                assert found.value[j, i] == 0
                continue
            total, discount = 0.0, 1.0
            for t in range(j, j + n_step):
                total += discount * 2.0 * reward[t, i]
                discount *= 0.0 if terminated[t, i] else gamma
                if terminated[t, i] or truncated[t, i]:
                    break
            total += discount * (after[i] if truncated[t, i] else value[t + 1, i])
            assert found.value[j, i] == pytest.approx(total, abs=1e-5)
            assert found.value_mask[j, i] == found.policy_mask[j, i] == 1
            np.testing.assert_array_equal(found.weights[j, i], weights[j, i])
            if j < k:
                assert found.reward[j + 1, i] == pytest.approx(2.0 * reward[j, i])
                assert found.reward_mask[j + 1, i] == 1
            over, cut = bool(terminated[j, i]), bool(truncated[j, i])
    assert found.reward_mask[0].sum() == 0


@pytest.mark.parametrize(("discount", "better"), [(1.0, 0), (-1.0, 1)])
def test_a_search_is_for_whoever_moves(discount, better):
    """What is good for the other is bad in a game: the same values, the other way round."""
    config = Config(num_simulations=16, atoms=21, value_scale=5.0)
    support = two_hot.support(config.v_min, config.v_max, config.atoms)
    coded = lambda x: 1e2 * two_hot.encode(x, support)

    def dynamics(params, latent, action):
        after = jnp.where(action == 0, 0.9, -0.9)
        return after[:, None], coded(jnp.zeros(len(action)))

    model = Model(
        init=lambda key: (),
        represent=lambda params, obs: jnp.zeros((len(obs), 1)),
        dynamics=dynamics,
        predict=lambda params, latent: (jnp.zeros((len(latent), 2)), coded(latent[:, 0])),
    )
    obs = jnp.zeros((4, 1))
    found = muzero.look_ahead((), KEY, obs, None, model, config, discount, explore=False)
    assert (found.action == better).all()


def test_each_error_counts_by_its_weight_where_it_has_a_meaning():
    """The loss against a loop over the steps; the latent state only counts them."""
    config = replace(CONFIG, model_steps=2)
    k, rows, atoms, rng = config.model_steps, 6, config.atoms, np.random.default_rng(0)
    support = two_hot.support(config.v_min, config.v_max, atoms)
    code = lambda x: two_hot.encode(x, support)
    random = lambda *shape: jnp.asarray(rng.normal(size=(k + 1, rows, *shape)), jnp.float32)
    rewards, values, policies = random(atoms), random(atoms), random(ACTIONS)
    at = lambda latent: latent[0, 0].astype(jnp.int32)
    model = Model(
        init=lambda key: (),
        represent=lambda params, obs: jnp.zeros((rows, 1)),
        dynamics=lambda params, latent, action: (latent + 1.0, rewards[at(latent) + 1]),
        predict=lambda params, latent: (policies[at(latent)], values[at(latent)]),
    )
    masks = jnp.asarray(rng.integers(0, 2, (3, k + 1, rows)), jnp.float32)
    weights = jnp.asarray(rng.dirichlet([1.0] * ACTIONS, (k + 1, rows)), jnp.float32)
    goal = Targets(jnp.clip(random(), -1, 2), jnp.clip(random(), -1, 2), weights, *masks)
    weight = jnp.asarray(rng.random(rows), jnp.float32)
    hparams, action = muzero.HParams(value_coef=0.5), jnp.zeros((k, rows), jnp.int32)
    total, (errors, terms) = muzero.loss(
        (), jnp.zeros(rows), action, goal, model, config, hparams, weight
    )
    sums = {"reward": 0.0, "value": 0.0, "policy": 0.0}
    for j in range(k + 1):
        parts = {
            "reward": (goal.reward_mask[j], cross_entropy(rewards[j], code(goal.reward[j]))),
            "value": (goal.value_mask[j], cross_entropy(values[j], code(goal.value[j]))),
            "policy": (goal.policy_mask[j], cross_entropy(policies[j], goal.weights[j])),
        }
        for name, (mask, losses) in parts.items():
            if j or name != "reward":
                mean = np.mean(np.asarray(weight) * np.asarray(mask) * np.asarray(losses))
                sums[name] += mean / k if j else mean
    for name, wanted in sums.items():
        assert terms[f"loss/{name}"] == pytest.approx(wanted, rel=1e-5)
    assert total == pytest.approx(sums["reward"] + 0.5 * sums["value"] + sums["policy"], rel=1e-5)
    wanted = np.abs(two_hot.decode(values[0], support) - goal.value[0])
    np.testing.assert_allclose(errors, wanted, rtol=1e-5)
    # Beyond the support the end of it is learnt, and once it is, nothing is left to draw it for.
    beyond = goal._replace(value=goal.value + 100.0)
    _, (errors, _) = muzero.loss((), jnp.zeros(rows), action, beyond, model, config, hparams)
    wanted = np.abs(two_hot.decode(values[0], support) - config.v_max)
    np.testing.assert_allclose(errors, wanted, rtol=1e-5)


@pytest.mark.parametrize(("limit", "some"), [(0.5, True), (2.0, False)])
def test_values_beyond_the_support_are_reported(limit, some):
    """They are cut off, and what lies there cannot be told apart."""
    config = replace(CONFIG, v_min=-limit, v_max=limit)
    *_, metrics = trained(purerl.make("probe/value"), config, 8)
    assert (metrics["value/outside"] > 0.1) == some


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
    assert agent.env is env
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


def test_a_game_is_given_as_its_match():
    """Of self-play it would take the other's wins for its own, and moves that may not be made."""
    with pytest.raises(purerl.UsageError, match="MuZero takes the match, and plays itself in it"):
        muzero.make(SelfPlay(purerl.make("game/tic_tac_toe").game))
