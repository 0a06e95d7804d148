"""The ring against a plain Python one, flashbax, and brute force."""

import flashbax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from purerl.agents import dqn
from purerl.envs import TimeStep
from purerl.replay import Index, Steps, ring
from purerl.spaces import Discrete
from purerl.types import Clock

B, T, LIMIT = 3, 12, 5


def lived(seed, steps, envs=B, limit=LIMIT):
    """A history of every environment, [steps, B], and the observation that followed each step."""
    rng = np.random.default_rng(seed)
    obs = np.arange(steps * envs, dtype=np.float32).reshape(steps, envs, 1) * 10
    terminated = rng.random((steps, envs)) < 0.15
    truncated = np.zeros((steps, envs), bool)
    age = rng.integers(0, limit, envs) if limit else None
    for t in range(steps if limit else 0):
        age += 1
        truncated[t] = (age >= limit) & ~terminated[t]
        age[terminated[t] | truncated[t]] = 0
    following = np.concatenate([obs[1:], obs[:1] - 1])
    done = terminated | truncated
    following = np.where(
        done[..., None], obs + 5, following
    )  # final observations: seen nowhere else
    reward = rng.normal(size=(steps, envs)).astype(np.float32)
    action = rng.integers(0, 4, (steps, envs)).astype(np.int32)
    return Steps(obs, action, reward, terminated, truncated), following


