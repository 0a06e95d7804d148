"""Games as environments: one side against an opponent, or both sides in turn."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from purerl.envs import games
from purerl.envs.environment import TimeStep
from purerl.envs.games import GAMES, Game
from purerl.errors import UsageError, choose
from purerl.spaces import Box, Discrete
from purerl.types import EnvParams, Key

type Opponent = Literal["random", "one_ply", "minimax"]
"""random: any legal move. one_ply: wins if it can in one move, else stops the other from winning in
its next one, else any. minimax: any of the moves that are best when both play perfectly."""

OPPONENTS: tuple[str, ...] = get_args(Opponent.__value__)
SOLVED = "tic_tac_toe"  # small enough for minimax


def names() -> tuple[str, ...]:
    """Every name that `purerl.make` knows a match by."""
    return tuple(f"game/{name}" for name in GAMES)


def make(game: str, opponent: Opponent | None = None) -> "Match":
    """The game against an opponent, by default the strongest there is for it."""
    usual = "minimax" if game == SOLVED else "one_ply"
    opponent = opponent or usual
    choose("opponent", opponent, OPPONENTS)
    if opponent == "minimax" and game != SOLVED:
        raise UsageError(f"opponent='minimax': only {SOLVED} is small enough, not {game}")
    return Match(GAMES[game], opponent)


class _Board:
    """What both environments of a game share: the state is the board."""

    game: Game

    @property
    def observation_space(self) -> Box:
        return self.game.observation_space

    @property
    def action_space(self) -> Discrete:
        return Discrete(self.game.num_actions)

    @property
    def max_episode_steps(self) -> int | None:
        return None  # the rules end every game

    @property
    def params(self) -> EnvParams:
        return {}

    def legal(self, obs: jax.Array) -> jax.Array:
        """bool [A] the moves that may be made, from an observation [H, W, 2] of `Stones`."""
        return self.game.legal(games.board_of(obs))


@dataclasses.dataclass(frozen=True)
class Match(_Board):
    """One side of a game, drawn at reset, against an opponent: an environment as any other.

    Reward 1 for a win and -1 for a loss, at the end; a move that may not be made loses.
    """

    game: Game
    opponent: Opponent

    @property
    def name(self) -> str:
        return f"{self.game.suite}/{self.game.name}"

    def reset(self, key: Key, params: EnvParams = {}) -> tuple[jax.Array, jax.Array]:
        del params
        side_key, move_key = jax.random.split(key)
        board = self.game.start()
        second, _, _ = self.game.play(board, self._reply(move_key, board))
        board = jnp.where(jax.random.bernoulli(side_key), second, board)
        return board, self.game.observe(board)

    def step(
        self, key: Key, state: jax.Array, action: jax.Array, params: EnvParams = {}
    ) -> tuple[jax.Array, TimeStep]:
        del params
        may = self.game.legal(state)[action]
        after, won, over = self.game.play(state, action)
        following, lost, ended = self.game.play(after, self._reply(key, after))
        board = jnp.where(over | ~may, self.game.turn(after), following)
        reward = jnp.where(over, won.astype(jnp.float32), -lost.astype(jnp.float32))
        timestep = TimeStep(
            obs=self.game.observe(board),
            reward=jnp.where(may, reward, -1.0),
            terminated=~may | over | ended,
            truncated=jnp.bool_(False),
        )
        return board, timestep

    def _reply(self, key: Key, board: jax.Array) -> jax.Array:
        return _MOVES[self.opponent](key, self.game, board)


@dataclasses.dataclass(frozen=True)
class SelfPlay(_Board):
    """Both sides of a game in turn. A reward is that of whoever has just moved.

    What follows counts negatively, as it is the other's: the discount is -1 at a step. So that more
    is seen than the best lines, games begin after up to `opening` moves at random, as many as any
    other number.
    """

    game: Game
    opening: int = 0

    @property
    def name(self) -> str:
        return f"{self.game.suite}/{self.game.name}-self-play"

    def reset(self, key: Key, params: EnvParams = {}) -> tuple[jax.Array, jax.Array]:
        del params
        count_key, move_key = jax.random.split(key)
        count = jax.random.randint(count_key, (), 0, self.opening + 1)
        blank = self.game.start()

        def move(board, now):
            chances, number = now
            after, _, over = self.game.play(board, _choose(chances, self.game.legal(board)))
            return jnp.where(number < count, jnp.where(over, blank, after), board), ()

        chances = jax.random.uniform(move_key, (self.opening, self.game.num_actions))
        board, _ = jax.lax.scan(move, blank, (chances, jnp.arange(self.opening)))
        return board, self.game.observe(board)

    def step(
        self, key: Key, state: jax.Array, action: jax.Array, params: EnvParams = {}
    ) -> tuple[jax.Array, TimeStep]:
        del key, params
        board, won, over = self.game.play(state, action)
        never = jnp.bool_(False)
        return board, TimeStep(self.game.observe(board), won.astype(jnp.float32), over, never)


def _random(key: Key, game: Game, board: jax.Array) -> jax.Array:
    return _any(key, game.legal(board))


def _one_ply(key: Key, game: Game, board: jax.Array) -> jax.Array:
    actions = jnp.arange(game.num_actions)
    won = lambda board: jax.vmap(game.play, (None, 0))(board, actions)[1] == 1  # -1 is a loss
    wins = lambda board: won(board) & game.legal(board)
    turned = np.array([game.turned(a) for a in range(game.num_actions)])
    legal, winning = game.legal(board), wins(board)
    losing = wins(game.turn(board))[turned] & legal
    best = jnp.where(winning.any(), winning, jnp.where(losing.any(), losing, legal))
    return _any(key, best)


def _minimax(key: Key, game: Game, board: jax.Array) -> jax.Array:
    actions = jnp.arange(game.num_actions)
    after, _, _ = jax.vmap(game.play, (None, 0))(board, actions)
    value = -jnp.asarray(_values(game))[jax.vmap(games.code)(after)]
    value = jnp.where(game.legal(board), value, -2)
    return _any(key, value == value.max())


@functools.cache
def _values(game: Game) -> np.ndarray:
    """int8 [3^cells]: the value of each board for its mover, by code; 0 of what cannot be."""
    solution = games.solve(game)
    flat = solution.boards.reshape(len(solution.boards), -1).astype(int) + 1
    table = np.zeros(3 ** flat.shape[1], np.int8)
    table[flat @ 3 ** np.arange(flat.shape[1])] = solution.value
    return table


def _any(key: Key, allowed: jax.Array) -> jax.Array:
    """One of bool [A], each as likely; 0 where there is none."""
    return _choose(jax.random.uniform(key, allowed.shape), allowed)


def _choose(numbers: jax.Array, allowed: jax.Array) -> jax.Array:
    """`_any` by float32 [A] uniform numbers."""
    return jnp.where(allowed, numbers, -1.0).argmax().astype(jnp.int32)


_MOVES: dict[str, Callable[[Key, Game, jax.Array], jax.Array]] = {
    "random": _random,
    "one_ply": _one_ply,
    "minimax": _minimax,
}
