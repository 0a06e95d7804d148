"""Board games of two players in turn, without chance, everything seen: their rules.

A board is all that the rules must know, in one array, seen from the side of whoever moves; after a
move it is turned to the other side, so that one network plays both. Here it is int8 [H, W]: 1 are
the mover's stones, -1 the other's, 0 is empty. A move is a number; which cell it means is each
game's own.
"""

import dataclasses
import itertools
import string
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from purerl.spaces import Box


class Game(Protocol):
    """Rules, as pure functions of a board.

    Attributes:
      suite: where it comes from, and
      name: as in "<suite>/<name>".
      num_actions: A.
      max_moves: of one game; None where that is more than anything here needs to know.
      observation_space: of what a network sees of a board.
    """

    @property
    def suite(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def num_actions(self) -> int: ...
    @property
    def max_moves(self) -> int | None: ...
    @property
    def observation_space(self) -> Box: ...

    def start(self) -> jax.Array:
        """The board before the first move."""
        ...

    def observe(self, board: jax.Array) -> jax.Array:
        """What a network sees of a board, from the mover's side."""
        ...

    def legal(self, board: jax.Array) -> jax.Array:
        """bool [A]: the moves that may be made."""
        ...

    def play(self, board: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """A legal move -> (the other's board, how it ended for the mover, whether it is over).

        How it ended is 1 after a win, -1 after a loss by one's own move, else 0; a bool of a game
        in which a move does not lose.
        """
        ...

    def turn(self, board: jax.Array) -> jax.Array:
        """The same stones from the other side; its own inverse.

        Rules that are not ours may not be able to, and give the board back as it is.
        """
        ...

    def turned(self, action: int) -> int:
        """The number that the move to the same cell has for the other side."""
        ...

    def label(self, action: int) -> str:
        """What a person types for a move."""
        ...

    def stones(self, board: jax.Array, turned: bool = False) -> jax.Array | None:
        """int8 [H, W] for a person to look at, from the mover's side or, turned, the other's.

        None of a game that is more than stones of two kinds.
        """
        ...


class Stones:
    """What games have in common whose board is the stones on it, int8 [H, W].

    Attributes:
      shape: (H, W).
    """

    suite = "game"
    shape: tuple[int, int]

    @property
    def max_moves(self) -> int:
        return self.shape[0] * self.shape[1]  # every move fills a cell

    @property
    def observation_space(self) -> Box:
        return Box.of(False, True, (*self.shape, 2), bool)

    def start(self) -> jax.Array:
        return jnp.zeros(self.shape, jnp.int8)

    def observe(self, board: jax.Array) -> jax.Array:
        """bool [..., H, W, 2]: the mover's stones and the other's."""
        return jnp.stack([board == 1, board == -1], -1)

    def turn(self, board: jax.Array) -> jax.Array:
        return -board

    def turned(self, action: int) -> int:
        return action

    def stones(self, board: jax.Array, turned: bool = False) -> jax.Array:
        return self.turn(board) if turned else board


def board_of(obs: jax.Array) -> jax.Array:
    """The stones int8 [..., H, W] that the first two planes of an observation show."""
    mine, other = obs[..., 0], obs[..., 1]
    return mine.astype(jnp.int8) - other.astype(jnp.int8)


def in_line(mine: jax.Array, length: int) -> jax.Array:
    """bool []: whether `length` of bool [H, W] lie in a row, a column or a diagonal."""
    height, width = mine.shape
    found = jnp.bool_(False)
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        rows, columns = height - down * (length - 1), width - abs(right) * (length - 1)
        first = 0 if right >= 0 else length - 1
        starts = [(down * i, first + right * i) for i in range(length)]
        parts = [mine[r : r + rows, c : c + columns] for r, c in starts]
        found |= jnp.stack(parts).all(0).any()
    return found


@dataclasses.dataclass(frozen=True)
class TicTacToe(Stones):
    """Three in a line on 3 x 3 cells; a move is a cell, row by row."""

    name = "tic_tac_toe"
    shape = (3, 3)
    num_actions = 9

    def legal(self, board: jax.Array) -> jax.Array:
        return board.reshape(-1) == 0

    def play(self, board: jax.Array, action: jax.Array):
        board = _place(board, action)
        won = in_line(board == 1, 3)
        return -board, won, won | (board != 0).all()

    def label(self, action: int) -> str:
        return cell(action, 3)


@dataclasses.dataclass(frozen=True)
class ConnectFour(Stones):
    """Four in a line on 6 x 7 cells; a move is a column, into which the stone falls."""

    name = "connect_four"
    shape = (6, 7)
    num_actions = 7

    def legal(self, board: jax.Array) -> jax.Array:
        return board[0] == 0

    def play(self, board: jax.Array, action: jax.Array):
        row = (board == 0).sum(0)[action] - 1
        board = _place(board, row * self.shape[1] + action)
        won = in_line(board == 1, 4)
        return -board, won, won | (board != 0).all()

    def label(self, action: int) -> str:
        return str(action + 1)


@dataclasses.dataclass(frozen=True)
class Hex(Stones):
    """Hex on 5 x 5 cells, without swapping: the mover connects the top row with the bottom one.

    Neighbours of cell (r, c) are (r, c +- 1), (r +- 1, c), (r - 1, c + 1) and (r + 1, c - 1). The
    other player connects left with right, which is top with bottom on the transposed board.
    """

    name = "hex"
    shape = (5, 5)
    num_actions = 25

    def legal(self, board: jax.Array) -> jax.Array:
        return board.reshape(-1) == 0

    def play(self, board: jax.Array, action: jax.Array):
        board = _place(board, action)
        won = self._connected(board == 1)
        return self.turn(board), won, won

    def turn(self, board: jax.Array) -> jax.Array:
        return -board.T

    def turned(self, action: int) -> int:
        row, column = divmod(action, self.shape[1])
        return column * self.shape[1] + row

    def label(self, action: int) -> str:
        return cell(action, self.shape[1])

    def _connected(self, mine: jax.Array) -> jax.Array:
        height, width = mine.shape
        reached = mine & (jnp.arange(height) == 0).reshape(-1, 1)

        def spread(_, reached):
            wide = jnp.pad(reached, 1)
            part = lambda down, right: wide[1 + down :, 1 + right :][:height, :width]
            near = [part(*step) for step in ((0, 1), (0, -1), (1, 0), (-1, 0), (-1, 1), (1, -1))]
            return mine & (reached | jnp.stack(near).any(0))

        # The longest path without a detour on 5 x 5 cells is shorter than half of them and some.
        return jax.lax.fori_loop(0, height * width // 2 + 2, spread, reached)[-1].any()


GAMES: dict[str, Game] = {game.name: game for game in (TicTacToe(), ConnectFour(), Hex())}


class Solution(NamedTuple):
    """All of a small game.

    Attributes:
      boards: int8 [N, H, W], every board that can be reached, ended games among them.
      ended: bool [N].
      value: int8 [N], for the mover when both play perfectly: 1, 0 or -1.
      games: ways in which the game can be played to its end.
    """

    boards: np.ndarray
    ended: np.ndarray
    value: np.ndarray
    games: int


def code(board: jax.Array) -> jax.Array:
    """int32 []: a board as a number of base 3; unique up to 20 cells."""
    digits = board.reshape(-1).astype(jnp.int32) + 1
    return (digits * 3 ** np.arange(digits.size, dtype=np.int32)).sum()


def solve(game: Game) -> Solution:
    """Every board of a game of at most some 10 cells, and its value by negamax; outside of jit."""
    with jax.ensure_compile_time_eval():
        actions = jnp.arange(game.num_actions)
        every = jax.vmap(lambda board: jax.vmap(game.play, (None, 0))(board, actions))
        every, legal = jax.jit(every), jax.jit(jax.vmap(game.legal))
        number = jax.jit(jax.vmap(code))
        # Level by level: the boards after k moves, in how many ways, and where each move leads.
        boards, ways = np.asarray(game.start())[None], np.ones(1, np.int64)
        ended, last = np.zeros(1, bool), np.zeros(1, np.int8)  # what the last move brought
        levels, games = [], 0
        while len(boards):
            after, won, over = (np.asarray(x) for x in every(boards))
            may = np.asarray(legal(boards)) & ~ended[:, None]
            games += int(ways[ended].sum())
            row, _ = np.nonzero(may)
            codes = np.asarray(number(after[may])) if len(row) else np.zeros(0, np.int32)
            _, first, back = np.unique(codes, return_index=True, return_inverse=True)
            child = np.zeros(may.shape, int)
            child[may] = back
            levels.append((boards, ended, last, may, child))
            ways = np.bincount(back, ways[row], len(first)).astype(np.int64)
            boards, ended, last = after[may][first], over[may][first], won[may][first]
    values: list[np.ndarray] = []
    following = np.zeros(0)
    for _, ended, last, may, child in reversed(levels):
        best = np.full(len(ended), -2.0)
        if len(following):
            best = np.where(may, -following[child], -2.0).max(1)
        following = np.where(ended, -last.astype(float), best)  # the other is to move
        values.insert(0, following.astype(np.int8))
    whole = lambda i: np.concatenate([level[i] for level in levels])
    return Solution(whole(0), whole(1), np.concatenate(values), games)


def show(game: Game, stones: jax.Array, mine: str = "X", other: str = "O") -> str:
    """Stones int8 [H, W] as text, those of 1 as `mine`."""
    rows = [" ".join({1: mine, -1: other, 0: "."}[int(x)] for x in row) for row in stones]
    height, width = stones.shape
    if game.num_actions == width:
        head = " ".join(str(i + 1) for i in range(width))
        return "\n".join([head, *rows])
    slant, margin, names = game.name == "hex", len(str(height)), itertools.count(1)
    rows = [f"{next(names):>{margin}} {' ' * i * slant}{row}" for i, row in enumerate(rows)]
    return "\n".join([" " * (margin + 1) + " ".join(string.ascii_lowercase[:width]), *rows])


def _place(board: jax.Array, cell: jax.Array) -> jax.Array:
    """The board with the mover's stone on a cell; by comparing, as a scatter is slow under vmap."""
    cells = jnp.arange(board.size).reshape(board.shape)
    return jnp.where(cells == cell, jnp.int8(1), board)


def cell(action: int, width: int) -> str:
    """The name of a cell by its number, row by row: b1 is 1."""
    row, column = divmod(action, width)
    return f"{string.ascii_lowercase[column]}{row + 1}"