def filled(steps, following, capacity, block, limit=LIMIT, until=None):
    """A ring into which the history was inserted, `block` steps at a time."""
    example = jax.tree.map(lambda x: jnp.asarray(x[0, 0]), steps)
    total, envs = steps.reward.shape
    buffer = ring.init(example, envs, capacity, limit)
    insert = jax.jit(ring.insert)
    for t in range(0, until or total, block):
        part = jax.tree.map(lambda x: jnp.asarray(x[t : t + block]), steps)
        slots = 0 if limit is None else -(-block // limit)
        finals = np.zeros((slots, envs, 1), np.float32)
        for env in range(envs):
            ends = np.flatnonzero(part.truncated[:, env])
            for k, end in enumerate(ends):
                finals[k, env] = following[t + end, env]
        buffer = insert(buffer, jnp.int32(t), part, jnp.asarray(finals))
    return buffer


@pytest.mark.parametrize("block", [1, 2, 4, 12])
def test_rows_are_those_of_a_plain_ring(block):
    end = 36 if block == T else 32  # the head is somewhere else than it began
    steps, following = lived(0, 40)
    steps = jax.tree.map(lambda x: x[:end], steps)
    buffer = filled(steps, following, B * T, block)
    plain = [None] * T
    for t in range(end):
        plain[t % T] = jax.tree.map(lambda x: x[t], steps)
    kept = buffer.layout.unpack(buffer.rows)
    for slot in range(T):
        mine = jax.tree.map(lambda x: np.asarray(x[:, slot]), kept)
        for a, b in zip(jax.tree.leaves(mine), jax.tree.leaves(plain[slot]), strict=True):
            np.testing.assert_array_equal(a, b)


def test_rows_are_those_of_flashbax():
    steps, following = lived(1, 40)
    steps = jax.tree.map(lambda x: x[:32], steps)
    buffer = filled(steps, following, B * T, 4)
    theirs = flashbax.make_trajectory_buffer(
        add_batch_size=B, sample_batch_size=4, sample_sequence_length=2, period=1,
        min_length_time_axis=2, max_length_time_axis=T,
    )  # fmt: skip
    tree = steps._asdict() | {"extras": np.zeros((32, B))}
    state = theirs.init(jax.tree.map(lambda x: jnp.asarray(x[0, 0]), tree))
    for t in range(0, 32, 4):
        part = jax.tree.map(lambda x: jnp.swapaxes(jnp.asarray(x[t : t + 4]), 0, 1), tree)
        state = theirs.add(state, part)
    kept = buffer.layout.unpack(buffer.rows)
    for name in ("obs", "action", "reward", "terminated", "truncated"):
        np.testing.assert_array_equal(getattr(kept, name), state.experience[name])


def by_hand(steps, following, env, time, n, discount):
    """The n-step transition from one step on, one step after another."""
    total, weight = 0.0, 1.0
    for t in range(time, time + n):
        total += weight * steps.reward[t, env]
        weight *= discount
        if steps.terminated[t, env]:
            return total, following[t, env], 0.0
        if steps.truncated[t, env]:
            break
    return total, following[t, env], weight


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("block", [1, 4])
@pytest.mark.parametrize("limit", [LIMIT, 1, None])
def test_transitions_equal_brute_force(n, block, limit):
    steps, following = lived(n, 60, limit=limit)
    for until in (16, 36, 60):
        buffer = filled(steps, following, B * T, block, limit, until)
        times = np.arange(max(0, until - T), until - n)
        env, time = (x.ravel().astype(np.int32) for x in np.meshgrid(np.arange(B), times))
        found = jax.jit(ring.transitions, static_argnums=2)(
            buffer, Index(jnp.asarray(env), jnp.asarray(time)), n, 0.9
        )
        np.testing.assert_array_equal(found.obs, steps.obs[time, env])
        np.testing.assert_array_equal(found.action, steps.action[time, env])
        for i in range(len(env)):
            total, after, discount = by_hand(steps, following, env[i], time[i], n, 0.9)
            np.testing.assert_allclose(found.reward[i], total, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(found.discount[i], discount, rtol=1e-6)
            if discount:  # after a termination nothing follows
                np.testing.assert_array_equal(found.next_obs[i], after)


def test_sequences_are_what_was_lived():
    steps, following = lived(3, 36)
    buffer = filled(steps, following, B * T, 4)
    index = Index(jnp.array([0, 2, 1], jnp.int32), jnp.array([24, 30, 32], jnp.int32))
    found = ring.sequences(buffer, index, 4)
    for i, (env, time) in enumerate(zip(*index, strict=True)):
        for mine, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(steps), strict=True):
            np.testing.assert_array_equal(mine[i], theirs[time : time + 4, env])


def test_sequences_go_on_around_the_end_of_the_ring():
    steps, following = lived(3, 36)
    buffer = filled(steps, following, B * T, 4, until=16)  # rows 0 to 3 are of times 12 to 15
    for begin in (9, 10, 11):
        found = ring.sequences(buffer, Index(jnp.arange(B), jnp.full(B, begin)), 4)
        for env in range(B):
            for mine, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(steps), strict=True):
                np.testing.assert_array_equal(mine[env], theirs[begin : begin + 4, env])


@pytest.mark.parametrize("until", [12, 16, 36])
def test_the_final_observation_is_that_of_the_first_truncation(until):
    steps, following = lived(5, 36)
    buffer, length, seen = filled(steps, following, B * T, 4, until=until), 4, 0
    for begin in range(max(0, until - T), until - length):
        index = Index(jnp.arange(B), jnp.full(B, begin))
        window = steps.truncated[begin : begin + length]
        found = ring.final_observations(buffer, index, jnp.asarray(window.T))
        for env in np.flatnonzero(window.any(0)):
            first = begin + window[:, env].argmax()
            np.testing.assert_array_equal(found[env], following[first, env])
            seen += 1
    assert seen > 5
    endless = ring.init(jax.tree.map(lambda x: jnp.asarray(x[0, 0]), steps), B, T, None)
    assert ring.final_observations(endless, index, jnp.asarray(window.T)) is None


