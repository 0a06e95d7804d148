"""The compiled programs: metrics over chunks, frozen members, branches, and evaluation."""

import collections
import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from laws import changed, conds, interrupted, row, run

import purerl
from purerl.agents import dqn
from purerl.engine import train
from purerl.engine.placement import place
from purerl.engine.population import EVALUATE, keys, population, stream
from purerl.engine.programs import (
    RunState,
    compile_programs,
    evaluate_program,
    init_program,
    iterate_program,
)
from purerl.engine.record import read_metric
from purerl.replay import ring


def start(agent, members, hparams=None):
    who = population(agent.hparams if hparams is None else hparams, members)
    return keys(who.seeds), jax.tree.map(jnp.asarray, who.hparams)


@functools.cache
def programs(agent, members, batch):
    """(init, iterate), which do not donate: what goes in can be looked at afterwards."""
    return jax.jit(init_program(agent, members, batch)), jax.jit(
        iterate_program(agent, members, batch)
    )


def iterate(agent, batch, hparams, first, count, total=20, members=2):
    member_keys, hparams = start(agent, members, hparams)
    init, program = programs(agent, len(member_keys), batch)
    state = init(member_keys, hparams)
    return program(state, member_keys, hparams, *map(jnp.int32, (first, count, total)))


@pytest.mark.parametrize("batch", [1, 2])
def test_metrics_are_averaged_or_added_over_a_chunk(batch):
    agent = toys.make()
    _, metrics = iterate(agent, batch, None, 4, 3)
    assert metrics["toy/step"].tolist() == [5.0, 5.0]  # the mean of 4, 5, 6
    assert metrics["toy/one_sum"].tolist() == [3.0, 3.0]
    steps = 3 * agent.steps_per_update
    lengths = metrics["episode/length_sum"]
    # Every step is in an episode that ended, or among the last of three that did not.
    assert ((lengths > steps - 3 * 9) & (lengths <= steps)).all()
    assert (metrics["episode/count"] == jnp.round(metrics["episode/count"])).all()
    assert metrics["frozen"].tolist() == [-1, -1]


def test_a_chunk_is_its_parts():
    """Metrics of one chunk are those of its parts, added or averaged."""
    agent = toys.make()
    member_keys, hparams = start(agent, 2)
    init, program = programs(agent, 2, 2)
    state = init(member_keys, hparams)
    run = lambda state, first, count: program(
        state, member_keys, hparams, *map(jnp.int32, (first, count, 6))
    )
    whole, metrics = run(state, 0, 6)
    parts = []
    for first, count in ((0, 1), (1, 3), (4, 2)):
        state, found = run(state, first, count)
        parts.append((count, found))
    assert changed(whole, state) == []
    for name in ("episode/return_sum", "episode/count", "toy/one_sum"):
        np.testing.assert_allclose(metrics[name], sum(p[name] for _, p in parts), rtol=1e-6)
    mean = sum(n * p["toy/first"] for n, p in parts) / 6
    np.testing.assert_allclose(metrics["toy/first"], mean, rtol=1e-5)


BAD = toys.make(config=toys.Config(bad_step=3))
MIXED = toys.HParams(bad=[0.0, 1.0, 0.0])
GOOD = toys.HParams(bad=np.zeros(3))


@pytest.mark.parametrize("batch", [1, 3])
def test_a_non_finite_member_is_frozen_and_the_rest_go_on(batch):
    before, _ = iterate(BAD, batch, MIXED, 0, 3, members=1)
    mixed, metrics = iterate(BAD, batch, MIXED, 0, 7, members=1)
    good, _ = iterate(BAD, batch, GOOD, 0, 7, members=1)
    assert mixed.frozen.tolist() == metrics["frozen"].tolist() == [-1, 3, -1]
    assert good.frozen.tolist() == [-1, -1, -1]
    for member in (0, 2):
        assert changed(row(mixed, member), row(good, member)) == []
    learner = row(mixed.train.learner, 1)
    assert changed(learner, row(before.train.learner, 1)) == []
    assert changed(learner, row(good.train.learner, 1))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(learner))


def test_a_frozen_member_is_named_and_not_counted(tmp_path, capsys):
    unit = BAD.steps_per_update
    result = train(
        BAD, 6 * unit, seeds=[5], hparams=MIXED, log_every=unit, eval_every=2 * unit,
        run_dir=tmp_path / "run", progress=True,
    )  # fmt: skip
    assert result.frozen == {1: 3}
    assert np.isnan(result.returns).tolist() == [False, True, False]
    printed = capsys.readouterr().out
    assert printed.count(f"member 1 (seed 5) turned non-finite at step {3 * unit}: frozen") == 1
    assert "frozen, and not counted above: member 1" in printed
    for metric in ("toy/first", "eval/return"):
        steps, values = read_metric(tmp_path / "run", metric)
        known = np.isfinite(values)
        assert known[:, 1].tolist() == [step <= 3 * unit for step in steps], metric
    assert np.isfinite(read_metric(tmp_path / "run", "toy/first")[1][:, [0, 2]]).all()


def test_a_member_frozen_before_a_stop_is_frozen_after_it(tmp_path):
    case = toys.Case(toys.make(config=toys.Config(bad_step=1)))
    half = interrupted(case, tmp_path / "run", at=3, log_every=1, hparams=MIXED, seeds=1)
    rest = run(case, run_dir=tmp_path / "run", resume=True, log_every=1, hparams=MIXED, seeds=1)
    assert half.frozen == rest.frozen == {1: 1}


