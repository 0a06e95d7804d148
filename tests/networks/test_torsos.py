"""Initialisation as in the PPO literature, and the shapes that torsos take."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from purerl.errors import UsageError
from purerl.networks import ACTIVATIONS, CNN, MLP, actor_critic, check_torso
from purerl.networks.continuous import LOG_STD, tanh_normal_actor
from purerl.networks.planning import scale
from purerl.networks.torsos import NoisyDense, ResNet, patches
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


def test_a_noisy_layer_is_that_of_its_paper():
    """Fortunato et al. 2018, eq. 9 to 11: w = mu + sigma f(e_i) f(e_j), f(x) = sgn(x) sqrt |x|."""
    layer, x = NoisyDense(4), jax.random.normal(jax.random.key(1), (6, 3))
    variables = layer.init(KEY, x)
    params = variables["params"]
    for name in ("kernel_noise", "bias_noise"):
        np.testing.assert_allclose(params[name], 0.5 / np.sqrt(3), rtol=1e-6)
    for name in ("kernel", "bias"):
        assert np.abs(params[name]).max() <= 1 / np.sqrt(3)
    draw = np.asarray(jax.random.normal(jax.random.key(2), (7,)))
    shaped = np.sign(draw) * np.sqrt(np.abs(draw))
    kernel = params["kernel"] + params["kernel_noise"] * shaped[:3, None] * shaped[None, 3:]
    bias = params["bias"] + params["bias_noise"] * shaped[3:]
    found = layer.apply({"params": params, "noise": {"draw": jnp.asarray(draw)}}, x)
    np.testing.assert_allclose(found, x @ kernel + bias[None], rtol=1e-4, atol=1e-5)
    average = layer.apply({"params": params}, x)
    np.testing.assert_allclose(average, x @ params["kernel"] + params["bias"][None], atol=1e-5)


def test_a_residual_network_keeps_the_size_of_the_board_and_sees_its_border():
    module, boards = ResNet((8,)), jnp.zeros((2, 3, 3, 3, 2))
    params = module.init(KEY, boards)
    assert module.apply(params, boards).shape == (2, 3, 8)
    kernels = [x["kernel"].shape for name, x in params["params"].items() if "Dense" in name]
    assert sorted(kernels) == [(9 * 2, 32), *[(9 * 32, 32)] * 4]
    assert params["params"]["MLP_0"]["Dense_0"]["kernel"].shape == (3 * 3 * 32, 8)
    for cell in np.ndindex(3, 3):
        changed = boards[0, 0].at[(*cell, 0)].set(1.0)
        difference = module.apply(params, changed) - module.apply(params, boards[0, 0])
        assert np.abs(difference).max() > 1e-3, cell


def test_a_residual_block_adds_to_what_it_is_given():
    """Blocks that add nothing leave the first convolution and the dense layers."""
    module, board = ResNet((8,)), jax.random.normal(KEY, (4, 3, 3, 2))
    params = dict(module.init(KEY, board)["params"])
    first = {k: params[k] for k in ("Dense_0", "LayerNorm_0", "MLP_0")}
    for block in (2, 4):  # the last convolution of each
        params[f"LayerNorm_{block}"] = jax.tree.map(jnp.zeros_like, params[f"LayerNorm_{block}"])
    padded = jnp.pad(board, ((0, 0), (1, 1), (1, 1), (0, 0)))
    first = jax.tree.map(np.asarray, first)
    x = np.asarray(patches(padded, 3)) @ first["Dense_0"]["kernel"] + first["Dense_0"]["bias"]
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    x = np.maximum((x - mean) / np.sqrt(variance + 1e-6), 0.0)
    dense = first["MLP_0"]["Dense_0"]
    wanted = np.maximum(x.reshape(4, -1) @ dense["kernel"] + dense["bias"], 0.0)
    found = module.apply({"params": params}, board)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    assert wanted.std(0).max() > 0.1


@pytest.mark.parametrize(
    ("torso", "shape", "said"),
    [
        ("cnn", (2, 9, 3), "torso='cnn': needs at least 3 x 3 cells, not (2, 9, 3)"),
        ("cnn", (9,), "torso='cnn': needs observations [height, width, channels], not (9,)"),
        ("resnet", (9,), "torso='resnet': needs observations"),
    ],
)
def test_what_a_torso_cannot_see(torso, shape, said):
    with pytest.raises(UsageError) as error:
        check_torso(torso, Box.of(0, 1, shape))
    assert str(error.value).startswith(said)
    check_torso("resnet", Box.of(0, 1, (2, 2, 1)))
    check_torso("cnn", Box.of(0, 1, (3, 3, 1)))


@pytest.mark.parametrize("torso", [CNN, ResNet])
def test_the_gradient_of_a_convolution_is_that_of_finite_differences(torso):
    module = torso((8,), "tanh")
    boards = jax.random.uniform(KEY, (3, 5, 5, 2))
    params = module.init(KEY, boards)
    flat, back = jax.flatten_util.ravel_pytree(params)
    loss = lambda x: jnp.sin(module.apply(back(x), boards)).sum()
    direction = jax.random.normal(jax.random.key(1), flat.shape) / flat.size**0.5
    slope = (loss(flat + 1e-2 * direction) - loss(flat - 1e-2 * direction)) / 2e-2
    assert jax.grad(loss)(flat) @ direction == pytest.approx(float(slope), rel=0.02, abs=2e-3)


def test_a_latent_state_lies_from_0_to_1_and_reaches_both():
    latent = 7.0 * jax.random.normal(KEY, (5, 16)) + 3.0
    found = scale(latent)
    np.testing.assert_allclose(found.min(-1), 0.0, atol=1e-6)
    np.testing.assert_allclose(found.max(-1), 1.0, atol=1e-6)
    low, high = latent.min(-1, keepdims=True), latent.max(-1, keepdims=True)
    np.testing.assert_allclose(found, (latent - low) / (high - low), rtol=1e-5, atol=1e-6)
    assert np.isfinite(scale(jnp.ones((2, 4)))).all()  # of equal numbers


def test_the_deviation_of_a_policy_stays_between_its_bounds():
    space = Box.of(-1.0, 1.0, (2,))
    actor = tanh_normal_actor(Box.of(-1.0, 1.0, (3,)), space, hidden_sizes=(8,), activation="tanh")
    params = jax.tree.map(lambda x: 1000.0 * x, actor.init(KEY))
    found = actor.apply(params, jax.random.normal(KEY, (200, 3))).log_std
    assert LOG_STD == (-5.0, 2.0)
    assert (found.min(), found.max()) == pytest.approx(LOG_STD, abs=1e-3)
