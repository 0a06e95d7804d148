"""Environments: one contract, adapters for gymnax, brax and pgx, board games, and `make`."""

import dataclasses
import functools
import importlib
import json
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

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
from purerl.errors import UsageError, choose, nearest, positive, whole

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

PARTS = (
    "name", "observation_space", "action_space", "params", "max_episode_steps", "reset", "step",
)  # fmt: skip
"""What every Environment has."""

_specs: dict[int, tuple[Environment, str, dict[str, Any]]] = {}  # by id, which none of these loses


def registered() -> tuple[str, ...]:
    """Every name that `make` knows."""
    return gymnax.names() + brax.names() + matches.names() + pgx.names() + probes.names()


def make(name: str, **kwargs: Any) -> Environment:
    """The environment of that name, as in `make("brax/ant", backend="spring")`.

    The same arguments give the same object, so that agents made for it compile once. Lists, arrays
    and NumPy's numbers count as tuples and Python's numbers, which a run's config.json can hold.

    Args:
      name: one of `registered()`, or "module:Class" of an Environment of your own, or of anything
        else that gives one when called.
      **kwargs: brax: backend (spring where it has it), episode_length (1000), action_repeat (1)
        and what the brax environment takes; gymnax: what the gymnax environment's constructor
        takes, and the fields of its parameters; game and pgx: opponent; probes: their fields; your
        own: the arguments it is called with.

    Raises:
      UsageError: an unknown name or argument, or a backend that the environment lacks.
    """
    own = ":" in name
    if not own:
        pgx.refuse(name)
    if not own and name not in registered():
        close = " or ".join(nearest(name, registered())) or "one of purerl.registered()"
        raise UsageError(f"env={name!r}: no such environment; did you mean {close}?")
    suite, _, env_id = name.partition("/")
    if suite == "brax" and not own:
        backends = brax.ENVIRONMENTS[env_id]
        kwargs = {"backend": backends[0], "episode_length": 1000, "action_repeat": 1} | kwargs
        choose("backend", kwargs["backend"], backends)
        for field in ("episode_length", "action_repeat"):
            kwargs[field] = whole(field, kwargs[field])
            positive(field, kwargs[field])
    arguments = tuple(sorted((k, _plain(v)) for k, v in kwargs.items()))
    for field, value in arguments:
        try:
            hash(value)
            json.dumps(value)
        except TypeError:
            said = "must be a number, a text, or a list or an array of them"
            raise UsageError(f"{field}={value!r}: {said}") from None
    env = _own(name, arguments) if own else _build(name, arguments)
    # What a function of one's own gives may have a name already.
    _specs.setdefault(id(env), (env, name, dict(arguments)))
    return env


def _plain(value: Any) -> Any:
    """As Python's own numbers, in tuples; of a random key its words."""
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        value = np.asarray(value).tolist()
    return tuple(_plain(x) for x in value) if isinstance(value, list | tuple) else value


def spec(env: Environment) -> tuple[str, dict[str, Any]]:
    """(name, arguments) with which `make` gives this environment again.

    One that `make` did not make, and so cannot make again, has a name that `make` does not know:
    its own, with a remark if that is registered. Of a dataclass the plain fields are arguments.
    """
    env = bare(env)
    if id(env) in _specs:
        return _specs[id(env)][1:]
    name = f"{env.name} (own)" if env.name in registered() else env.name
    names = [f.name for f in dataclasses.fields(env)] if dataclasses.is_dataclass(env) else []
    fields = {field: getattr(env, field) for field in names}
    kinds = (bool, int, float, str)
    known = {k: v for k, v in fields.items() if isinstance(v, kinds)}
    # As text where JSON has no number.
    odd = lambda v: isinstance(v, float) and not np.isfinite(v)
    return name, {k: str(v) if odd(v) else v for k, v in known.items()}


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


@functools.lru_cache(maxsize=None, typed=True)
def _own(name: str, arguments: tuple[tuple[str, Any], ...]) -> Environment:
    """What lies at "module:Class", called with the arguments."""
    module, _, attribute = name.partition(":")
    try:
        env = getattr(importlib.import_module(module), attribute)(**dict(arguments))
    except UsageError:
        raise
    except (AttributeError, ImportError, TypeError, ValueError) as error:
        raise UsageError(f"env={name!r}: {' '.join(str(error).split())}") from error
    if lacks := [part for part in PARTS if not hasattr(env, part)]:
        raise UsageError(f"env={name!r}: is no Environment: it has no {', '.join(lacks)}")
    return env


def check_params(env: Environment, params: Iterable[str]) -> None:
    """Raise UsageError unless every name is a float parameter of `env` that can be swept."""
    for name in params:
        if name not in env.params:
            close = " or ".join(nearest(name, env.params) or list(env.params))
            hint = f"did you mean {close}?" if close else "it has none"
            raise UsageError(f"env.{name}: no parameter of env={env.name!r}; {hint}")
