"""Decision processes small enough for tables, and agents trained on them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import purerl
from purerl.envs import TimeStep
from purerl.spaces import Discrete


@dataclasses.dataclass(frozen=True)
class RandomMDP:
    """S states shown as they are, A actions; random transitions, rewards and endings."""

    seed: int
    limit: int | None = 7
    name = "test/random-mdp"
    observation_space = Discrete(5)
    action_space = Discrete(3)
    params = {}

    @property
    def max_episode_steps(self):
        return self.limit

    def tables(self):
        """Transition [S, A, S], reward [S, A], probability of ending [S, A]."""
        rng = np.random.default_rng(self.seed)
        moves = rng.dirichlet(0.3 * np.ones(5), (5, 3)).astype(np.float32)
        return moves, rng.normal(size=(5, 3)).astype(np.float32), rng.random((5, 3)) * 0.3

    def reset(self, key, params={}):
        state = jax.random.randint(key, (), 0, 5)
        return (state, jnp.int32(0)), state

    def step(self, key, state, action, params={}):
        moves, reward, ending = map(jnp.asarray, self.tables())
        at, time = state
        move_key, end_key = jax.random.split(key)
        new = jax.random.choice(move_key, 5, p=moves[at, action]).astype(jnp.int32)
        terminated = jax.random.uniform(end_key) < ending[at, action]
        truncated = jnp.bool_(False) if self.limit is None else time + 1 >= self.limit
        step = TimeStep(new, reward[at, action], terminated, truncated & ~terminated)
        return (new, time + 1), step

    def values(self, discount):
        """Q [S, A] by value iteration: a truncation is no end of what is to come."""
        moves, reward, ending = self.tables()
        q = np.zeros((5, 3))
        for _ in range(500):
            q = reward + discount * (1 - ending) * (moves @ q.max(1))
        return q

    def soft_values(self, discount, temperature):
        """Q [S, A] by soft value iteration: V = temperature log sum exp(Q / temperature)."""
        moves, reward, ending = self.tables()
        q = np.zeros((5, 3))
        for _ in range(500):
            value = temperature * np.log(np.exp(q / temperature).sum(1))
            q = reward + discount * (1 - ending) * (moves @ value)
        return q


def trained(module, env, config, hparams, updates, seed=0):
    agent = module.make(env, config)
    steps = updates * agent.steps_per_update
    result = purerl.train(
        agent, steps, seeds=[seed], hparams=agent.hparams._replace(**hparams),
        eval_every=0, eval_episodes=1,
    )  # fmt: skip
    return jax.tree.map(lambda x: x[0], result.state.train.learner)
