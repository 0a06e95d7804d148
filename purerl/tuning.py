"""Tuned settings from Python: those that the experiments have for each environment."""

import dataclasses
import functools
import importlib

from purerl import envs
from purerl.errors import UsageError, nearest
from purerl.presets import PRESETS, TOTAL_STEPS, VARIANTS, preset
from purerl.types import Agent

OF_ENV = ("backend", "episode_length", "action_repeat", "opponent")  # what `make` is told


@functools.cache
def tuned(algorithm: str, env: str) -> tuple[Agent, int]:
    """(agent, total_steps) as the experiment of that name trains by default.

    The agent's hyperparameters are the tuned ones, so that
    `purerl.train(*purerl.tuned("rainbow", "gymnax/CartPole-v1"))` is `rainbow_gymnax.py`. The same
    arguments give the same agent, which compiles once.

    Args:
      algorithm: a module of `purerl.agents` or a variant: "ppo", "dqn", "rainbow", "redq", ...
      env: one of `purerl.registered()`.

    Raises:
      UsageError: no such algorithm or environment, or one that the algorithm cannot learn.
    """
    if algorithm not in PRESETS:
        close = " or ".join(nearest(algorithm, PRESETS)) or ", ".join(PRESETS)
        raise UsageError(f"algorithm={algorithm!r}: no such one; did you mean {close}?")
    settings = preset(algorithm, env)
    module = importlib.import_module(f"purerl.agents.{VARIANTS.get(algorithm, algorithm)}")
    static = {field.name for field in dataclasses.fields(module.Config)}
    config = module.Config(**{k: v for k, v in settings.items() if k in static})
    world = envs.make(env, **{k: settings[k] for k in OF_ENV if k in settings})
    numbers = {k: v for k, v in settings.items() if k in module.HParams._fields}
    agent = module.make(world, config)
    tuned = dataclasses.replace(agent, hparams=agent.hparams._replace(**numbers))
    return tuned, settings.get("total_steps", TOTAL_STEPS)
