"""The compiled programs of a run: initialise, iterate, evaluate.

Axes: P rows of members (of one shard where a program is written, of all where it is compiled),
D shards, E episodes.
"""

import contextlib
import functools
import gc
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl.engine.placement import Placement
from purerl.engine.population import EVALUATE, INIT, UPDATE, keys, stream
from purerl.envs import Environment
from purerl.errors import UsageError
from purerl.types import Agent, Clock, Key, Metrics, TrainState, added_up

MAX_EPISODE_STEPS = 1000  # of an evaluation episode that nothing ends
EPISODES = "episode/return_sum", "episode/length_sum", "episode/count"  # metrics of every agent


class RunState(NamedTuple):
    """The state of all members, which an iteration takes and gives back.

    Attributes:
      train: the members' TrainStates, every leaf [P, ...].
      frozen: int32 [P]. The iteration at which a member's learner would have turned non-finite and
        was frozen; -1 while it learns.
    """

    train: TrainState
    frozen: jax.Array


class Evaluation(NamedTuple):
    """Undiscounted returns and lengths of whole episodes, [P, E]: greedy, and sampled actions."""

    greedy: jax.Array
    sampled: jax.Array
    greedy_length: jax.Array
    sampled_length: jax.Array


class Programs(NamedTuple):
    """Compiled, with what compiling showed.

    Attributes:
      init: (keys [P], hparams) -> RunState.
      iterate: (state, keys [P], hparams, first, count, total, groups [D]) -> (state, metrics [P]):
        `count` iterations from `first` of the first groups of every shard; the state is donated.
        One program for every count.
      evaluate: (learner, keys [P], hparams, step, wanted [P]) -> Evaluation.
      compile_seconds: wall time until the first two were compiled and the third traced.
      state_bytes: of the RunState.
      temporary_bytes: the most that the first two need beside it on one device.
      num_params: numbers learnt by one member.
    """

    init: Callable[..., RunState]
    iterate: Callable[..., tuple[RunState, Metrics]]
    evaluate: Callable[..., Evaluation]
    compile_seconds: float
    state_bytes: int
    temporary_bytes: int
    num_params: int


