"""brax's environments behind the contract. https://github.com/google/brax

brax is imported when the first of its environments is made: it takes longer to import than jax.
"""

import contextlib
import functools
import importlib
import io
import warnings
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.interpreters import partial_eval

from purerl.envs.environment import TimeStep
from purerl.spaces import Box
from purerl.types import EnvParams, Key

type Backend = Literal["spring", "generalized", "positional", "mjx"]
BACKENDS: tuple[str, ...] = get_args(Backend.__value__)

ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    "ant": BACKENDS,
    "fast": BACKENDS,
    "halfcheetah": BACKENDS,
    "hopper": BACKENDS,
    "humanoid": BACKENDS,
    "humanoidstandup": BACKENDS,
    "inverted_pendulum": BACKENDS,
    "inverted_double_pendulum": BACKENDS,
    "pusher": BACKENDS,
    "reacher": BACKENDS,
    "swimmer": ("generalized",),
    "walker2d": BACKENDS,
}
"""The environments brax registers, and the backends each can be made with."""


class BraxState(NamedTuple):
    """Attributes: physics, what a step reads of the pipeline's state; time, int32 [], steps."""

    physics: tuple[jax.Array, ...]
    time: jax.Array


class Brax:
    """One raw brax environment: no EpisodeWrapper, no AutoResetWrapper.

    Actions lie in [-1, 1] and are clipped to it. An episode is truncated after `episode_length`
    steps of the physics environment, `action_repeat` of which make one step here; the rewards of
    a repeat add up, until the episode terminates.

    Of the pipeline's state only the arrays that a step reads (and those that draw it) are
    carried: 209 numbers rather than 2973 for an ant on mjx, which 64 of them on 2 CPU cores step
    17 % faster (median of 24 runs). On spring the state is small and the speed the same.
    """

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
        self.params: EnvParams = {}
        with _quiet():
            self._env = _brax_envs().get_environment(env_id, backend=backend, **kwargs)
        self._repeat = action_repeat
        self.max_episode_steps = -(-episode_length // action_repeat)
        self._types = jax.eval_shape(self._env.reset, jax.random.PRNGKey(0))
        if not isinstance(self._types.obs, jax.ShapeDtypeStruct):
            raise ValueError("its observations would be a dict, not one array")
        self.observation_space = Box.of(-np.inf, np.inf, self._types.obs.shape, np.float32)
        self.action_space = Box.of(-1.0, 1.0, (self._env.action_size,))
        self._carried = self._leaves_that_matter()
        # Traced once for all programs: tracing brax takes a second each time, and is never cached
        # on disk as what it compiles to is.
        self._fresh = jax.jit(self._env.reset, inline=True)
        self._advance = jax.jit(self._once, inline=True)

    def __repr__(self) -> str:
        return f"purerl.make({self.name!r}, backend={self.backend!r})"

    def reset(self, key: Key, params: EnvParams = {}) -> tuple[BraxState, jax.Array]:
        del params  # brax keeps its constants in the system, not in parameters
        state = self._fresh(jax.random.key_data(key))  # brax knows legacy keys only
        obs = state.obs.astype(jnp.float32)
        return BraxState(self._pack(state.pipeline_state), jnp.int32(0)), obs

    def step(
        self, key: Key, state: BraxState, action: jax.Array, params: EnvParams = {}
    ) -> tuple[BraxState, TimeStep]:
        del key, params  # brax steps are deterministic
        action = jnp.clip(action, -1.0, 1.0)
        physics, obs, reward, terminated = self._advance(state.physics, action)
        for _ in range(self._repeat - 1):
            later, later_obs, more, ended = self._advance(physics, action)
            # An episode that ended inside the repeat stays where it ended.
            keep = lambda old, new, over=terminated: jnp.where(over, old, new)
            physics, obs = jax.tree.map(keep, (physics, obs), (later, later_obs))
            reward, terminated = keep(reward, reward + more), terminated | ended
        time = state.time + 1
        truncated = (time >= self.max_episode_steps) & ~terminated
        return BraxState(physics, time), TimeStep(obs, reward, terminated, truncated)

    def frame(self, state: BraxState) -> Any:
        """A pipeline state for `brax.io.html.render`; only what is drawn and stepped is filled."""
        return self._unpack(state.physics)

    @property
    def step_seconds(self) -> float:
        """Simulated seconds of one step, which is `action_repeat` steps of brax."""
        return float(self._env.dt) * self._repeat

    @property
    def system(self) -> Any:
        """The brax system, for drawing."""
        return self._env.sys

    def _once(self, physics: tuple[jax.Array, ...], action: jax.Array):
        # The metrics and the info that brax keeps in its state are written by a step, never read.
        blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self._types)
        after = self._env.step(blank.replace(pipeline_state=self._unpack(physics)), action)
        obs = after.obs.astype(jnp.float32)
        reward, done = jnp.float32(after.reward), jnp.float32(after.done) > 0.5
        return self._pack(after.pipeline_state), obs, reward, done

    def _pack(self, pipeline_state: Any) -> tuple[jax.Array, ...]:
        leaves = jax.tree.leaves(pipeline_state)
        like = jax.tree.leaves(self._types.pipeline_state)
        return tuple(jax.lax.convert_element_type(leaves[i], like[i].dtype) for i in self._carried)

    def _unpack(self, physics: tuple[jax.Array, ...]) -> Any:
        types, structure = jax.tree.flatten(self._types.pipeline_state)
        leaves = [jnp.zeros(x.shape, x.dtype) for x in types]
        for i, leaf in zip(self._carried, physics, strict=True):
            leaves[i] = leaf
        return jax.tree.unflatten(structure, leaves)

    def _leaves_that_matter(self) -> tuple[int, ...]:
        """Which leaves of a pipeline state bear on what any later step shows, or draw it."""
        paths = jax.tree_util.tree_leaves_with_path(self._types.pipeline_state)
        drawn = [jax.tree_util.keystr(path).startswith(".x.") for path, _ in paths]
        self._carried = tuple(range(len(paths)))  # for this one trace: all of them
        step = jax.make_jaxpr(self._once)(
            tuple(leaf for _, leaf in paths), jnp.zeros(self.action_space.shape)
        )
        shown = [True] * (len(step.out_avals) - len(paths))
        while True:
            _, read = partial_eval.dce_jaxpr(step.jaxpr, drawn + shown)
            known = [a or b for a, b in zip(drawn, read[: len(paths)], strict=True)]
            if known == drawn:
                return tuple(i for i, matters in enumerate(known) if matters)
            drawn = known


def names() -> tuple[str, ...]:
    """The names brax registers, with the `brax/` prefix."""
    return tuple(f"brax/{name}" for name in ENVIRONMENTS)


class _Numpy:
    """jax.numpy with the `clip(x, a_min=...)` that brax 0.14.2 calls and jax 0.11 has not."""

    def __getattr__(self, name: str) -> Any:
        return getattr(jnp, name)

    def clip(self, x: jax.Array, a_min: float) -> jax.Array:
        return jnp.maximum(x, a_min)


@functools.cache
def _brax_envs() -> Any:
    # mujoco prints two lines about optional packages, to stdout, where it is imported.
    with contextlib.redirect_stdout(io.StringIO()):
        from brax import envs, fluid

        fluid.jp = _Numpy()  # without it swimmer, the one environment in a fluid, cannot step
    return envs


@contextlib.contextmanager
def _quiet():
    """Without brax's notice that it is not maintained, and mujoco's deprecations.

    mujoco's go to the terminal and to a file MUJOCO_LOG.TXT in the working directory.
    """
    _brax_envs()
    mujoco: Any = importlib.import_module("mujoco")
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Brax System", UserWarning)
            yield
    finally:
        mujoco.set_mju_user_warning(None)
