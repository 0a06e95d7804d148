"""Who is trained: order, types, errors, and how the members are grouped."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl import UsageError
from purerl.engine.population import PURPOSES, UPDATE, keys, population, stream
from purerl.engine.programs import advance_members, over_members


class HParams(NamedTuple):
    a: float = 0.1
    b: float = 2.0
    env_params: dict = {}


def test_configurations_are_outermost():
    members = population(HParams(a=[0.1, 0.2], env_params={"g": np.array([9.0, 8.0])}), 3)
    assert members.size == 6
    assert members.seeds.tolist() == [0, 1, 2, 0, 1, 2]
    assert members.hparams.a.tolist() == np.float32([0.1, 0.1, 0.1, 0.2, 0.2, 0.2]).tolist()
    assert members.hparams.env_params["g"].tolist() == [9, 9, 9, 8, 8, 8]
    assert members.hparams.b.tolist() == [2.0] * 6
    assert {x.dtype for x in jax.tree.leaves(members.hparams)} == {np.dtype(np.float32)}
    assert members.seeds.dtype == np.uint32


def test_seeds_may_be_chosen():
    members = population(HParams(), [7, 2**32 - 1])
    assert members.seeds.tolist() == [7, 2**32 - 1]
    assert population(HParams(), np.array([3, 1])).seeds.tolist() == [3, 1]


@pytest.mark.parametrize(
    ("seeds", "hparams", "message"),
    [
        (0, HParams(), "seeds=0: must be positive"),
        (-3, HParams(), "seeds=-3: must be positive"),
        ([], HParams(), r"seeds=\[\]: must be positive"),
        ([1, 1], HParams(), r"seeds=\[1, 1\]: must be different"),
        ([-1], HParams(), r"seeds=\[-1\]: must be different numbers from 0 to 4294967295"),
        ([2**32], HParams(), r"seeds=\[4294967296\]"),
        (1, HParams(a=[1, 2], b=[1, 2, 3]), r"hparams: arrays of different lengths \[2, 3\]"),
    ],
)
def test_what_is_no_population(seeds, hparams, message):
    with pytest.raises(UsageError, match=message):
        population(hparams, seeds)


def test_streams_are_independent():
    """Different members, purposes or steps: different keys; the same: the same."""
    drawn = {
        tuple(jax.random.key_data(stream(key, purpose, step)).tolist())
        for key in keys(np.arange(3))
        for purpose in PURPOSES
        for step in range(4)
    }
    assert len(drawn) == 3 * 5 * 4
    first = stream(jax.random.key(2), UPDATE, 3)
    assert (first == stream(keys(np.array([0, 2]))[1], UPDATE, jnp.int32(3))).all()


@pytest.mark.parametrize("batch", [1, 2, 3, 6])
def test_groups_equal_vmap(batch):
    """Any grouping, over any tree of leaves, keeps the members' order."""

    def function(x, tree):
        return {"dot": x @ tree["w"], "sum": tree["n"] + 1}, x.sum()

    key = jax.random.key(0)
    x, w = jax.random.normal(key, (2, 6, 4))
    arguments = x, {"w": w, "n": jnp.arange(6)}
    expected = jax.vmap(function)(*arguments)
    found = jax.jit(over_members(function, batch, 6))(*arguments)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 2, 3, 6])
def test_only_the_first_groups_advance(batch):
    """Rows of other groups keep their state, and give zeros."""

    def function(state, step):
        return {"x": state["x"] + step, "n": state["n"] * 2}, {"seen": state["x"].sum()}

    state = {"x": jnp.arange(12.0).reshape(6, 2), "n": jnp.arange(6)}
    steps = jnp.linspace(1.0, 2.0, 6)
    expected = jax.vmap(function)(state, steps)
    advance = jax.jit(advance_members(function, batch, 6))
    for groups in range(6 // batch + 1):
        moved = np.arange(6) < (groups * batch if batch < 6 else 6)  # all abreast is all or nothing
        found = advance(jnp.int32(groups), state, steps)
        for new, old, got in zip(
            jax.tree.leaves(expected),
            [*jax.tree.leaves(state), jnp.zeros(6)],
            jax.tree.leaves(found),
            strict=True,
        ):
            mask = moved.reshape(6, *(1,) * (got.ndim - 1))
            np.testing.assert_array_equal(got, np.where(mask, new, old))


def test_configurations_and_what_sweeps():
    members = population(HParams([1.0, 1.0, 2.0], 0.5, {"g": [3.0, 4.0, 5.0]}), 2)
    assert (members.size, members.configurations) == (6, 3)
    assert list(members.columns()) == ["a", "b", "env_params.g"]
    swept = members.swept()
    assert {name: x.tolist() for name, x in swept.items()} == {
        "a": [1, 1, 2], "env_params.g": [3, 4, 5]
    }  # fmt: skip
    assert population(HParams(), 3).swept() == {}
