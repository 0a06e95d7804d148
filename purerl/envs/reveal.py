"""Environments that hide nothing: for agents that plan with the environment itself."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purerl.envs.environment import Environment, TimeStep
from purerl.errors import UsageError
from purerl.replay.words import Layout, layout
from purerl.spaces import Box, Space
from purerl.types import EnvParams, Key


class Revealed:
    """An environment whose observation is its whole state, bit for bit, as words of 32 bits.

    States, rewards and endings are the environment's own; what it shows is not computed. Its name
    too is the environment's: `make` and a run's config.json know only that.

    Attributes:
      bare: the environment.
      layout: of a state in an observation; `layout.unpack` of uint32 [..., W] gives the states.
    """

    def __init__(self, env: Environment):
        self.bare = env
        self.name = env.name
        self.params: EnvParams = env.params
        self.max_episode_steps: int | None = env.max_episode_steps
        self.action_space: Space = env.action_space
        state, _ = jax.eval_shape(env.reset, jax.random.key(0), env.params)
        if any(jnp.issubdtype(x.dtype, jax.dtypes.extended) for x in jax.tree.leaves(state)):
            raise UsageError(
                f"env={env.name!r}: has a random key in its state, which cannot be shown"
            )
        self.layout: Layout = layout(state)
        most = np.iinfo(np.uint32).max
        self.observation_space: Space = Box.of(0, most, (self.layout.words,), np.uint32)

    def __repr__(self) -> str:
        return f"Revealed({self.bare!r})"

    def reset(self, key: Key, params: EnvParams = {}) -> tuple[Any, jax.Array]:
        state, _ = self.bare.reset(key, params)
        return state, self.layout.pack(state)

    def step(
        self, key: Key, state: Any, action: jax.Array, params: EnvParams = {}
    ) -> tuple[Any, TimeStep]:
        state, timestep = self.bare.step(key, state, action, params)
        return state, timestep._replace(obs=self.layout.pack(state))


def bare(env: Environment) -> Environment:
    """The environment itself, whether it is `Revealed` or not."""
    return env.bare if isinstance(env, Revealed) else env
