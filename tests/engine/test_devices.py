"""One program over many devices computes what it computes on one."""

import functools
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as Spec
from laws import Case, changed, furthest, interrupted, row, run

import purerl
from purerl.agents import dqn, ppo, sac
from purerl.engine import train
from purerl.engine.placement import place
from purerl.engine.programs import compile_programs

COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
SMALL = {"num_envs": 8, "unroll_length": 8, "num_epochs": 2, "num_minibatches": 2}
CASES = {
    "feed-forward": Case("ppo", ppo, "gymnax/CartPole-v1", ppo.Config(**SMALL)),
    "recurrent": Case(
        "gru", ppo, "gymnax/CartPole-v1", ppo.Config(**SMALL, core="gru", core_size=16)
    ),
}
REPLAY = {"num_envs": 8, "num_rounds": 8, "batch_size": 32, "capacity": 512, "learning_starts": 80,
          "hidden_sizes": (8,)}  # fmt: skip
CASES |= {
    "replay": Case("sac", sac, "gymnax/Pendulum-v1", sac.Config(**REPLAY, normalize_obs=True)),
    "priorities": Case(
        "dqn", dqn, "gymnax/CartPole-v1", dqn.Config(**REPLAY, prioritized=True, n_step=2)
    ),
}
MEMBERS = 5  # divides neither 8, 4, 3 nor 2 devices

pytestmark = pytest.mark.skipif(len(jax.devices()) < 8, reason="needs 8 devices")


def collectives(program):
    return {name for name in COLLECTIVES if re.search(rf"\b{name}(-start)?\(", program.as_text())}


@functools.cache
def on(case, devices, **options):
    return run(CASES[case], 2, seeds=MEMBERS, devices=devices, **options)


@pytest.mark.parametrize(
    ("case", "devices"), [("feed-forward", 8), ("recurrent", 3), ("replay", 2), ("priorities", 2)]
)
def test_a_population_over_devices_equals_one_device(case, devices):
    """To rounding: XLA compiles a program for one device by other passes than one for several."""
    one, several = on(case, 1), on(case, devices)
    assert several.evaluation.greedy.shape == (MEMBERS, 2)
    assert one.steps > one.agent.learning_starts
    assert furthest(one.state.train.learner, several.state.train.learner) < 1e-6
    assert furthest(row(one.state.train, 0).learner, row(one.state.train, 1).learner) > 1e-3
    assert changed(one.evaluation, several.evaluation) == []


def test_any_number_of_devices_gives_the_same_bits():
    """Of two and more, and of members that run in turn or in groups of one size."""
    two, eight = (on("feed-forward", n, population_batch=1) for n in (2, 8))
    assert changed(two.state, eight.state) == []
    assert changed(two.evaluation, eight.evaluation) == []


def test_eight_devices_are_used_and_padding_is_not_reported():
    result = on("feed-forward", 8)
    assert result.population.size == MEMBERS == len(result.returns)
    assert all(x.shape[0] == MEMBERS for x in jax.tree.leaves(result.state))
    where = place(16, 8)
    programs = compile_programs(CASES["feed-forward"].make(), where, 2, 500)
    spread = lambda x: {s.device.id for s in x.addressable_shards}
    arguments = place_inputs(where)
    state = programs.init(*arguments)
    assert all(spread(x) == set(range(8)) for x in jax.tree.leaves(state))


def place_inputs(where):
    from purerl.engine.cohort import _keys
    from purerl.engine.population import population

    members = population(ppo.HParams(), where.members)
    return _keys(where.population)(where.put(members.seeds)), where.put(members.hparams)


def test_no_collective_in_the_population_program():
    """Shards cannot wait for each other, nor learn of each other: the compiled text says so."""
    agent = CASES["feed-forward"].make()
    programs = compile_programs(agent, place(16, 8), 2, 500)
    assert collectives(programs.iterate) == set()
    assert collectives(programs.init) == set()
    shared = compile_programs(agent, place(2, 8, data_parallel=4), 2, 500)
    assert collectives(shared.iterate) >= {"all-reduce"}  # so that the search can find one