def test_true_final_observations_take_a_row_for_each_episode_and_not_for_each_step():
    steps, following = lived(0, 36)
    buffer = filled(steps, following, B * T, 4)
    assert buffer.rows.shape[:2] == (B, T)
    assert buffer.finals.shape[:2] == (B, -(-T // LIMIT) + 1)
    assert buffer.finals.shape[2] == 1  # the observation alone
    assert buffer.layout.words == 4  # observation, action and reward, and both flags in one


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="it is how a CPU reads")
def test_a_large_ring_is_read_as_a_small_one_is():
    """In place, into an array of one row more: alone and under vmap the rows are NumPy's."""
    envs, length = 2, 2**17
    example = Steps(jnp.zeros(2), jnp.int32(0), jnp.float32(0), jnp.bool_(False), jnp.bool_(False))
    buffer = ring.init(example, envs, envs * length, None)
    assert buffer.rows.size >= ring.MANY
    words = jax.random.bits(jax.random.key(0), buffer.rows.shape)
    many = jax.random.bits(jax.random.key(1), (3, *buffer.rows.shape))
    rng = np.random.default_rng(0)
    env = jnp.asarray(rng.integers(0, envs, (3, 64)), jnp.int32)
    time = jnp.asarray(rng.integers(0, length - 3, (3, 64)), jnp.int32).at[:, 0].set(length - 2)
    read = lambda rows, env, time: ring._rows(
        ring.Ring(rows, buffer.finals, buffer.layout, buffer.final_layout, None),
        Index(env, time), 3,
    )  # fmt: skip
    at = (np.asarray(time)[..., None] + np.arange(3)) % length
    alone = jax.jit(read)(words, env[0], time[0])
    np.testing.assert_array_equal(alone, np.asarray(words)[np.asarray(env)[0][:, None], at[0]])
    together = jax.jit(jax.vmap(read))(many, env, time)
    for i in range(3):
        wanted = np.asarray(many)[i][np.asarray(env)[i][:, None], at[i]]
        np.testing.assert_array_equal(together[i], wanted)


@pytest.mark.parametrize("reward", [1, True, np.float16(1.0)])
def test_rewards_of_other_types_are_kept_as_what_they_are(reward):
    """A replay keeps bits: those of an integer would be another number."""

    class Pays:
        name, max_episode_steps, params = "test/pays", None, {}
        observation_space, action_space = Discrete(3), Discrete(2)

        def reset(self, key, params={}):
            return jnp.int32(0), jnp.int32(0)

        def step(self, key, state, action, params={}):
            no = jnp.bool_(False)
            return state, TimeStep(jnp.int32(1), jnp.asarray(reward), no, no)

    agent = dqn.make(Pays(), dqn.Config(num_envs=2, capacity=256, num_rounds=8, hidden_sizes=(4,)))
    state = agent.init(jax.random.key(0), agent.hparams)
    clock = Clock(jnp.int32(0), jnp.int32(10))
    state, _ = agent.update(jax.random.key(1), state, agent.hparams, clock)
    index = Index(jnp.array([0, 1]), jnp.array([2, 5]))
    found = ring.transitions(state.actor.experience.replay, index, 1, 0.9)
    np.testing.assert_array_equal(found.reward, 1.0)


@pytest.mark.parametrize(("time", "lookahead"), [(8, 1), (12, 3), (30, 1), (24, 0)])
def test_every_step_that_can_be_drawn_is_drawn_as_often(time, lookahead):
    steps, following = lived(0, 36)
    buffer = filled(steps, following, B * T, 1, until=12)
    bits = jax.random.bits(jax.random.key(1), (60_000,))
    index = ring.uniform(bits, buffer, jnp.int32(time), lookahead)
    oldest, newest = max(0, time - T), time - 1 - lookahead
    assert (int(index.time.min()), int(index.time.max())) == (oldest, newest)
    assert ring.count(buffer, jnp.int32(time), lookahead) == newest - oldest + 1
    cells = np.zeros((B, newest - oldest + 1), int)
    np.add.at(cells, (np.asarray(index.env), np.asarray(index.time) - oldest), 1)
    assert stats.chisquare(cells.ravel()).pvalue > 1e-3


def test_before_anything_can_be_drawn_nothing_is_out_of_bounds():
    steps, following = lived(0, 12)
    buffer = filled(steps, following, B * T, 1)
    index = ring.uniform(jax.random.bits(jax.random.key(0), (8,)), buffer, jnp.int32(0), 3)
    assert (index.time == 0).all()
    assert ((index.env >= 0) & (index.env < B)).all()


def primitives(jaxpr, inside=True):
    """Names and shapes of everything that a jaxpr computes."""
    for eqn in jaxpr.eqns:
        shapes = [getattr(v.aval, "shape", ()) for v in eqn.outvars]
        yield eqn.primitive.name, shapes
        for value in eqn.params.values():
            for inner in jax.tree.leaves(value, is_leaf=lambda x: hasattr(x, "eqns")):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from primitives(inner)


def over_members(function, *trees, shared):
    """The jaxpr of `function` over 4 members, of which the last arguments are shared."""
    wide = [jax.tree.map(lambda x: jnp.broadcast_to(x, (4, *x.shape)), t) for t in trees]
    axes = (0,) * len(trees) + (None,) * len(shared)
    return jax.make_jaxpr(jax.vmap(function, axes))(*wide, *shared)


def test_under_vmap_an_insert_is_one_contiguous_write():
    steps, following = lived(0, 12)
    buffer = filled(steps, following, B * 1000, 1, until=1)
    part = jax.tree.map(lambda x: jnp.asarray(x[:1]), steps)
    finals = jnp.zeros((1, B, 1))
    insert = lambda b, s, f, t: ring.insert(b, t, s, f)
    jaxpr = over_members(insert, buffer, part, finals, shared=(jnp.int32(1),))
    names = list(primitives(jaxpr.jaxpr))
    assert not [name for name, _ in names if "scatter" in name]
    whole = [name for name, shapes in names if (4, *buffer.rows.shape) in shapes]
    assert set(whole) <= {"dynamic_update_slice", "custom_vmap_call"}
    # Compiled, it is written where it lies: no copy or selection as large as the ring.
    wide = jax.tree.map(lambda x: jnp.broadcast_to(x, (4, *x.shape)), (buffer, part, finals))
    program = jax.jit(jax.vmap(insert, (0, 0, 0, None)), donate_argnums=0)
    compiled = program.lower(*wide, jnp.int32(1)).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < buffer.rows.nbytes / 10
    text = compiled.as_text()
    assert " scatter(" not in text
    size = f"u32[4,{B},1000,{buffer.layout.words}]"
    made = [line for line in text.splitlines() if f"= {size}" in line.replace("{3,2,1,0}", "")]
    assert not [line for line in made if " copy(" in line or " select(" in line]


def test_under_vmap_a_sample_reads_only_its_rows():
    steps, following = lived(0, 12)
    buffer = filled(steps, following, B * 10_000, 1, until=1)

    def sample(numbers, buffer, time):
        index = ring.uniform(numbers, buffer, time, 1)
        return ring.transitions(buffer, index, 1, 0.9)

    numbers = jnp.zeros((4, 8), jnp.uint32)
    wide = jax.tree.map(lambda x: jnp.broadcast_to(x, (4, *x.shape)), buffer)
    axes = (0, 0, None)
    given = numbers, wide, jnp.int32(9)
    jaxpr = jax.make_jaxpr(jax.vmap(sample, axes))(*given)
    sizes = {(name, np.prod(shape)) for name, shapes in primitives(jaxpr.jaxpr) for shape in shapes}
    large = {name for name, size in sizes if size >= buffer.rows.size / 10}
    assert large == {"reshape"}  # of the rows of all environments to one axis: no copy, as
    compiled = jax.jit(jax.vmap(sample, axes)).lower(*given).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < buffer.rows.nbytes / 10
