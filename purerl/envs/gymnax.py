"""gymnax's environments behind the contract. https://github.com/RobertTLange/gymnax

gymnax is imported when the first of its environments is made, and what it draws with when it first
draws, which takes longer than all the rest of it.
"""

import contextlib
import dataclasses
import importlib
import inspect
import sys
import types
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purerl.envs.environment import TimeStep
from purerl.errors import UsageError, nearest, positive, whole
from purerl.spaces import Box, Discrete, Space
from purerl.types import EnvParams, Key

ENVIRONMENTS = (
    "CartPole-v1",
    "Pendulum-v1",
    "Acrobot-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Asterix-MinAtar",
    "Breakout-MinAtar",
    "Freeway-MinAtar",
    "Seaquest-MinAtar",
    "SpaceInvaders-MinAtar",
    "Catch-bsuite",
    "DeepSea-bsuite",
    "MemoryChain-bsuite",
    "UmbrellaChain-bsuite",
    "DiscountingChain-bsuite",
    "MNISTBandit-bsuite",
    "SimpleBandit-bsuite",
    "FourRooms-misc",
    "MetaMaze-misc",
    "PointRobot-misc",
    "BernoulliBandit-misc",
    "GaussianBandit-misc",
    "Reacher-misc",
    "Swimmer-misc",
    "Pong-misc",
    "FrozenLake-misc",
)
"""The environments gymnax registers."""

# Grids that gymnax fills with zeros and ones and casts to float32: bool holds as much.
_BINARY = (
    "Asterix-MinAtar",
    "Breakout-MinAtar",
    "Freeway-MinAtar",
    "Seaquest-MinAtar",
    "SpaceInvaders-MinAtar",
    "Pong-misc",
)

# Observations that leave the bounds gymnax declares: a cue of -1 and a negative time left above a
# lower bound of 0, a context of -1.5e-8, a reward of 10 under an upper bound of 1, rewards of -3.
_UNBOUNDED = (
    "MemoryChain-bsuite",
    "UmbrellaChain-bsuite",
    "MetaMaze-misc",
    "GaussianBandit-misc",
)

# Functions of other parameters, which gymnax leaves as they are when those change.
_DERIVED = {
    "CartPole-v1": {
        "total_mass": lambda p: p.masscart + p.masspole,
        "polemass_length": lambda p: p.masspole * p.length,
    },
}

# Not to be swept: bounds of the action space, which is fixed when the environment is made, and
# parameters that nothing an agent sees depends on.
_FIXED = {
    "Pendulum-v1": ("max_torque",),
    "PointRobot-misc": ("max_force",),
    "MountainCarContinuous-v0": ("min_action", "max_action"),
    "Acrobot-v1": ("link_length_2",),
    "SimpleBandit-bsuite": ("optimal_return",),
}


class Gymnax:
    """One gymnax environment, built on `step_env`, `reset_env` and `is_truncated`.

    gymnax's own `step` computes a reset at every step; here none is. Observations keep the shape
    of the environment; MinAtar's and Pong's, which are grids of zeros and ones cast to float32,
    come as bool, a quarter of the memory. Actions are clipped to their space.

    Args:
      env_id: gymnax's name of it.
      **kwargs: arguments of gymnax's constructor, or fields of its parameters: those that are no
        floats, such as `max_steps_in_episode`, can be set only here.
    """

    def __init__(self, env_id: str, **kwargs: Any):
        self.name = f"gymnax/{env_id}"
        self._env, self._defaults = _construct(env_id, kwargs)
        self._derived = _DERIVED.get(env_id, {})
        fields = dataclasses.asdict(self._defaults)
        hidden = {"max_steps_in_episode", *self._derived, *_FIXED.get(env_id, ())}
        self.params: EnvParams = {
            k: v for k, v in fields.items() if isinstance(v, float) and k not in hidden
        }
        self._defaults = self._with(self.params)
        positive("max_steps_in_episode", fields["max_steps_in_episode"])
        self.max_episode_steps: int | None = int(fields["max_steps_in_episode"])
        key = jax.random.key(0)
        obs, self._state_types = jax.eval_shape(self._env.reset_env, key, self._defaults)
        self.action_space: Space = _space(self._env.action_space(self._defaults), None)
        # gymnax declares a few spaces in another dtype than it returns: what it returns counts.
        dtype = np.dtype(bool) if env_id in _BINARY else obs.dtype
        declared = self._env.observation_space(self._defaults)
        self.observation_space: Space = _space(declared, dtype)
        if env_id in _UNBOUNDED:
            self.observation_space = Box.of(-np.inf, np.inf, obs.shape, dtype)

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
        obs, state, reward, ended, _ = self._env.step_env(key, state, action, settings)
        terminated = jax.lax.convert_element_type(ended, bool)
        cut = jax.lax.convert_element_type(self._env.is_truncated(state, settings), bool)
        step = TimeStep(self._observed(obs), jnp.float32(reward), terminated, cut & ~terminated)
        return self._strong(state), step

    def _with(self, params: EnvParams) -> Any:
        if not params:
            return self._defaults
        settings = dataclasses.replace(self._defaults, **params)
        derived = {name: f(settings) for name, f in self._derived.items()}
        return dataclasses.replace(settings, **derived)

    def _strong(self, state: Any) -> Any:
        # Python numbers in a fresh state are weakly typed, and would change type at the first step.
        return jax.tree.map(
            lambda x, like: jax.lax.convert_element_type(x, like.dtype), state, self._state_types
        )

    def _observed(self, obs: jax.Array) -> jax.Array:
        return jax.lax.convert_element_type(obs, self.observation_space.dtype)


