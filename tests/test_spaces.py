"""Spaces: what is drawn lies in them, and reaches their ends."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl.spaces import Box, Discrete, MultiDiscrete

UINT8, INT8, INT32, UINT32 = (np.iinfo(x) for x in (np.uint8, np.int8, np.int32, np.uint32))


def drawn(space, number=4000):
    return jax.vmap(space.sample)(jax.random.split(jax.random.key(0), number))


@pytest.mark.parametrize(
    "space",
    [
        Discrete(3),
        MultiDiscrete((2, 5)),
        Box.of(-2.0, 3.0, (2,)),
        Box.of([-1.0, 0.0], [np.inf, np.inf], (2,)),
        Box.of(0, 1, (3,), bool),
        *(Box.of(x.min, x.max, (2,), x.dtype) for x in (UINT8, INT8, INT32, UINT32)),
        Box.of(-3, 4, (2,), np.int32),
        Box.of([0, -128], [255, 127], (2,), np.int16),
    ],
    ids=str,
)
def test_a_sample_is_a_member(space):
    found = drawn(space)
    assert found.dtype == space.dtype
    assert found.shape[1:] == space.shape
    assert jax.vmap(space.contains)(found).all()


@pytest.mark.parametrize("limits", [UINT8, INT8], ids=lambda x: str(x.dtype))
def test_the_ends_of_a_type_are_reached(limits):
    """One above the largest there is no number of 8 bits."""
    found = np.asarray(drawn(Box.of(limits.min, limits.max, (4,), limits.dtype)))
    assert (found.min(), found.max()) == (limits.min, limits.max)
    assert len(np.unique(found)) == 256


def test_numbers_of_32_bits_spread_over_all_of_them():
    for limits in (INT32, UINT32):
        found = np.asarray(drawn(Box.of(limits.min, limits.max, (), limits.dtype)), np.float64)
        middle = (float(limits.min) + float(limits.max)) / 2
        assert abs(found.mean() - middle) < 0.05 * 2**32
        assert found.std() == pytest.approx(2**32 / 12**0.5, rel=0.05)
    few = np.asarray(drawn(Box.of(-3, 4, (), np.int32)))
    assert np.bincount(few + 3, minlength=8).min() > 400  # of 500 each


def test_a_half_infinite_bound_is_kept():
    found = drawn(Box.of([-1.0, 0.0], [np.inf, np.inf], (2,)))
    assert jnp.all(found >= jnp.array([-1.0, 0.0]))
    assert found.max() > 2.0
