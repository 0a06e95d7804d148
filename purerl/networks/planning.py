"""Networks of agents that plan. Axes: N rows, A actions, F features of a latent state, Z atoms."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from purerl.networks.continuous import Network
from purerl.networks.torsos import ACTIVATIONS, TORSOS, Dense, Head
from purerl.spaces import Discrete, Space
from purerl.types import Key


class PolicyValue(nn.Module):
    """A torso, logits and a value in [-1, 1]: [N, *observation] -> ([N, A], [N]).

    Silver et al. 2018, https://doi.org/10.1126/science.aar6404, with a torso of one's choice.
    """

    num_actions: int
    torso: str
    hidden_sizes: Sequence[int]
    obs_rank: int

    @nn.compact
    def __call__(self, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = TORSOS[self.torso](self.hidden_sizes, "relu", self.obs_rank)(obs)
        logits = Head(self.num_actions, gain=0.01, name="policy")(x)
        return logits, jnp.tanh(Head(1, gain=0.01, name="value")(x)[..., 0])


def policy_value(
    observation_space: Space, num_actions: int, torso: str, hidden_sizes: Sequence[int]
) -> Network:
    """apply: (params, obs [N, ...]) -> (logits [N, A], value [N])."""
    shape, dtype = observation_space.shape, observation_space.dtype
    module = PolicyValue(num_actions, torso, hidden_sizes, len(shape))
    return Network(lambda key: module.init(key, jnp.zeros((1, *shape), dtype)), module.apply)


class Model(NamedTuple):
    """The three functions of MuZero.

    Attributes:
      init: (key) -> params.
      represent: (params, obs [N, ...]) -> latent [N, F].
      dynamics: (params, latent [N, F], action [N]) -> (latent [N, F], reward logits [N, Z]).
      predict: (params, latent [N, F]) -> (policy logits [N, A], value logits [N, Z]).
    """

    init: Callable[[Key], Any]
    represent: Callable[..., jax.Array]
    dynamics: Callable[..., tuple[jax.Array, jax.Array]]
    predict: Callable[..., tuple[jax.Array, jax.Array]]


def scale(latent: jax.Array) -> jax.Array:
    """Each latent state [..., F] to [0, 1] (Schrittwieser et al. 2020, appendix G)."""
    low, high = latent.min(-1, keepdims=True), latent.max(-1, keepdims=True)
    return (latent - low) / jnp.maximum(high - low, 1e-5)


class MuZeroNetwork(nn.Module):
    """Representation, dynamics and prediction; the dynamics change the latent state by a residual.

    Schrittwieser et al. 2020, https://arxiv.org/abs/1911.08265, appendix F, with dense layers where
    the paper has planes of a board.

    Attributes:
      num_actions: A.
      atoms: Z.
      latent_size: F.
      torso: a name in TORSOS, of the representation.
      hidden_sizes: of the torso, and of the dynamics and the prediction.
      obs_rank: axes of one observation.
      categories: of a Discrete observation, which is then one-hot encoded.
    """

    num_actions: int
    atoms: int
    latent_size: int
    torso: str
    hidden_sizes: Sequence[int]
    obs_rank: int
    categories: int = 0

    def setup(self) -> None:
        self.see = TORSOS[self.torso](self.hidden_sizes, "relu", self.obs_rank)
        self.latent = Dense(self.latent_size)
        self.moving = [Dense(size) for size in self.hidden_sizes]
        self.change = Dense(self.latent_size)
        self.reward = Head(self.atoms, gain=0.01)
        self.judging = [Dense(size) for size in self.hidden_sizes]
        self.policy = Head(self.num_actions, gain=0.01)
        self.value = Head(self.atoms, gain=0.01)

    def represent(self, obs: jax.Array) -> jax.Array:
        if self.categories:
            obs = jax.nn.one_hot(obs, self.categories)
        return scale(self.latent(self.see(obs)))

    def dynamics(self, latent: jax.Array, action: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = jnp.concatenate([latent, jax.nn.one_hot(action, self.num_actions)], -1)
        for layer in self.moving:
            x = ACTIVATIONS["relu"](layer(x))
        return scale(latent + self.change(x)), self.reward(x)

    def predict(self, latent: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = latent
        for layer in self.judging:
            x = ACTIVATIONS["relu"](layer(x))
        return self.policy(x), self.value(x)

    def __call__(self, obs: jax.Array, action: jax.Array) -> Any:
        latent = self.represent(obs)
        return self.dynamics(latent, action), self.predict(latent)


def muzero_model(observation_space: Space, num_actions: int, **network: Any) -> Model:
    """The Model of a `MuZeroNetwork`; keyword arguments are the module's attributes."""
    shape, dtype = observation_space.shape, observation_space.dtype
    categories = observation_space.n if isinstance(observation_space, Discrete) else 0
    module = MuZeroNetwork(
        num_actions, obs_rank=1 if categories else len(shape), categories=categories, **network
    )

    def method(name: str) -> Callable[..., Any]:
        def call(params: Any, *inputs: jax.Array) -> Any:
            return module.apply(params, *inputs, method=name)

        return call

    blank = jnp.zeros((1, *shape), dtype), jnp.zeros(1, jnp.int32)
    init = lambda key: module.init(key, *blank)
    return Model(init, method("represent"), method("dynamics"), method("predict"))
