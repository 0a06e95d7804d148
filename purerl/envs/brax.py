"""brax's environments behind the contract. https://github.com/google/brax"""

import functools
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from brax import envs as brax_envs

from purerl.envs.environment import TimeStep
from purerl.spaces import Box
from purerl.types import EnvParams, Key

type Backend = Literal["spring", "generalized", "positional", "mjx"]
BACKENDS: tuple[str, ...] = get_args(Backend.__value__)


class BraxState(NamedTuple):
    """Attributes: physics, the pipeline's state; time, int32 [], environment steps so far."""

    physics: Any
    time: jax.Array


class Brax:
    """One raw brax environment: no EpisodeWrapper, no AutoResetWrapper.

    Actions lie in [-1, 1] and are clipped to it. An episode is truncated after `episode_length`
    steps of the physics environment, `action_repeat` of which make one step here.
    """

    params: EnvParams = {}

    def __init__(
        self,
        env_id: str,
        backend: Backend = "spring",
        episode_length: int = 1000,
        action_repeat: int = 1,
        **kwargs: Any,
    ):
        self.name = f"brax/{env_id}"
        self.backend = backend
        self._env = brax_envs.get_environment(env_id, backend=backend, **kwargs)
        self._repeat = action_repeat
        self.max_episode_steps: int | None = -(-episode_length // action_repeat)
        fresh = jax.eval_shape(self._env.reset, jax.random.PRNGKey(0))
        self._types = fresh
        self.observation_space = Box.of(-np.inf, np.inf, fresh.obs.shape, np.float32)
        self.action_space = Box.of(-1.0, 1.0, (self._env.action_size,))

    def __repr__(self) -> str:
        return f"purerl.make({self.name!r}, backend={self.backend!r})"

    def reset(self, key: Key, params: EnvParams = {}) -> tuple[BraxState, jax.Array]:
        del params  # brax keeps its constants in the system, not in parameters
        state = self._env.reset(jax.random.key_data(key))  # brax knows legacy keys only
        physics = _cast(state.pipeline_state, self._types.pipeline_state)
        return BraxState(physics, jnp.int32(0)), state.obs.astype(jnp.float32)

    def step(
        self, key: Key, state: BraxState, action: jax.Array, params: EnvParams = {}
    ) -> tuple[BraxState, TimeStep]:
        del key, params  # brax steps are deterministic
        action = jnp.clip(action, -1.0, 1.0)
        physics, obs, reward, terminated = self._once(state.physics, action)
        for _ in range(self._repeat - 1):
            later, later_obs, more, ended = self._once(physics, action)
            # An episode that ended inside the repeat stays where it ended.
            keep = lambda old, new, over=terminated: jnp.where(over, old, new)
            physics, obs = jax.tree.map(keep, (physics, obs), (later, later_obs))
            reward, terminated = keep(reward, reward + more), terminated | ended
        time = state.time + 1
        truncated = (time >= self.max_episode_steps) & ~terminated
        return BraxState(physics, time), TimeStep(obs, reward, terminated, truncated)

    def _once(self, physics: Any, action: jax.Array):
        # Only the physics is carried from step to step: the metrics and the info that brax keeps
        # in its state are written by a step, never read.
        blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self._types)
        after = self._env.step(blank.replace(pipeline_state=physics), action)
        physics = _cast(after.pipeline_state, self._types.pipeline_state)
        reward, done = jnp.float32(after.reward), jnp.asarray(after.done) > 0.5
        return physics, after.obs.astype(jnp.float32), reward, done

    def frame(self, state: BraxState) -> Any:
        """The pipeline state that `brax.io.html.render` draws."""
        return state.physics

    @property
    def system(self) -> Any:
        """The brax system, for drawing."""
        return self._env.sys


def _cast(tree: Any, types: Any) -> Any:
    return jax.tree.map(lambda x, t: jax.lax.convert_element_type(x, t.dtype), tree, types)


@functools.cache
def names() -> tuple[str, ...]:
    """The names brax registers, with the `brax/` prefix."""
    return tuple(f"brax/{name}" for name in brax_envs._envs)
