"""The nouns that every room shares."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple, dataclass_transform

import jax

type Key = jax.Array
"""A typed random key (`jax.random.key`), never a legacy uint32 pair."""

type Metrics = dict[str, jax.Array]
"""Scalars named `topic/quantity`, reduced inside the compiled program; see `added_up`."""

Share = Annotated[float, (0.0, 1.0)]
"""A hyperparameter from 0 to 1, as is checked before anything compiles."""

Magnitude = Annotated[float, (0.0, math.inf)]
"""A hyperparameter that must not be negative, likewise."""

type EnvParams = Mapping[str, Any]
"""Overrides of an environment's float parameters; values may be traced, so they sweep."""


def added_up(name: str) -> bool:
    """Whether a metric of that name is summed over rounds and iterations; others are averaged."""
    return name.endswith(("_sum", "/count"))


@dataclass_transform(frozen_default=True)
def pytree[T](cls: type[T]) -> type[T]:
    """Make `cls` a frozen dataclass and a pytree; fields marked `static()` are metadata."""
    return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True)(cls))


def static() -> Any:
    """A dataclass field that is part of the tree structure, hashed and never traced."""
    return dataclasses.field(metadata={"static": True})


class Clock(NamedTuple):
    """Where a run stands, in iterations. Unbatched: all members of a population share it.

    A `lax.cond` on the clock survives `vmap`, because its predicate carries no member axis.

    Attributes:
      step: int32 [], the index of this iteration.
      total: int32 [], the iterations of the whole run: the horizon of every schedule.
    """

    step: jax.Array
    total: jax.Array


class TrainState(NamedTuple):
    """Everything that changes during training; nothing else does.

    Attributes:
      learner: what is learnt (parameters, optimiser, targets, observation statistics). The same
        on every device of the data axis.
      actor: what is being lived (environments, recurrent carries, replay rows). Every leaf has
        the environment axis first, so the data axis can split it.
    """

    learner: Any
    actor: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Agent:
    """A reinforcement-learning algorithm for one environment, as pure functions.

    Hashed by identity: `make` is cached, so equal settings give the same agent, compiled once.

    Attributes:
      init: (key, hparams) -> TrainState.
      update: (key, state, hparams, clock) -> (TrainState, Metrics). One iteration: collect,
        then learn.
      act: (key, learner, carry, obs [B, ...], greedy) -> (action [B, ...], carry). What
        evaluation, rendering and play need; the action is in the environment's own units.
      initial_carry: (batch) -> the memory of `batch` fresh episodes, every leaf [batch, ...];
        () if the policy has none.
      hparams: the algorithm's default HParams: a NamedTuple of floats, with a field `env_params`
        for the environment parameters that sweep.
      env: the environment the functions were made for.
      config: the static settings they were made with.
      steps_per_update: environment steps of one `update`, over all its environments.
      learning_starts: environment steps before anything is learnt, in whole rounds; a run must be
        longer.
      own_network: whether its network is one that `config` does not describe.
      cpu_batch: members that a CPU device runs abreast unless told otherwise: the larger an agent's
        products, the fewer (docs/decisions/0003).
    """

    init: Callable[..., TrainState]
    update: Callable[..., tuple[TrainState, Metrics]]
    act: Callable[..., tuple[jax.Array, Any]]
    initial_carry: Callable[[int], Any]
    hparams: Any
    env: Any
    config: Any
    steps_per_update: int
    learning_starts: int = 0
    cpu_batch: int = 4
    own_network: bool = False
