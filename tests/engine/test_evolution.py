"""Halving and population-based training: who goes on, and that nothing else changes."""

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from laws import changed, interrupted, row, run

from purerl import UsageError, grid, log_uniform, sample
from purerl.engine import train
from purerl.engine.evolution import FACTORS, evolve, rungs, worse_half
from purerl.engine.plan import Plan
from purerl.envs import TimeStep, reset_batch
from purerl.evaluate import evaluate
from purerl.rollout import unroll
from purerl.spaces import Box
from purerl.types import Agent, EnvParams, TrainState, pytree


def test_rungs_double_and_leave_one():
    assert rungs(100, 1) == ()
    assert rungs(100, 2) == (50,)
    assert rungs(64, 16) == (4, 8, 16, 32)
    for configurations in range(1, 40):
        left, stops = configurations, rungs(1000, configurations)
        for _ in stops:
            assert left > 1
            left = -(-left // 2)
        assert left == 1
        assert list(stops) == sorted(set(stops))
        assert all(0 < stop < 1000 for stop in stops)
    with pytest.raises(UsageError, match="halving: 9 configurations need 16 iterations; there are"):
        rungs(15, 9)


def test_the_worse_half():
    nan = np.nan
    scores = np.array([[1, 9.0], [4, 4], [nan, 7], [nan, nan], [4, 4], [0, 0]])
    active = np.array([True] * 6)
    assert worse_half(scores, active).tolist() == [3, 4, 5]  # 4 equals 1, which is earlier
    active[[3, 4]] = False
    assert worse_half(scores, active).tolist() == [1, 5]
    assert worse_half(scores, np.array([False, True, False, False, True, True])).tolist() == [5]


def test_evolution_copies_the_best_and_explores():
    scores = np.array([5, -np.inf, 3, 9, 1, 8, np.nan, 2, 7, 6, 4, np.nan], np.float32)
    numbers = {"swept": np.linspace(1, 12, 12, dtype=np.float32), "same": np.ones(12, np.float32)}
    low, high = {"swept": np.float32(1), "same": 1.0}, {"swept": np.float32(12), "same": 1.0}
    replaced, seen = {1, 4}, set()  # two of ten
    for seed in range(30):
        parent, explored = evolve(jax.random.key(seed), scores, numbers, low, high)
        kept = np.arange(12) == np.asarray(parent)
        assert set(np.flatnonzero(~kept)) == replaced
        assert set(np.asarray(parent)[list(replaced)]) <= {3, 5}
        seen |= set(np.asarray(parent)[list(replaced)].tolist())
        assert (np.asarray(explored["same"]) == 1).all()
        assert (np.asarray(explored["swept"])[kept] == numbers["swept"][kept]).all()
        for i in replaced:
            value, of = float(explored["swept"][i]), numbers["swept"][parent[i]]
            wanted = [np.clip(of * factor, 1, 12) for factor in FACTORS]
            assert np.isclose(value, wanted).any()
    assert seen == {3, 5}


def test_a_row_s_factor_does_not_depend_on_the_rows_that_pad():
    """Or the number of devices would decide what members become."""
    scores = np.array([5, 1, 3, 9, 2, 8, 7, 6, 4, 0], np.float32)
    numbers = {name: np.linspace(2, 4, 10, dtype=np.float32) for name in "abc"}
    low, high = dict.fromkeys("abc", np.float32(0)), dict.fromkeys("abc", np.float32(10))
    padded = {name: np.append(x, [4.0, 4.0]).astype(np.float32) for name, x in numbers.items()}
    for seed in range(20):
        key = jax.random.key(seed)
        parent, found = evolve(key, scores, numbers, low, high)
        more = np.append(scores, [np.nan, np.nan]).astype(np.float32)
        also, same = evolve(key, more, padded, low, high)
        np.testing.assert_array_equal(parent, also[:10])
        for name in "abc":
            np.testing.assert_array_equal(found[name], same[name][:10])


def test_nothing_is_dropped_or_copied_before_anything_is_learnt():
    """Until then all members of a seed are the same, and their place would decide."""
    agent = dataclasses.replace(toys.make(), learning_starts=500, steps_per_update=64)
    with pytest.raises(UsageError) as caught:
        Plan.of(agent, 5120, None, None, None, halve=16)
    assert str(caught.value) == (
        "halving=True: the first comes after 320 steps, when nothing is learnt yet"
        " (learning_starts=500); give more steps or fewer configurations"
    )
    assert Plan.of(agent, 5120, None, None, None, halve=8).rungs == (10, 20, 40)
    late = Plan.of(agent, 5120, 4 * 64, None, None)
    assert late.selections == len(range(8, 80, 4))
    assert Plan.of(agent, 640, 7 * 64, None, None).selections == 0


def test_population_based_training_stopped_at_a_selection_is_scored_as_it_is(tmp_path):
    """Who was copied there has its copy's score, in the table as in what evaluates it later."""
    agent, path = descent(), tmp_path / "run"
    hparams: Any = sample(HParams(), 20, seed=0, rate=log_uniform(1e-3, 1.0))
    options = {"hparams": hparams, "pbt": True, "eval_every": 10, "log_every": 10, "seeds": 1}
    half = interrupted(toys.Case(agent), path, at=20, updates=400, eval_episodes=1, **options)
    assert half.interrupted
    assert half.steps % 10 == 0
    logged = half.metric("eval/return")[1][-1]
    changed_there = ~np.isclose(logged, half.returns)
    assert changed_there.sum() == 4  # a fifth of them were copied from better ones
    assert (half.returns[changed_there] > logged[changed_there]).all()
    found = evaluate(path, episodes=1, agent=agent)
    np.testing.assert_allclose(found.greedy[:, 0], half.returns, rtol=1e-5)


def test_one_member_cannot_evolve():
    parent, _ = evolve(jax.random.key(0), np.float32([1, np.nan]), {}, {}, {})
    assert parent.tolist() == [0, 1]


CASE = toys.Case(toys.make())
SWEEP = {"hparams": grid(toys.HParams(), rate=np.linspace(0.1, 0.6, 6)), "seeds": 3}


@pytest.mark.parametrize("options", [
    {"devices": 1, "population_batch": 1},
    {"devices": 1, "population_batch": 2},
    {"devices": 4},
])  # fmt: skip
def test_halving_does_not_change_the_survivors(options):
    """Also not their companions in a group, which do change, nor the device."""
    options = SWEEP | options
    whole = run(CASE, 16, **(options | {"population_batch": 2}))
    halved = run(CASE, 16, halving=True, **options)
    by_configuration = halved.configuration_steps
    unit = halved.agent.steps_per_update
    assert sorted(np.array(by_configuration) // unit) == [2, 2, 2, 4, 8, 16]
    best = int(np.argmax(by_configuration))
    for member in range(3 * best, 3 * best + 3):
        assert changed(row(whole.state.train, member), row(halved.state.train, member)) == []
        np.testing.assert_array_equal(
            whole.evaluation.greedy[member], halved.evaluation.greedy[member]
        )
    assert halved.configurations[0].configuration == best
    assert halved.frozen == {}


def test_a_dropped_member_stays_as_it_was():
    halved = run(CASE, 16, halving=True, **SWEEP)
    halved_again = run(CASE, 16, halving=True, eval_every=1, **SWEEP)
    assert changed(halved.state.train.learner, halved_again.state.train.learner) == []
    assert changed(halved.evaluation, halved_again.evaluation) == []
    counts = np.asarray(halved.state.train.learner.count)  # updates that were made
    assert sorted(counts.reshape(6, 3)[:, 0].tolist()) == [2, 2, 2, 4, 8, 16]


@pytest.mark.parametrize("option", ["halving", "pbt"])
def test_resuming_is_exact(option, tmp_path):
    """State, tables and pictures' data: as if it had never been interrupted."""
    options = SWEEP | {option: True, "eval_every": 2, "checkpoint_every": 1, "log_every": 1}
    whole = run(CASE, 16, run_dir=tmp_path / "whole", **options)
    half = interrupted(CASE, tmp_path / "halves", at=5, updates=16, **options)
    assert half.interrupted
    rest = run(CASE, 16, run_dir=tmp_path / "halves", resume=True, **options)
    assert changed(whole.state, rest.state) == []
    assert changed(whole.evaluation, rest.evaluation) == []
    read = lambda run_dir: (tmp_path / run_dir / "sweep.csv").read_bytes()
    assert read("whole") == read("halves")
    assert whole.dropped == rest.dropped
    assert bool(whole.dropped) == (option == "halving")


def test_halving_on_other_devices_after_a_resume(tmp_path):
    options = SWEEP | {"halving": True, "population_batch": 1, "log_every": 1}
    whole = run(CASE, 16, **options)
    interrupted(CASE, tmp_path / "run", at=5, updates=16, devices=2, **options)
    rest = run(CASE, 16, run_dir=tmp_path / "run", resume=True, devices=5, **options)
    assert rest.dropped == whole.dropped
    assert changed(whole.state.train.learner, rest.state.train.learner) == []


def test_a_member_that_failed_before_it_was_dropped_is_known_after_a_resume(tmp_path):
    """Or its last finite policy would be ranked among the others."""
    case = toys.Case(toys.make(config=toys.Config(bad_step=1)))
    hparams = grid(toys.HParams(), rate=[0.1, 0.2, 0.3, 0.4], bad=[0.0, 1.0])
    options = {"hparams": hparams, "seeds": 2, "halving": True, "log_every": 1}
    whole = run(case, 16, run_dir=tmp_path / "whole", **options)
    assert len(whole.frozen) == 8
    assert set(whole.frozen) <= set(whole.dropped)
    interrupted(case, tmp_path / "halves", at=5, updates=16, **options)
    rest = run(case, 16, run_dir=tmp_path / "halves", resume=True, **options)
    assert rest.frozen == whole.frozen
    np.testing.assert_array_equal(rest.returns, whole.returns)
    read = lambda run_dir: (tmp_path / run_dir / "sweep.csv").read_bytes()
    assert read("whole") == read("halves")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"halving": True}, "halving=True: needs a sweep"),
        ({"pbt": True}, "pbt=True: needs a sweep"),
        ({"halving": True, "pbt": True, **SWEEP}, "halving=True: cannot be combined with pbt"),
        ({"halving": True, "updates": 7, **SWEEP}, "halving: 6 configurations need 8 iterations"),
    ],
)
def test_what_cannot_be(options, message):
    with pytest.raises(UsageError, match=message):
        run(CASE, **({"updates": 16} | options))