def names() -> tuple[str, ...]:
    """The names gymnax registers, with the `gymnax/` prefix."""
    return tuple(f"gymnax/{name}" for name in ENVIRONMENTS)


def _construct(env_id: str, kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """gymnax's environment and its parameters, from arguments meant for either."""
    with _imported_later("seaborn", "matplotlib.pyplot"):
        import gymnax
    from gymnax import registration

    constructor = inspect.signature(registration._registry[env_id]).parameters
    arguments = {k: v for k, v in kwargs.items() if k in constructor}
    if words := arguments.get("action_mapping_key"):  # as `make` has it, and config.json
        bits = jnp.asarray(words, jnp.uint32)
        arguments["action_mapping_key"] = jax.random.wrap_key_data(bits)
    try:
        env, defaults = gymnax.make(env_id, **arguments)
    except OSError as error:
        raise UsageError(
            f"env='gymnax/{env_id}': its data are not in /tmp/mnist, where gymnax looks for them, "
            f"and cannot be downloaded ({error})"
        ) from None
    if env_id == "MNISTBandit-bsuite":
        # gymnax reads the bytes as int8, so that the brightest pixels come out negative.
        env.images = env.images.astype(jnp.uint8)
    settings = {k: v for k, v in kwargs.items() if k not in constructor}
    fields = {field.name for field in dataclasses.fields(defaults)}
    allowed = [*constructor, *(fields - set(_DERIVED.get(env_id, ())))]
    for name in settings:
        if name not in allowed:
            close = " or ".join(nearest(name, allowed) or sorted(allowed))
            raise UsageError(f"{name}: no argument of env='gymnax/{env_id}'; did you mean {close}?")
    typed = {k: _like(k, v, getattr(defaults, k)) for k, v in settings.items()}
    return env, dataclasses.replace(defaults, **typed)


def _like(name: str, value: Any, default: Any) -> Any:
    """A parameter's value with the type of its default."""
    if isinstance(default, jax.Array | np.ndarray):
        return jnp.asarray(value, default.dtype)
    if isinstance(default, bool) or not isinstance(default, int | float):
        return value
    try:
        return float(value) if isinstance(default, float) else whole(name, value)
    except (TypeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{name}={value!r}: must be a number") from None


class _Later(types.ModuleType):
    """A module that is imported when something in it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked of every module by who looks for the source of something
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


@contextlib.contextmanager
def _imported_later(*names: str) -> Iterator[None]:
    """What is imported within gets a `_Later` for these modules; nobody else does."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update({name: _Later(name) for name in absent})
    try:
        yield
    finally:
        for name in absent:
            if isinstance(sys.modules.get(name), _Later):
                del sys.modules[name]


def _space(space: Any, dtype: np.dtype | None) -> Space:
    from gymnax.environments import spaces

    if isinstance(space, spaces.Discrete):
        return Discrete(int(space.n))
    low, high = np.asarray(space.low), np.asarray(space.high)
    return Box.of(low, high, tuple(space.shape), dtype or space.dtype)
