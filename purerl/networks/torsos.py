"""Feed-forward torsos: an observation to features. Axes: ... any batch axes, F features."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from purerl.errors import UsageError
from purerl.ops.linear import linear, project
from purerl.spaces import Space

type Initializer = Callable[..., jax.Array]


def swish(x: jax.Array) -> jax.Array:
    """x sigmoid(x) (Ramachandran et al. 2017), by tanh, which is cheaper than exp on a CPU."""
    half = 0.5 * x
    return half * jnp.tanh(half) + half


ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": nn.tanh,
    "relu": nn.relu,
    "swish": swish,
}


def orthogonal(gain: float) -> Initializer:
    """Orthogonal kernels of one gain, as PPO implementations use (Huang et al. 2022, detail 2)."""
    return nn.initializers.orthogonal(gain)


class Dense(nn.Module):
    """An affine layer, orthogonal kernel and zero bias at first: [..., F] -> [..., features]."""

    features: int
    gain: float = float(np.sqrt(2))

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", orthogonal(self.gain), (x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return linear(x, kernel) + bias.reshape((1,) * (x.ndim - 1) + (-1,))


class NoisyDense(nn.Module):
    """An affine layer whose parameters have learnt noise: [..., F] -> [..., features].

    Fortunato et al. 2018, https://arxiv.org/abs/1706.10295, section 3, factorised. A draw is given
    as the variable "draw" of the collection "noise", F + features standard normal numbers; without
    one the layer is what it is on average.
    """

    features: int
    initial_noise: float = 0.5

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        inputs, outputs = x.shape[-1], self.features
        bound = 1.0 / np.sqrt(inputs)
        mean = lambda key, shape: jax.random.uniform(key, shape, minval=-bound, maxval=bound)
        deviation = nn.initializers.constant(self.initial_noise * bound)
        kernel, bias = (
            self.param("kernel", mean, (inputs, outputs)),
            self.param("bias", mean, (outputs,)),
        )
        kernel_noise = self.param("kernel_noise", deviation, (inputs, outputs))
        bias_noise = self.param("bias_noise", deviation, (outputs,))
        if self.is_initializing() or self.has_variable("noise", "draw"):
            draw = self.variable("noise", "draw", jnp.zeros, inputs + outputs).value
            draw = jnp.sign(draw) * jnp.sqrt(jnp.abs(draw))
            kernel += kernel_noise * jnp.outer(draw[:inputs], draw[inputs:])
            bias += bias_noise * draw[inputs:]
        return linear(x, kernel) + bias.reshape((1,) * (x.ndim - 1) + (-1,))


class Head(nn.Module):
    """A last affine layer of few outputs, [..., F] -> [..., features]; its kernel is transposed."""

    features: int
    gain: float

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", orthogonal(self.gain), (self.features, x.shape[-1]))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return project(x, kernel) + bias.reshape((1,) * (x.ndim - 1) + (-1,))


class MLP(nn.Module):
    """Dense layers, each followed by LayerNorm if wanted, and the activation.

    [..., *observation] -> [..., hidden_sizes[-1]]; the last `obs_rank` axes are flattened first.
    Noise, if wanted, is in all layers but the first: behind features, as in the papers.
    """

    hidden_sizes: Sequence[int]
    activation: str = "tanh"
    obs_rank: int = 1
    layer_norm: bool = False
    noisy: bool = False

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        x = flatten(obs, self.obs_rank)
        for i, size in enumerate(self.hidden_sizes):
            x = (NoisyDense if self.noisy and i else Dense)(size)(x)
            x = nn.LayerNorm()(x) if self.layer_norm else x
            x = ACTIVATIONS[self.activation](x)
        return x


class CNN(nn.Module):
    """One 3 x 3 convolution of 16 channels, then dense layers: the MinAtar network.

    [..., height, width, channels] -> [..., hidden_sizes[-1]]. Young and Tian 2019,
    https://arxiv.org/abs/1903.03176, section 4 (there: ReLU and one dense layer of 128).
    """

    hidden_sizes: Sequence[int]
    activation: str = "relu"
    obs_rank: int = 3
    layer_norm: bool = False
    noisy: bool = False

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        batch = obs.shape[: obs.ndim - 3]
        x = obs.astype(jnp.float32).reshape((-1, *obs.shape[-3:]))
        x = Dense(16, name="Conv_0")(patches(x, 3))
        x = nn.LayerNorm()(x) if self.layer_norm else x
        x = ACTIVATIONS[self.activation](x).reshape((*batch, -1))
        dense = MLP(self.hidden_sizes, self.activation, 1, self.layer_norm, self.noisy)
        return dense(x)


class ResNet(nn.Module):
    """A convolution of 3 x 3 cells and 32 channels, two residual blocks of two, then dense layers.

    [..., height, width, channels] -> [..., hidden_sizes[-1]]; borders are padded. A small one of
    the kind of He et al. 2016, https://arxiv.org/abs/1512.03385, as AlphaZero has.
    """

    hidden_sizes: Sequence[int]
    activation: str = "relu"
    obs_rank: int = 3
    layer_norm: bool = False
    noisy: bool = False

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        batch, activation = obs.shape[: obs.ndim - 3], ACTIVATIONS[self.activation]
        x = obs.astype(jnp.float32).reshape((-1, *obs.shape[-3:]))
        padded = lambda x: jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        convolution = lambda x: nn.LayerNorm()(Dense(32)(patches(padded(x), 3)))
        x = activation(convolution(x))
        for _ in range(2):
            x = activation(x + convolution(activation(convolution(x))))
        dense = MLP(self.hidden_sizes, self.activation, 1, self.layer_norm, self.noisy)
        return dense(x.reshape((*batch, -1)))


def patches(x: jax.Array, size: int) -> jax.Array:
    """Every square of `size` x `size` cells, flattened: [N, H, W, C] -> [N, H', W', size^2 C].

    A convolution is a product with these. On a CPU, where the convolutions of several members would
    be one of many groups, that is the faster way, gradients included.
    """
    height, width = x.shape[1] - size + 1, x.shape[2] - size + 1
    parts = [x[:, i : i + height, j : j + width] for i in range(size) for j in range(size)]
    return jnp.concatenate(parts, -1)


TORSOS: dict[str, Callable[..., nn.Module]] = {"mlp": MLP, "cnn": CNN, "resnet": ResNet}


def check_torso(torso: str, observation_space: Space) -> None:
    """Raise UsageError where the torso cannot see such observations."""
    shape = observation_space.shape
    if torso != "mlp" and len(shape) != 3:
        raise UsageError(
            f"torso={torso!r}: needs observations [height, width, channels], not {shape}"
        )
    if torso == "cnn" and min(shape[:2]) < 3:
        raise UsageError(f"torso='cnn': needs at least 3 x 3 cells, not {shape}")


def flatten(obs: jax.Array, obs_rank: int) -> jax.Array:
    """Merge the last `obs_rank` axes into one float32 axis; a scalar observation gets one."""
    batch = obs.shape[: obs.ndim - obs_rank]
    return obs.astype(jnp.float32).reshape((*batch, -1))
