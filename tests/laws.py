"""The laws that every agent keeps: one function each, given a Case, failing by an assertion.

An agent joins by one Case in `tests/agents/test_laws.py`. All laws of a Case share their compiled
programs: those of the engine for MEMBERS abreast, and the same functions, compiled without the
engine, for MEMBERS in turn and for a member alone.
"""

import contextlib
import functools
import gc
import signal
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import purerl
from purerl.engine import train
from purerl.engine.placement import place
from purerl.engine.population import keys, population
from purerl.engine.programs import (
    Programs,
    RunState,
    compile_programs,
    cpu_options,
    evaluate_program,
    init_program,
    iterate_program,
    longest_episode,
)
from purerl.engine.record import METRICS, MetricsFile
from purerl.engine.result import Result
from purerl.types import Agent, Clock, Metrics

MEMBERS = 2
UPDATES = 6  # of a run: enough for chunks of 1, 2, 3 and 6
EPISODES = 2
# A member alone and the same one in a population multiply matrices in another order. Over the two
# iterations compared this stays near 1e-6; a wrong key or a neighbour's data is off by over 1e-2.
ROUNDING = 1e-3


class Case(NamedTuple):
    """An agent under test.

    Attributes:
      name: of the test.
      module: the algorithm.
      env: a name for purerl.make.
      config: settings small enough to compile in seconds.
      env_kwargs: for purerl.make.
      sweep: a field of its HParams, and two values that must make a difference.
      finite: whether its environment computes without NaN, so that jax.debug_nans may be on.
    """

    name: str
    module: ModuleType
    env: str
    config: Any
    env_kwargs: tuple[tuple[str, Any], ...] = ()
    sweep: tuple[str, tuple[float, float]] = ("learning_rate", (1e-3, 1e-2))
    finite: bool = True

    def make(self) -> Agent:
        return self.module.make(purerl.make(self.env, **dict(self.env_kwargs)), self.config)


# Tools.


def run(case: Case, updates: int = UPDATES, **options: Any) -> Result:
    """Train; `eval_every` and the like are given in iterations here."""
    agent = case.make()
    for every in ("eval_every", "checkpoint_every", "log_every"):
        if every in options:
            options[every] *= agent.steps_per_update
    defaults = {"seeds": MEMBERS, "eval_episodes": EPISODES, "eval_every": 0}
    if "devices" not in options:  # MEMBERS abreast, also of agents that would run in turn
        defaults |= {"devices": 1, "population_batch": MEMBERS}
    return train(agent, updates * agent.steps_per_update, **(defaults | options))


