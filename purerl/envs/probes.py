"""Probe environments: tiny tasks whose optimal values are known, one for each part of an agent."""

from typing import Any

from purerl.envs.environment import Environment


def make(probe_id: str, **kwargs: Any) -> Environment:
    raise NotImplementedError(probe_id)


def names() -> tuple[str, ...]:
    """The names of the probes, with the `probe/` prefix."""
    return ()
