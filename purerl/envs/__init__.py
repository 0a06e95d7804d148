"""Environments: one contract, adapters for gymnax, brax and pgx, board games, and `make`."""

import functools
from collections.abc import Iterable
from typing import Any

from purerl.envs import brax, gymnax, matches, pgx, probes
from purerl.envs.check import check
from purerl.envs.environment import (
    Environment,
    ResetMode,
    Restart,
    TimeStep,
    VectorState,
    reset_batch,
    restarts,
    step_batch,
)
from purerl.envs.reveal import Revealed, bare
from purerl.errors import UsageError, choose, nearest, positive

__all__ = [
    "Environment",
    "ResetMode",
    "Restart",
    "Revealed",
    "TimeStep",
    "VectorState",
    "bare",
    "check",
    "check_params",
    "make",
    "registered",
    "reset_batch",
    "restarts",
    "spec",
    "step_batch",
]

_specs: dict[int, tuple[str, dict[str, Any]]] = {}


def registered() -> tuple[str, ...]:
    """Every name that `make` knows."""
    return gymnax.names() + brax.names() + matches.names() + pgx.names() + probes.names()


def make(name: str, **kwargs: Any) -> Environment:
    """The environment of that name, as in `make("brax/ant", backend="spring")`.

    The same arguments give the same object, so that agents made for it compile once; a list
    counts as a tuple, and an argument that cannot be hashed, such as an array, gives a new object.

    Args:
      name: one of `registered()`.
      **kwargs: brax: backend (spring where it has it), episode_length (1000), action_repeat (1)
        and what the brax environment takes; gymnax: what the gymnax environment's constructor
        takes, and the fields of its parameters; game and pgx: opponent; probes: their fields.

    Raises:
      UsageError: an unknown name or argument, or a backend that the environment lacks.
    """
    pgx.refuse(name)
    if name not in registered():
        close = " or ".join(nearest(name, registered())) or "one of purerl.registered()"
        raise UsageError(f"env={name!r}: no such environment; did you mean {close}?")
    suite, env_id = name.split("/", 1)
    if suite == "brax":
        backends = brax.ENVIRONMENTS[env_id]
        kwargs = {"backend": backends[0], "episode_length": 1000, "action_repeat": 1} | kwargs
        choose("backend", kwargs["backend"], backends)
        positive("episode_length", kwargs["episode_length"])
        positive("action_repeat", kwargs["action_repeat"])
    arguments = sorted((k, tuple(v) if isinstance(v, list) else v) for k, v in kwargs.items())
    try:
        hash(tuple(arguments))
        env = _build(name, tuple(arguments))
    except TypeError:
        env = _build.__wrapped__(name, tuple(arguments))
    _specs[id(env)] = name, dict(arguments)
    return env


def spec(env: Environment) -> tuple[str, dict[str, Any]]:
    """(name, arguments) with which `make` gives this environment again.

    One that `make` did not make, and so cannot make again, has its own name and no arguments.
    """
    env = bare(env)
    return _specs.get(id(env), (env.name, {}))


@functools.lru_cache(maxsize=None, typed=True)
def _build(name: str, arguments: tuple[tuple[str, Any], ...]) -> Environment:
    suite, env_id = name.split("/", 1)
    build: dict[str, Any] = {
        "gymnax": gymnax.Gymnax, "brax": brax.Brax, "game": matches.make, "pgx": pgx.make,
        "probe": probes.make,
    }  # fmt: skip
    try:
        return build[suite](env_id, **dict(arguments))
    except UsageError:
        raise
    except (AssertionError, NotImplementedError, TypeError, ValueError) as error:
        given = ", ".join(f"{k}={v!r}" for k, v in arguments) or "no arguments"
        reason = f": {' '.join(str(error).split())}" if str(error) else ""
        raise UsageError(f"env={name!r} does not take {given}{reason}") from None


def check_params(env: Environment, params: Iterable[str]) -> None:
    """Raise UsageError unless every name is a float parameter of `env` that can be swept."""
    for name in params:
        if name not in env.params:
            close = " or ".join(nearest(name, env.params) or list(env.params))
            hint = f"did you mean {close}?" if close else "it has none"
            raise UsageError(f"env.{name}: no parameter of env={env.name!r}; {hint}")