def types(tree: Any) -> list[tuple]:
    """Path, shape, dtype and weak type of every leaf."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(p), x.shape, x.dtype, x.weak_type) for p, x in leaves]


def host(x: Any) -> np.ndarray:
    typed = jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if typed else x)


def row(tree: Any, member: int) -> Any:
    """One member of a tree with leaves [M, ...]."""
    return jax.tree.map(lambda x: host(x)[member], tree)


def changed(a: Any, b: Any) -> list[str]:
    """The paths of leaves that are not equal, bit for bit."""
    pairs = zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True)
    return [
        jax.tree_util.keystr(p) for (p, x), y in pairs if host(x).tobytes() != host(y).tobytes()
    ]


def furthest(a: Any, b: Any) -> float:
    """The largest difference of any leaf, relative to the size of its numbers."""

    def distance(x, y):
        x, y = np.asarray(host(x), np.float64), np.asarray(host(y), np.float64)
        return np.abs(x - y).max(initial=0.0) / (1.0 + np.abs(x).max(initial=0.0))

    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(distance(x, y) for x, y in pairs)


def float32(hparams: Any) -> Any:
    return jax.tree.map(jnp.float32, hparams)


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """The programs that XLA compiles, or takes from its cache, while the context is entered."""
    seen: list[str] = []

    def listen(event: str, duration: float, **details: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(str(details.get("fun_name", event)))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


@functools.cache
def whole(case: Case) -> Result:
    """The run that others are compared with: one chunk, evaluated at its end."""
    return run(case, log_every=UPDATES)


def _programs(agent: Agent) -> Programs:
    limit = longest_episode(agent.env)
    structure = jax.tree.structure(agent.hparams)
    return compile_programs(agent, place(MEMBERS, devices=1), EPISODES, limit, structure)


def _inputs(agent: Agent, seeds: Any = MEMBERS) -> tuple[Any, Any]:
    """(keys, hparams) of members."""
    members = population(agent.hparams, seeds)
    return keys(members.seeds), jax.tree.map(jnp.asarray, members.hparams)


def _two_iterations(agent: Agent, seeds: Any) -> tuple[RunState, Metrics, Any]:
    """(state, metrics, inputs) of members in turn after a run of two iterations."""
    inputs, number = _inputs(agent, seeds), jnp.int32
    rows = len(inputs[0])
    compiled = lambda program: jax.jit(program, compiler_options=cpu_options(2))
    state = compiled(init_program(agent, rows, 1))(*inputs)
    iterate = compiled(iterate_program(agent, rows, 1))
    return *iterate(state, *inputs, number(0), number(2), number(2)), inputs


@functools.cache
def in_turn(case: Case) -> tuple[RunState, Metrics]:
    """MEMBERS in turn after two iterations, computed with every check that JAX has."""
    agent = case.make()
    strict = contextlib.ExitStack()
    strict.enter_context(jax.debug_key_reuse(True))
    strict.enter_context(jax.numpy_rank_promotion("raise"))
    if case.finite:
        strict.enter_context(jax.debug_nans(True))
    # In turn, not abreast: JAX 0.11 takes every vmap of a scan over keys for a reuse of them.
    with strict:
        state, metrics, (member_keys, hparams) = _two_iterations(agent, MEMBERS)
        evaluate = jax.jit(evaluate_program(agent, MEMBERS, EPISODES, 3))
        # Keys and ranks are checked where it is traced; the numbers are those of `whole`.
        evaluate.trace(state.train.learner, member_keys, hparams, jnp.int32(2))
    return state, metrics


# The laws.


def make_is_cached(case: Case) -> None:
    """Equal settings give the same agent, so that it is compiled once."""
    fields = {name: getattr(case.config, name) for name in case.config.__dataclass_fields__}
    again = case.module.make(
        purerl.make(case.env, **dict(case.env_kwargs)), type(case.config)(**fields)
    )
    assert again is case.make()


def settings_are_split(case: Case) -> None:
    """Config can be hashed; HParams are plain floats, and env_params."""
    agent = case.make()
    hash(agent.config)
    assert set(agent.hparams._fields) >= {"env_params"}
    assert all(isinstance(x, float) for x in jax.tree.leaves(agent.hparams))
    assert agent.config == case.config


def state_types_are_fixed(case: Case) -> None:
    """update returns init's tree, shapes, dtypes and weak types; metrics are float scalars."""
    agent, hparams = case.make(), float32(case.make().hparams)
    key, clock = jax.random.key(0), Clock(jnp.int32(0), jnp.int32(UPDATES))
    before = jax.eval_shape(agent.init, key, hparams)
    after, metrics = jax.eval_shape(agent.update, key, before, hparams, clock)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    assert types(before) == types(after)
    assert not [t for t in types(before) if t[3]], "a weak type in the state compiles twice"
    for name, metric in metrics.items():
        assert metric.shape == (), name
        assert metric.dtype == jnp.float32, name
        assert len(name.split("/")) == 2, name
    assert set(metrics) >= {"episode/return_sum", "episode/length_sum", "episode/count"}


def actors_lead_with_environments(case: Case) -> None:
    """Every leaf of the actor has num_envs rows."""
    agent = case.make()
    state = jax.eval_shape(agent.init, jax.random.key(0), float32(agent.hparams))
    rows = {jax.tree_util.keystr(p): x.shape[:1] for p, x in
            jax.tree_util.tree_leaves_with_path(state.actor)}  # fmt: skip
    assert rows
    assert set(rows.values()) == {(case.config.num_envs,)}, rows