def test_the_check_vma_trap():
    """Independent members of a sharded program stay independent.

    `shard_map` with its default `check_vma=True` sums the gradients of parameters that are made
    inside, as zeros, over all shards, and so couples seeds.
    """
    mesh = jax.make_mesh((2,), ("population",), axis_types=(AxisType.Auto,))

    def learn(x):
        def step(w, _):
            return w - 0.1 * jax.grad(lambda w: jnp.square(w - x.sum()).sum())(w), None

        return jax.lax.scan(step, jnp.zeros(3), length=5)[0][None]

    def learnt(**options):
        spec = Spec("population")
        sharded = jax.shard_map(learn, mesh=mesh, in_specs=spec, out_specs=spec, **options)
        return np.asarray(jax.jit(sharded)(jnp.array([1.0, -2.0])))

    alone = np.concatenate([learn(jnp.array([x])) for x in (1.0, -2.0)])
    np.testing.assert_allclose(learnt(check_vma=False), alone, rtol=1e-6)

    where = place(2, 2)
    ours = where.each_shard(learn, (True,))
    np.testing.assert_allclose(jax.jit(ours)(jnp.array([1.0, -2.0])), alone, rtol=1e-6)
    # And in a whole run: another neighbour on another device changes nothing.
    case = CASES["feed-forward"]
    first, second = (run(case, 2, seeds=seeds, devices=2) for seeds in ([0, 1], [0, 7]))
    assert changed(row(first.state, 0), row(second.state, 0)) == []
    assert changed(row(first.state, 1), row(second.state, 1))


@pytest.mark.parametrize(
    ("case", "begun", "others"), [("feed-forward", 8, (4, 1)), ("priorities", 2, (1,))]
)
def test_a_checkpoint_resumes_on_other_devices(case, begun, others, tmp_path):
    """On several bit for bit, on one to rounding; with a replay that is written over, too."""
    case, options = CASES[case], {"seeds": MEMBERS, "population_batch": 1, "log_every": 1}
    updates = 4 if begun == 8 else 10
    whole = run(case, updates, devices=begun, **options)
    half = interrupted(
        case, tmp_path / "begun", at=updates // 2, updates=updates, devices=begun, **options
    )
    assert half.interrupted
    assert half.steps < whole.steps
    for devices in others:
        path = tmp_path / str(devices)
        shutil.copytree(tmp_path / "begun", path)
        rest = run(case, updates, devices=devices, resume=True, run_dir=path, **options)
        assert rest.steps == whole.steps
        assert furthest(whole.state.train.learner, rest.state.train.learner) < 1e-6
        if devices > 1:
            assert changed(whole.state, rest.state) == []
            assert changed(whole.evaluation, rest.evaluation) == []


@pytest.mark.parametrize(
    ("case", "devices", "data"),
    [("feed-forward", 8, 8), ("feed-forward", 8, 4), ("recurrent", 4, 2), ("replay", 2, 2),
     ("priorities", 2, 2)],
)  # fmt: skip
def test_one_batch_over_devices(case, devices, data):
    """With the environments of a member split: the same, to 1e-5, after 20 gradient steps."""
    updates = 5  # iterations of 2 epochs of 2 minibatches, or of 8 rounds; with replay from the 2nd
    alone = run(CASES[case], updates, devices=1, seeds=MEMBERS, log_every=5)
    split = run(CASES[case], updates, devices=devices, data_parallel=data, seeds=2, log_every=5)
    learner = lambda result: jax.tree.map(lambda x: x[:2], result.state.train.learner.params)
    assert furthest(learner(alone), learner(split)) < 1e-5
    start = on(case, 1)  # after two iterations, of those with replay the first that learns
    assert furthest(learner(alone), learner(start)) > 1e-3  # something was learnt
    shapes = {s.data.shape[1] for x in jax.tree.leaves(split.state.train.actor)
              for s in x.addressable_shards}  # fmt: skip
    assert shapes == {8 // data}


def test_a_shared_batch_is_split_and_not_repeated():
    """Each of 4 devices multiplies a quarter of the minibatch's rows, not all of them."""
    config = ppo.Config(**(SMALL | {"num_envs": 32}))
    agent = ppo.make(purerl.make("gymnax/CartPole-v1"), config)
    rows = 32 * 8 // 2
    products = lambda where: {
        int(n)
        for n in re.findall(
            r"f32\[(?:1,)?(\d+),64\]\S* dot\(",
            compile_programs(agent, where, 2, 500).iterate.as_text(),
        )
    }
    assert rows in products(place(1, 1))
    assert rows // 4 in products(place(1, 4, data_parallel=4))
    assert rows not in products(place(1, 4, data_parallel=4))


def test_environments_must_divide():
    agent = toys.make()
    with pytest.raises(purerl.UsageError, match="data_parallel=2: must divide num_envs=3"):
        train(agent, 30, devices=2, data_parallel=2)
