"""Rules of the games by full enumeration, brute force and the laws of random play."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import purerl
from purerl.envs import check, games, matches
from purerl.envs.games import GAMES

KEY = jax.random.key(0)
every_game = pytest.mark.parametrize("game", GAMES.values(), ids=lambda game: game.name)


@pytest.fixture(scope="module")
def solution():
    return games.solve(GAMES["tic_tac_toe"])


def test_tic_tac_toe_has_5478_boards_and_255168_games(solution):
    assert len(np.unique(solution.boards, axis=0)) == len(solution.boards) == 5478
    assert solution.games == 255_168
    assert solution.ended.sum() == 958


def test_tic_tac_toe_is_a_draw(solution):
    assert solution.value[0] == 0

    def negamax(board):  # of what the table says, by another road
        lines = [board[i] for i in range(3)] + [board[:, i] for i in range(3)]
        lines += [board.diagonal(), board[::-1].diagonal()]
        if any((line == -1).all() for line in lines):
            return -1
        after = []
        for cell in np.argwhere(board == 0):
            following = board.copy()
            following[tuple(cell)] = 1
            after.append(-negamax(-following))
        return max(after, default=0)

    late = np.flatnonzero((solution.boards != 0).sum((1, 2)) >= 5)[::20]
    assert len(late) > 50
    assert [negamax(b.astype(int)) for b in solution.boards[late]] == list(solution.value[late])


def lines_of(mine, length):
    height, width = mine.shape
    for r, c in itertools.product(range(height), range(width)):
        for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
            cells = [(r + down * i, c + right * i) for i in range(length)]
            inside = all(0 <= y < height and 0 <= x < width for y, x in cells)
            if inside and all(mine[cell] for cell in cells):
                return True
    return False


@pytest.mark.parametrize(("shape", "length"), [((3, 3), 3), ((6, 7), 4)])
def test_lines_are_those_of_brute_force(shape, length):
    mine = np.random.default_rng(0).random((300, *shape)) < 0.45
    found = jax.vmap(lambda x: games.in_line(x, length))(jnp.asarray(mine))
    wanted = [lines_of(x, length) for x in mine]
    assert 30 < sum(wanted) < 270
    assert found.tolist() == wanted


def test_connections_of_hex_are_those_of_a_search():
    def connected(mine):
        reached, queue = set(), [(0, c) for c in range(5) if mine[0, c]]
        while queue:
            r, c = queue.pop()
            if (r, c) in reached or not (0 <= r < 5 and 0 <= c < 5 and mine[r, c]):
                continue
            reached.add((r, c))
            near = ((0, 1), (0, -1), (1, 0), (-1, 0), (-1, 1), (1, -1))
            queue += [(r + y, c + x) for y, x in near]
        return any(r == 4 for r, _ in reached)

    mine = np.random.default_rng(1).random((300, 5, 5)) < 0.5
    winding = [[1, 1, 1, 1, 1], [0, 0, 0, 0, 1], [1, 1, 1, 1, 0], [1, 0, 0, 0, 0], [1, 0, 0, 0, 0]]
    mine[0] = np.asarray(winding, bool)
    found = jax.vmap(games.Hex()._connected)(jnp.asarray(mine))
    wanted = [connected(x) for x in mine]
    assert wanted[0]
    assert 30 < sum(wanted) < 270
    assert found.tolist() == wanted


def random_play(game, count=100):
    """Boards [T, N, H, W] after every move, whether it won and ended the game [T, N], at random."""
    cells = game.shape[0] * game.shape[1]

    def move(scanned, key):
        board, running = scanned
        after, won, over = jax.vmap(game.play)(board, choose(key, board))
        board = jnp.where(running.reshape(-1, 1, 1), after, board)
        return (board, running & ~over), (board, won & running, over & running)

    choose = lambda key, board: jax.vmap(matches._random, (0, None, 0))(
        jax.random.split(key, count), game, board
    )
    first = jnp.broadcast_to(game.start(), (count, *game.shape))
    start = first, jnp.ones(count, bool)
    scan = jax.jit(lambda keys: jax.lax.scan(move, start, keys)[1])
    return scan(jax.random.split(KEY, cells))


@every_game
def test_random_games_end_once_and_boards_stay_possible(game):
    boards, won, over = random_play(game)
    assert (over.sum(0) == 1).all()
    assert not (won & ~over).any()
    mine, other = (boards == 1).sum((2, 3)), (boards == -1).sum((2, 3))
    assert set(np.unique(other - mine)) <= {0, 1}
    if game.name == "connect_four":  # stones have no gap below them
        assert not ((boards[:, :, :-1] != 0) & (boards[:, :, 1:] == 0)).any()
    if game.name == "hex":  # somebody connects: Nash's theorem
        assert (won.sum(0) == 1).all()
    seen = games.board_of(game.observe(boards))
    np.testing.assert_array_equal(seen, boards)


@every_game
def test_turning_the_board_is_the_same_game(game):
    boards, _, _ = random_play(game, 20)
    for board in boards[4]:
        np.testing.assert_array_equal(game.turn(game.turn(board)), board)
        for action in np.flatnonzero(game.legal(board)):
            turned = game.turned(int(action))
            assert game.turned(turned) == action
            assert game.legal(game.turn(board))[turned]


def test_a_move_of_hex_is_to_the_same_cell_for_both():
    game = GAMES["hex"]
    after, _, _ = game.play(game.start(), jnp.int32(1))  # b1 of the first player
    assert game.turn(after)[0, 1] == 1
    assert not game.legal(after)[game.turned(1)]


def returns_of(env, act, count=400):
    """float32 [N] of N matches in which `act` (key, board) moves for our side."""

    def match(key):
        state, _ = env.reset(key)

        def body(scanned):
            state, key, total, _ = scanned
            key, act_key, env_key = jax.random.split(key, 3)
            state, timestep = env.step(env_key, state, act(act_key, state))
            return state, key, total + timestep.reward, timestep.done

        start = (state, key, jnp.float32(0), jnp.bool_(False))
        return jax.lax.while_loop(lambda x: ~x[3], body, start)[2]

    return jax.jit(jax.vmap(match))(jax.random.split(KEY, count))


def test_minimax_never_loses():
    env = purerl.make("game/tic_tac_toe", opponent="minimax")
    assert returns_of(env, lambda k, b: matches._random(k, env.game, b)).max() == 0
    assert (returns_of(env, lambda k, b: matches._minimax(k, env.game, b)) == 0).all()


@every_game
def test_one_ply_beats_random_play(game):
    env = purerl.make(f"game/{game.name}", opponent="random")
    assert returns_of(env, lambda k, b: matches._one_ply(k, game, b)).mean() > 0.7
    ours = returns_of(env, lambda k, b: matches._random(k, game, b))
    assert abs(ours.mean()) < 0.15


def test_one_ply_wins_and_stops_the_other():
    game, keys = GAMES["tic_tac_toe"], jax.random.split(KEY, 20)
    reply = jax.vmap(lambda key, board: matches._one_ply(key, game, board), (0, None))
    win = jnp.asarray([[1, 1, 0], [-1, -1, 0], [0, 0, 0]], jnp.int8)
    assert (reply(keys, win) == 2).all()
    stop = jnp.asarray([[1, 0, 0], [-1, -1, 0], [0, 0, 0]], jnp.int8)
    assert (reply(keys, stop) == 5).all()
    game = GAMES["hex"]  # the other connects left with right
    board = jnp.zeros((5, 5), jnp.int8).at[2, :4].set(-1).at[1, 4].set(1)
    assert (reply(keys, board) == 14).all()


def misere():
    """Tic-tac-toe in which whoever makes a line loses."""

    class Misere(type(games.GAMES["tic_tac_toe"])):
        def play(self, board, action):
            after, won, over = super().play(board, action)
            return after, -won.astype(jnp.int8), over

    plain = games.GAMES["tic_tac_toe"]
    return Misere(**{f.name: getattr(plain, f.name) for f in dataclasses.fields(plain)})


def test_one_ply_takes_no_move_for_a_win_that_loses():
    """Where three in a row lose: it makes none, and does not keep the other from one."""
    plain, game = games.GAMES["tic_tac_toe"], misere()
    board = jnp.asarray([[1, 1, 0], [-1, -1, 0], [0, 0, 0]], jnp.int8)
    replies = [
        int(matches._one_ply(key, game, board)) for key in jax.random.split(jax.random.key(0), 200)
    ]
    assert set(replies) == {2, 5, 6, 7, 8}  # any, as it sees nothing that wins
    assert int(matches._one_ply(jax.random.key(0), plain, board)) == 2


def test_a_game_in_which_the_last_move_may_lose_is_solved():
    """Whoever makes a line loses: then the other, who is to move, has won."""
    plain, game = games.GAMES["tic_tac_toe"], misere()
    found, usual = games.solve(game), games.solve(plain)
    lined = np.asarray(jax.vmap(lambda b: games.in_line(b == -1, 3))(found.boards)) & found.ended
    assert lined.sum() > 100
    assert (found.value[lined] == 1).all()
    assert (usual.value[lined] == -1).all()
    assert found.value[0] == 0


def test_a_move_that_may_not_be_made_loses():
    env = purerl.make("game/tic_tac_toe", opponent="random")
    board = jnp.asarray([[1, 0, 0], [0, -1, 0], [0, 0, 0]], jnp.int8)
    _, timestep = env.step(KEY, board, jnp.int32(4))
    assert timestep.terminated
    assert timestep.reward == -1


@every_game
def test_openings_are_games_that_go_on(game):
    env = matches.SelfPlay(game, opening=5)
    boards, _ = jax.vmap(env.reset)(jax.random.split(KEY, 500))
    stones = (boards != 0).sum((1, 2))
    assert set(np.unique(stones)) == set(range(6))
    before = jax.vmap(game.turn)(boards)
    won = jax.vmap(lambda b: games.in_line(b == 1, 3))(before)
    assert game.name != "tic_tac_toe" or not won.any()


@every_game
def test_both_kinds_of_environment_keep_the_contract(game):
    check(purerl.make(f"game/{game.name}"), num_envs=2, eager=False)
    check(matches.SelfPlay(game, 2), num_envs=2, eager=False)


def test_wrong_names_are_answered_in_one_line():
    with pytest.raises(purerl.UsageError, match="opponent='minimax': only tic_tac_toe is small"):
        purerl.make("game/hex", opponent="minimax")
    with pytest.raises(purerl.UsageError, match="opponent='perfect': must be one of random, "):
        purerl.make("game/hex", opponent="perfect")
    with pytest.raises(purerl.UsageError, match="did you mean game/connect_four"):
        purerl.make("game/connect4")
