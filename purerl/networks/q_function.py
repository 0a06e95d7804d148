"""Action-value networks, expected or distributional. Axes: N rows, A actions, Z atoms."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from purerl.errors import UsageError
from purerl.networks.torsos import TORSOS, Head, NoisyDense
from purerl.spaces import Discrete, Space
from purerl.types import Key


class QFunction(NamedTuple):
    """What a value-based agent asks of a network.

    Attributes:
      init: (key) -> params.
      apply: (params, obs [N, ...], noise=()) -> float32 [N, A, Z]; a noisy network is without noise
        what it is on average.
      noise: (key) -> one draw of its noise; () of a network that has none.
    """

    init: Callable[[Key], Any]
    apply: Callable[..., jax.Array]
    noise: Callable[[Key], Any] = lambda key: ()


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


def q_function(
    observation_space: Space, num_actions: int, prior: jax.Array | float = 0.0, **network: Any
) -> QFunction:
    """The QFunction of a `QNetwork`; keyword arguments are the module's attributes.

    At first the Z numbers of every action are `prior`, [Z], but for what random kernels add.
    """
    categories = observation_space.n if isinstance(observation_space, Discrete) else 0
    module = QNetwork(
        num_actions,
        obs_rank=1 if categories else len(observation_space.shape),
        categories=categories,
        **network,
    )

    def variables(key: Key) -> Any:
        return module.init(key, jnp.zeros((1, *observation_space.shape), observation_space.dtype))

    blank = jax.eval_shape(variables, jax.random.key(0)).get("noise", {})
    leaves, tree = jax.tree.flatten(blank)

    def noise(key: Key) -> Any:
        """One call for all layers: each costs as much as a product, however few its numbers."""
        ends = list(itertools.accumulate(leaf.size for leaf in leaves))
        draw = jax.random.normal(key, (ends[-1],))
        return jax.tree.unflatten(tree, jnp.split(draw, ends[:-1]))

    def init(key: Key) -> Any:
        params = variables(key)["params"]
        head = params["value" if module.dueling else "advantage"]
        bias = head["bias"].reshape(-1, module.atoms)
        head["bias"] = (bias + jnp.broadcast_to(prior, bias.shape)).reshape(-1)
        return {"params": params}

    def apply(params: Any, obs: jax.Array, noise: Any = ()) -> jax.Array:
        out: Any = module.apply({**params, "noise": noise} if noise else params, obs)
        return out

    return QFunction(init, apply, noise) if leaves else QFunction(init, apply)


def check_q_function(
    q: QFunction, observation_space: Space, num_actions: int, atoms: int = 1, noisy: bool = False
) -> None:
    """Raise UsageError unless what it gives for one observation is [1, num_actions, atoms].

    `noisy`: whether the algorithm hands it noise, so that `apply` must take a third argument.
    """
    obs = jax.ShapeDtypeStruct((1, *observation_space.shape), observation_space.dtype)
    key = jax.random.key(0)
    given = jax.eval_shape(q.init, key), obs, *([jax.eval_shape(q.noise, key)] if noisy else [])
    try:
        found = jax.eval_shape(q.apply, *given).shape
    except TypeError as error:
        wanted = "(params, obs, noise)" if noisy else "(params, obs)"
        reason = " ".join(str(error).split())
        raise UsageError(f"q: cannot be applied to {wanted}: {reason}") from None
    if found != (wanted := (1, num_actions, atoms)):
        said = f"must give {list(wanted)}, [observations, actions, atoms]"
        raise UsageError(f"q: gives {list(found)} for one observation, {said}")
