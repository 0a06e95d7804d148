"""pgx's games by pgx itself, by the games that are also ours, and by the laws of random play."""

import sys
import typing
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import laws
import numpy as np
import pgx as library
import pytest

import purerl
from purerl import play
from purerl.agents import alphazero, muzero
from purerl.engine.load import load
from purerl.envs import check, games, pgx
from purerl.envs.matches import SelfPlay
from purerl.experiment import main

KEY = jax.random.key(0)
GAMES = 16  # played at once
# Of those that compile in seconds: how many moves a game has at most.
LONGEST = {"tic_tac_toe": 9, "connect_four": 42, "othello": 128, "hex": 122, "go_9x9": 162}
SMALL = {"num_envs": 8, "unroll_length": 4, "num_minibatches": 2, "hidden_sizes": (8,)}
CASE = laws.Case(
    "alphazero-pgx",
    alphazero,
    "pgx/tic_tac_toe",
    alphazero.Config(**SMALL, num_simulations=16),
)


def line_of(call) -> str:
    with pytest.raises(purerl.UsageError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", typing.get_args(library.EnvId))
def test_every_game_of_pgx_is_played_or_refused(name):
    if name in pgx.REFUSED:
        said = line_of(lambda: purerl.make(f"pgx/{name}"))
        assert said.startswith(f"env='pgx/{name}': {pgx.REFUSED[name]}; pgx's games that can be ")
        return
    game = purerl.make(f"pgx/{name}").game
    board = jax.eval_shape(game.start)
    after, ended, over = jax.eval_shape(game.play, board, jnp.int32(0))
    assert (after.shape, after.dtype, after.ndim) == (board.shape, np.uint32, 1)
    assert (ended.shape, ended.dtype, over.shape, over.dtype) == ((), np.int8, (), bool)
    seen, space = jax.eval_shape(game.observe, board), game.observation_space
    assert (seen.shape, seen.dtype) == (space.shape, space.dtype)
    assert jax.eval_shape(game.legal, board).shape == (game.num_actions,)
    assert pgx.rules(name).num_players == 2


def test_the_reasons_are_those_of_pgx():
    assert {*pgx.GAMES, *pgx.REFUSED} == set(typing.get_args(library.EnvId))
    players = {n: library.make(n).num_players for n in pgx.REFUSED if n != "bridge_bidding"}
    counts = {1: "one player", 3: "three players"}
    for name, number in players.items():
        assert [n for n, words in counts.items() if words in pgx.REFUSED[name]] == (
            [] if number == 2 else [number]
        )


def choose(key, legal):
    """int32 [N]: of bool [N, A], one for each."""
    return jax.random.categorical(key, jnp.where(legal, 0.0, -jnp.inf)).astype(jnp.int32)


@pytest.mark.parametrize("name", LONGEST)
def test_games_go_as_in_pgx(name):
    """Random games, move by move: everything that a board says is what pgx's state says."""
    game, rules = purerl.make(f"pgx/{name}").game, pgx.rules(name)
    row, cells = jnp.arange(GAMES), np.prod(game.observation_space.shape[:2])

    def move(scanned, key):
        state, board, done = scanned
        legal = jax.vmap(game.legal)(board)
        action = choose(key, legal)
        back = jax.vmap(game.unpack)(jax.vmap(game.pack)(state))
        again = back.replace(observation=jax.vmap(rules.observe)(back), rewards=state.rewards)
        equal = jax.tree.map(lambda x, y: (x == y).all(), again, state)
        after = jax.vmap(rules.step)(state, action)
        following, ended, over = jax.vmap(game.play)(board, action)
        # Whoever moves next sees the other's stone in the cell that the label names.
        stones = jax.vmap(game.stones)(following).reshape(GAMES, -1)
        there = stones[row, jnp.minimum(action, cells - 1)] == -1
        holds = {
            "legal": legal == state.legal_action_mask,
            "observation": jax.vmap(game.observe)(board) == state.observation,
            "round trip": jnp.stack(jax.tree.leaves(equal)),
            "ended": ended == after.rewards[row, state.current_player],
            "zero sum": after.rewards.sum(1) == 0,
            "over": over == after.terminated,
            "never cut": ~after.truncated,
            "in turn": (after.current_player == 1 - state.current_player) | done,
            "stones": there | done | (action >= cells) | (name == "connect_four"),
        }
        holds = {name: x.all() for name, x in holds.items()}
        return (after, following, done | over), (holds, jnp.where(done, 0, ended), over & ~done)

    state = jax.vmap(rules.init)(jax.random.split(KEY, GAMES))
    assert set(state.current_player.tolist()) == {0, 1}  # pgx draws who begins
    start = state, jax.vmap(game.pack)(state), jnp.zeros(GAMES, bool)
    keys = jax.random.split(jax.random.key(1), LONGEST[name])
    _, (holds, ended, over) = jax.jit(lambda keys: jax.lax.scan(move, start, keys))(keys)
    assert {law: bool(x.all()) for law, x in holds.items()} == dict.fromkeys(holds, True)
    assert (over.sum(0) == 1).all()
    assert not (ended[~over] != 0).any()
    assert (ended == 1).any()
    # Where points are counted at the end, whoever moves last may lose by it.
    assert (ended == -1).any() == (name in ("othello", "go_9x9"))


@pytest.mark.parametrize("name", ["tic_tac_toe", "connect_four"])
def test_games_that_are_also_ours_are_the_same(name):
    ours, theirs = games.GAMES[name], purerl.make(f"pgx/{name}").game

    def move(scanned, key):
        mine, board, done = scanned
        may = jax.vmap(ours.legal)(mine)
        action = choose(key, may)
        mine, won, over = jax.vmap(ours.play)(mine, action)
        after, ended, ends = jax.vmap(theirs.play)(board, action)
        same = (jax.vmap(theirs.legal)(board) == may).all(1) & (won == ended) & (over == ends)
        same &= (jax.vmap(theirs.stones)(after) == mine).all((1, 2))
        same &= (jax.vmap(theirs.observe)(after) == ours.observe(mine)).all((1, 2, 3))
        same &= (jax.vmap(lambda x: theirs.stones(x, True))(after) == ours.turn(mine)).all((1, 2))
        return (mine, after, done | over), (same | done, over & ~done, won & ~done)

    count, cells = 200, ours.max_moves
    start = [jnp.broadcast_to(x, (count, *x.shape)) for x in (ours.start(), theirs.start())]
    scan = jax.jit(lambda keys: jax.lax.scan(move, (*start, jnp.zeros(count, bool)), keys)[1])
    same, over, won = scan(jax.random.split(KEY, cells))
    assert same.all()
    assert (over.sum(0) == 1).all()
    assert 100 < won.sum() < 200  # and some draws, or all are won late
    assert [theirs.label(a) for a in range(9)] == [ours.label(a) for a in range(9)]


def test_rewards_of_a_match_are_those_of_pgx():
    """Also where the last move loses, ours or the opponent's."""
    env, count = purerl.make("pgx/othello"), 64
    game, rules = env.game, pgx.rules("othello")

    def step(scanned, key):
        board, done = scanned
        act_key, env_key = jax.random.split(key)
        keys = jax.random.split(env_key, count)
        action = choose(act_key, jax.vmap(game.legal)(board))
        following, timestep = jax.vmap(env.step)(keys, board, action)
        before = jax.vmap(game.unpack)(board)
        first = jax.vmap(rules.step)(before, action)
        reply = jax.vmap(env._reply)(keys, jax.vmap(game.pack)(first))
        second = jax.vmap(rules.step)(first, reply)
        both = (first.rewards + second.rewards)[jnp.arange(count), before.current_player]
        same = (timestep.reward == both) & (timestep.terminated == second.terminated)
        new = timestep.terminated & ~done
        by_us = new & first.terminated
        return (following, done | timestep.terminated), (same | done, both * by_us, both * new)

    boards, _ = jax.vmap(env.reset)(jax.random.split(KEY, count))
    start = boards, jnp.zeros(count, bool)
    keys = jax.random.split(jax.random.key(2), 64)
    (_, done), (same, ours, every) = jax.jit(lambda keys: jax.lax.scan(step, start, keys))(keys)
    assert same.all()
    assert done.all()
    assert {-1, 1} <= set(np.unique(ours))
    assert {-1, 1} <= set(np.unique(every - ours))


def test_a_move_that_may_not_be_made_loses():
    env = purerl.make("pgx/tic_tac_toe")
    board, _, _ = env.game.play(env.game.start(), jnp.int32(4))
    _, timestep = env.step(KEY, board, jnp.int32(4))
    assert timestep.terminated
    assert timestep.reward == -1


@pytest.mark.parametrize("name", ["tic_tac_toe", "connect_four"])
def test_both_kinds_of_environment_keep_the_contract(name):
    env = purerl.make(f"pgx/{name}")
    check(env, num_envs=2, eager=False)
    check(SelfPlay(env.game, 2), num_envs=2, eager=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "pgx"
    agent = alphazero.make(
        purerl.make("pgx/tic_tac_toe"), alphazero.Config(**SMALL, num_simulations=16)
    )
    purerl.train(agent, 128, run_dir=path, eval_episodes=2, devices=1)
    return load(path)


def test_alphazero_learns_and_wins_in_one_move(run):
    with np.errstate(all="raise"):
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(run.state.train.learner))
    agent, learner = run.agent, jax.tree.map(lambda x: x[0], run.state.train.learner)
    act, game = jax.jit(agent.act, static_argnums=4), purerl.make("pgx/tic_tac_toe").game
    for moves, best in (((0, 3, 1, 4), 2), ((4, 0, 8, 1, 6, 5), 2), ((8, 0, 7, 1), 6)):
        board = game.start()
        for action in moves:
            board, _, over = game.play(board, jnp.int32(action))
            assert not over
        obs = agent.env.layout.pack(board)[None]
        assert act(KEY, learner, (), obs, True)[0] == best


def test_resuming_is_exact(tmp_path):
    laws.resuming_is_exact(CASE, tmp_path)


def test_a_person_plays(run):
    words, said = iter([f"{c}{r}" for r in (1, 2, 3) for c in "abc"] * 2), []
    result = play.play(run, 0, "agent", lambda prompt: next(words), said.append)
    assert said[-1] == {-1: "the agent wins", 0: "a draw", 1: "you win"}[result]
    assert said[0].endswith("moves are as a1, b1, c1, a2, b2, c2, a3, b3, c3")
    assert said[1].startswith("the agent plays ")
    assert said[2].startswith("  a b c\n1 ")
    assert sum(said[2].count(mark) for mark in "XO") == said[2].count("O") == 1


def test_a_name_without_its_suite_is_found_where_it_is(capsys):
    """Othello is pgx's alone, where only random moves are an opponent; tic-tac-toe is ours too."""
    start = ["--opponent", "minimax", "--seeds", "0", "--env"]
    assert main(alphazero, None, "game/tic_tac_toe", [*start, "othello"]) == 2
    assert "opponent='minimax': must be one of random" in capsys.readouterr().err
    assert main(alphazero, None, "game/tic_tac_toe", [*start, "tic_tac_toe"]) == 2
    assert "seeds=0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("otello", "pgx/othello"), ("tic_tac_to", "game/tic_tac_toe"), ("CartPol-v1", "gymnax/Cart")],
)
def test_a_mistyped_name_without_its_suite_is_answered_by_the_suite_that_has_it(
    typed, meant, capsys
):
    assert main(alphazero, None, "game/tic_tac_toe", ["--env", typed]) == 2
    assert f"did you mean {meant}" in capsys.readouterr().err


def test_what_cannot_be_is_said_in_one_line(monkeypatch, capsys):
    make = purerl.make
    assert line_of(lambda: make("pgx/hex", opponent="one_ply")) == (
        "opponent='one_ply': must be one of random"
    )
    assert "did you mean pgx/othello" in line_of(lambda: make("pgx/otello"))
    assert "AlphaZero plays it" in line_of(lambda: muzero.make(make("pgx/hex")))
    shogi = SimpleNamespace(agent=SimpleNamespace(env=make("pgx/animal_shogi")))
    said = line_of(lambda: play.play(shogi, 0))
    assert said == "run_dir: is a run on pgx/animal_shogi; its board cannot be shown as text"
    assert main(alphazero, None, "game/tic_tac_toe", ["--env", "pgx/backgammon"]) == 2
    assert "error: env='pgx/backgammon': is a game of chance; " in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "pgx", None)  # as if it were not there
    said = line_of(lambda: pgx.rules.__wrapped__("othello"))
    assert said == "env='pgx/othello': pgx is not installed; pip install 'purerl[pgx]'"