def over_members(function: Callable[..., Any], batch: int, rows: int) -> Callable[..., Any]:
    """`function` of one member over leaves [P, ...]: `batch` rows abreast, groups in turn."""
    if batch == rows > 1:
        return jax.vmap(function)

    def grouped(*args):
        if batch == 1:
            return jax.lax.map(lambda one: function(*one), args)
        split = jax.tree.map(lambda x: x.reshape(rows // batch, batch, *x.shape[1:]), args)
        out = jax.lax.map(lambda group: jax.vmap(function)(*group), split)
        return jax.tree.map(lambda x: x.reshape(rows, *x.shape[2:]), out)

    return grouped


def advance_members(function: Callable[..., Any], batch: int, rows: int) -> Callable[..., Any]:
    """(groups, state, *args) -> (state, out): the first `groups` groups of rows, one after another.

    `function` is (state, *args) -> (state, out) of one member; here leaves are [P, ...] and `batch`
    rows run abreast. A group is written where it was read, so the state exists once. Rows of the
    other groups stay as they are, with zeros for `out`. One program for every count of groups.
    """
    if batch == rows > 1:
        return lambda groups, *args: jax.vmap(function)(*args)
    function = jax.jit(function, inline=True)  # traced once: here for its shapes, there to run
    abreast = function if batch == 1 else jax.vmap(function)

    def read(x: jax.Array, group: jax.Array) -> jax.Array:
        if batch == 1:
            return jax.lax.dynamic_index_in_dim(x, group, keepdims=False)
        return jax.lax.dynamic_slice_in_dim(x, group * batch, batch)

    def write(x: jax.Array, part: jax.Array, group: jax.Array) -> jax.Array:
        part = part[None] if batch == 1 else part
        return jax.lax.dynamic_update_slice_in_dim(x, part, group * batch, 0)

    def advance(groups: jax.Array, state: Any, *args: Any):
        def body(group, scanned):
            old = scanned[0], *args
            new = abreast(*jax.tree.map(lambda x: read(x, group), old))
            return jax.tree.map(lambda x, part: write(x, part, group), scanned, new)

        first = lambda *args: function(*jax.tree.map(lambda x: x[0], args))[1]
        zeros = jax.tree.map(
            lambda x: jnp.zeros((rows, *x.shape), x.dtype), jax.eval_shape(first, state, *args)
        )
        return jax.lax.fori_loop(0, groups, body, (state, zeros))

    return advance


def init_program(agent: Agent, rows: int, batch: int) -> Callable[..., RunState]:
    """(keys [P], hparams) -> RunState."""

    def init(keys: Key, hparams: Any) -> RunState:
        one = lambda key, hparams: agent.init(stream(key, INIT), hparams)
        state = over_members(one, batch, rows)(keys, hparams)
        return RunState(state, jnp.full(rows, -1, jnp.int32))

    return init


def iterate_program(agent: Agent, rows: int, batch: int):
    """(state, keys [P], hparams, first, count, total, groups [1]) -> (state, metrics [P]).

    Only the first `groups` groups of `batch` rows are advanced, by default all. Metrics are added
    up over the iterations (`types.added_up`) or averaged; `frozen` is the state's.

    Raises:
      UsageError: when traced, for metrics that are no scalars or lack those of episodes.
    """

    traced_once = jax.jit(agent.update, inline=True)  # below for its shapes, then for its sake

    def iterate(state: RunState, keys: Key, hparams: Any, first, count, total, groups=None):
        def member(state: RunState, key: Key, hparams: Any):
            def update(index, scanned):
                state, sums = scanned
                step = first + index
                clock = Clock(step, total)  # not batched, so a cond on it stays a cond
                new, metrics = traced_once(stream(key, UPDATE, step), state.train, hparams, clock)
                failed = (state.frozen < 0) & ~_finite(new.learner)
                frozen = jnp.where(failed, step, state.frozen)
                # For one member alone not a select of every leaf, each a kernel to compile.
                old, now = state.train.learner, new.learner
                learner = jax.lax.cond(frozen < 0, lambda: now, lambda: old)
                sums = jax.tree.map(jnp.add, sums, metrics)
                return RunState(TrainState(learner, new.actor), frozen), sums

            shapes = jax.eval_shape(traced_once, key, state.train, hparams, Clock(first, total))[1]
            _check_metrics(shapes)
            zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
            state, sums = jax.lax.fori_loop(0, count, update, (state, zeros))
            metrics = {k: x if added_up(k) else x / count for k, x in sums.items()}
            return state, metrics | {"frozen": state.frozen}

        groups = rows // batch if groups is None else groups[0]
        return advance_members(member, batch, rows)(groups, state, keys, hparams)

    return iterate


def _check_metrics(metrics: dict[str, Any]) -> None:
    """Raise UsageError unless they are scalars, and those of episodes are there."""
    for name in EPISODES:
        if name not in metrics:
            raise UsageError(f"update: must return the metric {name!r}; unroll returns it")
    for name, x in metrics.items():
        if x.shape != ():
            raise UsageError(f"update: metric {name!r} must be a scalar, not of shape {x.shape}")


def longest_episode(env: Environment) -> int:
    """Steps of an evaluation episode, at most."""
    return env.max_episode_steps or MAX_EPISODE_STEPS


def evaluate_program(agent: Agent, rows: int, episodes: int, max_steps: int):
    """(learner, keys [P], hparams, step, wanted [P]) -> Evaluation, `episodes` of each kind a row.

    Rows that are not wanted, by default none, have returns and lengths of 0.
    """
    env, kinds = agent.env, (True, False)

    def evaluate(learner: Any, keys: Key, hparams: Any, step, wanted=None) -> Evaluation:
        key = jax.vmap(lambda key: stream(key, EVALUATE, step))(keys)

        def reset(key, hparams):
            episode_keys = jax.random.split(jax.random.fold_in(key, 3 * max_steps), 2 * episodes)
            return jax.vmap(env.reset, (0, None))(episode_keys, hparams.env_params)

        def advance(keys, learner, hparams, carries, world):
            state, obs = world
            greedy_key, sample_key, env_key = keys
            halves = obs[:episodes], obs[episodes:]
            acted = [
                agent.act(k, learner, c, o, greedy)
                for k, c, o, greedy in zip(
                    (greedy_key, sample_key), carries, halves, kinds, strict=True
                )
            ]
            action = jnp.concatenate([a for a, _ in acted])
            env_keys = jax.random.split(env_key, 2 * episodes)
            state, timestep = jax.vmap(env.step, (0, 0, 0, None))(
                env_keys, state, action, hparams.env_params
            )
            return tuple(c for _, c in acted), (state, timestep.obs), timestep

        def body(scanned):
            time, carries, world, running, returns, lengths = scanned
            fold = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (0, None))
            step_keys = fold(key, 3 * time + jnp.arange(3))  # [P, 3], for `advance`
            carries, world, timestep = jax.vmap(advance)(
                step_keys, learner, hparams, carries, world
            )
            returns += jnp.where(running, timestep.reward, 0.0)
            lengths += running
            return time + 1, carries, world, running & ~timestep.done, returns, lengths

        carry = agent.initial_carry(episodes)
        carry = jax.tree.map(lambda x: jnp.broadcast_to(x, (rows, *x.shape)), carry)
        running = jnp.ones((rows, 2 * episodes), bool)
        running = running if wanted is None else running & wanted[:, None]
        zeros = jnp.zeros(running.shape)
        scanned = (
            jnp.int32(0),
            (carry, carry),
            jax.vmap(reset)(key, hparams),
            running,
            zeros,
            zeros.astype(jnp.int32),
        )
        # The loop stands outside the member axis, so it ends with the last running episode.
        more = lambda scanned: (scanned[0] < max_steps) & scanned[3].any()
        *_, returns, lengths = jax.lax.while_loop(more, body, scanned)
        halves = [
            x[:, part]
            for x in (returns, lengths)
            for part in (slice(episodes), slice(episodes, None))
        ]
        return Evaluation(*halves)

    return evaluate


@functools.cache
def compile_programs(
    agent: Agent, place: Placement, episodes: int, max_steps: int, hparams: Any = None
) -> Programs:
    """Trace and compile the programs for a placement, in parallel.

    `hparams` is the tree structure of the HParams, by default that of the agent's own.
    """
    began = time.perf_counter()
    rows, batch, shards = place.local, place.batch, place.shards
    member_keys, hparams, state = shapes(agent, place, hparams)
    like = lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)
    wide = lambda tree: jax.tree.map(lambda x: like(x, place.population), tree)
    shardings = place.shardings(state)
    state = jax.tree.map(like, state, shardings)
    member_keys, hparams = wide(member_keys), wide(hparams)
    number = jax.ShapeDtypeStruct((), jnp.int32)
    groups = wide(jax.ShapeDtypeStruct((shards,), jnp.int32))
    wanted = wide(jax.ShapeDtypeStruct((place.rows,), jnp.bool_))

    init = place.each_shard(init_program(agent, rows, batch), (True, True))
    init = jax.jit(init, out_shardings=shardings)
    iterate = place.each_shard(
        iterate_program(agent, rows, batch), (True, True, True, False, False, False, True)
    )
    iterate = jax.jit(iterate, donate_argnums=0, out_shardings=(shardings, place.population))
    evaluate = place.each_shard(
        evaluate_program(agent, rows, episodes, max_steps), (True, True, True, False, True)
    )
    evaluate = jax.jit(evaluate, out_shardings=place.population)
    # Tracing holds the interpreter, compiling does not: the slowest to compile goes first. Training
    # begins without waiting for the evaluation program, which no one needs before its first chunk.
    pool = ThreadPoolExecutor(2)
    with _no_collections():
        lowered = iterate.lower(state, member_keys, hparams, number, number, number, groups)
        iterate_later = pool.submit(lowered.compile, cpu_options(2))
        lowered = init.lower(member_keys, hparams)
        init_later = pool.submit(lowered.compile, cpu_options(0))
        lowered = evaluate.lower(state.train.learner, member_keys, hparams, number, wanted)

    def compile_last():
        iterate_later.exception()  # until it is compiled: the cores are for what training needs
        return lowered.compile(cpu_options(2))

    evaluate_later = pool.submit(compile_last)
    pool.shutdown(wait=False)
    init, iterate = init_later.result(), iterate_later.result()
    learner = state.train.learner
    return Programs(
        init,
        iterate,
        lambda *args: evaluate_later.result()(*args),
        time.perf_counter() - began,
        tree_bytes(state),
        max(_temporary_bytes(program) for program in (init, iterate)),
        sum(x.size for x in jax.tree.leaves(getattr(learner, "params", learner))) // place.rows,
    )


