"""Draw an episode of a trained policy: `python -m purerl.render RUN_DIR`."""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import jax
import numpy as np
import tyro
from PIL.Image import Image

from purerl import envs
from purerl.engine.load import chosen_member, load
from purerl.engine.programs import longest_episode
from purerl.envs.brax import Brax
from purerl.errors import UsageError, positive
from purerl.flags import command, parse_flags
from purerl.rendering import grids
from purerl.rendering.brax import write_html
from purerl.rendering.canvas import captioned, write_gif
from purerl.rendering.classic import SCENES
from purerl.rendering.episode import Episode, play
from purerl.types import Agent

FRAME_SECONDS = 0.04  # at least, between frames: browsers slow down faster GIFs
MOST_FRAMES = 1200  # of a GIF, which then stays under 2 MB


@dataclasses.dataclass(frozen=True)
class Flags:
    """What is drawn, and where it is written."""

    run_dir: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]
    """The directory of a run, finished or not."""
    member: Literal["best"] | int = "best"
    """Whose policy, by number; by default that of the best last evaluation."""
    output: Path | None = None
    """Where to write; by default episode.gif or, of brax, episode.html in the run's directory."""
    steps: int | None = None
    """The most steps drawn; by default as many as an episode may have."""
    seed: int = 0
    """Of the episode's start and of the environment's chances."""


def render(
    run_dir: str | Path,
    *,
    member: Literal["best"] | int = "best",
    output: str | Path | None = None,
    steps: int | None = None,
    seed: int = 0,
    agent: Agent | None = None,
) -> tuple[Path, Episode]:
    """Draw one greedy episode of one member: a page for brax, a GIF for gymnax's
    classic control and MinAtar.

    Args:
      run_dir: what `train` wrote; its newest checkpoint is drawn.
      member: whose policy; "best" is the member with the best last evaluation.
      output: where to write; by default episode.gif or episode.html in `run_dir`.
      steps: the most steps drawn; by default as many as an episode may have.
      seed: of the episode; the same for two members starts them alike.
      agent: what was trained, where `purerl.load` needs it.

    Returns:
      Where it was written, and what was drawn.

    Raises:
      UsageError: no run, no such member, an environment that cannot be drawn, or a file that
        cannot be written.
    """
    if steps is not None:
        positive("steps", steps)
    if not 0 <= seed < 2**32:
        raise UsageError(f"seed={seed}: must be from 0 to 4294967295")
    loaded = load(run_dir, agent=agent)
    env = envs.bare(loaded.agent.env)
    path = _output(Path(run_dir), env, output)
    row = chosen_member(Path(run_dir), loaded, member)
    episode = play(loaded, row, longest_episode(env) if steps is None else steps, seed)
    try:
        if isinstance(env, Brax):
            write_html(path, env, episode)
        else:
            write_gif(path, *frames(env.name, episode), grids.PALETTES.get(env.name, ()))
    except OSError as error:
        raise UsageError(f"output={str(path)!r}: cannot be written: {error.strerror}") from None
    return path, episode


def drawable() -> tuple[str, ...]:
    """What can be drawn, besides brax."""
    return (*SCENES, *grids.PALETTES)


def frames(env_name: str, episode: Episode) -> tuple[Iterator[Image], int]:
    """(pictures, milliseconds of each): the first state, every n-th, and the last."""
    seconds = SCENES[env_name].step_seconds if env_name in SCENES else grids.STEP_SECONDS
    stride = max(1, round(FRAME_SECONDS / seconds), -(-episode.length // MOST_FRAMES))
    moments = [*range(0, episode.length, stride), episode.length]
    returns = np.concatenate([[0.0], episode.reward.cumsum()])

    def pictures():
        for t in moments:
            picture = _picture(env_name, episode, t)
            text = f"step {t}   return {returns[t]:.{0 if _whole(returns) else 1}f}"
            yield captioned(picture, env_name.rsplit("/", 1)[-1], text)

    # GIFs count in hundredths of a second.
    return pictures(), 10 * round(100 * stride * seconds)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; for the exit code see `purerl.flags.command`."""
    return command(_render, argv)


def _render(argv: list[str]) -> None:
    about = "Draw one greedy episode of a member of a run."
    flags = parse_flags(Flags, argv, about, prog="python -m purerl.render")
    settings = {k: v for k, v in vars(flags).items() if k != "run_dir"}
    path, episode = render(flags.run_dir, **settings)
    end = "" if episode.ended else ", not ended by then"
    print(f"return {episode.reward.sum():.1f} in {episode.length} steps{end}; written to {path}")


def _output(run_dir: Path, env: Any, output: str | Path | None) -> Path:
    """Where to write, known to be possible before anything is compiled."""
    if not isinstance(env, Brax) and env.name not in drawable():
        names = ", ".join(name.removeprefix("gymnax/") for name in drawable())
        raise UsageError(f"env={env.name!r}: cannot be drawn; can be: brax, and gymnax's {names}")
    suffix = ".html" if isinstance(env, Brax) else ".gif"
    path = run_dir / f"episode{suffix}" if output is None else Path(output)
    if path.suffix != suffix:
        raise UsageError(f"output={str(path)!r}: must end in {suffix} for env={env.name!r}")
    if not path.parent.is_dir():
        raise UsageError(f"output={str(path)!r}: there is no directory {str(path.parent)!r}")
    return path


def _picture(env_name: str, episode: Episode, t: int) -> Image:
    if env_name in grids.PALETTES:
        return grids.draw(episode.obs[t], grids.PALETTES[env_name])
    state = jax.tree.map(lambda x: float(x[t]), episode.state)
    # At the end no action follows: the last one stays.
    action = episode.action[min(t, episode.length - 1)]
    return SCENES[env_name].draw(cast(dict[str, float], vars(state)), episode.params, action)


def _whole(values: np.ndarray) -> bool:
    return bool((values == np.round(values)).all())


if __name__ == "__main__":
    sys.exit(main())
