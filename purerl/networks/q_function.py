"""Action-value networks, expected or distributional. Axes: N rows, A actions, Z atoms."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from purerl.networks.torsos import TORSOS, Head, NoisyDense
from purerl.spaces import Discrete, Space
from purerl.types import Key


class QFunction(NamedTuple):
    """What a value-based agent asks of a network.

    Attributes:
      init: (key) -> params.
      apply: (params, obs [N, ...], key=None) -> float32 [N, A, Z]; the key is for the noise of a
        noisy network, which without one is what it is on average.
    """

    init: Callable[[Key], Any]
    apply: Callable[..., jax.Array]


class QNetwork(nn.Module):
    """A torso and a head of A Z numbers; or, dueling, of Z for the state and A Z for advantages.

    Wang et al. 2016, https://arxiv.org/abs/1511.06581, eq. 9; with atoms as in Rainbow (Hessel et
    al. 2018, https://arxiv.org/abs/1710.02298, section 3).

    Attributes:
      num_actions: A.
      atoms: Z.
      torso: a name in TORSOS.
      hidden_sizes: features of each dense layer.
      activation: a name in ACTIVATIONS.
      obs_rank: axes of one observation.
      categories: of a Discrete observation, which is then one-hot encoded.
      layer_norm: before every activation.
      dueling: two heads.
      noisy: dense layers with learnt noise, see NoisyDense.
    """

    num_actions: int
    atoms: int = 1
    torso: str = "mlp"
    hidden_sizes: Sequence[int] = (64, 64)
    activation: str = "relu"
    obs_rank: int = 1
    categories: int = 0
    layer_norm: bool = False
    dueling: bool = False
    noisy: bool = False

    @nn.compact
    def __call__(self, obs: jax.Array) -> jax.Array:
        if self.categories:
            obs = jax.nn.one_hot(obs, self.categories)
        torso = TORSOS[self.torso]
        x = torso(
            self.hidden_sizes, self.activation, self.obs_rank, self.layer_norm, self.noisy
        )(obs)  # fmt: skip
        head = NoisyDense if self.noisy else lambda size, name: Head(size, gain=1.0, name=name)
        out = head(self.num_actions * self.atoms, name="advantage")(x)
        out = out.reshape(*out.shape[:-1], self.num_actions, self.atoms)
        if not self.dueling:
            return out
        value = head(self.atoms, name="value")(x)[..., None, :]
        return value + out - out.mean(-2, keepdims=True)


def q_function(observation_space: Space, num_actions: int, **network: Any) -> QFunction:
    """The QFunction of a `QNetwork`; keyword arguments are the module's attributes."""
    categories = observation_space.n if isinstance(observation_space, Discrete) else 0
    module = QNetwork(
        num_actions,
        obs_rank=1 if categories else len(observation_space.shape),
        categories=categories,
        **network,
    )

    def init(key: Key) -> Any:
        obs = jnp.zeros((1, *observation_space.shape), observation_space.dtype)
        return module.init(key, obs)

    def apply(params: Any, obs: jax.Array, key: Key | None = None) -> jax.Array:
        noise = {"noise": key} if module.noisy and key is not None else {}
        out: Any = module.apply(params, obs, rngs=noise)
        return out

    return QFunction(init, apply)
