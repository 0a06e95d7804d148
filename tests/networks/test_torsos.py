"""Initialisation as in the PPO literature, and the shapes that torsos take."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl.networks import ACTIVATIONS, CNN, MLP, actor_critic
from purerl.networks.torsos import patches
from purerl.spaces import Box, Discrete

pytestmark = pytest.mark.usefixtures("strict_ranks")

KEY = jax.random.key(0)
MINATAR = [(10, 10, 4), (10, 10, 6), (10, 10, 7), (10, 10, 10)]


def assert_orthogonal(kernel, gain):
    """W^T W or W W^T, whichever is the smaller, is gain^2 times the identity."""
    kernel = np.asarray(kernel, np.float64)
    small = kernel.T @ kernel if kernel.shape[0] > kernel.shape[1] else kernel @ kernel.T
    np.testing.assert_allclose(small, gain**2 * np.eye(len(small)), atol=1e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_kernels_are_orthogonal_of_the_right_gain(shared):
    obs, actions = Box.of(-1.0, 1.0, (3,)), Box.of(-1.0, 1.0, (2,))
    policy = actor_critic(obs, actions, hidden_sizes=(16, 8), shared=shared)
    params = policy.init(KEY)["params"]
    towers = ["torsos_0"] if shared else ["torsos_0", "torsos_1"]
    assert sorted(params) == sorted([*towers, "log_std", "policy_head", "value_head"])
    for tower in towers:
        assert_orthogonal(params[tower]["Dense_0"]["kernel"], np.sqrt(2))
        assert_orthogonal(params[tower]["Dense_1"]["kernel"], np.sqrt(2))
        assert params[tower]["Dense_1"]["kernel"].shape == (16, 8)
    assert_orthogonal(params["policy_head"]["kernel"], 0.01)
    assert_orthogonal(params["value_head"]["kernel"], 1.0)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if "kernel" not in jax.tree_util.keystr(path):
            np.testing.assert_array_equal(leaf, 0.0)


def test_two_keys_give_two_networks():
    policy = actor_critic(Box.of(-1.0, 1.0, (3,)), Discrete(2), hidden_sizes=(8,))
    kernels = [policy.init(key)["params"]["torsos_0"] for key in jax.random.split(KEY)]
    assert not np.allclose(*[k["Dense_0"]["kernel"] for k in kernels])


@pytest.mark.parametrize("shape", MINATAR, ids=str)
def test_cnn_on_minatar_shapes(shape):
    module = CNN((32,))
    obs = jax.random.bernoulli(KEY, shape=(2, 5, *shape))
    params = module.init(KEY, obs)
    features = module.apply(params, obs)
    assert features.shape == (2, 5, 32)
    assert features.dtype == jnp.float32
    one = module.apply(params, obs[1, 3].astype(jnp.float32))
    np.testing.assert_allclose(features[1, 3], one, rtol=1e-4, atol=1e-5)
    kernel = params["params"]["Conv_0"]["kernel"]
    assert kernel.shape == (9 * shape[-1], 16)
    assert_orthogonal(kernel, np.sqrt(2))


@pytest.mark.parametrize("shape", MINATAR, ids=str)
def test_a_product_with_patches_is_a_convolution(shape):
    x_key, kernel_key = jax.random.split(KEY)
    x = jax.random.normal(x_key, (3, *shape))
    kernel = jax.random.normal(kernel_key, (3, 3, shape[-1], 16))
    theirs = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    ours = patches(x, 3) @ kernel.reshape(-1, 16)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_cnn_sees_where_things_are():
    module = CNN((32,))
    obs = jnp.zeros((2, 10, 10, 4)).at[0, 1, 1, 2].set(1.0).at[1, 7, 5, 2].set(1.0)
    features = module.apply(module.init(KEY, obs), obs)
    assert np.abs(features[0] - features[1]).max() > 1e-3


def test_a_policy_of_the_cnn():
    policy = actor_critic(
        Box.of(False, True, (10, 10, 4), bool), Discrete(6), torso="cnn", hidden_sizes=(16,)
    )
    params = policy.init(KEY)
    obs = jnp.zeros((3, 2, 10, 10, 4), bool)
    _, distribution, value = policy.unroll(params, (), obs, jnp.zeros((3, 2), bool))
    assert distribution.logits.shape == (3, 2, 6)
    assert value.shape == (3, 2)


@pytest.mark.parametrize(("shape", "inputs"), [((), 1), ((4,), 4), ((3, 2), 6)], ids=str)
def test_mlp_flattens_one_observation(shape, inputs):
    module = MLP((8,), obs_rank=len(shape))
    obs = jax.random.normal(KEY, (2, 5, *shape))
    params = module.init(KEY, obs)
    assert params["params"]["Dense_0"]["kernel"].shape == (inputs, 8)
    assert module.apply(params, obs).shape == (2, 5, 8)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_mlp_applies_the_activation_after_each_layer(name):
    by_hand = {
        "tanh": np.tanh,
        "relu": lambda x: np.maximum(x, 0),
        "swish": lambda x: x / (1 + np.exp(-x)),
    }[name]
    module = MLP((8, 5), name)
    x = np.asarray(jax.random.normal(KEY, (7, 3)))
    params = module.init(KEY, x)["params"]
    params = jax.tree.map(lambda p: p + 0.1, params)  # biases too
    expected = x
    for layer in ("Dense_0", "Dense_1"):
        kernel, bias = (np.asarray(params[layer][part]) for part in ("kernel", "bias"))
        expected = by_hand(expected @ kernel + bias)
    ours = module.apply({"params": params}, x)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
