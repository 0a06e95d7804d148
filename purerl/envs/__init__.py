"""Environments: one contract, adapters for gymnax and brax, and `make`."""

import functools
from typing import Any

from purerl.envs import brax, gymnax, probes
from purerl.envs.environment import (
    Environment,
    ResetMode,
    TimeStep,
    VectorState,
    reset_batch,
    restarts,
    step_batch,
)
from purerl.errors import UsageError, choose, nearest, positive

__all__ = [
    "Environment",
    "ResetMode",
    "TimeStep",
    "VectorState",
    "make",
    "registered",
    "reset_batch",
    "restarts",
    "step_batch",
]


def registered() -> tuple[str, ...]:
    """Every name that `make` knows."""
    return gymnax.names() + brax.names() + probes.names()


@functools.cache
def make(name: str, **kwargs: Any) -> Environment:
    """The environment of that name, as in `make("brax/ant", backend="spring")`.

    The same arguments give the same object, so that agents made for it compile once.

    Args:
      name: one of `registered()`.
      **kwargs: brax: backend, episode_length, action_repeat and what the brax environment takes;
        gymnax: what the gymnax environment's constructor takes.

    Raises:
      UsageError: an unknown name or argument, or a backend that the environment lacks.
    """
    if name not in registered():
        close = " or ".join(nearest(name, registered())) or "one of purerl.registered()"
        raise UsageError(f"env={name!r}: no such environment; did you mean {close}?")
    suite, env_id = name.split("/", 1)
    if suite == "brax":
        choose("backend", kwargs.get("backend", "spring"), brax.BACKENDS)
        positive("episode_length", kwargs.get("episode_length", 1))
        positive("action_repeat", kwargs.get("action_repeat", 1))
    build = {"gymnax": gymnax.Gymnax, "brax": brax.Brax, "probe": probes.make}[suite]
    try:
        return build(env_id, **kwargs)
    except (TypeError, ValueError, NotImplementedError) as error:
        given = ", ".join(f"{k}={v!r}" for k, v in kwargs.items())
        raise UsageError(f"env={name!r} does not take {given or 'no arguments'}: {error}") from None
