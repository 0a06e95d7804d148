"""Play a board game against a trained agent: `python -m purerl.play RUN_DIR`."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import tyro

from purerl.engine.load import Loaded, chosen_member, load
from purerl.envs import Revealed, bare, games
from purerl.envs.matches import Match
from purerl.errors import UsageError
from purerl.flags import command, parse_flags

YOU, AGENT = "X", "O"


@dataclasses.dataclass(frozen=True)
class Flags:
    """Whom you play against."""

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]
    """The directory of a run on a game, finished or not."""
    member: Literal["best"] | int = "best"
    """Whose policy, by number; by default that of the best last evaluation."""
    first: Literal["you", "agent"] = "you"
    """Who moves first."""


def play(
    loaded: Loaded,
    member: int,
    first: Literal["you", "agent"] = "you",
    ask: Callable[[str], str] = input,
    say: Callable[[str], None] = print,
) -> int:
    """One game in the terminal; "q" or the end of the input gives it up.

    Args:
      loaded: a run on a game.
      member: whose policy, which plays greedily.
      first: who moves first.
      ask: shows a prompt and returns a line.
      say: shows a line.

    Returns:
      1 if you win, -1 if you lose or give up, 0 after a draw.

    Raises:
      UsageError: the run's environment is no game, or none that can be shown as text.
    """
    agent = loaded.agent
    env, match = agent.env, bare(agent.env)
    if not isinstance(match, Match):
        raise UsageError(f"run_dir: is a run on {env.name}; only games can be played")
    game, board = match.game, match.game.start()
    if game.stones(board) is None:
        raise UsageError(f"run_dir: is a run on {env.name}; its board cannot be shown as text")
    learner = jax.tree.map(lambda x: x[member], loaded.state.train.learner)
    act = jax.jit(lambda key, carry, obs: agent.act(key, learner, carry, obs, True))
    see = jax.jit(env.layout.pack if isinstance(env, Revealed) else game.observe)
    step, key = jax.jit(game.play), jax.random.key(0)
    carry = agent.initial_carry(1)
    labels = {game.label(a): a for a in range(game.num_actions)}
    yours = first == "you"

    def draw() -> str:
        stones = game.stones(board, turned=not yours)
        assert stones is not None  # as at the start
        return games.show(game, stones, YOU, AGENT)

    say(f"{game.name}: you are {YOU}, the agent is {AGENT}; moves are as {', '.join(labels)}")
    while True:
        if yours:
            say(draw())
            action = _ask(game, board, labels, ask, say)
            if action is None:
                say("given up")
                return -1
        else:
            key, now = jax.random.split(key)
            chosen, carry = act(now, carry, see(board)[None])
            action = int(chosen[0])
            say(f"the agent plays {game.label(game.turned(action))}")
            if not game.legal(board)[action]:
                say("which it may not: you win")
                return 1
        board, won, over = step(board, jnp.int32(action))
        yours = not yours
        if over:
            say(draw())
            result = (-1 if yours else 1) * int(won)
            say({-1: "the agent wins", 0: "a draw", 1: "you win"}[result])
            return result


def _ask(
    game: games.Game,
    board: jax.Array,
    labels: dict[str, int],
    ask: Callable[[str], str],
    say: Callable[[str], None],
) -> int | None:
    """The move that a person types; None to give up."""
    legal = game.legal(board)
    may = [label for label, action in labels.items() if legal[action]]
    while True:
        try:
            word = ask("your move: ").strip().lower()
        except EOFError:
            return None
        if word == "q":
            return None
        if word in may:
            return labels[word]
        say(f"{word!r}: must be one of {', '.join(may)}, or q to give up")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; for the exit code see `purerl.flags.command`."""
    return command(_play, argv)


def _play(argv: list[str]) -> None:
    about = "Play a board game against the policy of a run."
    flags = parse_flags(Flags, argv, about, prog="python -m purerl.play")
    loaded = load(flags.run_dir)
    play(loaded, chosen_member(flags.run_dir, loaded, flags.member), flags.first)


if __name__ == "__main__":
    sys.exit(main())
