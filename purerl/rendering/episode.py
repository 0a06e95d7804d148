"""One greedy episode of one member, as one compiled scan. Axes: T steps."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from purerl.engine.load import Loaded
from purerl.engine.population import RENDER, stream
from purerl.engine.programs import enable_cache
from purerl.types import Agent, EnvParams, Key


class Episode(NamedTuple):
    """What is drawn, on the host.

    Attributes:
      state: the environment's states, leaves [T + 1, ...].
      obs: [T + 1, ...].
      action: [T, ...].
      reward: float32 [T].
      ended: whether the environment ended it, rather than the limit on T.
      params: the environment's float parameters, name -> value.
    """

    state: Any
    obs: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    ended: bool
    params: dict[str, float]

    @property
    def length(self) -> int:
        """T."""
        return len(self.reward)


def play(loaded: Loaded, member: int, steps: int, seed: int) -> Episode:
    """An episode of at most `steps` steps; the same `seed` starts every member alike."""
    enable_cache()
    agent = loaded.agent
    row = lambda tree: jax.tree.map(lambda x: x[member], tree)
    learner, hparams = row((loaded.state.train.learner, loaded.population.hparams))
    key = stream(jax.random.key(seed), RENDER)
    program = jax.jit(_scan, static_argnums=(0, 1))
    *found, done = jax.device_get(program(agent, steps, key, learner, hparams.env_params))
    state, obs, action, reward = found
    ended = bool(done.any())
    length = int(done.argmax()) + 1 if ended else steps
    first = lambda tree, count: jax.tree.map(lambda x: x[:count], tree)
    params = dict(agent.env.params) | {k: float(v) for k, v in hparams.env_params.items()}
    rows = (first(state, length + 1), obs[: length + 1], action[:length], reward[:length])
    return Episode(*rows, ended, params)


def _scan(agent: Agent, steps: int, key: Key, learner: Any, params: EnvParams):
    """(state, obs, action, reward, done) of `steps` steps, the first episode's and what follows."""
    env = agent.env
    reset_key, scan_key = jax.random.split(key)
    first = env.reset(reset_key, params)

    def step(scanned, key):
        state, obs, carry = scanned
        act_key, env_key = jax.random.split(key)
        action, carry = agent.act(act_key, learner, carry, obs[None], True)
        state, timestep = env.step(env_key, state, action[0], params)
        after = (state, timestep.obs)
        return (*after, carry), (after, action[0], timestep.reward, timestep.done)

    scanned = (*first, agent.initial_carry(1))
    _, (after, *rest) = jax.lax.scan(step, scanned, jax.random.split(scan_key, steps))
    state, obs = jax.tree.map(lambda x, xs: jnp.concatenate([x[None], xs]), first, after)
    return state, obs, *rest
