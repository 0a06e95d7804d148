"""Policies: what an agent asks of a network, and the actor-critic network that answers.

Axes: T time, B environments, F features.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from purerl.distributions import (
    Categorical,
    Distribution,
    MultiCategorical,
    Normal,
    TanhNormal,
)
from purerl.errors import UsageError
from purerl.networks.cores import CORES
from purerl.networks.torsos import TORSOS, Head
from purerl.ops.batching import where_row
from purerl.spaces import Box, Discrete, MultiDiscrete, Space
from purerl.types import Key


class Policy(NamedTuple):
    """A policy and value function with memory. One law: `unroll` equals a scan of `step`.

    Attributes:
      init: (key) -> params.
      initial_carry: (batch) -> carry, every leaf [batch, ...]; () without memory.
      step: (params, carry, obs [B, ...], start [B]) -> (carry, distribution [B], value [B]).
        The carry of row i is made afresh before the step where start[i].
      unroll: (params, carry, obs [T, B, ...], start [T, B]) -> (carry, distribution [T, B],
        value [T, B]).
      env_action: (action) -> the action in the environment's units, after the distribution's own
        `squash`.

    A distribution is one of `purerl.distributions`, or anything with their `sample`, `mode`,
    `log_prob`, `entropy` and `squash`.
    """

    init: Callable[[Key], Any]
    initial_carry: Callable[[int], Any]
    step: Callable[..., tuple[Any, Any, jax.Array]]
    unroll: Callable[..., tuple[Any, Any, jax.Array]]
    env_action: Callable[[jax.Array], jax.Array]


class ActorCritic(nn.Module):
    """Actor and critic: a torso and a core each, or one of both shared, and two heads.

    Attributes:
      action_space: decides the policy head.
      torso: a name in TORSOS.
      hidden_sizes: features of each dense layer.
      activation: a name in ACTIVATIONS.
      obs_rank: axes of one observation.
      shared: one torso and core for both heads.
      core: "none" or a name in CORES; `core_size` units follow the torso.
      squash: a tanh-squashed instead of a plain normal policy on a Box.
      initial_log_std: of that normal, a parameter that no observation changes.
      categories: of a Discrete observation, which is then one-hot encoded.
    """

    action_space: Space
    torso: str = "mlp"
    hidden_sizes: Sequence[int] = (64, 64)
    activation: str = "tanh"
    obs_rank: int = 1
    shared: bool = False
    core: str = "none"
    core_size: int = 64
    squash: bool = False
    initial_log_std: float = 0.0
    categories: int = 0

    def setup(self):
        towers = range(1 if self.shared else 2)
        torso, core = TORSOS[self.torso], CORES.get(self.core)
        self.torsos = [torso(self.hidden_sizes, self.activation, self.obs_rank) for _ in towers]
        self.cores = [core(self.core_size) for _ in towers] if core else []
        self.policy_head = Head(_policy_outputs(self.action_space), gain=0.01)
        self.value_head = Head(1, gain=1.0)
        if isinstance(self.action_space, Box):
            size = int(np.prod(self.action_space.shape))
            self.log_std = self.param(
                "log_std", nn.initializers.constant(self.initial_log_std), (size,)
            )

    def encode(self, obs: jax.Array) -> list[jax.Array]:
        """[..., *observation] -> one [..., F] a tower."""
        if self.categories:
            obs = jax.nn.one_hot(obs, self.categories)
        return [torso(obs) for torso in self.torsos]

    def remember(self, carry: Any, features: list[jax.Array]) -> tuple[Any, list[jax.Array]]:
        """One step of the cores: carries and features [B, ...], one a tower."""
        steps = [core(c, x) for core, c, x in zip(self.cores, carry, features, strict=True)]
        return tuple(carry for carry, _ in steps), [hidden for _, hidden in steps]

    def heads(self, features: list[jax.Array]) -> tuple[Distribution, jax.Array]:
        """One [..., F] a tower -> (distribution [...], value [...])."""
        outputs, value = self.policy_head(features[0]), self.value_head(features[-1])
        space, value = self.action_space, jnp.squeeze(value, -1)
        if isinstance(space, Discrete):
            return Categorical(outputs), value
        if isinstance(space, MultiDiscrete):
            return MultiCategorical(outputs, space.nvec), value
        lift = (1,) * (outputs.ndim - 1) + (-1,)
        log_std = jnp.broadcast_to(self.log_std.reshape(lift), outputs.shape)
        return (TanhNormal if self.squash else Normal)(outputs, log_std), value

    def __call__(self, obs: jax.Array, carry: Any) -> tuple[Distribution, jax.Array]:
        """Touch every parameter once, for `init`: obs [B, ...] -> (distribution [B], value [B])."""
        features = self.encode(obs)
        if self.cores:
            _, features = self.remember(carry, features)
        return self.heads(features)


def actor_critic(observation_space: Space, action_space: Space, **network: Any) -> Policy:
    """The Policy of an `ActorCritic`; keyword arguments are the module's attributes."""
    categories = observation_space.n if isinstance(observation_space, Discrete) else 0
    module = ActorCritic(
        action_space,
        obs_rank=1 if categories else len(observation_space.shape),
        categories=categories,
        **network,
    )
    recurrent = module.core != "none"
    apply: Any = module.apply

    def init(key: Key) -> Any:
        obs = jnp.zeros((1, *observation_space.shape), observation_space.dtype)
        return module.init(key, obs, initial_carry(1))

    def initial_carry(batch: int) -> Any:
        if not recurrent:
            return ()
        zeros = jnp.zeros((batch, module.core_size))
        one = (zeros, zeros) if module.core == "lstm" else zeros
        return (one,) if module.shared else (one, one)

    def remember(params: Any, carry: Any, features: list[jax.Array], start: jax.Array):
        carry = jax.tree.map(lambda x: where_row(start, jnp.zeros_like(x), x), carry)
        return apply(params, carry, features, method="remember")

    def step(params: Any, carry: Any, obs: jax.Array, start: jax.Array):
        features = apply(params, obs, method="encode")
        if recurrent:
            carry, features = remember(params, carry, features, start)
        distribution, value = apply(params, features, method="heads")
        return carry, distribution, value

    def unroll(params: Any, carry: Any, obs: jax.Array, start: jax.Array):
        features = apply(params, obs, method="encode")  # [T, B, F] a tower
        if recurrent:
            now = lambda carry, x: remember(params, carry, *x)
            carry, features = jax.lax.scan(now, carry, (features, start))
        distribution, value = apply(params, features, method="heads")
        return carry, distribution, value

    return Policy(init, initial_carry, step, unroll, to_env(action_space))


