"""The blocked products equal plain ones, in value and in both gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl.ops.linear import BLOCK, linear, project

pytestmark = pytest.mark.usefixtures("strict_ranks")

# Float32 sums of up to a few thousand products of order one, in another order.
CLOSE = {"rtol": 1e-4, "atol": 2e-4}
SHAPES = [
    ((5,), 3, 2),
    ((BLOCK,), 4, 4),
    ((BLOCK + 1,), 4, 4),
    ((2 * BLOCK,), 1, 1),
    ((2 * BLOCK,), 4, 16),
    ((3 * BLOCK + 7,), 4, 5),
    ((2, 2 * BLOCK), 8, 2),
    ((2, 3, BLOCK), 3, 5),
    ((2 * BLOCK,), 200, 200),  # too wide to be worth blocks
    ((3 * BLOCK + 7,), 64, 4),  # long inputs, as those of a grid
    ((2 * BLOCK,), 600, 100),
    ((), 3, 2),
]
shapes = pytest.mark.parametrize(("batch", "inputs", "outputs"), SHAPES, ids=str)


def arrays(*shapes):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def plain(x, kernel):
    return jnp.tensordot(x, kernel, 1)


def everything(product, x, kernel, g):
    """Value, and the gradients of both arguments along g."""
    value, backward = jax.vjp(product, x, kernel)
    return value, *backward(g)


def assert_equal(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, **CLOSE)


@shapes
def test_linear(batch, inputs, outputs):
    x, kernel, g = arrays((*batch, inputs), (inputs, outputs), (*batch, outputs))
    expected = everything(plain, x, kernel, g)
    assert_equal(everything(linear, x, kernel, g), expected)
    jitted = jax.jit(lambda *a: everything(linear, *a))
    assert_equal(jitted(x, kernel, g), expected)


@shapes
def test_linear_under_vmap(batch, inputs, outputs):
    x, kernel, g = arrays((2, *batch, inputs), (2, inputs, outputs), (2, *batch, outputs))
    run = lambda product: jax.jit(jax.vmap(lambda *a: everything(product, *a)))(x, kernel, g)
    assert_equal(run(linear), run(plain))


def test_linear_with_one_kernel_for_all_members():
    x, kernel, g = arrays((3, 2 * BLOCK, 4), (4, 6), (3, 2 * BLOCK, 6))
    run = lambda product: jax.vmap(lambda *a: everything(product, *a), (0, None, 0))(x, kernel, g)
    assert_equal(run(linear), run(plain))


def test_linear_inside_a_scan():
    """Gradient descent by scan ends in the same kernel."""
    x, kernel, target = arrays((2 * BLOCK, 4), (4, 3), (2 * BLOCK, 3))

    def descend(product):
        def step(kernel, _):
            error = lambda kernel: jnp.square(product(x, kernel) - target).mean()
            return kernel - 0.1 * jax.grad(error)(kernel), error(kernel)

        return jax.jit(lambda k: jax.lax.scan(step, k, None, 5))(kernel)

    assert_equal(descend(linear), descend(plain))


@shapes
def test_project(batch, inputs, outputs):
    x, kernel, g = arrays((*batch, inputs), (outputs, inputs), (*batch, outputs))
    expected = everything(lambda x, k: plain(x, k.T), x, kernel, g)
    assert_equal(everything(project, x, kernel, g), expected)
    members = jax.vmap(lambda *a: everything(project, *a))(x[None], kernel[None], g[None])
    assert_equal([a[0] for a in members], expected)
