"""The scale of values against rlax and its inverse; the code keeps what it codes."""

import jax.numpy as jnp
import numpy as np
import pytest
import rlax

from purerl.ops import two_hot

X = jnp.asarray(np.concatenate([np.linspace(-300, 300, 101), [0.0, 1e-3, -0.5, 1e4]]), jnp.float32)


def test_squeeze_equals_rlax_and_has_an_inverse():
    np.testing.assert_allclose(two_hot.squeeze(X), rlax.signed_hyperbolic(X), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(two_hot.stretch(two_hot.squeeze(X)), X, rtol=1e-5, atol=1e-6)


def test_small_numbers_keep_their_digits():
    """As (root - 1) / (2 eps) they would move in steps of 1e-4."""
    x = np.float32([1e-6, 1e-4, 3e-4, 1e-3, 1e-2])
    for small in (x, -x):
        found = two_hot.stretch(two_hot.squeeze(small))
        np.testing.assert_allclose(found, small, rtol=1e-3, atol=2e-7)
    assert two_hot.stretch(jnp.float32(0.0)) == 0.0


@pytest.mark.parametrize(("low", "high", "atoms"), [(-1.0, 1.0, 3), (0.0, 100.0, 51)])
def test_a_number_is_two_atoms_whose_mean_it_is(low, high, atoms):
    support = two_hot.support(low, high, atoms)
    x = jnp.linspace(low, high, 77)
    probs = two_hot.encode(x, support)
    np.testing.assert_allclose(probs.sum(-1), 1.0, rtol=1e-5)
    assert ((probs > 1e-6).sum(-1) <= 2).all()
    np.testing.assert_allclose(probs @ support, two_hot.squeeze(x), atol=1e-4)
    theirs = rlax.transform_to_2hot(two_hot.squeeze(x), support[0], support[-1], atoms)
    np.testing.assert_allclose(probs, theirs, atol=1e-3)
    logits = jnp.log(probs + 1e-12)
    np.testing.assert_allclose(two_hot.decode(logits, support), x, atol=2e-6 * (high - low))


def test_numbers_beyond_the_support_are_its_ends():
    support = two_hot.support(-1.0, 1.0, 5)
    probs = two_hot.encode(jnp.asarray([[-7.0], [9.0]]), support)
    assert probs.shape == (2, 1, 5)
    assert probs[:, 0].argmax(-1).tolist() == [0, 4]
