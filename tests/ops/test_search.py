"""Searches by exhaustive play and by the law of policy improvement."""

import jax
import jax.numpy as jnp
import mctx
import numpy as np
import pytest

from purerl.agents import alphazero
from purerl.envs import games
from purerl.networks import Network
from purerl.ops.search import masked, noisy, outcome, plan

KEY = jax.random.key(0)
# A network that knows nothing: even priors, values of 0.
BLANK = Network(lambda key: (), lambda params, obs: (jnp.zeros((len(obs), 9)), jnp.zeros(len(obs))))


@pytest.mark.parametrize("search", ["gumbel", "puct"])
def test_with_the_true_model_a_search_is_minimax(search):
    game = games.GAMES["tic_tac_toe"]
    solution = games.solve(game)
    value_of = {b.tobytes(): v for b, v in zip(solution.boards, solution.value, strict=True)}
    stones = (solution.boards != 0).sum((1, 2))
    chosen = np.flatnonzero((stones >= 5) & ~solution.ended)[::40]
    boards, value = jnp.asarray(solution.boards[chosen]), solution.value[chosen]
    assert len(chosen) > 40
    assert {-1, 0, 1} == set(value.tolist())
    config = alphazero.Config(search=search, num_simulations=300)
    look = lambda boards: alphazero.look_ahead((), KEY, boards, game, BLANK, config, explore=False)
    found = jax.jit(look)(boards)
    assert jax.vmap(lambda board, action: game.legal(board)[action])(boards, found.action).all()
    after, _, _ = jax.vmap(game.play)(boards, found.action)
    reached = np.asarray([-value_of[np.asarray(b).tobytes()] for b in after])
    np.testing.assert_array_equal(reached, value)  # every move is a best one
    assert (np.round(np.asarray(found.value)) == value).mean() > 0.97
    illegal = ~jax.vmap(game.legal)(boards)
    assert jnp.where(illegal, found.weights, 0.0).max() == 0.0


def deterministic_mdp(key, states=20, actions=5, discount=0.9):
    """(next state [S, A], reward [S, A], policy logits [S, A], its values V [S] and Q [S, A])."""
    keys = jax.random.split(key, 3)
    following = jax.random.randint(keys[0], (states, actions), 0, states)
    reward = jax.random.normal(keys[1], (states, actions))
    logits = jax.random.normal(keys[2], (states, actions))
    policy = jax.nn.softmax(logits)
    moves = jnp.zeros((states, states))
    moves = moves.at[jnp.arange(states)[:, None], following].add(policy)
    value = jnp.linalg.solve(jnp.eye(states) - discount * moves, (policy * reward).sum(1))
    return following, reward, logits, value, reward + discount * value[following]


@pytest.mark.parametrize("simulations", [2, 4, 16])
def test_a_gumbel_search_improves_the_policy_in_every_state(simulations):
    """Danihelka et al. 2022, section 3.3: with exact Q, at any number of simulations."""
    following, reward, logits, value, q = deterministic_mdp(jax.random.key(1))

    def recurrent(params, key, action, state):
        after = following[state, action]
        out = mctx.RecurrentFnOutput(
            reward=reward[state, action],
            discount=jnp.full(action.shape, 0.9),
            prior_logits=logits[after],
            value=value[after],
        )
        return out, after

    states = jnp.arange(len(value))
    search = lambda key: plan(
        (), key, (logits, value, states), recurrent, num_simulations=simulations
    )
    found = jax.jit(jax.vmap(search))(jax.random.split(KEY, 500))
    acted = q[states, found.action]  # [keys, S]
    error = acted.std(0) / np.sqrt(len(acted))
    assert (acted.mean(0) >= value - 3 * error - 1e-4).all()
    assert (acted.mean(0) - value).mean() > 0.1
    improved = (found.weights * q).sum(-1)
    assert (improved.mean(0) >= value - 1e-3).all()


def test_a_search_considers_as_many_actions_and_looks_as_deep_as_asked():
    """The reward is for the action of the least prior; then for what comes at the third step."""
    logits = jnp.linspace(1.0, 0.0, 8)[None]
    root = logits, jnp.zeros(1), jnp.zeros(1, jnp.int32)

    def found(pays, **settings):
        def recurrent(params, key, action, depth):
            out = mctx.RecurrentFnOutput(
                reward=pays(action, depth), discount=jnp.ones(1), prior_logits=logits,
                value=jnp.zeros(1),
            )  # fmt: skip
            return out, depth + 1

        return jax.jit(
            lambda: plan((), KEY, root, recurrent, explore=False, num_simulations=32, **settings)
        )()

    last = lambda action, depth: 9.0 * ((action == 7) & (depth == 0))
    assert found(last, considered=2).action[0] != 7
    assert found(last, considered=8).action[0] == 7
    third = lambda action, depth: 1.0 * (depth == 2)
    assert found(third, max_depth=2).value[0] == 0
    assert found(third, max_depth=4).value[0] > 0