def acts_in_the_action_space(case: Case) -> None:
    """act answers with the environment's actions, and the carry it was given, rows for rows."""
    agent = case.make()
    state = jax.eval_shape(agent.init, jax.random.key(0), float32(agent.hparams))
    space, seen = agent.env.action_space, agent.env.observation_space
    obs = jnp.zeros((3, *seen.shape), seen.dtype)
    carry = agent.initial_carry(3)
    assert all(x.shape[0] == 3 for x in jax.tree.leaves(carry))
    for greedy in (True, False):
        act = lambda key, learner, carry, obs: agent.act(key, learner, carry, obs, greedy)
        shapes = jax.eval_shape(act, jax.random.key(0), state.learner, carry, obs)
        assert (shapes[0].shape, shapes[0].dtype) == ((3, *space.shape), space.dtype)
        assert types(shapes[1]) == types(jax.eval_shape(lambda: carry))


def keys_ranks_and_numbers_are_clean(case: Case) -> None:
    """No key is used twice, no rank is promoted, no NaN arises: in the agent and the engine."""
    _, metrics = in_turn(case)
    seen = metrics, whole(case).evaluation
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(seen))


def members_differ_at_initialisation(case: Case) -> None:
    """Two seeds begin with other parameters, and with other environments."""
    agent = case.make()
    state = _programs(agent).init(*_inputs(agent))
    for part in state.train:
        assert changed(row(part, 0), row(part, 1))
    assert changed(row(state.train.learner, 0), row(state.train.learner, 1))


def chunks_do_not_matter(case: Case) -> None:
    """However often the host looks, evaluates or saves, the same is learnt, bit for bit."""
    expected = whole(case)
    for options in ({"log_every": 1}, {"log_every": 4, "eval_every": 3, "checkpoint_every": 2}):
        assert changed(expected.state, run(case, **options).state) == [], options


def evaluation_leaves_training_alone(case: Case) -> None:
    """Evaluated at every iteration or at the end: same training; same last evaluation."""
    often = run(case, eval_every=1, log_every=UPDATES)
    assert changed(whole(case).state, often.state) == []
    assert changed(whole(case).evaluation, often.evaluation) == []


def resuming_is_exact(case: Case, directory: Any) -> None:
    """A run stopped half-way and resumed ends as one that was not, bit for bit."""
    options = {"log_every": 1, "checkpoint_every": 2}
    whole_run = run(case, run_dir=directory / "whole", **options)
    half = interrupted(case, directory / "halves", at=3, **options)
    assert half.interrupted
    assert 0 < half.steps < whole_run.steps
    rest = run(case, run_dir=directory / "halves", resume=True, **options)
    assert not rest.interrupted
    assert changed(whole_run.state, rest.state) == []
    assert changed(whole_run.evaluation, rest.evaluation) == []
    # Stopping evaluates once more, which is all that tells the two apart.
    unasked = lambda line: line.startswith(f"{half.steps},") and ",eval/" in line
    lines = (directory / "halves" / METRICS).read_text().splitlines()
    kept = [line for line in lines if not unasked(line)]
    assert len(kept) < len(lines)
    assert kept == (directory / "whole" / METRICS).read_text().splitlines()


def interrupted(case: Case, run_dir: Any, at: int, **options: Any) -> Result:
    """A run that gets a SIGINT once it has logged iteration `at`."""
    log = MetricsFile.log
    unit = case.make().steps_per_update

    def log_and_stop(self, step, metrics):
        log(self, step, metrics)
        if step == at * unit:
            signal.raise_signal(signal.SIGINT)

    MetricsFile.log = log_and_stop
    try:
        return run(case, run_dir=run_dir, **options)
    finally:
        MetricsFile.log = log


def companions_do_not_matter(case: Case) -> None:
    """A member is the same in any company of the same size, bit for bit."""
    other = run(case, seeds=[7, 0], log_every=UPDATES)
    assert changed(row(whole(case).state, 0), row(other.state, 1)) == []
    assert changed(row(whole(case).state, 1), row(other.state, 0))


def alone_is_the_same(case: Case) -> None:
    """A member alone equals its row: to rounding, and bit for bit where both run in turn."""
    alone, *_ = _two_iterations(case.make(), [1])
    together = run(case, 2)
    assert furthest(row(together.state, 1), row(alone, 0)) < ROUNDING
    assert furthest(row(together.state, 0), row(alone, 0)) > 10 * ROUNDING
    state, _ = in_turn(case)
    assert changed(row(state, 1), row(alone, 0)) == []


