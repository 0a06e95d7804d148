"""The laws of the environment contract, as one function that any environment can be put through."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from purerl.envs.environment import (
    Chance,
    Environment,
    Restart,
    TimeStep,
    VectorState,
    reset_batch,
    step_batch,
)
from purerl.spaces import Box
from purerl.types import EnvParams

# Two programs for one computation differ by the order of their float32 sums, grown by one step.
_ROUNDING = 1e-4


def check(
    env: Environment,
    params: EnvParams = {},
    steps: int | None = None,
    num_envs: int = 3,
    eager: bool = True,
) -> None:
    """Assert that an environment keeps the contract.

    1. Types: observations have the shape and dtype of the space; reward is float32 [], terminated
       and truncated are bool []; nothing is weakly typed.
    2. State: `step` returns the tree, shapes and dtypes that `reset` returned.
    3. Keys: typed keys are taken, and none is used twice (`jax.debug_key_reuse`).
    4. Values: observations lie in the space; observations and rewards are finite; no step is both
       terminated and truncated.
    5. Limits: with `max_episode_steps`, an episode is truncated at that step and at no other;
       without, never.
    6. Determinism: the same key and actions give the same bits.
    7. vmap: a row of a batch equals the environment stepped alone, to rounding.
    8. jit: a compiled step equals an uncompiled one, to rounding.
    9. Auto-reset: where an episode ends, the time step keeps the true final observation, and the
       state goes on from the new start; elsewhere the state is the successor.

    Args:
      env: the environment.
      params: parameters to check it with.
      steps: how many steps of uniformly random actions to take; by default one more than
        `max_episode_steps`, or 64.
      num_envs: how many episodes to live at once.
      eager: whether to check law 8, which takes long for an environment of many operations.

    Raises:
      AssertionError: naming the law that is broken.
    """
    steps = steps or (env.max_episode_steps or 63) + 1
    _types(env, params)
    _keys(env, params)
    lived, new, pool = _live(env, params, steps, num_envs)
    timestep = lived[-1]
    _values(env, pool.obs[None], "an observation of reset")
    _values(env, timestep.obs, "an observation")
    _outcomes(timestep)
    _limits(env, new, timestep)
    _auto_reset(new, timestep, pool)
    rows = [(0, 0), *np.argwhere(timestep.done)[:1]]  # a first step, and one that ends an episode
    _alone(env, params, [jax.tree.map(lambda x: x[t, b], lived) for t, b in rows], eager)


def _types(env: Environment, params: EnvParams) -> None:
    key = jax.random.key(0)
    state, obs = jax.eval_shape(env.reset, key, params)
    action = jax.eval_shape(env.action_space.sample, key)
    after, timestep = jax.eval_shape(env.step, key, state, action, params)
    space = env.observation_space
    want = {
        "reset: obs": (obs, space.shape, space.dtype),
        "step: obs": (timestep.obs, space.shape, space.dtype),
        "reward": (timestep.reward, (), np.float32),
        "terminated": (timestep.terminated, (), np.bool_),
        "truncated": (timestep.truncated, (), np.bool_),
        "action_space.sample": (action, env.action_space.shape, env.action_space.dtype),
    }
    for what, (got, shape, dtype) in want.items():
        same = got.shape == shape and got.dtype == dtype and not got.weak_type
        assert same, f"types: {what} is {got}, not strongly typed {np.dtype(dtype)}{list(shape)}"
    assert jax.tree.structure(state) == jax.tree.structure(after), (
        f"state: step returns another tree, {jax.tree.structure(after)}, "
        f"than reset, {jax.tree.structure(state)}"
    )
    paths = jax.tree_util.tree_leaves_with_path(state)
    for (path, old), new in zip(paths, jax.tree.leaves(after), strict=True):
        name = jax.tree_util.keystr(path) or "state"
        assert not old.weak_type, f"state: {name} of reset is weakly typed"
        same = (old.shape, old.dtype, False) == (new.shape, new.dtype, new.weak_type)
        assert same, f"state: {name} is {old} after reset and {new} after step"


def _keys(env: Environment, params: EnvParams) -> None:
    key = jax.random.key(0)
    state, _ = jax.eval_shape(env.reset, key, params)
    action = jax.eval_shape(env.action_space.sample, key)
    with jax.debug_key_reuse(True):
        try:
            jax.jit(lambda key: env.reset(key, params)).trace(key)
            step = lambda key, state, action: env.step(key, state, action, params)
            jax.jit(step).trace(key, state, action)
        except jax.errors.KeyReuseError as error:
            raise AssertionError(f"keys: one is used twice: {error}") from error


def _live(env: Environment, params: EnvParams, steps: int, num_envs: int) -> tuple[Any, ...]:
    """Lives of random actions, every leaf [T, B, ...].

    Returns:
      What `env.step` was given and its time step; the state after auto-reset; the new starts.
    """

    halves = slice(num_envs), slice(num_envs, None)

    @jax.jit
    def run(key: jax.Array):
        reset_key, run_key = jax.random.split(key)
        fresh = reset_batch(reset_key, env, 2 * num_envs, params)  # one reset to compile, not two
        state, pool = (jax.tree.map(lambda x: x[half], fresh) for half in halves)

        def step(state: VectorState, key: jax.Array):
            action_key, env_key = jax.random.split(key)
            action = jax.vmap(env.action_space.sample)(jax.random.split(action_key, num_envs))
            restart = Restart(lambda key, shape: (), lambda nothing: (pool.env, pool.obs))
            drawn = Chance(jax.random.split(env_key, num_envs), ())
            new, timestep = step_batch(drawn, env, state, action, params, restart)
            keys = drawn.step  # with which one of them is stepped alone
            return new, ((keys, state.env, action, timestep), new)

        return *jax.lax.scan(step, state, jax.random.split(run_key, steps))[1], pool

    first, again = run(jax.random.key(0)), run(jax.random.key(0))
    for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        same = _numbers(a).tobytes() == _numbers(b).tobytes()
        assert same, "determinism: two runs from one key differ"
    return first


def _values(env: Environment, seen: jax.Array, what: str) -> None:
    obs, space = np.asarray(seen), env.observation_space
    if obs.dtype.kind == "f":
        assert np.isfinite(obs).all(), f"values: {what} is not finite"
    inside = np.asarray(jax.vmap(jax.vmap(space.contains))(seen))
    bounds = f"{space.low.min()} to {space.high.max()}" if isinstance(space, Box) else f"{space}"
    assert inside.all(), f"values: {what} leaves its space, {bounds}: {obs[~inside][0].tolist()}"


def _outcomes(timestep: TimeStep) -> None:
    assert np.isfinite(timestep.reward).all(), "values: a reward is not finite"
    both = np.asarray(timestep.terminated & timestep.truncated)
    assert not both.any(), "values: a step is both terminated and truncated"


def _limits(env: Environment, new: VectorState, timestep: TimeStep) -> None:
    length, limit = np.asarray(new.episode_length), env.max_episode_steps
    at = np.unique(length[np.asarray(timestep.truncated)]).tolist()
    if limit is None:
        assert not at, f"limits: max_episode_steps is None, but truncated after {at} steps"
        return
    assert at in ([], [limit]), f"limits: truncated after {at} steps, not {limit}"
    late = (length >= limit) & ~np.asarray(timestep.done)
    assert not late.any(), f"limits: an episode goes on after {limit} steps"


def _auto_reset(new: VectorState, timestep: TimeStep, pool: VectorState) -> None:
    done = np.asarray(timestep.done)
    assert np.array_equal(np.asarray(new.start), done), "auto-reset: start is not done"
    obs, after = np.asarray(new.obs), np.asarray(timestep.obs)
    assert np.array_equal(obs[~done], after[~done]), (
        "auto-reset: an episode goes on from another observation than its step returned"
    )
    for got, start in ((new.obs, pool.obs), (new.env, pool.env)):
        for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(start), strict=True):
            fresh = np.broadcast_to(_numbers(y), _numbers(x).shape)[done]
            assert np.array_equal(_numbers(x)[done], fresh), (
                "auto-reset: after an episode ended, the state is not the new start"
            )


def _alone(env: Environment, params: EnvParams, rows: list[Any], eager: bool) -> None:
    once = lambda key, state, action: env.step(key, state, action, params)[1]
    compiled = jax.jit(once)
    for *given, batched in rows:
        alone = compiled(*given)
        _agree(alone, batched, "vmap: a row of a batch differs from the environment alone")
        if eager:
            _agree(once(*given), alone, "jit: a compiled step differs from an uncompiled one")


def _agree(got: TimeStep, want: TimeStep, message: str) -> None:
    for name, a, b in zip(TimeStep._fields, got, want, strict=True):
        close = np.allclose(
            np.asarray(a, np.float64), np.asarray(b, np.float64), _ROUNDING, _ROUNDING
        )
        assert close, f"{message}: {name} {np.asarray(a)} and {np.asarray(b)}"


def _numbers(x: jax.Array) -> np.ndarray:
    keys = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if keys else x)