def test_a_failed_member_goes_on_from_a_good_one():
    agent = toys.make(config=toys.Config(bad_step=1))
    hparams = toys.HParams(rate=np.linspace(0.1, 0.5, 5), bad=np.float32([0, 0, 1, 0, 0]))
    unit = agent.steps_per_update
    alone = train(agent, 6 * unit, hparams=hparams, eval_every=2 * unit)
    assert alone.frozen == {2: 1}
    evolved = train(agent, 6 * unit, hparams=hparams, eval_every=2 * unit, pbt=True)
    assert evolved.frozen == {}
    assert np.isfinite(evolved.returns).all()


# A small problem on which a fixed step size is not the best: noisy descent on a square.

SIZE, NOISE = 64, 1.0


@dataclass(frozen=True)
class Square:
    """One step; the reward is minus the mean square of the action."""

    name: str = "test/square"
    max_episode_steps: int | None = 1
    observation_space = Box.of(-jnp.inf, jnp.inf, (1,))
    action_space = Box.of(-jnp.inf, jnp.inf, (SIZE,))
    params = {}

    def reset(self, key, params={}):
        return jnp.float32(0), jnp.zeros(1)

    def step(self, key, state, action, params={}):
        ended = jnp.bool_(True)
        return state, TimeStep(jnp.zeros(1), -jnp.square(action).mean(), ended, ~ended)


