"""pgx's board games of two players behind our rules. https://github.com/sotetsuk/pgx

A board is pgx's state but for what follows from the rest, as words of 32 bits: one array, for a
search to keep and for an observation to carry. pgx is optional, and is imported when the first of
its games is made.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purerl.envs import games
from purerl.envs.matches import Match
from purerl.errors import UsageError, choose
from purerl.replay.words import Layout, layout
from purerl.spaces import Box

GAMES = (
    "animal_shogi",
    "chess",
    "connect_four",
    "gardner_chess",
    "go_19x19",
    "go_9x9",
    "hex",
    "othello",
    "shogi",
    "tic_tac_toe",
)
"""What can be played: two players in turn, without chance, everything seen."""

REFUSED = {
    "2048": "is a game of one player",
    "backgammon": "is a game of chance",
    "bridge_bidding": "hides the cards of four players",
    "kuhn_poker": "hides the players' cards",
    "leduc_holdem": "hides the players' cards",
    "minatar-asterix": "is a game of one player",
    "minatar-breakout": "is a game of one player",
    "minatar-freeway": "is a game of one player",
    "minatar-seaquest": "is a game of one player",
    "minatar-space_invaders": "is a game of one player",
    "sparrow_mahjong": "is a game of three players",
}
"""pgx's other games, and why they cannot."""

# Stones on cells, which the first two planes of pgx's observations are; what the number behind the
# last cell means, where there is one.
_STONES = {
    "connect_four": "",
    "go_19x19": "pass",
    "go_9x9": "pass",
    "hex": "swap",
    "othello": "pass",
    "tic_tac_toe": "",
}

# Of a state: made of the rest, or the same in every state that goes on.
_DERIVED = ("observation", "rewards", "truncated")


def names() -> tuple[str, ...]:
    """Every name that `purerl.make` knows a game of pgx by."""
    return tuple(f"pgx/{name}" for name in GAMES)


def refuse(name: str) -> None:
    """Raise UsageError, with the reason, for the name of one of pgx's other games."""
    if reason := REFUSED.get(name.removeprefix("pgx/")) if name.startswith("pgx/") else None:
        raise UsageError(
            f"env={name!r}: {reason}; pgx's games that can be played are {', '.join(GAMES)}"
        )


def make(name: str, opponent: str | None = None) -> Match:
    """The game against moves at random: a board of pgx cannot be turned for the others."""
    choose("opponent", opponent or "random", ("random",))
    rules(name)
    return Match(Pgx(name), "random")


@functools.cache
def rules(name: str) -> Any:
    """pgx's environment of that name.

    Raises:
      UsageError: pgx is not installed.
    """
    try:
        # pgx makes arrays when it is imported, which must not become part of a program.
        with jax.ensure_compile_time_eval():
            import pgx

            return pgx.make(name)  # pyright: ignore[reportArgumentType]
    except ModuleNotFoundError as error:
        message = f"env='pgx/{name}': {error.name} is not installed; pip install 'purerl[pgx]'"
        raise UsageError(message) from None


@dataclasses.dataclass(frozen=True)
class Pgx:
    """The rules of one of `GAMES`; boards are uint32 [W]."""

    name: str
    suite = "pgx"
    max_moves = None

    @property
    def num_actions(self) -> int:
        return _shapes(self.name).legal_action_mask.shape[0]

    @property
    def observation_space(self) -> Box:
        seen = _shapes(self.name).observation
        bound = True if seen.dtype == bool else np.inf
        return Box.of(False if seen.dtype == bool else -np.inf, bound, seen.shape, seen.dtype)

    def start(self) -> jax.Array:
        # Only which player's number is to move is drawn: the game is the same.
        return self.pack(rules(self.name).init(jax.random.key(0)))

    def observe(self, board: jax.Array) -> jax.Array:
        """pgx's observation [H, W, C], of who is to move."""
        return rules(self.name).observe(self.unpack(board))

    def legal(self, board: jax.Array) -> jax.Array:
        return self.unpack(board).legal_action_mask

    def play(self, board: jax.Array, action: jax.Array):
        before = self.unpack(board)
        after = rules(self.name).step(before, action)
        ended = jnp.sign(after.rewards[before.current_player]).astype(jnp.int8)
        return self.pack(after), ended, after.terminated

    def turn(self, board: jax.Array) -> jax.Array:
        return board

    def turned(self, action: int) -> int:
        return action

    def label(self, action: int) -> str:
        if self.name not in _STONES:
            return str(action)
        height, width = _shapes(self.name).observation.shape[:2]
        if self.num_actions == width:
            return str(action + 1)
        return games.cell(action, width) if action < height * width else _STONES[self.name]

    def stones(self, board: jax.Array, turned: bool = False) -> jax.Array | None:
        if self.name not in _STONES:
            return None
        seen = games.board_of(self.observe(board))
        return -seen if turned else seen

    def pack(self, state: Any) -> jax.Array:
        """A state of pgx's as a board."""
        arrays = jax.tree.map(jnp.asarray, _kept(state))  # some are Python's numbers at the start
        return _layout(self.name).pack(arrays)

    def unpack(self, board: jax.Array) -> Any:
        """The state that `pack` was given, but for its observation and rewards, which are zeros."""
        zeros = lambda x: jnp.zeros(x.shape, x.dtype)
        shapes = _shapes(self.name)
        derived = {name: zeros(getattr(shapes, name)) for name in _DERIVED}
        return _layout(self.name).unpack(board).replace(**derived)


@functools.cache
def _shapes(name: str) -> Any:
    """A state, as shapes and types."""
    return jax.eval_shape(rules(name).init, jax.random.key(0))


@functools.cache
def _layout(name: str) -> Layout:
    return layout(_kept(_shapes(name)))


def _kept(state: Any) -> Any:
    """A state without what is derived."""
    return state.replace(**dict.fromkeys(_DERIVED))