@functools.cache
def shapes(agent: Agent, place: Placement, hparams: Any = None) -> tuple[Any, Any, RunState]:
    """(keys [P], hparams, state) of a placement, as shapes and types."""
    structure = hparams or jax.tree.structure(agent.hparams)
    member_keys = jax.eval_shape(keys, np.zeros(place.rows, np.uint32))
    number = jax.ShapeDtypeStruct((place.rows,), jnp.float32)
    hparams = jax.tree.unflatten(structure, [number] * structure.num_leaves)
    init = init_program(agent, place.rows, place.rows)
    return member_keys, hparams, jax.eval_shape(init, member_keys, hparams)


def enable_cache() -> None:
    """Keep compiled programs on disk between runs, unless PURERL_CACHE=off or JAX is told where.

    PURERL_CACHE may also name the directory; by default it is `purerl/xla` in the user's cache.
    """
    wanted = os.environ.get("PURERL_CACHE", "")
    if wanted == "off" or jax.config.jax_compilation_cache_dir:
        return
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(wanted).expanduser() if wanted else Path(home) / "purerl" / "xla"
    jax.config.update("jax_compilation_cache_dir", str(path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def cpu_options(optimisation: int) -> dict[str, Any]:
    """Compiler options of that level on a CPU, but for those that XLA_FLAGS already has.

    A program that runs once is not worth optimising: initialising brax's inverted pendulum compiles
    in 2 instead of 6 CPU seconds at level 0. Level 2 instead of 3 takes a fifth off compiling the
    iteration, which then runs as fast to within the noise. Where a CPU has vectors of 512 bits XLA
    uses 256 unless told, which is slower (decision 12).
    """
    if jax.default_backend() != "cpu":
        return {}
    wanted = {"xla_backend_optimization_level": optimisation, "xla_cpu_prefer_vector_width": 512}
    given = os.environ.get("XLA_FLAGS", "")
    return {flag: value for flag, value in wanted.items() if flag not in given}


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    """Python does not look for garbage: tracing makes many objects that stay, and looks in vain."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _finite(tree: Any) -> jax.Array:
    # In one array, as each kernel takes time to compile, and there would be two for each leaf.
    floats = [x.ravel() for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.isfinite(jnp.concatenate([*floats, jnp.zeros(1)])).all()


def tree_bytes(tree: Any) -> int:
    """Of all leaves, arrays or their shapes."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _temporary_bytes(program: Any) -> int:
    analysis = program.memory_analysis()
    return 0 if analysis is None else analysis.temp_size_in_bytes