def test_puct_explores_unless_told_otherwise():
    def recurrent(params, key, action, state):
        zero = jnp.zeros(len(action))
        out = mctx.RecurrentFnOutput(
            reward=zero, discount=zero, prior_logits=jnp.zeros((len(action), 4)), value=zero
        )
        return out, state

    root = jnp.zeros((64, 4)).at[:, 0].set(1.0), jnp.zeros(64), jnp.zeros(64)
    settings = {"search": "puct", "num_simulations": 8}
    call = lambda explore: plan((), KEY, root, recurrent, explore=explore, **settings)
    search = jax.jit(call, static_argnums=0)
    assert len(set(search(True).action.tolist())) > 1
    assert set(search(False).action.tolist()) == {0}


@pytest.mark.parametrize("elsewhere", [-20.0, 5.0])
def test_noise_is_of_the_moves_that_may_be_made(elsewhere):
    """A quarter of the prior, whatever the policy says of the others."""
    rows, actions = 4000, 25
    legal = jnp.zeros((rows, actions), bool).at[:, np.array([3, 7])].set(True)
    logits = jnp.full((rows, actions), elsewhere).at[:, 3].set(4.0).at[:, 7].set(0.0)
    prior = jax.nn.softmax(jax.jit(noisy)(KEY, logits, legal))
    assert prior[:, 3].mean() + prior[:, 7].mean() == pytest.approx(1.0, abs=1e-6)
    policy = np.exp([4.0, 0.0]) / np.exp([4.0, 0.0]).sum()
    assert prior[:, 7].mean() == pytest.approx(0.75 * policy[1] + 0.125, abs=0.01)
    # A share of Dirichlet(a, a) has the variance 1 / (4 (2 a + 1)).
    assert prior[:, 7].std() == pytest.approx(0.25 * np.sqrt(1 / (4 * 1.6)), rel=0.05)


def test_puct_searches_with_noise_among_legal_moves():
    """512 roots with nothing to be won: visits follow the prior, a quarter of which is noise."""
    legal = jnp.zeros((512, 25), bool).at[:, :2].set(True)
    root = (
        jnp.full((512, 25), 5.0).at[:, 0].set(4.0).at[:, 1].set(0.0),
        jnp.zeros(512),
        jnp.zeros(512),
    )

    def recurrent(params, key, action, state):
        zero = jnp.zeros(len(action))
        return outcome(zero, zero, jnp.zeros((len(action), 25)), zero), state

    call = lambda explore: plan(
        (), KEY, root, recurrent, legal=legal, search="puct", num_simulations=32, explore=explore
    )
    search = jax.jit(call, static_argnums=0)
    found, still = search(True).weights, search(False).weights
    assert found[:, 2:].max() == 0
    assert float(found[:, 1].mean()) == pytest.approx(0.14, abs=0.04)
    assert np.unique(found[:, 1]).size > 5
    assert np.unique(still[:, 1]).size == 1


@pytest.mark.parametrize("scale", [0.0, 0.1, 1.0])
def test_values_are_weighed_against_the_prior_as_asked(scale):
    """Weights are softmax(logits + (50 + max N) scale Q) (Danihelka et al. 2022, eq. 8 and 11)."""
    reward = jnp.array([0.03, -0.02, 0.01, 0.0])
    logits = jnp.array([0.5, 0.0, -0.5, 0.2])

    def recurrent(params, key, action, state):
        zero = jnp.zeros(len(action))
        out = mctx.RecurrentFnOutput(
            reward=reward[action] * (state == 0), discount=zero, value=zero,
            prior_logits=jnp.zeros((len(action), 4)),
        )  # fmt: skip
        return out, state + 1

    root = logits[None], jnp.zeros(1), jnp.zeros(1)
    settings = {"num_simulations": 16, "value_scale": scale, "explore": False}
    found = jax.jit(lambda root: plan((), KEY, root, recurrent, **settings))(root)
    # The most visited action of four by sequential halving over 16: 2 rounds of 4, then 4 each.
    ratios = [jax.nn.softmax(logits + (50 + n) * scale * reward) for n in range(4, 13)]
    gaps = [np.abs(found.weights[0] - wanted).max() for wanted in ratios]
    assert min(gaps) < 1e-4
    if scale == 0.0:
        np.testing.assert_allclose(found.weights[0], jax.nn.softmax(logits), atol=1e-6)
    else:
        assert np.abs(found.weights[0] - jax.nn.softmax(logits)).max() > 0.02


def test_masked_logits_have_no_probability():
    probs = jax.nn.softmax(masked(jnp.zeros(4), jnp.asarray([True, False, True, False])))
    assert probs.tolist() == [0.5, 0.0, 0.5, 0.0]
