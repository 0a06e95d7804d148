"""Rows of words: every bit comes back, whatever the types."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl.replay.words import layout

KINDS = {
    "float": {"a": np.float32([1.5, -0.0, np.nan, np.inf, 1e-42]), "b": np.float32(3.0)},
    "bool": {"grid": np.random.default_rng(0).random((10, 10, 4)) < 0.3, "flag": np.bool_(True)},
    "byte": {"pixels": np.arange(7, dtype=np.uint8), "signed": np.int8([-1, -128])},
    "half": {"x": np.float16([1.0, -2.5, 65504.0])},
    "mixed": (np.float32([1.0, 2.0]), np.bool_(False), np.int32(-7), np.uint8([255, 1])),
}


def bits(x):
    x = np.asarray(x)
    return x if x.dtype == bool else np.frombuffer(x.tobytes(), np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_every_bit_comes_back(kind):
    tree = KINDS[kind]
    where = layout(tree)
    rows = jax.jit(where.pack)(tree)
    assert rows.dtype == jnp.uint32
    assert rows.shape == (where.words,)
    back = jax.jit(where.unpack)(rows)
    for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(back), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_array_equal(bits(a), bits(b))


def test_any_batch_axes_go_first():
    tree = {"a": jnp.arange(24.0).reshape(2, 3, 4), "b": jnp.ones((2, 3), bool)}
    where = layout({"a": jnp.zeros(4), "b": jnp.zeros((), bool)})
    rows = where.pack(tree)
    assert rows.shape == (2, 3, 5)
    back = where.unpack(rows)
    np.testing.assert_array_equal(back["a"], tree["a"])
    np.testing.assert_array_equal(back["b"], tree["b"])


def test_booleans_take_a_bit_and_bytes_a_quarter():
    assert layout(np.zeros((10, 10, 4), bool)).words == 13
    assert layout(np.zeros(400, np.uint8)).words == 100
    assert layout((np.zeros(30, bool), np.bool_(0), np.bool_(0))).words == 1


def test_a_layout_is_hashable_and_equal_to_its_like():
    assert layout({"a": jnp.zeros(3)}) == layout({"a": np.ones(3, np.float32)})
    assert hash(layout(jnp.zeros(3))) == hash(layout(jnp.ones(3)))
    assert layout(jnp.zeros(3)) != layout(jnp.zeros(4))
