"""Probe environments: tiny tasks whose optimal values are known, one for each part of an agent.

An agent that fails one of them says which of its parts is broken. In what follows gamma is the
discount, and V the optimal value of the first state; `optimal_value(obs, discount)` gives it, from
the first observation of an episode.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from purerl.envs.environment import Environment, TimeStep
from purerl.errors import positive
from purerl.spaces import Box, Discrete
from purerl.types import EnvParams, Key


class ProbeState(NamedTuple):
    """Attributes: cue, float32 [], drawn at reset, 0 if the probe has none; time, int32 []."""

    cue: jax.Array
    time: jax.Array


class _Probe:
    """What most probes share: one number in [-1, 1] to see, two actions, no truncation."""

    observation_space = Box.of(-1.0, 1.0, (1,))
    action_space: Discrete | Box = Discrete(2)

    @property
    def params(self) -> EnvParams:
        return {}

    @property
    def max_episode_steps(self) -> int | None:
        return None

    def reset(self, key: Key, params: EnvParams = {}) -> tuple[ProbeState, jax.Array]:
        del key, params
        return ProbeState(jnp.float32(0), jnp.int32(0)), jnp.zeros(1)


class _Cued(_Probe):
    """A probe that draws a cue of -1 or 1 at reset, and shows it."""

    def reset(self, key: Key, params: EnvParams = {}) -> tuple[ProbeState, jax.Array]:
        del params
        cue = jax.random.rademacher(key, (), jnp.float32)
        return ProbeState(cue, jnp.int32(0)), cue[None]


@dataclasses.dataclass(frozen=True)
class Value(_Probe):
    """One step, reward 1 whatever is done. V = 1. Fails: the value loss, the optimiser."""

    name = "probe/value"

    def step(self, key: Key, state: ProbeState, action: jax.Array, params: EnvParams = {}):
        return _show(state, jnp.zeros(1), 1.0, terminated=True)

    def optimal_value(self, obs: jax.Array, discount: float) -> jax.Array:
        return jnp.ones(obs.shape[:-1])


@dataclasses.dataclass(frozen=True)
class Discount(_Probe):
    """Two steps, seen as 0 and 1; reward 1 at the end of the second. V = gamma, then 1.

    Fails: bootstrapping, the discount, the order of time.
    """

    name = "probe/discount"

    def step(self, key: Key, state: ProbeState, action: jax.Array, params: EnvParams = {}):
        last = state.time == 1
        return _show(state, jnp.ones(1), last, terminated=last)

    def optimal_value(self, obs: jax.Array, discount: float) -> jax.Array:
        return jnp.full(obs.shape[:-1], discount)


@dataclasses.dataclass(frozen=True)
class Policy(_Probe):
    """One step, reward 1 for action 1, -1 for action 0. V = 1. Fails: the policy gradient."""

    name = "probe/policy"

    def step(self, key: Key, state: ProbeState, action: jax.Array, params: EnvParams = {}):
        return _show(state, jnp.zeros(1), 2 * action - 1, terminated=True)

    def optimal_value(self, obs: jax.Array, discount: float) -> jax.Array:
        return jnp.ones(obs.shape[:-1])


@dataclasses.dataclass(frozen=True)
class PolicyContinuous(_Probe):
    """One step, reward 1 - (a - 1/2)^2 for an action a in [-1, 1]. V = 1, at a = 1/2.

    Fails: the continuous policy, the scale of its actions.
    """

    name = "probe/policy-continuous"
    action_space = Box.of(-1.0, 1.0, (1,))

    def step(self, key: Key, state: ProbeState, action: jax.Array, params: EnvParams = {}):
        action = jnp.clip(action, -1.0, 1.0)[0]
        return _show(state, jnp.zeros(1), 1 - (action - 0.5) ** 2, terminated=True)

    def optimal_value(self, obs: jax.Array, discount: float) -> jax.Array:
        return jnp.ones(obs.shape[:-1])


@dataclasses.dataclass(frozen=True)
class ObsValue(_Cued):
    """One step, reward equal to the cue seen, -1 or 1. V = cue. Fails: the critic's input."""

    name = "probe/obs-value"

    def step(self, key: Key, state: ProbeState, action: jax.Array, params: EnvParams = {}):
        return _show(state, jnp.zeros(1), state.cue, terminated=True)

    def optimal_value(self, obs: jax.Array, discount: float) -> jax.Array:
        return obs[..., 0]