def sweeps_equal_scalars(case: Case) -> None:
    """A configuration of a sweep computes what it computes with these numbers for all."""
    field, values = case.sweep
    with_value = lambda value: case.make().hparams._replace(**{field: value})
    swept = run(case, 2, seeds=[3], hparams=with_value(np.array(values)))
    assert swept.population.size == len(values) == MEMBERS
    for i, value in enumerate(values):
        seeds = [3, 4] if i == 0 else [4, 3]
        fixed = run(case, 2, seeds=seeds, hparams=with_value(value))
        assert changed(row(swept.state, i), row(fixed.state, i)) == []
    assert changed(row(swept.state, 0), row(swept.state, 1))


def numbers_do_not_recompile(case: Case) -> None:
    """New hyperparameters, seeds, run lengths and chunks all use the programs that are there."""
    field, values = case.sweep
    run(case, log_every=2, eval_every=3)  # the engine's own small operations, once
    before = compile_programs.cache_info().misses
    with compilations() as seen:
        hparams = case.make().hparams._replace(**{field: values[1]})
        run(case, log_every=2, eval_every=3, hparams=hparams, seeds=[5, 6])
        run(case, UPDATES - 1, log_every=4)
    assert seen == []
    assert compile_programs.cache_info().misses == before


def buffers_are_donated(case: Case) -> None:
    """The state is updated where it lies: no second copy of it, ever."""
    agent = case.make()
    programs, (member_keys, hparams), number = _programs(agent), _inputs(agent), jnp.int32
    old = programs.init(member_keys, hparams)
    groups = jnp.ones(1, jnp.int32)
    new, _ = programs.iterate(old, member_keys, hparams, number(0), number(1), number(1), groups)
    kept = [p for p, x in jax.tree_util.tree_leaves_with_path(old) if not x.is_deleted()]
    assert kept == []
    assert not any(x.is_deleted() for x in jax.tree.leaves((new, hparams, member_keys)))
    reused = programs.iterate.memory_analysis().alias_size_in_bytes
    assert reused >= programs.state_bytes


def memory_does_not_grow(case: Case) -> None:
    """What a run leaves on the device does not depend on its length; nor does its program."""

    def left(updates: int) -> int:
        result = run(case, updates, log_every=1)
        gc.collect()
        assert result.steps == updates * result.agent.steps_per_update
        return sum(x.nbytes for x in jax.live_arrays())

    gc.collect()
    gc.freeze()  # what was there before need not be looked through each time
    try:
        left(UPDATES)
        before = compile_programs.cache_info().misses
        assert left(2) == left(3 * UPDATES)
        assert compile_programs.cache_info().misses == before
    finally:
        gc.unfreeze()


def conds_survive_the_member_axis(case: Case) -> None:
    """A branch that update takes by the clock is not computed both ways under vmap."""
    agent = case.make()
    (member_keys, hparams), number = _inputs(agent), jnp.int32(0)
    state = jax.eval_shape(init_program(agent, MEMBERS, MEMBERS), member_keys, hparams)
    one = lambda tree: jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), tree)
    arguments = one(member_keys), one(state.train), one(hparams), Clock(number, number)
    alone = jax.make_jaxpr(agent.update)(*arguments)
    together = jax.make_jaxpr(iterate_program(agent, MEMBERS, MEMBERS))(
        state, member_keys, hparams, number, number, number
    )
    assert conds(together) == conds(alone)


def conds(jaxpr: Any) -> int:
    return str(jaxpr).count(" cond[")


LAWS = (
    make_is_cached,
    settings_are_split,
    state_types_are_fixed,
    actors_lead_with_environments,
    acts_in_the_action_space,
    keys_ranks_and_numbers_are_clean,
    members_differ_at_initialisation,
    chunks_do_not_matter,
    evaluation_leaves_training_alone,
    resuming_is_exact,
    companions_do_not_matter,
    alone_is_the_same,
    sweeps_equal_scalars,
    numbers_do_not_recompile,
    buffers_are_donated,
    memory_does_not_grow,
    conds_survive_the_member_axis,
)
