"""AlphaZero: its targets by hand, its loss by its optimum, and tic-tac-toe learnt to perfection."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl.agents import alphazero
from purerl.agents.alphazero import Batch, Config
from purerl.engine.programs import cpu_options
from purerl.envs import games
from purerl.networks import Network
from purerl.ops import returns
from purerl.types import Clock

KEY = jax.random.key(0)


def test_outcomes_alternate_between_the_players():
    """Three moves win: 1 for who made the last, -1 for the other; then a game that is cut."""
    reward = jnp.asarray([0.0, 0.0, 1.0, 0.0, 0.0])[:, None]
    over = jnp.asarray([False, False, True, False, False])[:, None]
    value = jnp.asarray([9.0, 9.0, 9.0, 9.0, 0.25])[:, None]  # of the mover after each move
    found = returns.lambda_return(reward, value, over, over, discount=-1.0, trace=1.0)
    np.testing.assert_allclose(found[:, 0], [1.0, -1.0, 1.0, 0.25, -0.25])


@pytest.mark.parametrize(("length", "errors"), [(1, [1.0]), (2, [0.0, 1.0]), (3, [1.0, 0.0, 1.0])])
def test_what_a_game_that_is_cut_is_worth_alternates_too(length, errors):
    """A network that says 0.5 of every board: targets are 0.5 and -0.5, in turn from the end."""
    even = Network(
        lambda key: jnp.zeros(()),
        lambda params, obs: (jnp.zeros((len(obs), 9)), jnp.full(len(obs), 0.5) + params),
    )
    config = Config(num_envs=8, unroll_length=length, num_minibatches=1, num_epochs=1, opening=0,
                    num_simulations=2)  # fmt: skip
    agent = alphazero.make(purerl.make("game/tic_tac_toe", opponent="random"), config, even)
    hparams = agent.hparams._replace(learning_rate=0.0)
    state = agent.init(KEY, hparams)
    assert (state.actor.env == 0).all()  # without random moves, as asked
    _, metrics = jax.jit(agent.update)(KEY, state, hparams, Clock(jnp.int32(0), jnp.int32(1)))
    assert metrics["loss/value"] == pytest.approx(np.mean(errors), abs=1e-5)


def test_the_loss_is_least_at_the_targets():
    game = games.GAMES["tic_tac_toe"]
    board = jnp.asarray([[[1, -1, 0], [0, 0, 0], [0, 0, 0]]], jnp.int8)
    weights = jnp.asarray([[0.0, 0.0, 0.5, 0.2, 0.1, 0.05, 0.05, 0.05, 0.05]])
    batch = Batch(board, weights, jnp.asarray([0.5]))
    network = Network(lambda key: (), lambda params, obs: params)
    loss = lambda params: alphazero.loss(params, batch, game, network, alphazero.HParams())[0]
    best = jnp.where(weights > 0, jnp.log(weights), 3.0), jnp.asarray([0.5])
    slope = jax.grad(loss)(best)
    np.testing.assert_allclose(slope[0], 0.0, atol=1e-6)  # also of cells that are taken
    np.testing.assert_allclose(slope[1], 0.0, atol=1e-6)
    entropy = -(weights[weights > 0] * jnp.log(weights[weights > 0])).sum()
    assert loss(best) == pytest.approx(float(entropy), rel=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("optimised")
def test_tic_tac_toe_is_seldom_lost_to_perfect_play():
    env = purerl.make("game/tic_tac_toe", opponent="minimax")
    agent = alphazero.make(env, Config(num_simulations=32))
    total = 60
    state = agent.init(KEY, agent.hparams)
    update = jax.jit(agent.update, donate_argnums=1, compiler_options=cpu_options(2))
    for i in range(total):
        clock = Clock(jnp.int32(i), jnp.int32(total))
        state, _ = update(jax.random.fold_in(KEY, i), state, agent.hparams, clock)
    returns = matches(agent, state.learner, 400)
    assert returns.max() == 0  # perfect play is never beaten
    assert returns.mean() > -0.1


def matches(agent, learner, count):
    """float32 [N] returns of N greedy matches."""

    def body(scanned):
        state, obs, key, total, running = scanned
        key, act_key, env_key = jax.random.split(key, 3)
        action, _ = agent.act(act_key, learner, (), obs, True)
        state, now = jax.vmap(agent.env.step)(jax.random.split(env_key, count), state, action)
        return state, now.obs, key, total + running * now.reward, running & ~now.done

    def play(key):
        state, obs = jax.vmap(agent.env.reset)(jax.random.split(key, count))
        start = state, obs, key, jnp.zeros(count), jnp.ones(count, bool)
        return jax.lax.while_loop(lambda x: x[4].any(), body, start)[3]

    return jax.jit(play, compiler_options=cpu_options(2))(jax.random.key(7))


@pytest.mark.parametrize(
    ("env", "changes", "said"),
    [
        ("gymnax/CartPole-v1", {}, "env='gymnax/CartPole-v1': AlphaZero needs the rules of a game"),
        ("game/hex", {"num_minibatches": 3}, "num_minibatches=3: must divide num_envs"),
        ("game/hex", {"search": "mcts"}, "search='mcts': must be one of gumbel, puct"),
        ("game/hex", {"num_simulations": 0}, "num_simulations=0: must be positive"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(env, changes, said):
    with pytest.raises(purerl.UsageError, match=said) as caught:
        alphazero.make(purerl.make(env), Config(**changes))
    assert "\n" not in str(caught.value)
