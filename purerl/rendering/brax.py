"""Brax episodes as one HTML page, with brax's own viewer. https://github.com/google/brax"""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from purerl.envs.brax import Brax
from purerl.rendering.episode import Episode


def write_html(path: Path, env: Brax, episode: Episode) -> None:
    """Write a page with the system and the trajectory in it; the viewer's scripts are on a CDN."""
    from brax.io import html

    poses = jax.device_get(jax.jit(jax.vmap(env.frame))(episode.state))
    first = lambda t: jax.tree.map(lambda x: np.asarray(x[t]), poses)
    states: list[Any] = [first(t) for t in range(episode.length + 1)]
    # The viewer takes the time between two states from the system.
    system = env.system.tree_replace({"opt.timestep": env.step_seconds})
    path.write_text(html.render(system, states, height="100vh", colab=False))