@pytest.mark.parametrize("batch", [1, 2])
def test_a_branch_on_the_clock_stays_a_branch(batch):
    """And one on a counter of the state does not, when members run abreast."""

    def count(agent):
        member_keys, hparams = start(agent, 2)
        state = jax.eval_shape(init_program(agent, 2, batch), member_keys, hparams)
        numbers = (jnp.int32(0),) * 3
        return conds(
            jax.make_jaxpr(iterate_program(agent, 2, batch))(state, member_keys, hparams, *numbers)
        )

    guard = 1 if batch == 1 else 0  # whether the learner is finite is of each member
    assert count(toys.make()) == 1 + guard
    batched = toys.make(config=toys.Config(batched_branch=True))
    assert count(batched) == (0 if batch == 2 else 1) + guard


def test_programs_are_compiled_once_and_sized():
    agent = toys.make()
    first = compile_programs(agent, place(2, devices=1), 4, 12)
    assert compile_programs(agent, place(2, devices=1), 4, 12) is first
    assert first.num_params == 3
    state = first.init(*start(agent, 2))
    assert isinstance(state, RunState)
    assert first.state_bytes == sum(x.nbytes for x in jax.tree.leaves(state))
    assert first.compile_seconds > 0


@pytest.mark.parametrize("members", [1, 3])
def test_a_program_is_traced_once(members, monkeypatch):
    """What is asked for its shapes is not traced again to run."""
    counts = collections.Counter()

    def counted(name, function):
        def inner(*args):
            counts[name] += 1
            return function(*args)

        return inner

    monkeypatch.setattr(ring, "transitions", counted("learn", ring.transitions))
    config = dqn.Config(num_envs=2, capacity=64, batch_size=4, learning_starts=16)
    agent = dqn.make(purerl.make("probe/policy"), config)
    agent = dataclasses.replace(agent, update=counted("update", agent.update))
    nothing = types.SimpleNamespace(memory_analysis=lambda: None)  # tracing is all that counts
    monkeypatch.setattr(jax.stages.Lowered, "compile", lambda *_: nothing)
    compile_programs(agent, place(members, devices=1, batch=1), 1, 1)
    assert counts == {"update": 1, "learn": 1}


MEMBERS, EPISODES = 2, 3


def played(member, step, greedy, limit, bonus=10.0):
    """(returns, lengths) of one member's episodes, by a plain loop over one world at a time."""
    key = stream(jax.random.key(member), EVALUATE, step)
    of = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(3 * limit + 1))
    left = np.asarray(jax.vmap(toys.Countdown().reset)(jax.random.split(of[-1], 2 * EPISODES))[0])
    draw = lambda key: jax.random.randint(key, (EPISODES,), 0, 3)
    drawn = np.asarray(jax.vmap(draw)(of[1::3]))  # of each step: greedy, sampled, environments
    returns, lengths = [], []
    for i in range(EPISODES):
        steps = min(limit, left[i if greedy else EPISODES + i])
        actions = [1 if greedy else drawn[time, i] for time in range(steps)]
        returns.append(sum(1.0 + bonus * action for action in actions))
        lengths.append(steps)
    return returns, lengths


@functools.cache
def evaluation(limit):
    agent = toys.make()
    return jax.jit(evaluate_program(agent, MEMBERS, EPISODES, limit))


def evaluate(limit, step=0, hparams=None):
    agent = toys.make()
    member_keys, hparams = start(agent, MEMBERS, hparams)
    init, _ = programs(agent, MEMBERS, MEMBERS)
    learner = init(member_keys, hparams).train.learner
    return evaluation(limit)(learner, member_keys, hparams, jnp.int32(step))


@pytest.mark.parametrize("limit", [12, 4])
def test_evaluation_equals_a_python_loop(limit):
    """Returns count up to the end and not beyond; with a limit of 4 most episodes are cut."""
    found = evaluate(limit, step=5)
    for member in range(MEMBERS):
        for kind, greedy in (("greedy", True), ("sampled", False)):
            returns, lengths = played(member, 5, greedy, limit)
            np.testing.assert_allclose(getattr(found, kind)[member], returns, rtol=1e-6)
            assert getattr(found, f"{kind}_length")[member].tolist() == lengths
    assert float(max(found.greedy.max(), found.sampled.max())) < 1000.0
    longest = int(max(found.greedy_length.max(), found.sampled_length.max()))
    assert longest == limit if limit == 4 else 2 <= longest <= 9


def test_each_evaluation_draws_its_own_episodes():
    first, again, later = evaluate(12, 5), evaluate(12, 5), evaluate(12, 6)
    assert changed(first, again) == []
    assert changed(first, later)


def test_evaluation_remembers_what_the_policy_does():
    """Greedy and sampled, each its own: what is carried is the time, and 1 more where sampled."""

    def act(key, learner, carry, obs, greedy):
        return (carry + (not greedy)) % 3, carry + 1

    agent = dataclasses.replace(toys.make(), act=act, initial_carry=lambda n: jnp.zeros(n, int))
    member_keys, hparams = start(agent, MEMBERS)
    learner = jax.jit(init_program(agent, MEMBERS, MEMBERS))(member_keys, hparams).train.learner
    program = jax.jit(evaluate_program(agent, MEMBERS, EPISODES, 12))
    found = program(learner, member_keys, hparams, jnp.int32(0))
    for returns, lengths, first in (
        (found.greedy, found.greedy_length, 0),
        (found.sampled, found.sampled_length, 1),
    ):
        wanted = [sum(1 + 10 * ((first + t) % 3) for t in range(int(n))) for n in np.ravel(lengths)]
        np.testing.assert_array_equal(np.ravel(returns), wanted)


def test_evaluation_uses_the_members_environment():
    found = evaluate(12, hparams=toys.HParams(env_params={"bonus": 2.0}))
    np.testing.assert_allclose(found.greedy, 3.0 * found.greedy_length)
