"""Parallelised Q-network (PQN): Q-learning without replay and without target network.

Gallici et al. 2024, https://arxiv.org/abs/2407.04811, algorithm 1: many environments,
lambda-returns of the greedy policy, LayerNorm for stability.

Departures: time limits bootstrap from the true final observation.
Axes: T steps, B environments, N rows of a minibatch, A actions.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from purerl.envs import Environment, VectorState, reset_batch
from purerl.errors import UsageError, cached, check_settings
from purerl.networks import QFunction, check_q_function, check_torso, q_function
from purerl.ops import batching, q_learning, returns
from purerl.rollout import successor_values, unroll
from purerl.spaces import Discrete
from purerl.types import Agent, Clock, EnvParams, Key, Magnitude, Metrics, Share, TrainState, pytree


@dataclass(frozen=True)
class Config:
    """Static settings: shapes, loop lengths and structure. A new value recompiles."""

    num_envs: int = 32  # environments stepped in parallel by one member
    unroll_length: int = 64  # steps of every environment between updates
    num_epochs: int = 4  # passes over the collected steps
    num_minibatches: int = 16  # gradient steps of one pass
    torso: Literal["mlp", "cnn"] = "mlp"  # dense layers, or a convolution before them
    hidden_sizes: tuple[int, ...] = (128, 128)  # features of each dense layer
    activation: Literal["tanh", "relu", "swish"] = "relu"  # after each layer
    layer_norm: bool = True  # before each activation
    dueling: bool = False  # value and advantages apart
    schedule: Literal["constant", "linear"] = "linear"  # learning rate over the run
    reset_mode: Literal["pool", "full"] = "pool"  # starts: drawn each iteration or step


class HParams(NamedTuple):
    """Real numbers that only enter arithmetic: traced, so they sweep without recompiling."""

    learning_rate: Magnitude = 5e-4  # RAdam step size
    discount: Share = 0.99  # weight of the next step's value, gamma
    q_lambda: Share = 0.65  # weight of longer returns: 0 is one step, 1 whole episodes
    epsilon_end: Share = 0.05  # probability of a random action after exploration
    exploration_fraction: Share = 0.2  # part of the run in which it falls from 1; 0: none
    max_grad_norm: Magnitude = 10.0  # gradients are scaled down to at most this global norm
    reward_scale: float = 1.0  # multiplies rewards before learning
    env_params: EnvParams = {}  # overrides of the environment's float parameters


@pytree
class Learner:
    """The network, RAdam's state, and the epsilon it explores with."""

    params: Any
    opt_state: optax.OptState
    epsilon: jax.Array


@pytree
class Actor:
    """Environments [B, ...]."""

    env: VectorState


class Batch(NamedTuple):
    """What is learnt from: rows [N, ...]."""

    obs: jax.Array
    action: jax.Array
    target: jax.Array


def optimizer(config: Config, hparams: HParams, clock: Clock) -> optax.GradientTransformation:
    """Global-norm clipping, then RAdam; the schedule's horizon is the run, in iterations."""
    left = 1.0 - clock.step / clock.total if config.schedule == "linear" else 1.0
    clip = optax.clip_by_global_norm(hparams.max_grad_norm)
    return optax.chain(clip, optax.radam(hparams.learning_rate * left))


def loss(params: Any, batch: Batch, q: QFunction):
    """Half the squared distance from the lambda-returns (eq. 9) -> (scalar, metrics)."""
    value = q.apply(params, batch.obs)[..., 0]
    error = q_learning.of_action(value, batch.action) - batch.target
    total = 0.5 * jnp.square(error).mean()
    return total, {"loss/q": total, "value/mean": value.mean()}


def make(env: Environment, config: Config = Config(), q: QFunction | None = None) -> Agent:
    """PQN for one environment; a network of your own replaces the built-in one.

    Raises:
      UsageError: a setting that cannot be, before anything compiles.
    """
    return _make(env, config, q)


