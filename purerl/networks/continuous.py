"""Networks of agents with continuous actions: actors, and critics of state and action.

Axes: N rows, A action dimensions, E critics.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from purerl.distributions import TanhNormal
from purerl.errors import UsageError
from purerl.networks.torsos import ACTIVATIONS, Dense, Head, flatten
from purerl.spaces import Box, Discrete, Space
from purerl.types import Key

LOG_STD = (-5.0, 2.0)
"""Least and greatest logarithm of a policy's standard deviation, before the tanh."""


class Network(NamedTuple):
    """Parameters and what they make of their inputs.

    Attributes:
      init: (key) -> params.
      apply: (params, *inputs) -> outputs.
    """

    init: Callable[[Key], Any]
    apply: Callable[..., Any]


class Tower(nn.Module):
    """Dense layers and a head: [N, I] -> [N, outputs].

    Each layer is followed by dropout if wanted, LayerNorm if wanted, and the activation, in the
    order of DroQ (Hiraoka et al. 2022, https://arxiv.org/abs/2110.02034, algorithm 2).
    """

    outputs: int
    hidden_sizes: Sequence[int]
    activation: str
    gain: float = 1.0
    layer_norm: bool = False
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for size in self.hidden_sizes:
            x = Dense(size)(x)
            if self.dropout:
                x = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))(x)
            x = nn.LayerNorm()(x) if self.layer_norm else x
            x = ACTIVATIONS[self.activation](x)
        return Head(self.outputs, gain=self.gain)(x)


def _apply(module: nn.Module, params: Any, *inputs: jax.Array, **given: Any) -> jax.Array:
    out: Any = module.apply(params, *inputs, **given)
    return out


def deterministic_actor(observation_space: Space, action_space: Box, **tower: Any) -> Network:
    """params, obs [N, ...] -> action [N, A] in [-1, 1]; keyword arguments are of `Tower`."""
    see, size = _encoder(observation_space), int(np.prod(action_space.shape))
    module = Tower(size, gain=0.01, **tower)
    init = lambda key: module.init(key, jnp.zeros((1, _features(observation_space))))
    return Network(init, lambda params, obs: jnp.tanh(_apply(module, params, see(obs))))


def tanh_normal_actor(observation_space: Space, action_space: Box, **tower: Any) -> Network:
    """params, obs [N, ...] -> TanhNormal of A dimensions; keyword arguments are of `Tower`.

    The logarithm of the deviation moves smoothly between its bounds, LOG_STD.
    """
    see, size = _encoder(observation_space), int(np.prod(action_space.shape))
    module = Tower(2 * size, gain=0.01, **tower)

    def apply(params: Any, obs: jax.Array) -> TanhNormal:
        mean, spread = jnp.split(_apply(module, params, see(obs)), 2, -1)
        low, high = LOG_STD
        return TanhNormal(mean, low + 0.5 * (high - low) * (jnp.tanh(spread) + 1.0))

    init = lambda key: module.init(key, jnp.zeros((1, _features(observation_space))))
    return Network(init, apply)


def critics(observation_space: Space, action_space: Box, number: int, **tower: Any) -> Network:
    """params, obs [N, ...], action [N, A] -> values [E, N] of E = `number` independent critics.

    One network, mapped over parameters [E, ...], so that its products are batched. A further
    argument, a key, switches dropout on, differently in each critic.
    """
    see, size = _encoder(observation_space), int(np.prod(action_space.shape))
    module = Tower(1, **tower)

    def init(key: Key) -> Any:
        x = jnp.zeros((1, _features(observation_space) + size))
        return jax.vmap(lambda key: module.init(key, x))(jax.random.split(key, number))

    def apply(params: Any, obs: jax.Array, action: jax.Array, key: Key | None = None) -> jax.Array:
        x = jnp.concatenate([see(obs), action], -1)
        if key is None:
            return jax.vmap(lambda p: _apply(module, p, x)[:, 0])(params)
        one = lambda p, key: _apply(module, p, x, rngs={"dropout": key})[:, 0]
        return jax.vmap(one)(params, jax.random.split(key, number))

    return Network(init, apply)


def check_actions(name: str, space: Space, algorithm: str) -> None:
    """Raise UsageError unless actions are continuous and bounded."""
    if not isinstance(space, Box) or not np.issubdtype(space.dtype, np.floating):
        raise UsageError(f"env={name!r}: {algorithm} needs continuous actions, not {space}")
    if not space.bounded:
        low, high = space.low.min(), space.high.max()
        raise UsageError(
            f"env={name!r}: {algorithm} needs finite action bounds, not {low:g} to {high:g}"
        )


def _features(space: Space) -> int:
    return space.n if isinstance(space, Discrete) else int(np.prod(space.shape))


def _encoder(space: Space) -> Callable[[jax.Array], jax.Array]:
    """From observations [N, ...] to numbers [N, I]; one that is a name becomes one-hot."""
    if isinstance(space, Discrete):
        return lambda obs: jax.nn.one_hot(obs, space.n)
    return lambda obs: flatten(obs, len(space.shape))