def bind(
    init: Callable[[Key], Any],
    apply: Callable[..., Any],
    action_space: Space,
    initial_carry: Callable[[int], Any] | None = None,
) -> Policy:
    """A Policy from functions of your own: Equinox, NNX split and merged, plain JAX.

    Args:
      init: (key) -> params, any pytree of arrays.
      apply: (params, obs [..., *observation]) -> (distribution [...], value [...]); with memory
        one step, (params, carry, obs [B, ...]) -> (carry, distribution [B], value [B]).
      action_space: what the distribution's actions are for.
      initial_carry: of a policy with memory: (batch) -> the memory with which an episode begins,
        every leaf [batch, ...]. The distribution is then a pytree.
    """

    def step(params: Any, carry: Any, obs: jax.Array, start: jax.Array):
        if initial_carry is None:
            return carry, *apply(params, obs)
        fresh = initial_carry(obs.shape[0])
        carry = jax.tree.map(lambda new, old: where_row(start, new, old), fresh, carry)
        return apply(params, carry, obs)

    def unroll(params: Any, carry: Any, obs: jax.Array, start: jax.Array):
        def now(carry: Any, x: Any):
            carry, distribution, value = step(params, carry, *x)
            return carry, (distribution, value)

        carry, (distribution, value) = jax.lax.scan(now, carry, (obs, start))
        return carry, distribution, value

    env_action = to_env(action_space)
    if initial_carry is None:
        return Policy(init, lambda batch: (), step, step, env_action)
    return Policy(init, initial_carry, step, unroll, env_action)


def check_policy(policy: Policy, observation_space: Space, action_space: Space) -> None:
    """Raise UsageError unless one step of two environments gives two values and two actions."""

    def step(key: Key, obs: jax.Array, start: jax.Array):
        carry = policy.initial_carry(2)
        _, distribution, value = policy.step(policy.init(key), carry, obs, start)
        action = distribution.sample(key)
        log_prob = distribution.log_prob(action)
        return value, log_prob, policy.env_action(distribution.squash(action))

    obs = jax.ShapeDtypeStruct((2, *observation_space.shape), observation_space.dtype)
    start = jax.ShapeDtypeStruct((2,), jnp.bool_)
    try:
        found = jax.eval_shape(step, jax.random.key(0), obs, start)
    except (AttributeError, TypeError) as error:
        raise UsageError(f"policy: cannot make a step: {' '.join(str(error).split())}") from error
    names = "value", "log_prob of its actions", "action"
    for name, x, shape in zip(names, found, ((), (), action_space.shape), strict=True):
        if x.shape != (2, *shape):
            raise UsageError(
                f"policy: gives a {name} of shape {list(x.shape)} for two observations, must give "
                f"{[2, *shape]}"
            )


def to_env(space: Space) -> Callable[[jax.Array], jax.Array]:
    """From a policy's action to the environment's.

    On a bounded Box the policy acts in [-1, 1], which is mapped onto the box and clipped to it;
    where any bound is infinite the action is only clipped.
    """
    if not isinstance(space, Box):
        return lambda action: action
    shape = space.shape

    def env_action(action: jax.Array) -> jax.Array:
        action = action.reshape(action.shape[: action.ndim - 1] + shape)
        lift = (1,) * (action.ndim - len(shape)) + shape
        if not space.bounded:
            low, high = jnp.asarray(space.low).reshape(lift), jnp.asarray(space.high).reshape(lift)
            return jnp.clip(action, low, high).astype(space.dtype)
        middle = jnp.asarray((space.high + space.low) / 2).reshape(lift)
        half = jnp.asarray((space.high - space.low) / 2).reshape(lift)
        return (middle + half * jnp.clip(action, -1.0, 1.0)).astype(space.dtype)

    return env_action


def _policy_outputs(space: Space) -> int:
    if isinstance(space, Discrete):
        return space.n
    return sum(space.nvec) if isinstance(space, MultiDiscrete) else int(np.prod(space.shape))