@dataclass(frozen=True)
class Config:
    """Nothing but what every agent has."""

    num_envs: int = 1
    reset_mode: str = "pool"


class HParams(NamedTuple):
    """What sweeps."""

    rate: float = 0.1
    env_params: EnvParams = {}


@pytree
class Learner:
    params: jax.Array


@functools.cache
def descent() -> Agent:
    """Stochastic gradient descent from a point of mean square 1."""
    env = Square()

    def init(key, hparams):
        params = jax.random.normal(key, (SIZE,))
        return TrainState(Learner(params), reset_batch(key, env, 1, hparams.env_params))

    def update(key, state, hparams, clock):
        noise_key, rollout_key = jax.random.split(key)
        params = state.learner.params
        behave = lambda key, carry, obs, start: (carry, params[None], ())
        world, _, _, metrics = unroll(
            rollout_key, env, behave, state.actor, (), 1, hparams.env_params, "pool"
        )
        gradient = params + NOISE * jax.random.normal(noise_key, (SIZE,))
        return TrainState(Learner(params - hparams.rate * gradient), world), metrics

    def act(key, learner, carry, obs, greedy):
        return jnp.broadcast_to(learner.params, (obs.shape[0], SIZE)), carry

    return Agent(init, update, act, lambda batch: (), HParams(), env, Config(), 1)


def test_nobody_is_copied_before_anything_is_learnt():
    """The evaluations at 10, 20 and 30 select nobody; what that at 40 selects is there at 50."""
    agent = dataclasses.replace(descent(), learning_starts=30)
    hparams: Any = sample(HParams(), 20, seed=0, rate=log_uniform(1e-3, 1.0))
    found = train(agent, 60, hparams=hparams, pbt=True, eval_every=10, eval_episodes=1)
    steps, rates = found.metric("hparams/rate")
    assert steps.tolist() == [10, 20, 30, 40, 50, 60]
    assert (rates[:4] == rates[0]).all()
    assert (rates[4] != rates[3]).sum() == 4


@pytest.mark.parametrize("seed", range(3))
def test_pbt_beats_random_search_at_equal_budget(seed):
    """By more than the luck of the draw: it finds that the step must shrink; no fixed one can."""
    hparams: Any = sample(HParams(), 20, seed=seed, rate=log_uniform(1e-3, 1.0))
    options = {"seeds": [seed], "hparams": hparams, "eval_every": 10, "eval_episodes": 1}
    search, evolved = (train(descent(), 400, pbt=pbt, **options) for pbt in (False, True))
    assert search.steps == evolved.steps
    assert evolved.returns.max() > 0.7 * search.returns.max()  # both below 0
    assert evolved.returns.mean() > search.returns.mean()