@dataclasses.dataclass(frozen=True)
class ObsPolicy(_Cued):
    """One step, reward 1 for action 1 at cue 1 or action 0 at cue -1, else -1. V = 1.

    A policy blind to what it sees gets 0. Fails: the actor's input; actions, observations and
    rewards that are not of the same step.
    """

    name = "probe/obs-policy"

    def step(self, key: Key, state: ProbeState, action: jax.Array, params: EnvParams = {}):
        return _show(state, jnp.zeros(1), state.cue * (2 * action - 1), terminated=True)

    def optimal_value(self, obs: jax.Array, discount: float) -> jax.Array:
        return jnp.ones(obs.shape[:-1])


@dataclasses.dataclass(frozen=True)
class Truncation(_Probe):
    """Reward 1 for ever, cut after `steps` steps; the time is not seen. V = 1 / (1 - gamma).

    An agent that takes the cut for an end learns a mean of (1 - gamma^k) / (1 - gamma) over the k
    steps left instead. Fails: bootstrapping from the final observation.
    """

    steps: int = 5
    name = "probe/truncation"

    def __post_init__(self):
        positive("steps", self.steps)

    @property
    def max_episode_steps(self) -> int | None:
        return self.steps

    def step(self, key: Key, state: ProbeState, action: jax.Array, params: EnvParams = {}):
        return _show(state, jnp.zeros(1), 1.0, truncated=state.time + 1 >= self.steps)

    def optimal_value(self, obs: jax.Array, discount: float) -> jax.Array:
        return jnp.full(obs.shape[:-1], 1 / (1 - discount))


@dataclasses.dataclass(frozen=True)
class Memory(_Cued):
    """A cue of -1 or 1 at the first step, then `delay` blank ones; the last action answers.

    Reward 1 if that action is 1 at cue 1 or 0 at cue -1, else -1. V = gamma^delay. A policy
    without memory gets 0 on average. Fails: the recurrent state, its resets, what it is
    trained on.
    """

    delay: int = 3
    name = "probe/memory"

    def __post_init__(self):
        positive("delay", self.delay)

    def step(self, key: Key, state: ProbeState, action: jax.Array, params: EnvParams = {}):
        last = state.time == self.delay
        answer = state.cue * (2 * action - 1)
        return _show(state, jnp.zeros(1), jnp.where(last, answer, 0.0), terminated=last)

    def optimal_value(self, obs: jax.Array, discount: float) -> jax.Array:
        return jnp.full(obs.shape[:-1], discount**self.delay)


def _show(
    state: ProbeState, obs: jax.Array, reward: Any, terminated: Any = False, truncated: Any = False
) -> tuple[ProbeState, TimeStep]:
    flags = jnp.asarray(terminated, bool), jnp.asarray(truncated, bool)
    return state._replace(time=state.time + 1), TimeStep(obs, jnp.float32(reward), *flags)


_PROBES = (
    Value,
    Discount,
    Policy,
    PolicyContinuous,
    ObsValue,
    ObsPolicy,
    Truncation,
    Memory,
)


def make(probe_id: str, **kwargs: Any) -> Environment:
    """The probe of that name; `kwargs` are its fields."""
    return {probe.name: probe for probe in _PROBES}[f"probe/{probe_id}"](**kwargs)


def names() -> tuple[str, ...]:
    """The names of the probes, with the `probe/` prefix."""
    return tuple(probe.name for probe in _PROBES)
