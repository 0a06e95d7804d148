"""gymnax's environments behind the contract. https://github.com/RobertTLange/gymnax"""

import dataclasses
import functools
from typing import Any

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
from gymnax.environments import spaces as gymnax_spaces

from purerl.envs.environment import TimeStep
from purerl.spaces import Box, Discrete, Space
from purerl.types import EnvParams, Key


class Gymnax:
    """One gymnax environment, built on `step_env`, `reset_env` and `is_truncated`.

    gymnax's own `step` computes a reset at every step; here none is. Observations keep the shape
    of the environment; MinAtar's, which are grids of zeros and ones cast to float32, come as bool,
    a quarter of the memory.
    """

    def __init__(self, env_id: str, **kwargs: Any):
        self.name = f"gymnax/{env_id}"
        self._env, self._defaults = gymnax.make(env_id, **kwargs)
        fields = dataclasses.asdict(self._defaults)
        self.params: EnvParams = {k: v for k, v in fields.items() if isinstance(v, float)}
        self.params.pop("max_steps_in_episode", None)
        self.max_episode_steps: int | None = int(fields["max_steps_in_episode"])
        self._binary = env_id.endswith("-MinAtar")
        key = jax.random.key(0)
        obs, self._state_types = jax.eval_shape(self._env.reset_env, key, self._defaults)
        self.action_space: Space = _space(self._env.action_space(self._defaults))
        self.observation_space: Space = _observation_space(
            self._env.observation_space(self._defaults), obs, self._binary
        )

    def __repr__(self) -> str:
        return f"purerl.make({self.name!r})"

    def reset(self, key: Key, params: EnvParams = {}) -> tuple[Any, jax.Array]:
        obs, state = self._env.reset_env(key, self._with(params))
        return self._strong(state), self._observed(obs)

    def step(
        self, key: Key, state: Any, action: jax.Array, params: EnvParams = {}
    ) -> tuple[Any, TimeStep]:
        if isinstance(self.action_space, Box):
            action = jnp.clip(action, self.action_space.low, self.action_space.high)
        settings = self._with(params)
        obs, state, reward, terminated, _ = self._env.step_env(key, state, action, settings)
        terminated = jnp.asarray(terminated, bool)
        truncated = jnp.asarray(self._env.is_truncated(state, settings), bool) & ~terminated
        reward = jnp.asarray(reward, jnp.float32)
        return self._strong(state), TimeStep(self._observed(obs), reward, terminated, truncated)

    def _with(self, params: EnvParams) -> Any:
        return dataclasses.replace(self._defaults, **params) if params else self._defaults

    def _strong(self, state: Any) -> Any:
        # Python numbers in a fresh state are weakly typed, and would change type at the first step.
        return jax.tree.map(
            lambda x, like: jax.lax.convert_element_type(x, like.dtype), state, self._state_types
        )

    def _observed(self, obs: jax.Array) -> jax.Array:
        return obs.astype(self.observation_space.dtype)


def _space(space: Any) -> Space:
    if isinstance(space, gymnax_spaces.Discrete):
        return Discrete(int(space.n))
    return Box.of(np.asarray(space.low), np.asarray(space.high), tuple(space.shape), space.dtype)


def _observation_space(space: Any, obs: Any, binary: bool) -> Space:
    if isinstance(space, gymnax_spaces.Discrete):
        return Discrete(int(space.n))
    # gymnax declares a few spaces in another dtype than it returns: what it returns counts.
    dtype = np.bool_ if binary else obs.dtype
    return Box.of(np.asarray(space.low), np.asarray(space.high), tuple(obs.shape), dtype)


@functools.cache
def names() -> tuple[str, ...]:
    """The names gymnax registers, with the `gymnax/` prefix."""
    return tuple(f"gymnax/{name}" for name in gymnax.registered_envs)