@cached
def _make(env: Environment, config: Config, q: QFunction | None) -> Agent:
    check(env, config)
    assert isinstance(env.action_space, Discrete)
    num_actions = env.action_space.n
    if q is not None:
        check_q_function(q, env.observation_space, num_actions)
    own = q is not None
    q = q or q_function(
        env.observation_space, num_actions, torso=config.torso,
        hidden_sizes=config.hidden_sizes, activation=config.activation,
        layer_norm=config.layer_norm, dueling=config.dueling,
    )  # fmt: skip
    num_envs, length = config.num_envs, config.unroll_length
    rows = num_envs * length

    def init(key: Key, hparams: HParams) -> TrainState:
        params_key, env_key = jax.random.split(key)
        params = q.init(params_key)
        opt_state = optimizer(config, hparams, Clock(jnp.int32(0), jnp.int32(1))).init(params)
        world = reset_batch(env_key, env, num_envs, hparams.env_params)
        return TrainState(Learner(params, opt_state, jnp.float32(1.0)), Actor(world))

    def update(
        key: Key, state: TrainState, hparams: HParams, clock: Clock
    ) -> tuple[TrainState, Metrics]:
        rollout_key, shuffle_key = jax.random.split(key)
        learner, actor = state
        params, share = learner.params, clock.step / clock.total
        epsilon = q_learning.linear_epsilon(
            share, hparams.exploration_fraction, hparams.epsilon_end
        )
        best = lambda obs: q.apply(params, obs)[..., 0].max(-1)

        def behave(key, carry, obs, start):
            value = q.apply(params, obs)[..., 0]
            numbers = jax.random.uniform(key, (2, num_envs))
            action = q_learning.epsilon_greedy(numbers, value, epsilon)
            return carry, action, (action, value.max(-1))

        world, _, rollout, metrics = unroll(
            rollout_key, env, behave, actor.env, (), length=length,
            params=hparams.env_params, reset_mode=config.reset_mode,
        )  # fmt: skip
        action, value = rollout.extras
        final = jax.vmap(best)(rollout.final[1])
        next_value = successor_values(value, best(world.obs), final, rollout)
        target = returns.lambda_return(
            rollout.reward * hparams.reward_scale, next_value, rollout.terminated, rollout.done,
            hparams.discount, hparams.q_lambda,
        )  # fmt: skip
        batch = Batch(rollout.obs, action, target)
        packed, unpack = batching.pack(jax.tree.map(lambda x: x.reshape(rows, *x.shape[2:]), batch))
        radam = optimizer(config, hparams, clock)

        def minibatch(learning, index):
            params, opt_state = learning
            chosen = unpack(batching.take(packed, index))
            grads, terms = jax.grad(loss, has_aux=True)(params, chosen, q)
            updates, opt_state = radam.update(grads, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), terms

        order = batching.shuffles(shuffle_key, config.num_epochs, length, num_envs)
        order = order.reshape(-1, rows // config.num_minibatches)
        learning, terms = jax.lax.scan(minibatch, (params, learner.opt_state), order)
        metrics |= {name: x.mean() for name, x in terms.items()} | {"policy/epsilon": epsilon}
        return TrainState(Learner(*learning, epsilon), Actor(world)), metrics

    def act(key: Key, learner: Learner, carry: Any, obs: jax.Array, greedy: bool):
        value = q.apply(learner.params, obs)[..., 0]
        if greedy:
            return q_learning.best(value), carry
        numbers = jax.random.uniform(key, (2, obs.shape[0]))
        return q_learning.epsilon_greedy(numbers, value, learner.epsilon), carry

    return Agent(
        init, update, act, lambda batch: (), HParams(), env, config, rows,
        own_network=own,
    )  # fmt: skip


def check(env: Environment, config: Config) -> None:
    """Raise UsageError for a setting that cannot be."""
    check_settings(config, Config)
    if not isinstance(env.action_space, Discrete):
        raise UsageError(f"env={env.name!r}: PQN needs discrete actions, not {env.action_space}")
    check_torso(config.torso, env.observation_space)
    rows = config.num_envs * config.unroll_length
    if rows % config.num_minibatches:
        unit = f"num_envs * unroll_length = {rows}"
        raise UsageError(f"num_minibatches={config.num_minibatches}: must divide {unit}")
